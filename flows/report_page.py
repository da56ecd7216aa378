"""The report of a run as Prefect's pages show it: without pictures, with the places of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.storage.store import Store


def report_page(store: Store, name: str, version: Mapping[str, Any] | None) -> str:
    """Markdown of a stored report, and where its plots and the registered model are.

    Args:
        name: of the report in the store.
        version: facts of the registration; None where nothing was registered.
    """
    text = without_plots(store.get(name).decode())
    folder = f"{store.url.partition('?')[0]}/{name.rpartition('/')[0]}"
    lines = [text.rstrip(), "", "## Where to look", "", f"- report and plots: `{folder}`"]
    if version is not None:
        from infra.servers.tracking import tracking_place

        lines.append(
            f"- MLflow: model `{version['name']}` version {version['version']}, run `{version['run_id']}`, "
            f"tracking `{tracking_place()}`"
        )
    return "\n".join(lines) + "\n"


def without_plots(markdown: str) -> str:
    """The report where its plots cannot be shown: without their section."""
    kept, _, rest = markdown.partition("\n## Plots\n")
    later = rest.partition("\n## ")
    return kept.rstrip() + "\n" + (f"\n## {later[2]}" if later[1] else "")

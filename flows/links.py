"""Where to look during a run and after it, as one artifact: MLflow's pages, Dask's page, the student's page, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.live_page import LivePage
from flows.stored_pages import address_of
from infra.errors import StillroomError
from infra.servers.tracking_pages import experiment_page, model_page, run_page, run_pages
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.drawing.markdown import cell_text
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, slug
from tasks.report.stage import CARD, PAGE, SHARED
from tasks.spec import Spec

OWN_WORKERS = "workers of this run's own, without pages; `stillroom up` keeps some that have"


class Links:
    """The artifact `links-NAME` of a flow run: made when the run begins, told the rest at its end."""

    def __init__(self, spec: Spec, context: Context) -> None:
        self._spec, self._context, self._live = spec, context, LivePage()

    def begin(self) -> None:
        """Publish what is known before anything is made."""
        rows = [*self._workers(), *self._store()]
        self._live.show(self._page(rows, "Dask, the store; MLflow and the student's page when the run ends"))

    def end(self, facts: Mapping[str, Mapping[str, Any]], manifests: Sequence[Manifest]) -> None:
        """Add what the run has made.

        Args:
            facts: of the manifests, by step.
            manifests: of the steps that ended.
        """
        rows = [*self._mlflow(facts), *self._workers(), *self._pages(manifests), *self._store()]
        self._live.show(self._page(rows, "MLflow, Dask, the student's page"), wait=True)

    def _page(self, rows: Sequence[tuple[str, str]], what: str) -> Artifact:
        name = self._spec.name
        table = "\n".join(f"| {cell_text(what)} | {cell_text(where)} |" for what, where in rows)
        page = f"# {name}: where to look\n\n| | |\n|---|---|\n{table}\n"
        return Artifact(f"links-{slug(name)}", f"where to look: {what}", page)

    def _workers(self) -> list[tuple[str, str]]:
        page, section = self._context.cluster.page, self._context.cluster.section
        if page is not None:
            return [("Dask: workers and tasks", linked(page))]
        return [("Dask", OWN_WORKERS if section.kind != "address" else f"scheduler `{section.address}`")]

    def _store(self) -> list[tuple[str, str]]:
        return [("store", f"`{self._context.store.url.partition('?')[0]}`")]

    def _mlflow(self, facts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
        version = facts.get("register")
        if version is None:
            return []
        try:
            found = [
                ("MLflow: all runs of this spec", experiment_page(self._spec.name)),
                *run_pages(self._spec.name, self._context.run_id),
                ("MLflow: run of the best student", run_page(self._spec.name, str(version["run_id"]))),
                (f"MLflow: version {version['version']}", model_page(str(version["name"]), str(version["version"]))),
            ]
        except StillroomError as error:
            return [("MLflow", str(error))]
        return [(what, linked(where)) for what, where in found]

    def _pages(self, manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
        outputs = {output.meta.get("kind"): output for made in manifests for output in made.outputs}
        # Where a corpus is private, the page with pictures stays in the store.
        found = [("the student's page", outputs.get(SHARED) or outputs.get(PAGE)), ("model card", outputs.get(CARD))]
        return [(what, _shown(self._context.store, output.name, what)) for what, output in found if output is not None]


def linked(where: str) -> str:
    """An address as a link; other places as they are."""
    return f"[{where}]({where})" if where.startswith(("http://", "https://")) else f"`{where}`"


def _shown(store: Store, name: str, what: str) -> str:
    address = address_of(store, name) if name.endswith(".html") else None
    place = f"`{store.url.partition('?')[0]}/{name}`"
    return f"[open]({address}) ({place})" if address else place

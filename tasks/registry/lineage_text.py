"""A lineage as a tree for people."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.registry.lineage import Lineage, LineageNode

_SHOWN = 12  # characters of a digest
_TITLES = {
    "distill": "student",
    "teach": "teacher",
    "label": "soft labels",
    "ingest": "corpus",
    "combine": "corpora, combined",
}


def lineage_lines(found: Lineage) -> list[str]:
    """The tree, and what is wrong, or that nothing is."""
    held = found.version
    lines = [f"{held.title}" + (f" (alias {held.alias})" if held.alias else "")]
    parts = [
        f"run          {held.run_id}",
        f"code         {found.code}",
        f"environment  {', '.join(f'{name} {version}' for name, version in found.environment.items()) or 'not known'}",
        f"spec         {found.spec[:_SHOWN]}",
        *(_node_line(node, found) for node in found.nodes),
        *(f"weights      of teacher {name}: {weights[:_SHOWN]}" for name, weights in found.weights.items()),
        *(f"licence      of the images of {title}: {text}" for title, text in found.licences.items()),
    ]
    lines += [f"{'└─' if part is parts[-1] else '├─'} {part}" for part in parts]
    return [*lines, *_verdict(found)]


def _node_line(node: LineageNode, found: Lineage) -> str:
    title = _TITLES.get(node.stage, node.stage)
    told = ", ".join(
        f"{name.replace('_', ' ')} {value[:_SHOWN] if isinstance(value, str) and len(value) == 64 else value}"
        for name, value in node.facts.items()
    )
    size = f"; {node.objects} objects, {node.bytes / 1e6:.1f} MB" if node.objects else ""
    name = "" if node.named.startswith("a tag") or node.facts else f"{node.named}, "
    return f"{title:<12} {name}{told + ', ' if told else ''}manifest {(node.digest or node.key)[:_SHOWN]}{size}"


def _verdict(found: Lineage) -> Iterator[str]:
    if not found.store:
        yield "not verified: name the store that it was made in with --store"
        return
    yield from (defect.line for defect in found.defects)
    counted = f"{found.objects} objects, {found.bytes / 1e6:.1f} MB of {found.store}"
    yield f"{len(found.defects)} defects in {counted}" if found.defects else f"verified: {counted}"

"""Phantom corpora: drawn into corpus.root once, then read like the corpora whose layout they have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from infra.errors import CorpusError
from tasks.corpora.base import Adapter, within
from tasks.corpora.eyepacs import EyePacs
from tasks.corpora.hyper_kvasir import HyperKvasir
from tasks.corpora.scan import Scan
from tasks.sources import Tree
from tasks.spec import CorpusSection, PhantomSection

MARKER = "phantom.json"


class Phantom:
    """Adapters `phantom-fundus` and `phantom-endoscopy`.

    Args:
        kind: fundus or endoscopy, as the drawn folder's marker has it.
        layout: the adapter that reads it.
        draw: draws into a folder that is not there or empty; does nothing when it holds this very corpus.
    """

    licence = citation = ""

    def __init__(self, kind: str, layout: Adapter, draw: Callable[[Path, PhantomSection], None]) -> None:
        self.name = f"phantom-{kind}"
        self.kind, self.layout, self._draw = kind, layout, draw

    def describe(self) -> str:
        return (
            f"drawn into corpus.root as corpus.phantom says, in the layout of {self.layout.name}\n"
            "Phantoms prove the plumbing, not medicine."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, MARKER)
        if found is None:
            return None
        try:
            drawn = json.loads(found.read(MARKER))["parameters"]["kind"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return MARKER if drawn == self.kind else None

    def prepare(self, section: CorpusSection) -> None:
        try:
            self._draw(Path(section.root), section.phantom or PhantomSection())
        except ValueError as error:
            raise CorpusError(f"corpus.root or corpus.phantom of {self.name}: {error}") from None

    def prepared(self, section: CorpusSection) -> bool:
        return Path(section.root, MARKER).exists()

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        size = (section.phantom or PhantomSection()).size
        return replace(self.layout.scan(section, tree), size=size, crop="none")


def _draw_fundus(root: Path, phantom: PhantomSection) -> None:
    from tasks.corpora.phantom.write import write_phantom_fundus

    write_phantom_fundus(root, **phantom.model_dump())


def _draw_endoscopy(root: Path, phantom: PhantomSection) -> None:
    from tasks.corpora.phantom.write import write_phantom_endoscopy

    write_phantom_endoscopy(root, **phantom.model_dump(exclude={"val", "test"}))


PHANTOMS = (Phantom("fundus", EyePacs(), _draw_fundus), Phantom("endoscopy", HyperKvasir(), _draw_endoscopy))

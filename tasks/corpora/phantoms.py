"""Phantom corpora: drawn into corpus.root once, then read like the corpora whose layout they have."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.errors import CorpusError
from tasks.corpora.base import Adapter, Scan
from tasks.corpora.eyepacs import EyePacs
from tasks.corpora.hyper_kvasir import HyperKvasir
from tasks.spec import CorpusSection, PhantomSection

MARK = "phantom.json"


class _Phantom:
    """Draws where nothing is drawn yet, then hands over."""

    name: str
    fields: tuple[str, ...]

    def __init__(self, layout: Adapter) -> None:
        self.layout = layout

    def describe(self) -> str:
        return (
            f"drawn into corpus.root from corpus.phantom (size, seed, counts) in the layout of {self.layout.name}\n"
            "  They prove the plumbing, not medicine."
        )

    def fits(self, folder: Path) -> str | None:
        mark = _mark(folder)
        return f"{MARK} of {self.name}" if mark and mark.get("adapter") == self.name else None

    def scan(self, section: CorpusSection) -> Scan:
        phantom = section.phantom or PhantomSection()
        self._draw_once(section.root, phantom)
        return replace(self.layout.scan(section), size=phantom.size)

    def _draw_once(self, root: Path, phantom: PhantomSection) -> None:
        wanted = {"adapter": self.name, **phantom.model_dump(include=set(self.fields))}
        mark = _mark(root)
        if mark is None:
            self._check_empty(root)
            root.mkdir(parents=True, exist_ok=True)
            # A draw that was killed leaves this behind and no mark: the next one draws the same files again.
            (root / f"{MARK}.begun").touch()
            self.draw(root, {name: wanted[name] for name in self.fields})
            partial = root / f"{MARK}.part"
            partial.write_text(json.dumps(wanted, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(partial, root / MARK)
            (root / f"{MARK}.begun").unlink(missing_ok=True)
        elif mark != wanted:
            different = sorted(k for k in wanted if mark.get(k) != wanted[k])
            raise CorpusError(
                f"corpus.root {root}: holds another phantom ({', '.join(different)} differ from corpus.phantom); "
                "name another folder, or delete this one"
            )

    def _check_empty(self, root: Path) -> None:
        if not root.exists() or (root / f"{MARK}.begun").exists():
            return
        if not root.is_dir() or any(root.iterdir()):
            raise CorpusError(
                f"corpus.root {root}: {self.name} draws into an empty folder, this is not one; name another"
            )

    def draw(self, root: Path, options: dict[str, Any]) -> None:
        raise NotImplementedError


class PhantomFundus(_Phantom):
    """Adapter `phantom-fundus`."""

    name = "phantom-fundus"
    fields = ("size", "seed", "labelled", "unlabelled", "val", "test")

    def __init__(self) -> None:
        super().__init__(EyePacs())

    def draw(self, root: Path, options: dict[str, Any]) -> None:
        from tasks.corpora.phantom.write import write_phantom_fundus

        write_phantom_fundus(root, **options)


class PhantomEndoscopy(_Phantom):
    """Adapter `phantom-endoscopy`."""

    name = "phantom-endoscopy"
    fields = ("size", "seed", "labelled", "unlabelled")

    def __init__(self) -> None:
        super().__init__(HyperKvasir())

    def draw(self, root: Path, options: dict[str, Any]) -> None:
        from tasks.corpora.phantom.write import write_phantom_endoscopy

        write_phantom_endoscopy(root, **options)


def _mark(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / MARK).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise CorpusError(f"{folder / MARK}: not the note of a phantom; delete the folder to draw it again") from None

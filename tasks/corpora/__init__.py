"""Adapters: one layout on disk each, found by the name that `corpus.adapter` gives."""

from __future__ import annotations

from tasks.corpora.base import Adapter
from tasks.corpora.eyepacs import EyePacs
from tasks.corpora.hyper_kvasir import HyperKvasir
from tasks.corpora.phantoms import PHANTOMS
from tasks.corpora.scan import Row, RowTable, Scan
from tasks.corpora.table import TableCorpus
from tasks.sources import Tree

# The order in which `guess` asks: phantoms know their own mark, a table fits almost anything.
_ALL: tuple[Adapter, ...] = (*PHANTOMS, EyePacs(), HyperKvasir(), TableCorpus())
ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in _ALL}


def adapter_of(name: str) -> Adapter:
    """The adapter of that name (the spec has checked it)."""
    return ADAPTERS[name]


def guess(tree: Tree) -> tuple[str, str] | None:
    """Name of the first adapter that fits the source and why; None when none does."""
    for name, adapter in ADAPTERS.items():
        why = adapter.fits(tree)
        if why:
            return name, why
    return None


def descriptions() -> dict[str, str]:
    """What each adapter expects on disk, by adapter name."""
    return {name: adapter.describe() for name, adapter in ADAPTERS.items()}


__all__ = ["ADAPTERS", "Adapter", "Row", "RowTable", "Scan", "adapter_of", "descriptions", "guess"]

"""Adapters: one layout on disk each, found by the name that `corpus.adapter` gives."""

from __future__ import annotations

from tasks.corpora.aptos import Aptos
from tasks.corpora.base import Adapter
from tasks.corpora.chestxray14 import ChestXray14
from tasks.corpora.chexpert import CheXpert
from tasks.corpora.ddr import Ddr
from tasks.corpora.eyepacs import EyePacs
from tasks.corpora.folder import FolderCorpus
from tasks.corpora.hyper_kvasir import HyperKvasir
from tasks.corpora.idrid import Idrid
from tasks.corpora.isic2018 import Isic2018
from tasks.corpora.isic2019 import Isic2019
from tasks.corpora.kvasir import Kvasir
from tasks.corpora.label_maps import described
from tasks.corpora.messidor import Messidor
from tasks.corpora.messidor2 import Messidor2
from tasks.corpora.pad_ufes20 import PadUfes20
from tasks.corpora.phantoms import PHANTOMS
from tasks.corpora.scan import Row, RowTable, Scan
from tasks.corpora.table import TableCorpus
from tasks.sources import Tree

# The order in which `guess` asks: phantoms know their own mark, a table fits almost anything.
_ALL: tuple[Adapter, ...] = (
    *PHANTOMS,
    EyePacs(),
    Aptos(),
    Messidor(),
    Messidor2(),
    Idrid(),
    Ddr(),
    HyperKvasir(),
    Kvasir(),
    CheXpert(),
    ChestXray14(),
    Isic2018(),
    Isic2019(),
    PadUfes20(),
    FolderCorpus(),
    TableCorpus(),
)
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
    """What each adapter expects on disk, its label maps, whose the images are and how to cite them, by adapter name."""
    return {
        name: adapter.describe()
        + (f"\nLabel maps (corpus.label_map):\n{described(name)}" if described(name) else "")
        + (f"\nLicence: {adapter.licence}" if adapter.licence else "")
        + (f"\nCite: {adapter.citation}" if adapter.citation else "")
        for name, adapter in ADAPTERS.items()
    }


__all__ = ["ADAPTERS", "Adapter", "Row", "RowTable", "Scan", "adapter_of", "descriptions", "guess"]

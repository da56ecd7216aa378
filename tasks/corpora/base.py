"""What an adapter is: it reads a corpus's listing and tables and says what images there are.

An adapter opens tables and lists folders; it never opens an image. Reasons never hold the image's own
name or patient, so that they may stand in the catalog of a private corpus.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.scan import Scan
from tasks.sources import Tree
from tasks.sources.passed_over import IMAGE_SUFFIXES
from tasks.spec import CorpusSection

PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".001", ".bz2", ".xz")


class Adapter(Protocol):
    """One layout on disk."""

    name: str
    licence: str  # of the images; "" where they are the user's own
    citation: str

    def describe(self) -> str:
        """For people: what the adapter expects on disk."""

    def prepare(self, section: CorpusSection) -> None:
        """Make the corpus where it is one that is made; called before corpus.root is opened."""

    def prepared(self, section: CorpusSection) -> bool:
        """Whether `prepare` has nothing left to make."""

    def fits(self, tree: Tree) -> str | None:
        """Why the source looks like this layout, or None."""

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        """Read the corpus; CorpusError when the source is not what the section says."""


class ExistingCorpus:
    """Base of adapters whose corpus lies there already."""

    licence = citation = ""

    def prepare(self, section: CorpusSection) -> None:
        """Nothing to make."""

    def prepared(self, section: CorpusSection) -> bool:
        return True


def stem(name: str) -> str:
    """The name without folders and without an image's suffix; other dots stay."""
    base = name.rpartition("/")[2]
    head, dot, suffix = base.rpartition(".")
    return head if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES and head else base


def stems(names: pa.StringArray) -> pa.StringArray:
    """`stem` of many names."""
    bases = pc.replace_substring_regex(names, r"(?s)^.*/", "")
    return pc.replace_substring_regex(bases, rf"(?is)(.)\.(?:{'|'.join(s[1:] for s in IMAGE_SUFFIXES)})$", r"\1")


def within(tree: Tree, *wanted: str) -> Tree | None:
    """The folder that holds every `wanted` entry: the tree itself, or the one folder in it that does.

    An archive is often made of a folder, and Kaggle packs folders into folders of the same name: as long as there
    is nothing to choose from, the search goes on below. None when there is no such folder, or more than one.
    """
    here = tree
    while not _holds(here, wanted):
        folders = here.folders()
        holding = [f for f in folders if _holds(here.sub(f), wanted)]
        if len(holding) != 1 and (holding or len(folders) != 1):
            return None
        here = here.sub((holding or folders)[0])
    return here


def need(tree: Tree, adapter: str, *wanted: str) -> Tree:
    """As `within`; CorpusError that says what is there instead."""
    found = within(tree, *wanted)
    if found is not None:
        return found
    names = tree.names(most=1000)
    holding = [f for f in tree.folders() if _holds(tree.sub(f), wanted)]
    if holding:
        raise CorpusError(
            f"corpus.root {tree.show()}: {listed(wanted)} is in each of {listed(holding)}; "
            "name one of these folders as corpus.root"
        )
    absent = [w for w in wanted if not tree.exists(w)]
    raise CorpusError(
        f"corpus.root {tree.show()}: {adapter} looks for {listed(absent)}, but the folder holds "
        f"{listed(names)}{unpack_hint(tree)}"
    )


def unpack_hint(tree: Tree) -> str:
    """Names an archive that is not read in place, or that holds further archives."""
    for name in tree.names(most=1000):
        if name.lower().endswith(PACKED):
            inner = [m for m in tree.members(name) if m.lower().endswith(PACKED)]
            if inner:
                return f"; {name} holds further archives ({listed(inner, 3)}): extract it once (7z x {name})"
            if not tree.members(name):
                return f"; extract {name} first (7z x {name})"
    return ""


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names for a message, not all of many."""
    names = list(names)
    text = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return text or "nothing"


def _holds(tree: Tree, wanted: Iterable[str]) -> bool:
    return all(tree.exists(w) for w in wanted)

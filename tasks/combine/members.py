"""The corpora of a training set, and whether they go together: one scale of labels, one kind of image, no key twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.ingest.corpus_listing import scan_spec
from tasks.ingest.parent import Parent, read_head
from tasks.spec import Spec
from tasks.spec.corpora import POOL, CorpusEntry


@dataclass(frozen=True)
class Member:
    """One corpus of a training set.

    Attributes:
        entry: what the spec says of it.
        manifest: of its ingest.
    """

    entry: CorpusEntry
    manifest: Manifest

    @property
    def title(self) -> str:
        """Name of the corpus in the store."""
        return self.entry.title

    @property
    def pool(self) -> bool:
        """Whether its labels are not used."""
        return self.entry.use == POOL


def check_alike(entries: Sequence[CorpusEntry], facts: Sequence[Mapping[str, Any]]) -> None:
    """Whether labels and images of the corpora mean the same.

    Args:
        facts: of each, with task, classes and modality.

    Raises:
        CorpusError: two differ in task, classes or kind of image; says both and what to set.
    """
    first, wanted = next(both for both in zip(entries, facts, strict=True) if both[0].use != POOL)
    for entry, own in zip(entries, facts, strict=True):
        if own["modality"] != wanted["modality"]:
            raise CorpusError(
                f"corpora: {first.title} has images of kind {wanted['modality']}, {entry.title} of kind "
                f"{own['modality']}; one network learns one kind. Where both are the same, set modality of each"
            )
        for name in ("task", "classes") if entry.use != POOL else ():
            if own[name] != wanted[name]:
                raise CorpusError(
                    f"corpora: {name} of {first.title}: {_text(wanted[name])}; of {entry.title}: "
                    f"{_text(own[name])}. Give both one label_map, or the same classes and task; or use: pool for a "
                    "corpus whose labels are not to be used"
                )


def check_before_ingest(spec: Spec, store: Store) -> None:
    """`check_alike` of corpora that are not all in the store yet, so that no hour of decoding ends in its error.

    Raises:
        CorpusError: as `check_alike`, or a corpus is not what the spec says.
    """
    if all(read_head(store, corpus.title) is not None for corpus in spec.entries):
        return
    scans = [scan_spec(spec, number).scan for number in range(len(spec.entries))]
    about = [{"task": scan.task, "classes": list(scan.classes), "modality": scan.modality} for scan in scans]
    check_alike(spec.entries, about)


def check_keys(members: Sequence[Member], parents: Sequence[Parent]) -> None:
    """Whether every key names one image.

    Raises:
        CorpusError: two corpora have a key in common; names it, both, and what to set.
    """
    for number, (member, parent) in enumerate(zip(members, parents, strict=True)):
        for other, earlier in zip(members[:number], parents[:number], strict=True):
            both = parent.keys.filter(pc.is_in(parent.keys, value_set=earlier.keys))
            if len(both):
                raise CorpusError(
                    f"corpora: {len(both)} images of {member.title} have the key of an image of {other.title}, first "
                    f"{both[0]}. Set corpora.{number}.key_prefix and a new corpora.{number}.name, under which "
                    f"{member.title} is ingested again"
                )


def sources(members: Sequence[Member], parents: Sequence[Parent]) -> tuple[pa.Array, pa.Array]:
    """Keys of all images, and the title of the corpus of each."""
    keys = pa.concat_arrays([parent.keys for parent in parents])
    titles = [pa.repeat(member.title, len(parent.keys)) for member, parent in zip(members, parents, strict=True)]
    return keys, pa.concat_arrays(titles)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

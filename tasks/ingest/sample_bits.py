"""Bits in use of samples that have more than 8: one number for a whole corpus.

Cameras and detectors deliver 10 or 12 bits in files of 16, and few files say so. Stored as if all 16 were in use, such
pictures are nearly black; scaled one by one, they lose what they have in common. So the first ingest that meets deep
samples looks at all of them, and the most bits that one needs count for every image, then and later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from infra.errors import CorpusError
from infra.storage.manifest import Manifest
from tasks.ingest.shard import ShardJob
from tasks.ingest.shard_results import ShardResults
from tasks.preprocessing.formats import DEEP
from tasks.preprocessing.stored_image import BITS_FACT
from tasks.spec import IngestSection


def known_bits(section: IngestSection | None, before: Manifest | None) -> int | None:
    """Bits in use as the spec or an earlier ingest says; None where neither does."""
    found = (section.bits if section is not None else None) or (
        before.facts.get(BITS_FACT) if before is not None else None
    )
    return int(found) if found else None


def settled_bits(
    jobs: Iterable[ShardJob], results: ShardResults, known: int | None, make: Callable[[list[ShardJob]], ShardResults]
) -> int | None:
    """Bits in use once the shards of a plan were looked at; those with deep samples are made again where needed.

    Args:
        jobs: of the plan, made with `known` bits, or with 16 where they are not known.
        results: of the jobs; those of shards that are made again are replaced.
        make: makes shards.

    Returns:
        None where no image has deep samples and nothing is known.

    Raises:
        CorpusError: an image needs more bits than are known; its key is named.
    """
    deepest = results.deepest
    if deepest is None:
        return known
    bits, key = deepest
    if known is not None:
        if bits > known:
            raise CorpusError(
                f"{key}: its samples need {bits} bits, and those of the corpus are stored as if {known} were in use: "
                f"set ingest.bits: {bits}, with which every image is stored again, or ingest it under another "
                "corpus.name"
            )
        return known
    if bits < DEEP:
        pairs = [(job, replace(job, recipe={**job.recipe, "bits": bits})) for job in _deep(jobs, results)]
        again = make([new for _, new in pairs])
        for job, new in pairs:
            results.replace(job.key, again[new.key])
    return bits


def bits_note(bits: int | None) -> list[str]:
    """A sentence for people where samples were scaled."""
    if bits is None or bits == DEEP:
        return []
    return [f"samples of 16 bits have {bits} in use; the highest 8 of these are stored (ingest.bits)"]


def _deep(jobs: Iterable[ShardJob], results: ShardResults) -> Iterator[ShardJob]:
    return (job for job in jobs if results[job.key].deepest is not None)

"""Shards, catalogs and indexes made again from the source, byte for byte, as the ingest that made them would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from infra.compute.cluster import Cluster
from infra.errors import CorpusError, CorruptError, StillroomError
from infra.storage.manifest import Manifest, Output
from infra.storage.store import Store
from tasks.ingest.glance import Glance
from tasks.ingest.parent import Parent
from tasks.ingest.stage import Ingest
from tasks.ingest.survey import Found, scan_corpus, survey
from tasks.spec import CorpusSection, IngestSection, RunSection

KEPT_AS_IS = {"encode", "shard_size", "max_pixels"}
"""What `encode: keep` leaves to say of the images."""


class Rebuild:
    """Makes broken outputs of one ingest manifest again.

    Args:
        root: where the corpus lies; default where the last ingest found it.

    Raises (every use):
        CorpusError: where the corpus lies is not known, or it is no such corpus.
    """

    def __init__(self, store: Store, cluster: Cluster, manifest: Manifest, root: str | None) -> None:
        self.store, self.cluster, self.manifest, self._root = store, cluster, manifest, root

    @cached_property
    def ingest(self) -> Ingest:
        """The ingest as its manifest says it was asked for; the failure budget does not count twice."""
        told = self.manifest.section
        how = told["ingest"] if told["ingest"]["encode"] != "keep" else _only(told["ingest"], KEPT_AS_IS)
        corpus = CorpusSection.model_validate({**told["corpus"], "root": self.root})
        section = IngestSection.model_validate({**how, "max_bad_share": 1.0})
        return Ingest(corpus, section, RunSection(verify=True), self.store, self.cluster)

    @property
    def root(self) -> str:
        """Where the corpus lies."""
        title = self.manifest.facts["corpus"]
        if self._root is None:
            seen = Glance.load(self.store, title)
            if seen is None:
                raise CorpusError(f"{title}: listings/{title}.json is lost; --root says where the corpus lies")
            return seen.root
        return self._root

    @cached_property
    def found(self) -> Found:
        """The corpus as its adapter reads it now."""
        found = scan_corpus(self.ingest.corpus, self.ingest.how, self.ingest.source)
        if found.section != self.manifest.section:
            raise CorruptError(f"{self.root}: this release reads the corpus in another way than its manifest says")
        return found

    def tables(self) -> None:
        """Catalog and index again.

        Raises:
            CorruptError: they do not come out as they were; the manifest is then as before.
        """
        before = self.store.get(self.manifest.name)
        try:
            self.ingest.make_whole(self.manifest, self.found)
        finally:
            if self.store.get(self.manifest.name) != before:
                self.store.put(self.manifest.name, before)

    def shards(self, lost: Sequence[Output]) -> Iterator[tuple[Output, StillroomError | None]]:
        """Shards again, each with the error that stood in its way.

        A shard is stored only when it came out with the sha256 that the manifest names; until then what lies there
        stays.
        """
        surveyed = survey(self.found, self.store, Parent.load(self.store, self.manifest))
        try:
            self.ingest.mend(self.manifest, surveyed, lost)
        except StillroomError:
            # One at a time, so that one whose files are gone does not keep the others from being made.
            for output in lost:
                try:
                    self.ingest.mend(self.manifest, surveyed, [output])
                    yield output, None
                except StillroomError as error:
                    yield output, error
        else:
            yield from ((output, None) for output in lost)


def _only(section: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name in names}

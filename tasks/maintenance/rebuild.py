"""Make shards, catalogs and indexes again from the source, with the same bytes as the ingest that made them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from infra.compute.cluster import Cluster
from infra.errors import CorpusError, CorruptError, StillroomError
from infra.storage.manifest import Manifest, Output
from infra.storage.store import Store
from tasks.ingest.corpus_listing import ScannedCorpus, list_corpus
from tasks.ingest.ingest_manifest import OF_USE
from tasks.ingest.parent import Parent
from tasks.ingest.source_fingerprint import SourceFingerprint
from tasks.ingest.stage import IngestWork
from tasks.pipeline.context import Context
from tasks.spec import CorpusSection, IngestSection, RunSection

KEPT_AS_IS = {"encode", "shard_size", "max_pixels", "bits"}
"""Fields of the ingest section that apply with `encode: keep`."""


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
    def ingest(self) -> IngestWork:
        """The ingest with the settings of its manifest, without a failure budget: the first run has applied it."""
        section = self.manifest.section
        how = section["ingest"]
        if how["encode"] == "keep":
            how = {name: value for name, value in how.items() if name in KEPT_AS_IS}
        corpus = CorpusSection.model_validate(
            {**section["corpus"], **self.manifest.facts.get(OF_USE, {}), "root": self.root}
        )
        ingest = IngestSection.model_validate({**how, "max_bad_share": 1.0})
        return IngestWork(Context(self.store, self.cluster, RunSection(verify=True)), corpus, ingest, alone=False)

    @property
    def root(self) -> str:
        """Where the corpus lies."""
        title = self.manifest.facts["corpus"]
        if self._root is None:
            seen = SourceFingerprint.load(self.store, title)
            if seen is None:
                raise CorpusError(f"{title}: listings/{title}.json is lost; --root says where the corpus lies")
            if not seen.root:
                raise CorpusError(f"{title} is private, and the store does not say where it lies: --root does")
            return seen.root
        return self._root

    @cached_property
    def found(self) -> ScannedCorpus:
        """The corpus as its adapter reads it now; CorruptError when that differs from the manifest."""
        found = self.ingest.scanned
        if found.section != self.manifest.section:
            raise CorruptError(
                f"{self.manifest.facts['corpus']}: this release reads the corpus in another way than its manifest says"
            )
        return found

    def tables(self) -> None:
        """Catalog and index again.

        Raises:
            CorruptError: they do not come out as they were; the manifest is then as before.
        """
        before = self.store.get(self.manifest.name)
        try:
            made = self.ingest.make_whole(self.manifest, self.found)
            self.ingest.finish(self.ingest.cache.commit(made.manifest))
        finally:
            if self.store.get(self.manifest.name) != before:
                self.store.put(self.manifest.name, before)

    def shards(self, lost: Sequence[Output]) -> Iterator[tuple[Output, StillroomError | None]]:
        """Shards again, each with the error that prevented it, or None.

        A shard is stored only when it came out with the sha256 that the manifest names; until then what lies there
        stays.
        """
        listed = list_corpus(self.found, self.store, Parent.load(self.store, self.manifest))
        try:
            self.ingest.remake_shards(self.manifest, listed, lost)
        except StillroomError:
            # One at a time, so that one whose files are gone does not keep the others from being made.
            for output in lost:
                try:
                    self.ingest.remake_shards(self.manifest, listed, [output])
                    yield output, None
                except StillroomError as error:
                    yield output, error
        else:
            yield from ((output, None) for output in lost)

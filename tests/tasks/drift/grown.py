"""A corpus whose champion serves, and the same corpus with new images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.digest import digest_of
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from tasks.data.catalog import CATALOG, to_parquet
from tasks.data.corpus import Corpus, Shard, load_image
from tasks.drift.stage import DriftWork, drift
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.tasks.trained import tiny_spec
from tests.tiny import tiny_corpus, tiny_labels

NAME = "served"
OLD, NEW = 120, 120
"""Training images that the champion learned from, and new ones."""

Columns = dict[str, Callable[[int], Any]]
"""Values of a column of the catalog, by the number of a training image; those from OLD on are new."""


@dataclass(frozen=True)
class Served:
    """A champion, version 1 of NAME, and the corpus and report that it came of."""

    corpus: Corpus
    report: Manifest

    def spec(self, *overrides: str) -> Spec:
        """Of a run that would register another student."""
        return tiny_spec(self.corpus.store, f"register.name={NAME}", "evaluate.baselines=false", *overrides)

    def grown(self, columns: Columns | None = None, *, new: int = NEW, black: Sequence[int] = ()) -> Corpus:
        """The corpus with new training images.

        Args:
            columns: of training images, where they differ.
            black: numbers of new images that show nothing.
        """
        blank = [f"train-{number:04d}" for number in black]
        found = tiny_corpus(self.corpus.store, **{**SHAPE, "train": OLD + new}, black=blank)
        return with_columns(found, columns or {})

    def work(self, now: Corpus, *overrides: str, student: str = "another", teach: bool = True) -> DriftWork:
        """The stage, bound to a run's corpus and to the labels of a teacher that looks at the mean colours."""
        return DriftWork(Context(now.store), now, self.report_of(student), labels_of(now, teach), self.spec(*overrides))

    def drift(self, now: Corpus, *overrides: str, student: str = "another", teach: bool = True) -> Manifest:
        """Its manifest."""
        context, report = Context(now.store), self.report_of(student)
        return drift(context, now, report, labels_of(now, teach), self.spec(*overrides)).manifest

    def report_of(self, student: str) -> Manifest:
        """The report, as it would be of another student."""
        facts = {**self.report.facts, "best": {**self.report.facts["best"], "key": student}}
        return self.report.model_copy(update={"key": digest_of(student), "facts": facts})


SHAPE: dict[str, Any] = {"train": OLD, "val": 20, "test": 40, "unlabelled": 0, "shard_size": 40, "size": 40}


def labels_of(corpus: Corpus, teach: bool) -> list[Manifest]:
    """Soft labels by a fixed function of an image's mean colours."""
    if not teach:
        return []

    def logits(shard: Shard, view: int) -> np.ndarray:
        means = [load_image(corpus.store, shard, row).mean(axis=(0, 1)) for row in range(len(shard))]
        return ((np.array(means) - 120) / 10).astype(np.float32)

    return [tiny_labels(corpus, "colours", logits)]


def with_columns(corpus: Corpus, columns: Columns) -> Corpus:
    """The corpus with other values of its training images in the catalog."""
    table = corpus.catalog
    keys = table["key"].to_pylist()
    for name, value in columns.items():
        own = [
            value(int(key.rpartition("-")[2])) if key.startswith("train") else before
            for key, before in zip(keys, table[name].to_pylist(), strict=True)
        ]
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(own, CATALOG.field(name).type))
    cache = StageCache(corpus.store)
    data = to_parquet(table, CATALOG)
    catalog = cache.put_object("catalogs/tiny/{sha}.parquet", data, meta={"kind": "catalog"})
    outputs = [*(each for each in corpus.manifest.outputs if each.meta["kind"] != "catalog"), catalog]
    key = digest_of([corpus.manifest.key, catalog.id])
    return Corpus(corpus.store, cache.commit(corpus.manifest.model_copy(update={"key": key, "outputs": outputs})))


def drifted(manifest: Manifest) -> list[str]:
    """Names of the signals that drifted."""
    return [each["name"] for each in manifest.facts["signals"] if each["drifted"]]


def signal(manifest: Manifest, name: str) -> dict[str, Any]:
    """One signal."""
    return next(each for each in manifest.facts["signals"] if each["name"] == name)

"""Stored teaching as training reads it: every teacher's logits of one view of one shard."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from infra.digest import sha256_bytes
from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabels, read_soft_labels


@dataclass(frozen=True)
class Taught:
    """What K teachers say of one view of one shard, rows in shard order."""

    logits: np.ndarray  # [K, N, C] float32, teachers in manifest order
    valid: np.ndarray  # [N] bool: rows that every teacher has valid logits for
    partner: np.ndarray | None  # [N] int32: row mixed into this one's view, -1 nobody's; None: view not mixed
    features: Mapping[int, np.ndarray] = field(default_factory=dict)  # by teacher, [N, D] or [N, D, H, W] float16

    @property
    def nbytes(self) -> int:
        """Memory that this takes."""
        partner = 0 if self.partner is None else self.partner.nbytes
        return self.logits.nbytes + self.valid.nbytes + partner + sum(map_N.nbytes for map_N in self.features.values())


class Teaching:
    """Looks soft labels up by shard number and view; every file is checked once against its manifest.

    Args:
        corpus: gives the shards and their order.
        manifests: one label manifest a teacher.
        keep: bytes kept in memory; the least recently used views of shards go first, the last one read stays.
    """

    def __init__(self, corpus: Corpus, manifests: Sequence[Manifest], *, keep: int = 1 << 30) -> None:
        if not manifests:
            raise UsageError("teaching needs the label manifest of at least one teacher")
        self.corpus = corpus
        self.manifests = list(manifests)
        self.keep = keep
        self._files = [
            {(o.meta["shard"], o.meta["view"]): o for o in m.outputs if o.meta.get("kind") == "soft"}
            for m in self.manifests
        ]
        self._kept: OrderedDict[tuple[int, int], Taught] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def teachers(self) -> list[str]:
        """Names of the teachers, in the order of K."""
        return [str(manifest.section["teacher"]) for manifest in self.manifests]

    def rows(self, shard: int, view: int, *, features: Sequence[int] = ()) -> Taught:
        """All teachers' logits of one view of one shard.

        Args:
            features: teachers whose stored features come along.

        Raises:
            UsageError: a teacher was not asked about this view of this shard, or stored no features.
            CorruptError: a stored file is not what its manifest promises.
        """
        with self._lock:
            found = self._kept.get((shard, view))
            if found is not None and all(teacher in found.features for teacher in features):
                self._kept.move_to_end((shard, view))
                return found
        parts = [self._read(number, shard, view) for number in range(len(self.manifests))]
        taught = Taught(
            np.stack([part.logits for part in parts]),
            np.all([part.valid for part in parts], axis=0),
            self._partner(parts, shard, view),
            {teacher: self._features(parts[teacher], teacher) for teacher in features},
        )
        with self._lock:
            replaced = self._kept.pop((shard, view), None)
            self._bytes += taught.nbytes - (replaced.nbytes if replaced else 0)
            self._kept[(shard, view)] = taught
            while self._bytes > self.keep and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return taught

    def logits(self, shard: int, view: int) -> np.ndarray:
        """float32 [K, N, C]; zeros in rows that are not valid. Errors as `rows`."""
        return self.rows(shard, view).logits

    def features(self, teacher: int, shard: int, view: int) -> np.ndarray:
        """Stored features of one teacher, float16 [N, D] or [N, D, H, W]; zeros in rows that are not valid.

        Errors as `rows`.
        """
        return self.rows(shard, view, features=(teacher,)).features[teacher]

    def each(self, shard: int, view: int, temperatures: Mapping[str, float] | None = None) -> np.ndarray:
        """Every teacher's probabilities, float64 [K, N, C]: softmax, or sigmoid for multilabel corpora.

        Args:
            temperatures: by teacher, as `select` fits them; 1 where there is none.
        """
        logits = self.logits(shard, view).astype(np.float64)
        scale = np.array([(temperatures or {}).get(teacher, 1.0) for teacher in self.teachers])
        scaled = logits / scale[:, None, None]
        return sigmoid(scaled) if self.corpus.task == "multilabel" else softmax(scaled)

    def probabilities(
        self, shard: int, views: int | Sequence[int] = 0, temperatures: Mapping[str, float] | None = None
    ) -> np.ndarray:
        """Mean probabilities over teachers and views, float32 [N, C]: ensembles and test-time views are averages.

        Args:
            views: one view or several; only views that are not mixed with partners say something of one image.
            temperatures: as `each`.
        """
        chosen = [views] if isinstance(views, int) else list(views)
        mean = np.mean([self.each(shard, view, temperatures).mean(axis=0) for view in chosen], axis=0)
        return np.asarray(mean, dtype=np.float32)

    def _features(self, part: SoftLabels, teacher: int) -> np.ndarray:
        if part.features is None:
            raise UsageError(f"teacher {self.teachers[teacher]} stored no features; set teachers.features and label")
        return part.features

    def _partner(self, parts: Sequence[SoftLabels], shard: int, view: int) -> np.ndarray | None:
        first = parts[0].partner
        for name, part in zip(self.teachers, parts, strict=True):
            own = part.partner
            if own is None and first is None:
                continue
            if own is None or first is None or not np.array_equal(first, own):
                raise CorruptError(
                    f"teachers {self.teachers[0]} and {name} saw other mixtures in view {view} of shard {shard}; "
                    "label again with one recipe"
                )
        return first

    def _read(self, teacher: int, shard: int, view: int) -> SoftLabels:
        output = self._files[teacher].get((shard, view))
        if output is None:
            raise UsageError(
                f"teacher {self.teachers[teacher]} has no soft labels of view {view} of shard {shard}: "
                "run label with the views of this spec"
            )
        data = self.corpus.store.get(output.name)
        if len(data) != output.bytes or sha256_bytes(data) != output.sha256:
            raise CorruptError(f"{output.name}: bytes are not those of its manifest; run repair")
        soft = read_soft_labels(data, output.name)
        if len(soft.valid) != len(self.corpus.shards[shard]):
            raise CorruptError(
                f"{output.name}: {len(soft.valid)} rows for the {len(self.corpus.shards[shard])} images of "
                f"shard {shard}; run repair"
            )
        return soft


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in the precision given."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Elementwise, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))

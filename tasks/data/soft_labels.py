"""Soft labels: the file format, and the reader that gives all teachers' logits of one view of one shard.

One file per (shard, teacher, recipe, view), rows in shard order (DESIGN: Soft labels): safetensors with `logits`
float16 [N, C] and `valid` bool [N]; `partner` int32 [N] where views are mixed, and `features` float16 [N, D] or
[N, D, H, W] where the spec asks for them. Raw logits, never thresholded or sharpened: what is made of them is policy,
and policy costs no teacher time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from infra.digest import sha256_bytes
from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest
from models.augmentation.draws import NO_PARTNER
from tasks.data.corpus import Corpus

LIMIT = float(np.finfo(np.float16).max)
"""Largest magnitude of a logit that float16 holds: 65,504."""


@dataclass(frozen=True)
class SoftLabels:
    """Predictions of one teacher for one view of one shard."""

    logits: np.ndarray  # [N, C] float32; zeros where not valid
    valid: np.ndarray  # [N] bool
    partner: np.ndarray | None = None  # [N] int32: row whose view is mixed into this one's; NO_PARTNER: nobody's
    features: np.ndarray | None = None  # [N, D] or [N, D, H, W] float16; zeros where not valid

    @property
    def invalid(self) -> int:
        """Number of rows that are not valid."""
        return int((~self.valid).sum())


def to_soft_labels(
    logits: np.ndarray,
    *,
    predicted: np.ndarray | None = None,
    partner: np.ndarray | None = None,
    features: np.ndarray | None = None,
) -> SoftLabels:
    """Predictions as they are stored: rows with NaN, infinity or values past float16 are not valid.

    Args:
        logits: float32 [N, C].
        predicted: bool [N], rows that the teacher predicted; the others are not valid. Default: all.
        partner: int32 [N].
        features: float32 [N, D] or [N, D, H, W].
    """
    if logits.ndim != 2:
        raise ValueError(f"soft labels are [N, C], got {list(logits.shape)}")
    valid = _finite(logits)
    if predicted is not None:
        valid &= predicted
    if features is not None:
        valid &= _finite(features)
        features = _cleared(features, valid)
    return SoftLabels(_cleared(logits, valid).astype(np.float32), valid, partner, features)


def write_soft_labels(soft: SoftLabels) -> bytes:
    """The file's bytes; equal labels give equal bytes."""
    tensors = {"logits": soft.logits.astype(np.float16), "valid": soft.valid}
    if soft.partner is not None:
        tensors["partner"] = soft.partner.astype(np.int32)
    if soft.features is not None:
        tensors["features"] = soft.features.astype(np.float16)
    data: bytes = save(tensors)
    return data


def read_soft_labels(data: bytes, name: str = "soft labels") -> SoftLabels:
    """Parse what `write_soft_labels` made.

    Raises:
        CorruptError: no such file, or other tensors, types or shapes; the text starts with `name`.
    """
    try:
        tensors = load(data)
        logits, valid = tensors["logits"], tensors["valid"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptError(f"{name}: not a soft-label file ({error}); run repair") from error
    rows = logits.shape[:1]
    if logits.dtype != np.float16 or logits.ndim != 2 or valid.dtype != bool or valid.shape != rows:
        shapes = f"logits {logits.dtype} {list(logits.shape)}, valid {valid.dtype} {list(valid.shape)}"
        raise CorruptError(f"{name}: {shapes} are not float16 [N, C] and bool [N]; run repair")
    partner, features = tensors.get("partner"), tensors.get("features")
    if partner is not None and not _partners(partner, rows[0]):
        raise CorruptError(
            f"{name}: partner {partner.dtype} {list(partner.shape)} is not int32 [N] of rows; run repair"
        )
    if features is not None and (features.dtype != np.float16 or features.shape[:1] != rows):
        raise CorruptError(
            f"{name}: features {features.dtype} {list(features.shape)} are not float16 [N, ...]; run repair"
        )
    return SoftLabels(logits.astype(np.float32), valid, partner, features)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(values) <= LIMIT).all(axis=tuple(range(1, values.ndim))))


def _cleared(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    shown = valid.reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(shown, values, 0).astype(np.float16)


def _partners(partner: np.ndarray, rows: int) -> bool:
    return (
        partner.dtype == np.int32
        and partner.shape == (rows,)
        and bool(((partner >= NO_PARTNER) & (partner < rows)).all())
    )


@dataclass(frozen=True)
class TeacherPredictions:
    """Predictions of K teachers for one view of one shard, rows in shard order."""

    logits: np.ndarray  # [K, N, C] float32, teachers in manifest order
    valid: np.ndarray  # [N] bool: rows that every teacher has valid logits for
    partner: np.ndarray | None  # [N] int32: row mixed into this one's view, -1 none; None: view not mixed
    features: Mapping[int, np.ndarray] = field(default_factory=dict)  # by teacher, [N, D] or [N, D, H, W] float16

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        partner = 0 if self.partner is None else self.partner.nbytes
        return self.logits.nbytes + self.valid.nbytes + partner + sum(map_N.nbytes for map_N in self.features.values())


class SoftLabelReader:
    """Reads soft labels by shard number and view; every file is checked once against its manifest.

    Args:
        corpus: gives the shards and their order.
        manifests: one label manifest a teacher.
        max_bytes: kept in memory; the least recently used views of shards are dropped first, the last one read stays.
    """

    def __init__(self, corpus: Corpus, manifests: Sequence[Manifest], *, max_bytes: int = 1 << 30) -> None:
        if not manifests:
            raise UsageError("a soft-label reader needs the label manifest of at least one teacher")
        self.corpus = corpus
        self.manifests = list(manifests)
        self.max_bytes = max_bytes
        self._files = [
            {(o.meta["shard"], o.meta["view"]): o for o in m.outputs if o.meta.get("kind") == "soft"}
            for m in self.manifests
        ]
        self._cache: OrderedDict[tuple[int, int], TeacherPredictions] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def teachers(self) -> list[str]:
        """Names of the teachers, in the order of K."""
        return [str(manifest.section["teacher"]) for manifest in self.manifests]

    def rows(self, shard: int, view: int, *, features: Sequence[int] = ()) -> TeacherPredictions:
        """All teachers' logits of one view of one shard.

        Args:
            features: teachers whose stored features come along.

        Raises:
            UsageError: a teacher has no soft labels of this view of this shard, or stored no features.
            CorruptError: a stored file is not what its manifest promises.
        """
        with self._lock:
            found = self._cache.get((shard, view))
            if found is not None and all(teacher in found.features for teacher in features):
                self._cache.move_to_end((shard, view))
                return found
        parts = [self._read(number, shard, view) for number in range(len(self.manifests))]
        predictions = TeacherPredictions(
            np.stack([part.logits for part in parts]),
            np.all([part.valid for part in parts], axis=0),
            self._partner(parts, shard, view),
            {teacher: self._features(parts[teacher], teacher) for teacher in features},
        )
        return self._keep(shard, view, predictions)

    def mean(self, shard: int, views: int) -> TeacherPredictions:
        """Logits of every teacher's mean probabilities over the plain view and random ones of a shard, no features.

        Probabilities are softmax, for multilabel corpora sigmoid; cumulative probabilities of grades are sums of
        softmax ones, so their means are right too. A row is valid where some view of it is; other views are left out
        of its mean.

        Args:
            views: random views 1 to `views` beside the plain one.

        Raises:
            UsageError: as `rows`, or the views are mixed with partners and do not show single images.
            CorruptError: as `rows`.
        """
        with self._lock:
            found = self._cache.get((shard, -views))
            if found is not None and views:
                self._cache.move_to_end((shard, -views))
                return found
        parts = [self.rows(shard, view) for view in range(views + 1)]
        if any(part.partner is not None for part in parts):
            raise UsageError(
                "stored views are mixed with partners and do not show single images, so that they have no mean: "
                "set views.mix: none and label again, or use single views"
            )
        logits = mean_logits([(part.logits, part.valid) for part in parts], many=self.corpus.task == "multilabel")
        valid = np.any([part.valid for part in parts], axis=0)
        return self._keep(shard, -views, TeacherPredictions(logits, valid, None)) if views else parts[0]

    def _keep(self, shard: int, view: int, predictions: TeacherPredictions) -> TeacherPredictions:
        """Remember a view, or under a negative number the mean over as many random views and the plain one."""
        with self._lock:
            replaced = self._cache.pop((shard, view), None)
            self._bytes += predictions.nbytes - (replaced.nbytes if replaced else 0)
            self._cache[(shard, view)] = predictions
            while self._bytes > self.max_bytes and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return predictions

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
            views: one view or several; only views that are not mixed with partners show one image.
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
                    f"teachers {self.teachers[0]} and {name} saw different mixtures in view {view} of shard {shard}; "
                    "label again with one set of views"
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


def mean_logits(views: Sequence[tuple[np.ndarray, np.ndarray]], *, many: bool) -> np.ndarray:
    """Logits whose probabilities are the mean over views of the views' probabilities, float32 [..., N, C].

    All is done with logarithms, so that no probability becomes 0.

    Args:
        views: logits [..., N, C] and bool [N] of each: rows that count. Zeros where a row counts in no view.
        many: probabilities are sigmoids (multilabel), else softmax; the logits of a row are then log-probabilities.
    """
    total = np.full((1 + many, *views[0][0].shape), -np.inf)
    for logits, counts in views:
        z = logits.astype(np.float64)
        # Of yes and of no, or of the classes.
        log_p = -np.logaddexp(0, [-z, z]) if many else (z - np.logaddexp.reduce(z, axis=-1, keepdims=True))[None]
        total = np.where(counts[:, None], np.logaddexp(total, log_p), total)
    count = np.sum([counts for _, counts in views], axis=0)[:, None]
    with np.errstate(invalid="ignore"):
        mean = total[0] - (total[1] if many else np.log(np.maximum(count, 1)))
    return np.where(count > 0, mean, 0).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in the precision given."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Elementwise, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def entropy(prob: np.ndarray, *, many: bool) -> np.ndarray:
    """Shannon entropy over the last axis in nats; multilabel (`many`): mean over classes of the binary entropy."""
    if many:
        return np.asarray((_surprise(prob) + _surprise(1 - prob)).mean(axis=-1))
    return np.asarray(_surprise(prob).sum(axis=-1))


def _surprise(prob: np.ndarray) -> np.ndarray:
    # p log p goes to 0 with p.
    return np.asarray(-prob * np.log(np.maximum(prob, np.finfo(np.float64).tiny)))

"""Predictions of a teacher in this process: its networks, loaded once on the selected engine, or its table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from infra.digest import digest_of
from infra.errors import PermanentError, StillroomError, UsageError
from infra.machine import machine_kind
from infra.storage.store import Store
from models.engines.benchmark import EngineChoice, ImageSample
from models.engines.engine import Engine, EngineError, Prediction
from models.engines.runner import Runner
from tasks.data.corpus import Shard
from tasks.data.weights import WeightsRef
from tasks.label.costs import LabelRate
from tasks.label.engine_choices import EngineChoices
from tasks.label.job import InferenceSettings, TeacherRequest
from tasks.teachers.network import load_teacher
from tasks.teachers.table import load_table
from tasks.teachers.teacher import TeacherModel

_LOADED: dict[tuple[str, str, InferenceSettings], Predictor] = {}
_LOADING = threading.Lock()


@dataclass
class ViewPredictions:
    """A teacher's predictions of one view of a shard, while they are gathered."""

    logits: np.ndarray  # [N, C] float32
    predicted: np.ndarray  # [N] bool
    partner: np.ndarray | None  # [N] int32, see `tasks.data.soft_labels.SoftLabels`
    features: np.ndarray | None = None  # [N, ...] float32, allocated with the first prediction
    engine: dict[str, object] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)  # row to reason

    def add(self, rows: np.ndarray, prediction: Prediction) -> None:
        """Take the predictions of some rows."""
        self.logits[rows], self.predicted[rows] = prediction.logits_BC, True
        if prediction.features_BD is not None:
            if self.features is None:
                self.features = np.zeros((len(self.logits), *prediction.features_BD.shape[1:]), dtype=np.float32)
            self.features[rows] = prediction.features_BD


class NetworkPredictor:
    """A teacher with weights: the whole one, and its fold teachers for the rows of their folds.

    Args:
        sample: gives views at a size to measure engines with.
        begin: decide on engines for this run, see `loaded_predictor`.

    Raises:
        UsageError, CorruptError: as `loaded_predictor`.
    """

    def __init__(
        self,
        request: TeacherRequest,
        shard: Shard,
        inference: InferenceSettings,
        store: Store,
        sample: Callable[[int], ImageSample],
        *,
        begin: bool = False,
    ) -> None:
        self.shard, self.teacher, self.folds = shard, request.teacher, request.folds
        refs = [request.teacher.weights, *request.teacher.folds]
        self.networks = [loaded_predictor(request.teacher, ref, inference, store, sample, begin=begin) for ref in refs]
        self.size = self.networks[0].size
        self.batch = max(network.runner.batch for network in self.networks)

    def predict(
        self, found: ViewPredictions, rows: np.ndarray, images: dict[tuple[int, int], np.ndarray], view: int
    ) -> None:
        """Add the predictions of some rows.

        Args:
            rows: int64 [B].
            images: by view and side, uint8 [B, side, side, 3].

        Raises:
            PermanentError: the teacher fails on each of several rows.
        """
        pictures = images[view, self.size]
        folds = np.full(len(rows), -1) if self.folds is None else self.folds[rows]
        for fold in np.unique(folds):
            chosen = folds == fold
            network = self.networks[fold + 1]
            self._predict(found, network, rows[chosen], pictures if chosen.all() else pictures[chosen])

    def rate(self) -> LabelRate:
        """Its rate and the shape of its features, which a prediction alone shows."""
        features: tuple[int, ...] = ()
        first = self.networks[0]
        if self.teacher.features is not None:
            array = first(np.zeros((1, self.size, self.size, 3), dtype=np.uint8)).features_BD
            features = array.shape[1:] if array is not None else ()
        return LabelRate(
            self.teacher.name, self.teacher.num_classes, features, first.rate, first.engine_text, first.settled
        )

    def _predict(self, found: ViewPredictions, network: Predictor, rows: np.ndarray, pictures: np.ndarray) -> None:
        found.engine = network.engine
        try:
            found.add(rows, network(pictures))
        except StillroomError:
            raise
        # A teacher of somebody else's making may fail with anything; one by one shows on which image.
        except Exception as error:
            if len(rows) > 1:
                for number in range(len(rows)):
                    self._predict(found, network, rows[number : number + 1], pictures[number : number + 1])
                if not found.predicted[rows].any():
                    raise PermanentError(
                        f"teacher {self.teacher.name} fails on each of {len(rows)} images from "
                        f"{self.shard.keys[rows[0]]} of {self.shard.output.name}: {type(error).__name__}: {error}"
                    ) from error
            else:
                found.failed[int(rows[0])] = f"teacher {self.teacher.name}: {type(error).__name__}: {error}"


class TablePredictor:
    """A teacher that is a table: it has logits of images, the same for all of their views.

    Args:
        batch: rows that are rendered together; a table needs none.

    Raises:
        UsageError, CorruptError: as `tasks.teachers.table.load_table`.
    """

    size = 0

    def __init__(self, request: TeacherRequest, shard: Shard, store: Store, batch: int) -> None:
        self.teacher, self.batch = request.teacher, batch
        # The stage has read it before, with keys in its errors where they may be told.
        classes = self.teacher.options["classes"]
        table = load_table(self.teacher.weights, classes, self.teacher.name, store, private=True)
        self.logits, self.known = table.rows(shard.keys)

    def predict(
        self, found: ViewPredictions, rows: np.ndarray, images: dict[tuple[int, int], np.ndarray], view: int
    ) -> None:
        """Add the logits of some rows, int64 [B]; rows that the table lacks stay without."""
        known = rows[self.known[rows]]
        found.add(known, Prediction(self.logits[known]))

    def rate(self) -> LabelRate:
        """Without a speed: nothing is computed."""
        return LabelRate(self.teacher.name, self.teacher.num_classes)


@dataclass
class Predictor:
    """One network of a teacher on its engine."""

    choices: EngineChoices
    runner: Runner
    choice: EngineChoice
    settled: bool  # False: one worker measures other engines at the moment

    @property
    def size(self) -> int:
        """Side of its input in pixels."""
        return self.choices.network.size

    @property
    def rate(self) -> float | None:
        """Images a second as measured on this kind of machine."""
        return self.choice.images_per_second

    @property
    def engine_text(self) -> str:
        """Which engine was taken, and which were measured and refused, and why."""
        refused = [
            f"{row.engine}: {row.why_not}" for row in self.choice.tried if row.why_not and row.divergence is not None
        ]
        text = f"{self.choice.engine} in batches of {self.choice.batch}"
        return text + (f" (not {'; not '.join(refused)})" if refused else "")

    @cached_property
    def engine(self) -> dict[str, Any]:
        """For records: engine, batch, kind of machine and how far it agrees with float32."""
        how, agreement = self.choices.inference, self.choice.agreement
        kind = machine_kind(how.device, how.threads)
        measured = agreement.to_json() if agreement is not None else {}
        return {"engine": self.choice.engine, "batch": self.choice.batch, "kind": kind, **measured}

    def __call__(self, images: np.ndarray) -> Prediction:
        """Predictions of RGB uint8 [B, size, size, 3]."""
        return self.runner(images)


def loaded_predictor(
    teacher: TeacherModel,
    weights: WeightsRef,
    inference: InferenceSettings,
    store: Store,
    sample: Callable[[int], ImageSample],
    *,
    begin: bool = False,
) -> Predictor:
    """The predictor of some weights of a teacher, loaded now or before.

    Where the engine is not settled, the one that was selected meanwhile is opened; while another thread does that the
    one that was loaded before goes on.

    Args:
        weights: the teacher's own or those of a fold.
        sample: gives views at a size to measure engines with.
        begin: decide on the engine for this run, rather than follow the worker that did.

    Raises:
        UsageError: the network cannot be built, or the engine of the spec cannot run it.
        CorruptError: the weights are not those that the run began with.
    """
    name = (digest_of([teacher.identity(), weights.id]), store.url, inference)
    known = _LOADED.get(name)
    if known is not None and (known.settled or not _LOADING.acquire(blocking=False)):
        return known
    if known is None:
        _LOADING.acquire()
    try:
        known = _LOADED.get(name)
        if known is None:
            network = load_teacher(teacher, weights, store)
            choices = EngineChoices(teacher, network, inference, store, lambda: sample(network.size))
            known = _LOADED[name] = _opened(choices, choices.start if begin else choices.follow)
        elif not known.settled and known.choices.newly_settled() is not None:
            known = _LOADED[name] = _opened(known.choices, known.choices.follow)
        return known
    finally:
        _LOADING.release()


def settle_engine(
    teacher: TeacherModel,
    inference: InferenceSettings,
    store: Store,
    sample: Callable[[int], ImageSample],
) -> Predictor:
    """Measure engines for a teacher whose engine is not settled, and take the one that is selected.

    Labelling on other threads of this process goes on meanwhile.

    Raises:
        As `loaded_predictor`.
    """
    known = loaded_predictor(teacher, teacher.weights, inference, store, sample)
    if not known.settled:
        found = _opened(known.choices, known.choices.settle)
        with _LOADING:
            name = (digest_of([teacher.identity(), teacher.weights.id]), store.url, inference)
            known = _LOADED[name] = found
    return known


def _opened(choices: EngineChoices, choose: Callable[[], tuple[EngineChoice, Engine, bool]]) -> Predictor:
    try:
        choice, engine, settled = choose()
    except EngineError as error:
        raise UsageError(f"teacher {choices.teacher.name}: {error}") from error
    return Predictor(choices, Runner(engine, choice.batch), choice, settled)

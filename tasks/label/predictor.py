"""Predictions of a teacher in this process: its networks, loaded once on the fastest engine, or its table.

Which engine is fastest is remembered in the store for each (teacher, kind of machine), so that of many workers one
measures and the others follow. A choice that had no time to try everything is made again when there is more to do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.digest import canonical_json, digest_of
from infra.errors import PermanentError, StillroomError, UsageError
from infra.machine import machine_kind
from infra.storage.store import MissingObjectError, Store
from models.engines.benchmark import EngineChoice
from models.engines.engine import EngineError, Network, Prediction
from models.engines.opening import open_engine
from models.engines.runner import Runner
from models.engines.selection import select_engine
from tasks.data.corpus import Shard
from tasks.data.weights import WeightsRef
from tasks.label.costs import LabelRate
from tasks.label.job import InferenceSettings, TeacherRequest
from tasks.teachers.network import load_teacher
from tasks.teachers.table import load_table
from tasks.teachers.teacher import TeacherModel

ENGINES = "engines/"
"""Folder of the store where choices are remembered; hints that any run may make again."""

MORE = 4
"""A choice that was cut short is made again when there is this many times as much to do."""

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
        sample: gives views at a size, uint8 [N, size, size, 3], to measure engines with.

    Raises:
        UsageError, CorruptError: as `loaded_predictor`.
    """

    def __init__(
        self,
        request: TeacherRequest,
        shard: Shard,
        inference: InferenceSettings,
        store: Store,
        sample: Callable[[int], np.ndarray],
    ) -> None:
        self.shard, self.teacher, self.folds = shard, request.teacher, request.folds
        refs = [request.teacher.weights, *request.teacher.folds]
        self.networks = [loaded_predictor(request.teacher, ref, inference, store, sample) for ref in refs]
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
        return LabelRate(self.teacher.name, self.teacher.num_classes, features, first.rate, first.engine_text)

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
        table = load_table(self.teacher.weights, self.teacher.options["classes"], self.teacher.name, store)
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

    size: int  # side of its input in pixels
    runner: Runner
    rate: float | None  # images a second as measured on this kind of machine
    engine_text: str  # which engine was taken, and which faster ones were not and why
    engine: dict[str, Any]  # for records: engine, batch, precision and how far it agrees with float32

    def __call__(self, images: np.ndarray) -> Prediction:
        """Predictions of RGB uint8 [B, size, size, 3]."""
        return self.runner(images)


def loaded_predictor(
    teacher: TeacherModel,
    weights: WeightsRef,
    inference: InferenceSettings,
    store: Store,
    sample: Callable[[int], np.ndarray],
) -> Predictor:
    """The predictor of some weights of a teacher, loaded now or before.

    Args:
        weights: the teacher's own or those of a fold.
        sample: gives views at a size, uint8 [N, size, size, 3], to measure engines with.

    Raises:
        UsageError: the network cannot be built, or the engine of the spec cannot run it.
        CorruptError: the weights are not those that the run began with.
    """
    name = (digest_of([teacher.identity(), weights.id]), store.url, inference)
    with _LOADING:
        known = _LOADED.get(name)
        if known is None:
            known = _LOADED[name] = _load(teacher, weights, inference, store, sample)
        return known


def _load(
    teacher: TeacherModel,
    weights: WeightsRef,
    inference: InferenceSettings,
    store: Store,
    sample: Callable[[int], np.ndarray],
) -> Predictor:
    network = load_teacher(teacher, weights, store)
    try:
        choice = _choice(teacher, network, inference, store, sample)
        engine = open_engine(network, choice.engine, device=inference.device, threads=inference.threads)
    except EngineError as error:
        raise UsageError(f"teacher {teacher.name}: {error}") from error
    runner = Runner(engine, choice.batch)
    return Predictor(
        network.size, runner, choice.images_per_second, _engine_text(choice), _engine_facts(choice, inference)
    )


def _choice(
    teacher: TeacherModel,
    network: Network,
    inference: InferenceSettings,
    store: Store,
    sample: Callable[[int], np.ndarray],
) -> EngineChoice:
    kind = machine_kind(inference.device, inference.threads)
    wanted = [
        inference.engine,
        inference.precision,
        inference.batch,
        inference.min_agreement,
        inference.max_error,
    ]
    # Fold teachers share the architecture: one of them measures for all.
    name = f"{ENGINES}{teacher.id[:16]}-{digest_of([kind, wanted])[:16]}.json"
    known = _remembered(store, name, inference.passes)
    if known is not None:
        return known
    choice = select_engine(
        network,
        sample(network.size),
        device=inference.device,
        threads=inference.threads,
        passes=inference.passes,
        engine=inference.engine,
        precision=inference.precision,
        batch=inference.batch,
        min_agreement=inference.min_agreement,
        max_error=inference.max_error,
    )
    # Another worker may have been faster; two engines in one run would move low bits between its shards.
    known = _remembered(store, name, inference.passes)
    if known is not None:
        return known
    store.put(name, canonical_json({"kind": kind, "passes": inference.passes, "choice": choice.to_json()}))
    return choice


def _remembered(store: Store, name: str, passes: int) -> EngineChoice | None:
    try:
        stored = json.loads(store.get(name))
        choice, before = EngineChoice.from_json(stored["choice"]), int(stored["passes"])
    except MissingObjectError:
        return None
    except (ValueError, KeyError, TypeError):
        # A hint that cannot be read is no hint; the choice is made again over it.
        return None
    return None if choice.limited and passes > MORE * before else choice


def _engine_facts(choice: EngineChoice, inference: InferenceSettings) -> dict[str, Any]:
    agreement = choice.agreement.to_json() if choice.agreement is not None else {}
    kind = machine_kind(inference.device, inference.threads)
    return {"engine": choice.engine, "batch": choice.batch, "kind": kind, **agreement}


def _engine_text(choice: EngineChoice) -> str:
    refused = [f"{row.engine}: {row.why_not}" for row in choice.tried if row.why_not and row.top1 is not None]
    return f"{choice.engine} in batches of {choice.batch}" + (f" (not {'; not '.join(refused)})" if refused else "")

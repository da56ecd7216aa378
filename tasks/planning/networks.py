"""The networks of a spec, built as a run would build them, even before the corpus is in the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from infra.digest import canonical_json
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from models.engines.engine import EngineError, Network
from models.engines.opening import names, open_engine
from models.networks.build import Built
from tasks.data.corpus import Corpus
from tasks.data.weights import weights_file
from tasks.distill.request import DISTILL_NAME
from tasks.evaluate.scope import check_models
from tasks.label import teacher_handle
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.network_check import input_side, network_of, trained_parts
from tasks.planning.tried_network import built_and_tried
from tasks.spec import ModelSection, Spec
from tasks.spec.run import LabelRunSection
from tasks.teachers.teacher import teacher_model
from tasks.teachers.weights_lookup import find_weights, registered_weights


def corpus_of_counts(counts: CorpusCounts, store: Store) -> Corpus:
    """The corpus without images, where it is not ingested: classes, task and the other facts."""
    if counts.manifest is not None:
        return Corpus(store, counts.manifest)
    manifest = Manifest(stage="ingest", version=0, key="", inputs=[], section={}, outputs=[], facts=counts.facts)
    return Corpus(store, manifest)


def build_networks(spec: Spec, corpus: Corpus, store: Store) -> tuple[dict[str, Built], dict[str, str]]:
    """Build every network of the spec once, with its weights.

    Returns:
        Networks by the teachers' names and of students by `network_of`, and ids (`TeacherModel.id`) of the teachers
        that are used as they are.

    Raises:
        UsageError: as the run would: no such model, weights that are not there or do not fit, no metric of that
            name, a teacher that can neither be trained nor used.
    """
    classes = len(corpus.classes)
    parts = trained_parts(spec)
    model = Manifest(
        stage=DISTILL_NAME,
        version=0,
        key="",
        inputs=[],
        section={},
        outputs=[],
        facts={"classes": corpus.classes, "arm": "taught", "seed": 0},
    )
    check_models(corpus, [model], spec)
    built, ids = {}, {}
    for teacher in spec.teachers:
        if teacher.train is None:
            handle = teacher_handle(teacher, [], corpus, store)
            ids[teacher.name] = teacher_model(handle, corpus, spec, store).id
        if teacher.train is None and teacher.kind != "network":
            # Files, functions and tables are checked by `teacher_model`; there is no network to build.
            continue
        arm = f"teacher:{teacher.name}" if teacher.train else f"teacher {teacher.name}"
        built[teacher.name] = _build(teacher, arm, spec, classes, store, parts.get(teacher.name))
        if teacher.train is None and built[teacher.name].head_reset:
            raise UsageError(
                f"teacher {teacher.name}: the head of its weights has other classes than the corpus's {classes}; "
                "add `train:` to fine-tune it"
            )
    same: dict[tuple[bytes, int | None], Built] = {}
    for arm in spec.arms:
        student = spec.student.of(arm)
        part = parts[network_of(arm)]
        network = canonical_json({name: getattr(student, name) for name in ModelSection.model_fields}), part
        if network not in same:
            same[network] = _build(student, arm, spec, classes, store, part)
        built[network_of(arm)] = same[network]
    return built, ids


def _build(section: ModelSection, arm: str, spec: Spec, classes: int, store: Store, part: int | None) -> Built:
    with _weights_of(section, store) as path:
        return built_and_tried(section, arm, input_side(section, spec), classes, path, part)


@contextmanager
def _weights_of(section: ModelSection, store: Store) -> Iterator[Path | None]:
    """The file of a network's weights; a registered student's is not copied into the store: a plan writes nothing."""
    if section.starts_from is not None:
        # Not trained yet; random ones are as good for counts and speed.
        yield None
        return
    student = registered_weights(section.weights, section.model)
    if student is None:
        yield weights_file(find_weights(section.weights, section.model, store), section.model, store)
        return
    with student.file() as path:
        yield path


def feature_shape(network: Network) -> tuple[int, ...]:
    """Shape of the features that a teacher stores of one image.

    Raises:
        UsageError: the network has no module of that name.
    """
    try:
        answer = open_engine(network, "eager-float32", device="cpu", threads=1)(
            np.zeros((1, network.size, network.size, 3), np.uint8)
        )
    except EngineError as error:
        raise UsageError(f"features {network.features}: {error}") from error
    assert answer.features_BD is not None
    return tuple(answer.features_BD.shape[1:])


def check_engine(network: Network, how: LabelRunSection, *, device: str, threads: int) -> None:
    """Check that the engine and precision that a spec asks for can run a network here; measures nothing.

    Raises:
        UsageError: they cannot; the text says why.
    """
    family = how.engine if how.engine != "auto" else "eager"
    precision = how.precision if how.precision != "auto" else "float32"
    for name in names(network, device):
        own_family, _, own_precision = name.rpartition("-")
        if how.engine in ("auto", own_family) and how.precision in ("auto", own_precision):
            return
    try:
        open_engine(network, f"{family}-{precision}", device=device, threads=threads)
    except EngineError as error:
        raise UsageError(str(error)) from error

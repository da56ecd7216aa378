"""The networks of a spec, built as a run would build them, before there is a corpus in the store."""

from __future__ import annotations

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from models.networks.build import Built, build
from tasks.data.corpus import Corpus
from tasks.data.weights import PYPI, weights_file
from tasks.distill.request import DISTILL
from tasks.evaluate.stage import check_models
from tasks.label import teacher_handle
from tasks.planning.counts import Numbers
from tasks.spec import ModelSection, Spec
from tasks.teachers.teacher import teacher_model
from tasks.teachers.weights import find_weights


def stand_in(numbers: Numbers, store: Store) -> Corpus:
    """The corpus as far as its classes and task: what the stages ask before they ask for images."""
    if numbers.manifest is not None:
        return Corpus(store, numbers.manifest)
    manifest = Manifest(stage="ingest", version=0, key="", inputs=[], section={}, outputs=[], facts=numbers.facts)
    return Corpus(store, manifest)


def networks(spec: Spec, corpus: Corpus, store: Store) -> dict[str, Built]:
    """Every network of the spec, built once with its weights.

    Raises:
        UsageError: as the run would: no such model, weights that are not there or do not fit, no metric of that
            name, a teacher that can neither be trained nor used.
    """
    classes = len(corpus.classes)
    model = Manifest(
        stage=DISTILL,
        version=0,
        key="",
        inputs=[],
        section={},
        outputs=[],
        facts={"classes": corpus.classes, "arm": "taught", "seed": 0},
    )
    check_models(corpus, [model], spec)
    built = {}
    for teacher in spec.teachers:
        if teacher.train is None:
            handle = teacher_handle(teacher, [], corpus, store)
        if teacher.train is None and teacher.kind != "network":
            # Whatever else speaks is known by its file or its name alone; it is asked, not built.
            teacher_model(handle, corpus, spec, store)
            continue
        arm = f"teacher:{teacher.name}" if teacher.train else f"teacher {teacher.name}"
        built[teacher.name] = _build(teacher, arm, spec, classes, store)
        if teacher.train is None and built[teacher.name].head_reset:
            raise UsageError(
                f"teacher {teacher.name}: the head of its weights has other classes than the corpus's {classes}; "
                "add `train:` to fine-tune it"
            )
    built[""] = _build(spec.student, "taught", spec, classes, store)
    return built


def _build(section: ModelSection, arm: str, spec: Spec, classes: int, store: Store) -> Built:
    ref = find_weights(section.weights, section.model, store)
    pypi = ref.where == PYPI
    path = weights_file(ref, section.model, store)
    try:
        return build(
            section.model,
            num_classes=classes,
            options=section.options,
            weights=None if pypi else path,
            pypi=pypi,
            size=input_side(section, spec),
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"{arm}: {error}") from error


def input_side(section: ModelSection, spec: Spec) -> int:
    """Side of the network's input in pixels."""
    return section.size or spec.views.size

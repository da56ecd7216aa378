"""Teachers of a spec: network, weights and input of each, and whether it fits the corpus.

All of it is resolved on the driver, before a worker starts: aliases become versions, files become digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.digest import digest_of
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.weights import IN_STORE, PYPI, PYPI_CLASSES, WeightsRef, copy_to_store, stored_ref
from tasks.spec import Spec, TeacherSection
from tasks.spec.teacher import Kind
from tasks.teachers.onnx_file import check_onnx, onnx_facts
from tasks.teachers.table import check_table
from tasks.teachers.weights_lookup import RegisteredStudent, find_registered, find_weights, registered_weights

_MULTILABEL = "multilabel"


@dataclass(frozen=True)
class TeacherModel:
    """Network, weights and input of a teacher: all that its logits depend on beside the images; small and picklable.

    Attributes:
        name: for people; no part of the identity.
        kind: network (a timm name or one of ours), graph (a torch.export archive), onnx, python (an entry point
            `package.module:function`) or table (a Parquet table of logits by key).
        model: the network's name or the entry point; "" where the file holds it.
        size: side of its input in pixels; 0 for a table.
        mean, std: of its input; None: the network's own.
        features: "pooled", a module's path, or None.
        outputs: what its numbers are: softmax or sigmoid probabilities, `logits` as the spec says, or "" for logits
            that nobody vouches for (see `tasks.teachers.outputs`).
        weights: the file, or no file for a Python entry point that needs none.
        folds: weights of the k fold teachers, none of which saw the labelled images of its own fold.
    """

    name: str
    kind: Kind
    model: str
    options: dict[str, Any]
    size: int
    num_classes: int
    weights: WeightsRef
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    features: str | None = None
    folds: tuple[WeightsRef, ...] = ()
    outputs: str = ""

    def identity(self) -> dict[str, Any]:
        """What enters keys, beside the ids of its weights."""
        # Logits are logits, whoever says so.
        outputs = {"outputs": self.outputs} if self.outputs in ("softmax", "sigmoid") else {}
        return {
            **outputs,
            "kind": self.kind,
            "model": self.model,
            "options": self.options,
            "size": self.size,
            "classes": self.num_classes,
            "input": [self.mean, self.std],
            # Keys of features by path from before they had a common layout were without the suffix.
            "features": f"{self.features} as a map" if self.features not in (None, "pooled") else self.features,
        }

    @property
    def weight_ids(self) -> list[str]:
        """Ids of the whole teacher's weights and of the fold teachers'."""
        return [self.weights.id, *(ref.id for ref in self.folds)]

    @property
    def id(self) -> str:
        """Digest of network and weights."""
        return digest_of([self.identity(), *self.weight_ids])


@dataclass(frozen=True)
class TeacherHandle:
    """A teacher of a spec with its weights resolved.

    Attributes:
        weights: the file of the network, or that a Python function is given; no file where it needs none.
        folds: weights of its fold teachers.
        origin: the file or registered version that `upload_weights` copies into the store; None where nothing is to be
            copied.
    """

    name: str
    section: TeacherSection
    weights: WeightsRef
    folds: tuple[WeightsRef, ...] = ()
    origin: Path | RegisteredStudent | None = None


def teacher_handle(section: TeacherSection, trained: Sequence[Manifest], corpus: Corpus, store: Store) -> TeacherHandle:
    """Resolve a teacher of the spec; writes nothing.

    Args:
        trained: manifests of its fine-tuning, the whole teacher's first, then one a fold; none where the section
            asks for no training.

    Raises:
        UsageError: nothing was trained though `train:` asks for it, there are no weights, file, table or registered
            version, a Python function has no version, or its classes are not the corpus's.
    """
    if section.train is not None:
        return _fine_tuned(section, trained)
    try:
        if section.kind == "graph":
            found = find_registered(section.target)
            _same_classes(found, corpus)
            return TeacherHandle(section.name, section, found.weights, origin=found)
        if section.kind in ("onnx", "table"):
            path = Path(section.target)
            suffix = ".parquet" if section.kind == "table" else ".onnx"
            return TeacherHandle(section.name, section, stored_ref(path, suffix), origin=path)
    except UsageError as error:
        raise UsageError(f"teacher {section.name}: {error}") from error
    if section.kind == "python":
        return _python(section, store)
    classes = len(corpus.classes)
    if section.weights is None:
        raise UsageError(f"teacher {section.name} has neither weights nor `train:`; give one of them")
    if section.weights == PYPI and classes != PYPI_CLASSES:
        raise UsageError(
            f"teacher {section.name}: its weights know {PYPI_CLASSES} ImageNet classes, the corpus has {classes}; "
            "add `train:` to fine-tune it"
        )
    weights, origin = _weights(section, section.model, store)
    return TeacherHandle(section.name, section, weights, origin=origin)


def teacher_model(teacher: TeacherHandle, corpus: Corpus, spec: Spec, store: Store) -> TeacherModel:
    """The teacher as it travels to the workers; writes nothing.

    Raises:
        UsageError: the teacher predicts other classes than the corpus's, as far as that is known without running it;
            its file is no teacher; or it has no predictions of the spec's views.
    """
    section = teacher.section
    classes = corpus.classes
    model, options, size = section.model, section.build_options, section.size or spec.views.size
    mean, std = section.mean, section.std
    try:
        if section.kind == "graph" and isinstance(teacher.origin, RegisteredStudent):
            about = teacher.origin.metadata
            model, size = "", int(about["input_size"])
            mean, std = mean or tuple(about["mean"]), std or tuple(about["std"])
        elif section.kind == "table":
            if spec.views.mix != "none" and spec.views.count > 0:
                raise UsageError("a table has logits of images, none of mixed views; set views.mix to none")
            check_table(Path(section.target), classes)
            # Columns are found by the names of the classes, so the names are part of its identity.
            model, size, options = "", 0, {"classes": classes}
        elif section.kind == "onnx":
            model = ""
            facts = onnx_facts(Path(section.target))
            if facts is not None:
                size = section.size or facts.side or size
                check_onnx(facts, size=size, classes=len(classes), features=section.features)
        elif section.kind == "python":
            model = section.target
    except UsageError as error:
        raise UsageError(f"teacher {teacher.name}, {section.model}: {error}") from error
    return TeacherModel(
        name=teacher.name,
        kind=section.kind,
        model=model,
        options=options,
        size=size,
        num_classes=len(classes),
        weights=teacher.weights,
        mean=mean,
        std=std,
        features=section.features,
        folds=teacher.folds,
        outputs=_outputs(section, corpus),
    )


def _outputs(section: TeacherSection, corpus: Corpus) -> str:
    if section.outputs == "probabilities":
        return "sigmoid" if corpus.task == _MULTILABEL else "softmax"
    return section.outputs or ""


def upload_weights(teacher: TeacherHandle, store: Store) -> None:
    """Copy the teacher's file into the store, once, so that every worker finds it; call it before a job needs it.

    Raises:
        CorruptError: the file changed since the handle was made.
    """
    if isinstance(teacher.origin, Path):
        copy_to_store(teacher.weights, teacher.origin, store)
    elif teacher.origin is not None:
        teacher.origin.upload(store)


def _fine_tuned(section: TeacherSection, trained: Sequence[Manifest]) -> TeacherHandle:
    if not trained:
        raise UsageError(f"teacher {section.name} has `train:`, so fine-tune it before it labels")
    whole, *folds = trained
    count = section.folds or 0
    if [tuple(manifest.facts.get("fold", ())) for manifest in folds] != [(fold, count) for fold in range(count)]:
        raise UsageError(
            f"teacher {section.name}: folds: {section.folds or 'null'} asks for {count} trainings in the order of "
            f"their folds beside the whole teacher's, got {len(folds)}"
        )
    refs = []
    for manifest in (whole, *folds):
        output = manifest.output(kind="model")
        refs.append(WeightsRef(f"{IN_STORE}{output.name}", output.id, output.sha256))
    return TeacherHandle(section.name, section, refs[0], tuple(refs[1:]))


def _same_classes(found: RegisteredStudent, corpus: Corpus) -> None:
    theirs, ours = list(found.metadata["classes"]), corpus.classes
    if theirs != ours:
        raise UsageError(
            f"{found.version} has {len(theirs)} classes ({_some(theirs)}), the corpus has {len(ours)} "
            f"({_some(ours)}); a registered student teaches the classes that it learned, in their order"
        )
    if (found.metadata["task"] == _MULTILABEL) != (corpus.task == _MULTILABEL):
        raise UsageError(f"{found.version} was made for a {found.metadata['task']} corpus, this one is {corpus.task}")


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")


def _weights(section: TeacherSection, model: str, store: Store) -> tuple[WeightsRef, RegisteredStudent | None]:
    """Weights that a section names, and the registered student whose file is to be copied into the store."""
    student = registered_weights(section.weights, model)
    if student is not None:
        return student.weights, student
    return find_weights(section.weights, model, store), None


def _python(section: TeacherSection, store: Store) -> TeacherHandle:
    """Identity of a Python function: version and weights, because the digest of code differs between machines."""
    version = section.version or _installed(section.target)
    if version is None:
        raise UsageError(
            f"teacher {section.name}: {section.target} belongs to no installed release, so nothing says when its code "
            "changes; give it a version, and another one with every change"
        )
    ref, origin = _weights(section, section.target, store)
    identity: list[Any] = ["python", section.target, version, ref.id]
    return TeacherHandle(section.name, section, WeightsRef(ref.where, digest_of(identity), ref.sha256), origin=origin)


def _installed(entry: str) -> str | None:
    """Release that a module comes from; None for loose files and editable installs, which change under a version."""
    top = entry.partition(":")[0].partition(".")[0]
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    for name in sorted(set(metadata.packages_distributions().get(top, []))):
        release = metadata.distribution(name)
        # Source trees have metadata too, but only what was installed has a RECORD of its files.
        files = release.files if release.read_text("RECORD") else None
        if any(Path(str(release.locate_file(file))) == Path(spec.origin) for file in files or []):
            return f"{release.name} {release.version}"
    return None

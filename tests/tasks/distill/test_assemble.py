"""Every loss of a spec reaches a student through the real line: teachers at hand, or what they left in the store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load

from infra.compute.cluster import Cluster
from infra.errors import PermanentError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from models.losses.terms import LOSSES
from models.networks.build import build
from tasks.data.corpus import Corpus
from tasks.data.views import stored_partners
from tasks.distill.assemble import assemble
from tasks.distill.batches import TrainData
from tasks.distill.stage import StudentTraining, TeacherTraining, distill, teach
from tasks.distill.training_job import TrainJob, build_job
from tasks.distill.training_messages import Message
from tasks.distill.training_run import TrainingCallbacks, run_training
from tasks.distill.training_work import Training
from tasks.label.stage import label
from tasks.pipeline.context import Context
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY
from tasks.teachers.teacher import TeacherHandle, teacher_handle
from tests.tiny import tiny_corpus, tiny_labels

ON_MAPS = [name for name, loss in LOSSES.items() if loss.default_tap]
PLAIN = [name for name, loss in LOSSES.items() if not loss.default_tap]
SMALL = {"crd": {"negatives": 8, "width": 8}, "review": {"width": 8}, "fusion": {"width": 8, "heads": 2}}


def spec_of(store: LocalStore, losses: Sequence[dict[str, Any]], *, teachers: int = 1, **student: Any) -> Spec:
    names = ", ".join(
        f"{{name: t{number}, model: micro_xs, features: pooled, seed: {number}, train: {{steps: 2, batch: 8}}}}"
        for number in range(teachers)
    )
    return parse_spec(
        f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 1}}
teachers: [{names}]
student: {{model: micro_xs, train: {{steps: 3, batch: 8, validations: 1}}, loss: {json.dumps(list(losses))}}}
run: {{device: cpu, train: {{threads: 1}}}}
""",
        overrides=[f"student.{name}={json.dumps(value)}" for name, value in student.items()],
    )


def taught(corpus: Corpus, spec: Spec, store: LocalStore, cluster: Cluster) -> list[TeacherHandle]:
    return [
        teacher_handle(
            section, [teach(Context(store, cluster, spec.run), corpus, section, spec).manifest], corpus, store
        )
        for section in spec.teachers
    ]


def student(corpus: Corpus, spec: Spec, store: LocalStore, cluster: Cluster) -> Manifest:
    teachers = taught(corpus, spec, store, cluster)
    labels = [label(Context(store, cluster, spec.run), corpus, each, spec.for_labels).manifest for each in teachers]
    return distill(Context(store, cluster, spec.run), corpus, labels, None, spec, teachers=teachers).manifest


def parts(store: LocalStore, made: Manifest) -> dict[str, float]:
    """The last row of a student's history."""
    row: dict[str, float] = json.loads(store.get(made.output(kind="history").name))[-1]
    return row


def loss_of(name: str) -> dict[str, Any]:
    return {"loss": name, "options": SMALL.get(name, {})}


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
def test_every_loss_on_labels_and_logits_teaches_from_the_store(task: str, store: LocalStore, cluster: Cluster) -> None:
    names = [name for name in PLAIN if task in LOSSES[name].tasks]
    spec = spec_of(store, [loss_of(name) for name in names], teachers=2)
    row = parts(store, student(tiny_corpus(store, task=task), spec, store, cluster))
    assert [name for name in names if not math.isfinite(row[name])] == []


def test_every_loss_on_features_teaches_beside_a_distillation(store: LocalStore, cluster: Cluster) -> None:
    names = [name for name in ON_MAPS if not LOSSES[name].inside]
    spec = spec_of(store, [{"loss": "kl"}, *(loss_of(name) for name in names)], teacher="online")
    row = parts(store, student(tiny_corpus(store), spec, store, cluster))
    assert [name for name in ("kl", *names) if not math.isfinite(row[name])] == []


def test_stored_features_teach_with_no_teacher_at_hand(store: LocalStore, cluster: Cluster) -> None:
    names = ["fusion", "pkt", "rkd", "fitnets", "crd", "similarity"]
    spec = spec_of(store, [{"loss": "kl"}, *(loss_of(name) for name in names)], teachers=2)
    row = parts(store, student(tiny_corpus(store), spec, store, cluster))
    assert [name for name in names if not math.isfinite(row[name])] == []


@pytest.mark.parametrize("sharing", ["entropy", "confidence", "aekd"])
def test_several_teachers_share(sharing: str, store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store, [{"loss": "kl", "teachers": sharing}], teachers=2)
    made = student(tiny_corpus(store), spec, store, cluster)
    assert math.isfinite(parts(store, made)["kl"])


def test_projectors_do_not_stay_in_the_student(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    made = student(corpus, spec_of(store, [{"loss": "kl"}, loss_of("review")], teacher="online"), store, cluster)
    state = load(store.get(made.output(kind="model").name))
    assert state.keys() == build("micro_xs", num_classes=3).module.state_dict().keys()


def test_a_student_with_its_teachers_classifier_can_be_rebuilt(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, [{"loss": "simkd"}], teacher="online")
    (teacher,) = taught(corpus, spec, store, cluster)
    made = student(corpus, spec, store, cluster)
    state = load(store.get(made.output(kind="model").name))
    rebuilt = build("micro_xs", num_classes=3, options=made.facts["options"], size=32).module
    rebuilt.load_state_dict(state)
    theirs = load(store.get(teacher.weights.where.removeprefix("store:")))["classifier.weight"]
    assert rebuilt.get_classifier().weight.equal(theirs)


def test_a_classifier_to_use_again_needs_its_teacher(store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(UsageError, match=r"set student.teacher: online"):
        student(tiny_corpus(store), spec_of(store, [{"loss": "simkd"}]), store, cluster)


def test_teachers_at_hand_see_the_labelled_part_alone_where_that_is_the_pool(
    store: LocalStore, cluster: Cluster
) -> None:
    whole = student(tiny_corpus(store), spec_of(store, [{"loss": "kl"}], teacher="online"), store, cluster)
    part = spec_of(store, [{"loss": "kl"}], teacher="online", pool="labelled")
    assert student(tiny_corpus(store), part, store, cluster).key != whole.key


def job_of(training: Training, spec: Spec) -> TrainJob:
    corpus, context = training.corpus, training.context
    return build_job(
        training.request, training.key, training.weights, corpus, spec, context, device="cpu", side_by_side=1
    )


def data_of(training: Training, spec: Spec) -> TrainData:
    """The data of a training, put together as on a worker."""
    return assemble(job_of(training, spec), training.context.store, training.corpus).data


def test_students_alone_see_the_plain_view(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, [{"loss": "kl"}])
    context = Context(store, cluster, spec.run)
    assert not data_of(TeacherTraining(context, corpus, spec.teachers[0], spec), spec).plain
    assert data_of(StudentTraining(context, corpus, [], None, spec, arm=LABELS_ONLY), spec).plain


def test_mean_targets_reach_the_taught_student_alone(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, [{"loss": "kl"}], targets="mean")
    labels = [tiny_labels(corpus, "t0", lambda shard, view: np.zeros((len(shard), 3), np.float32), views=1)]
    context, single = Context(store, cluster, spec.run), spec_of(store, [{"loss": "kl"}])
    training = StudentTraining(context, corpus, labels, None, spec)
    assert data_of(training, spec).targets == "mean"
    assert training.key != StudentTraining(context, corpus, labels, None, single).key
    alone = [StudentTraining(context, corpus, [], None, each, arm=LABELS_ONLY).key for each in (spec, single)]
    assert alone[0] == alone[1]


def test_a_training_says_how_many_labels_are_mixed_with_unlabelled_images(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, [{"loss": "kl"}])
    spec = spec.model_copy(update={"views": spec.views.model_copy(update={"mix": "mixup"})})
    recipe = ViewRecipe.from_values(spec.views.resolved("other").model_dump())
    labels = tiny_labels(
        corpus,
        "t0",
        lambda shard, view: np.zeros((len(shard), 3), np.float32),
        views=1,
        partner=lambda shard, view: stored_partners(recipe, view, shard),
    )
    training = StudentTraining(Context(store, cluster, spec.run), corpus, [labels], None, spec)
    sent: list[Message] = []
    run_training(job_of(training, spec), TrainingCallbacks(send=sent.append))
    lines = [line for message in sent for line in message["lines"]]
    assert [line for line in lines if "of 24 labelled images with unlabelled ones (view 1)" in line] == lines[:1]


def test_a_training_says_how_many_steps_and_epochs_it_has(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, [{"loss": "kl"}])
    training = TeacherTraining(Context(store, cluster, spec.run), corpus, spec.teachers[0], spec)
    sent: list[Message] = []
    run_training(job_of(training, spec), TrainingCallbacks(send=sent.append))
    job = job_of(training, spec)
    steps, batch = job.config.steps, job.batch
    lines = [line for message in sent for line in message["lines"]]
    assert lines[0] == f"{steps} steps of {batch} images: {steps * batch / 24:.3g} epochs of 24 images"


def test_an_error_of_the_network_is_permanent(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, [{"loss": "kl"}], model="resnet10t", train={"steps": 2, "batch": 1})
    training = StudentTraining(Context(store, cluster, spec.run), corpus, [], None, spec, arm=LABELS_ONLY)
    with pytest.raises(PermanentError, match="labels_only seed 0: ValueError: Expected more than 1 value per channel"):
        run_training(job_of(training, spec), TrainingCallbacks())

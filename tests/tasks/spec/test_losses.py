"""`student.loss:` what a spec may say of a loss, and what becomes of its defaults."""

from __future__ import annotations

from typing import Any

import pytest

from infra.errors import SpecError
from models.losses.terms import LOSSES, Term
from tasks.spec import LossTerm, Spec, TrainSection, parse_spec
from tasks.spec.losses import terms_of_section

SPEC = """
name: s
store: .
corpus: {adapter: eyepacs, root: .}
teachers: [{name: t, model: micro_xs, train: {steps: 1}}]
student: {model: micro_xs, train: {steps: 1}}
"""


def spec(*overrides: str) -> Spec:
    return parse_spec(SPEC, overrides=overrides)


def terms(*losses: dict[str, Any]) -> list[Term]:
    return terms_of_section([LossTerm(**loss) for loss in losses], smoothing=0.1)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ("{loss: fitnet}", "did you mean fitnets"),
        ("{loss: dkd, options: {gamma: 1}}", "dkd has no option 'gamma'; it has alpha, beta"),
        ("{loss: rkd, temperature: 2}", "rkd has no temperature"),
        ("{loss: cross_entropy, student_taps: [pooled]}", "`student_taps` means nothing to it"),
        ("{loss: fitnets, standardise: true}", "`standardise` means nothing to it"),
        ("{loss: kl, teacher_taps: [pooled]}", "leave `teacher_taps` out"),
        ("{loss: kl, schedule: {start: 0.5, end: 0.4}}", "would end at 0.4"),
        ("{loss: kl, wieght: 2}", "weight"),
        ("{loss: pkt, teachers: aekd}", "aekd weighs gradients of the student's logits"),
        ("{loss: kl, teacher: u}", "kl reads teacher u; there are t"),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused(loss: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec(f"student.loss=[{loss}]")


def test_losses_on_labels_see_labelled_samples_only() -> None:
    (term,) = terms({"loss": "cross_entropy"})
    assert (term.where, term.smoothing) == ("labelled", 0.1)


def test_the_default_temperature_is_that_of_images_of_this_kind() -> None:
    assert terms({"loss": "kl"})[0].temperature == 1.0
    assert terms({"loss": "kl", "temperature": 2.0})[0].temperature == 2.0


def test_a_loss_on_features_is_rescaled_beside_a_distillation_alone() -> None:
    beside, alone = terms({"loss": "kl"}, {"loss": "fitnets"}), terms({"loss": "fitnets"})
    silent = terms({"loss": "kl", "weight": 0}, {"loss": "fitnets"})
    assert [term.rescale for term in (*beside, *alone, *silent)] == [False, True, False, False, False]


def test_a_published_weight_can_be_had() -> None:
    published = LOSSES["attention"].published
    (_, term) = terms({"loss": "kl"}, {"loss": "attention", "rescale": False, "weight": published})
    assert (term.weight, term.rescale) == (1000.0, False)


def test_taps_default_to_those_of_the_loss() -> None:
    (term,) = terms({"loss": "review"})
    assert (term.student_taps, term.teacher_taps) == (("stages",), ("stages",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("student.train.accumulate=3", "accumulate 3 must divide the batch of 32"),
        ("student.train.step_at=[0.9, 0.5]", "step_at lists rising shares"),
        ("student.train.epochs=2", "exactly one of steps and epochs"),
        ("student.teacher=live", "stored"),
        ("student.train.ema=0.99", "`ema` was a decay.*give `ema_share`, the share of the steps"),
        ("student.train.ema=null", "null for none"),
        ("student.train.ema_share=0", "greater than 0"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(change: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec(change)


@pytest.mark.parametrize("loss", ["rkd", "similarity", "pkt", "crd", "attention_channels", "dist"])
def test_losses_of_a_whole_batch_are_refused_where_it_is_split(loss: str) -> None:
    chosen = f"student.loss=[{{loss: kl}}, {{loss: {loss}}}]"
    assert spec(chosen).student.loss
    with pytest.raises(SpecError, match=rf"{loss} reads a batch as a whole, .*parts of 16 images; set accumulate to 1"):
        spec(chosen, "student.train.accumulate=2")


def test_a_split_batch_is_fine_for_losses_of_single_images() -> None:
    split = "student.train.accumulate=2"
    assert spec("student.loss=[{loss: dist, options: {gamma: 0}}, {loss: fitnets}]", split).student.loss
    with pytest.raises(SpecError, match="kl with aekd reads a batch as a whole"):
        spec("student.loss=[{loss: kl, teachers: aekd}]", split)


def test_where_a_training_runs_is_no_part_of_its_identity() -> None:
    one, two = TrainSection(steps=1), TrainSection(steps=1, checkpoint_every=7)
    assert one.identity() == two.identity()
    assert "train" in spec("run.train.devices=2").run.model_dump()


def test_a_teacher_at_hand_needs_no_stored_views() -> None:
    assert spec("student.teacher=online").for_labels.views.count == 0
    assert spec("student.teacher=online", "select.views=2").for_labels.views.count == 2
    assert spec().for_labels.views.count == spec().views.count

"""What is proposed by kind of image and size of the set: the text says what the tables say, in bounded time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from models.networks.build import build
from tasks.proposal.duration import SetCounts, duration
from tasks.proposal.presets import KINDS, QUICK_SIDE, Preset, preset
from tasks.proposal.spec_text import SpecOutline, has_weights, spec_text
from tasks.spec import Spec, parse_spec

ENDOSCOPY = SetCounts(520, 818, 120, 160)  # Hyper-Kvasir's subset
REAL = {"endoscopy": ENDOSCOPY, "fundus": SetCounts(250, 250, 62, 68), "xray": SetCounts(449, 449, 87, 187)}
OUTLINE = SpecOutline(
    folder="images",
    name="images",
    slug="images",
    corpus=["  adapter: eyepacs", "  root: images", "  name: images"],
    split=[],
    modality="other",
    side=512,
    counts=ENDOSCOPY,
)


def of(modality: str = "endoscopy", counts: SetCounts = ENDOSCOPY, *, side: int = 512, **more: bool) -> Preset:
    return preset(modality, side=side, labelled=counts.labelled, images=counts.train, **{"pretrained": True, **more})


def written(outline: SpecOutline) -> Spec:
    return parse_spec(spec_text(outline))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_a_spec_that_says_what_the_preset_does(kind: str, quick: bool) -> None:
    outline = replace(OUTLINE, modality=kind, quick=quick)
    spec, chosen = written(outline), outline.preset
    views, student = spec.views, spec.student
    turned = (views.hflip, views.vflip, views.rotate)
    assert turned == (KINDS[kind].hflip, KINDS[kind].vflip, KINDS[kind].rotate)
    assert (views.size, student.size or views.size, views.count) == (
        chosen.views_side,
        chosen.student_side,
        chosen.count,
    )
    assert len(spec.teachers) == (chosen.start.members or 1)
    for train, length in ((spec.teachers[0].train, chosen.teacher), (student.train, chosen.student)):
        assert train is not None
        assert (train.epochs, train.min_steps, train.max_steps) == (length.epochs, length.least, length.most)
    assert student.train.sampling == "natural"


@pytest.mark.parametrize("kind", KINDS)
def test_commented_lines_make_a_spec_too(kind: str) -> None:
    text = spec_text(replace(OUTLINE, modality=kind))
    for key in ("# folds:", "# require_better:", "# preset:", "# loss:", "# arms:", "#   larger:", "#   random_start:"):
        text = text.replace(key, key.removeprefix("# ").removeprefix("#"))
    spec = parse_spec(text)
    assert spec.teachers[0].folds == 3
    assert "larger" in spec.student.arms


def test_the_larger_student_has_the_parameters_that_are_told() -> None:
    text = spec_text(OUTLINE)
    start = text.index("# arms:")
    line = text[text.index("larger: {", start) :].splitlines()[0]
    student = written(OUTLINE).student.model_copy(update=yaml.safe_load(line)["larger"])
    module = build("tf_efficientnet_lite0", num_classes=2, options=student.build_options, size=128).module
    assert round(sum(p.numel() for p in module.parameters()) / 1e6, 2) == 0.98
    assert "0.98 million parameters" in text[start:]


def test_fundus_photographs_are_seen_larger() -> None:
    for kind in KINDS:
        found = of(kind)
        assert (found.views_side, found.student_side) == ((192, 192) if kind == "fundus" else (160, 128))


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_no_larger_than_the_images(kind: str) -> None:
    assert (of(kind, side=150).views_side, of(kind, side=100).student_side) == (144, 96)


def test_steps_at_a_larger_side_are_fewer() -> None:
    assert of("fundus").student.least * 2 == of("endoscopy").student.least


@pytest.mark.parametrize("pretrained", [True, False])
def test_schedules_grow_with_the_set(pretrained: bool) -> None:
    sizes = [10, 100, 299, 300, 1000, 2999, 3000, 10_000, 100_000]
    presets = [of(counts=SetCounts(n, n), pretrained=pretrained) for n in sizes]
    teachers = [p.teacher.train(16).steps_for(n) for p, n in zip(presets, sizes, strict=True)]
    students = [p.student.train(32).steps_for(n) for p, n in zip(presets, sizes, strict=True)]
    for steps in (teachers, students):
        assert steps == sorted(steps)
        assert steps[-1] > 10 * steps[0]


def test_stored_views_fall_as_the_set_grows() -> None:
    counts = [of(counts=SetCounts(100, images)).count for images in (400, 4000, 40_000)]
    assert counts == [16, 8, 4]


@pytest.mark.parametrize("kind", REAL)
def test_the_real_subsets_take_half_an_hour_at_most(kind: str) -> None:
    assert 15 < duration(of(kind, REAL[kind]), REAL[kind]).total < 30


@pytest.mark.parametrize("kind", REAL)
def test_a_quick_run_of_them_takes_five_minutes_at_most(kind: str) -> None:
    assert duration(of(kind, REAL[kind], quick=True), REAL[kind]).total < 5


def test_a_quick_run_is_small() -> None:
    quick = of("fundus", quick=True)
    assert max(quick.views_side, quick.student_side) == QUICK_SIDE
    assert quick.start.members is None


def test_half_of_a_quick_student_s_batch_is_labelled_where_the_pool_is_larger() -> None:
    ratios = [of(quick=True, counts=SetCounts(labelled, 300)).unlabelled_ratio for labelled in (0, 100, 150, 300)]
    assert ratios == [None, 1.0, None, None]
    outline = replace(OUTLINE, quick=True, counts=SetCounts(100, 300, 60, 60))
    assert written(outline).student.train.unlabelled_ratio == 1.0


def test_the_file_tells_the_minutes() -> None:
    assert f"# A retrain takes {duration(OUTLINE.preset, ENDOSCOPY)}." in spec_text(OUTLINE)
    assert "A retrain takes" not in spec_text(replace(OUTLINE, counts=None))


@pytest.mark.skipif(not has_weights(), reason="needs the package with ImageNet weights")
def test_the_proposed_student_has_sixty_thousand_parameters() -> None:
    student = written(OUTLINE).student
    module = build(student.model, num_classes=5, options=student.build_options, size=128).module
    assert sum(p.numel() for p in module.parameters()) == 60_021

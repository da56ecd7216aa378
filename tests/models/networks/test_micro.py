"""The micro students keep to their parameter budget and to timm's interface."""

from collections.abc import Callable

import pytest
import torch

from models.networks.micro import SMALLEST_INPUT, Micro, count_trainable, micro, micro_m, micro_xs

COUNTS = [
    (micro_xs, 8, 13_120),
    (micro_xs, 23, 14_095),
    (micro, 8, 51_696),
    (micro, 23, 53_511),
    (micro_m, 8, 221_240),
    (micro_m, 23, 224_135),
]


@pytest.mark.parametrize(("build", "classes", "count"), COUNTS)
def test_the_table_of_counts_is_true(build: Callable[[int], Micro], classes: int, count: int) -> None:
    assert count_trainable(build(classes)) == count


def test_micro_with_eight_classes_meets_the_published_budget_within_one_percent() -> None:
    assert abs(count_trainable(micro(8)) - 51_800) <= 518


@pytest.mark.parametrize("side", [32, 33, 64, 101])
def test_any_side_from_the_smallest_gives_logits(side: int) -> None:
    logits_BC = micro(5).eval()(torch.zeros(2, 3, side, side + 7))
    assert logits_BC.shape == (2, 5)


def test_a_smaller_image_is_refused_by_size() -> None:
    with pytest.raises(ValueError, match="at least 32 px"):
        micro(5)(torch.zeros(2, 3, SMALLEST_INPUT - 1, 64))


def test_features_then_head_equals_forward() -> None:
    student = micro(5).eval()
    image_BCHW = torch.rand(2, 3, 48, 48)
    assert torch.equal(student.forward_head(student.forward_features(image_BCHW)), student(image_BCHW))


def test_the_pooled_vector_has_num_features_entries() -> None:
    student = micro(5).eval()
    pooled_BC = student.forward_head(student.forward_features(torch.rand(2, 3, 48, 48)), pre_logits=True)
    assert pooled_BC.shape == (2, student.num_features)


def test_the_classifier_reads_num_features() -> None:
    student = micro(5)
    assert (student.get_classifier().in_features, student.get_classifier().out_features) == (student.num_features, 5)


@pytest.mark.parametrize("build", [micro_xs, micro, micro_m])
def test_feature_info_says_what_the_stages_answer(build: Callable[[int], Micro]) -> None:
    student = build(5).eval()
    answers: dict[str, torch.Size] = {}
    for one in student.feature_info:
        layer = student.get_submodule(str(one["module"]))
        layer.register_forward_hook(lambda _, given, answer, name=one["module"]: answers.update({name: answer.shape}))
    student(torch.zeros(1, 3, 64, 64))
    assert {
        one["module"]: (1, one["num_chs"], *[64 // one["reduction"]] * 2) for one in student.feature_info
    } == answers
    assert [one["reduction"] for one in student.feature_info] == [4, 8, 16]


def test_a_reset_classifier_has_the_new_classes() -> None:
    student = micro(5)
    student.reset_classifier(9)
    assert student.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 9)


def test_widths_and_depths_must_agree() -> None:
    with pytest.raises(ValueError, match="three entries more"):
        Micro(5, width=(8, 16, 24), depth=(1, 1))


def test_a_width_that_is_no_multiple_of_eight_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Micro(5, width=(8, 12, 24, 32), depth=(1,))


def test_sixty_steps_from_scratch_fit_a_batch() -> None:
    torch.manual_seed(0)
    student = micro_xs(2)
    labels_B = torch.arange(16) % 2
    image_BCHW = torch.rand(16, 3, 32, 32)
    # The class is a texture of constant mean, so colour alone cannot give it away.
    image_BCHW[labels_B == 1, :, :, ::2] += 0.25
    image_BCHW[labels_B == 1, :, :, 1::2] -= 0.25
    optimiser = torch.optim.AdamW(student.parameters(), lr=5e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(student(image_BCHW), labels_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1

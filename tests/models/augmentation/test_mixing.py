"""Partners and mixtures of views: mutual, local, replayed, and exact in their arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.augmentation.draws import NO_PARTNER, Mixture, ViewRecipe, mixture, partners
from models.augmentation.rendering import mix

MIXUP = ViewRecipe(32, mix="mixup")
CUTMIX = ViewRecipe(32, mix="cutmix")
KEYS = [f"key-{number}" for number in range(256)]

key_lists = st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=120)


def paired(recipe: ViewRecipe, keys: list[str], view: int = 1) -> set[frozenset[str]]:
    found = partners(recipe, view, keys)
    assert found is not None
    return {frozenset((keys[i], keys[j])) for i, j in enumerate(found.tolist()) if j != NO_PARTNER}


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@given(key_lists)
def test_partners_are_mutual_and_leave_at_most_one_alone(keys: list[str]) -> None:
    found = partners(MIXUP, 1, keys)
    assert found is not None
    assert found.dtype == np.int32
    coupled = np.flatnonzero(found != NO_PARTNER)
    assert (found[found[coupled]] == coupled).all()
    assert (found[coupled] != coupled).all()
    assert len(keys) - len(coupled) == len(keys) % 2


@given(key_lists, st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order_of_keys(keys: list[str], random: object) -> None:
    shuffled = list(keys)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert paired(MIXUP, shuffled) == paired(MIXUP, keys)


@given(st.lists(st.integers(), unique=True, min_size=2, max_size=600), st.sampled_from([1.0, 0.5]))
def test_a_key_more_or_less_moves_about_one_pair_a_halving(numbers: list[int], share: float) -> None:
    recipe = replace(MIXUP, mix_share=share)
    keys = [str(number) for number in numbers]
    moved = paired(recipe, keys) ^ paired(recipe, keys[:-1])
    assert len(moved) <= math.log2(len(keys)) + 4


def test_another_view_has_other_partners() -> None:
    kept = paired(MIXUP, KEYS, view=1) & paired(MIXUP, KEYS, view=2)
    assert len(kept) < 5


def test_the_plain_view_and_an_unmixed_recipe_have_no_partners() -> None:
    assert partners(MIXUP, 0, KEYS) is None
    assert partners(ViewRecipe(32), 1, KEYS) is None


def test_the_share_decides_how_many_pairs_are_mixed() -> None:
    many = [f"key-{number}" for number in range(2000)]
    assert 450 < len(paired(replace(MIXUP, mix_share=0.5), many)) < 550


def test_what_decides_a_mixture_is_no_part_of_an_unmixed_recipe() -> None:
    assert ViewRecipe(32, mix_alpha=3.0, mix_share=0.1).recipe_id == ViewRecipe(32).recipe_id
    assert len({recipe.recipe_id for recipe in (ViewRecipe(32), MIXUP, CUTMIX, replace(MIXUP, mix_alpha=2))}) == 4


@pytest.mark.parametrize("recipe", [MIXUP, CUTMIX])
def test_partners_share_one_mixture(recipe: ViewRecipe) -> None:
    assert mixture(recipe, 1, "a", "b") == mixture(recipe, 1, "b", "a")
    assert mixture(recipe, 1, "a", "b") != mixture(recipe, 2, "a", "b")


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    recipe = replace(MIXUP, mix_alpha=alpha)
    shares = [mixture(recipe, 1, key, "partner").share for key in (str(n) for n in range(3000))]
    assert abs(np.mean(shares) - 0.5) < 0.03
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_an_extreme_share_still_shows_something_of_both() -> None:
    recipe = replace(MIXUP, mix_alpha=0.01)
    shares = {mixture(recipe, 1, key, "partner").share for key in KEYS}
    assert min(shares) == 2.0**-16
    assert max(shares) == 1 - 2.0**-16


def test_a_box_keeps_exactly_the_share_of_the_own_pixels() -> None:
    own, other = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    for key in KEYS:
        how = mixture(CUTMIX, 1, key, "partner")
        assert (mix(own, other, how) == 0).mean() == how.share


def test_boxes_lie_everywhere_in_the_view() -> None:
    own, other = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32, 3), np.uint8)
    covered = sum(mix(own, other, mixture(CUTMIX, 1, key, "partner"))[..., 0].astype(int) for key in KEYS)
    assert covered.min() > 10
    assert covered.max() < len(KEYS)


def test_a_blend_is_exact_for_every_two_values_of_a_pixel() -> None:
    own, other = (np.repeat(grid[..., None], 3, axis=2).astype(np.uint8) for grid in np.indices((256, 256)))
    steps = 1 << 16
    for share in (1, steps // 4, steps // 3, steps // 2, 40_503, steps - 1):
        sums = share * own.astype(np.int64) + (steps - share) * other.astype(np.int64)
        whole, rest = np.divmod(sums, steps)
        rounded = whole + ((rest > steps // 2) | ((rest == steps // 2) & (whole % 2 == 1)))
        assert np.array_equal(mix(own, other, Mixture(share / steps, None)), rounded)


def test_a_box_of_the_partner_is_pasted_into_a_copy() -> None:
    own, other = noise(0), noise(1)
    before = own.copy()
    mixed = mix(own, other, Mixture(0.5, (2, 4, 10, 32)))
    assert np.array_equal(mixed[4:32, 2:10], other[4:32, 2:10])
    mixed[4:32, 2:10] = own[4:32, 2:10]
    assert np.array_equal(mixed, own)
    assert np.array_equal(own, before)


def test_a_recipe_that_mixes_none_has_no_mixture() -> None:
    with pytest.raises(ValueError, match="view 1 of a has a partner, b"):
        mixture(ViewRecipe(32), 1, "a", "b")


@pytest.mark.parametrize("change", [{"mix": "blend"}, {"mix_alpha": 0}, {"mix_share": 1.5}])
def test_a_mix_outside_its_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"views\.mix"):
        ViewRecipe(32, **change)  # type: ignore[arg-type]

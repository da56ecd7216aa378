"""Two processes that train as one do what one process does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.training.nets import network, trainer
from tests.models.training.pair import CONFIG, STEPS, TERMS, WHOLE_BATCH, kappa, two_teachers, uneven, whole_batch, work

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """What two ranks saw."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> Seen:
    """What one process sees of the same batches."""
    steps: list[dict[str, float]] = []
    made = trainer(CONFIG, TERMS, network(norm=False, dropout=0.0))
    made.fit(uneven(0), on_step=lambda step, values: steps.append(values), validate=kappa, metric="kappa")
    return {"weights": made.weights(), "steps": steps}


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-6)


def test_the_weights_are_those_of_one_process(ranks: list[Seen], alone: Seen) -> None:
    for seen in ranks:
        assert_near(seen["weights"], alone["weights"])


def test_the_losses_are_those_of_one_process(ranks: list[Seen], alone: Seen) -> None:
    for seen in ranks:
        assert len(seen["steps"]) == STEPS
        for ours, theirs in zip(seen["steps"], alone["steps"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("name", WHOLE_BATCH)
def test_a_loss_of_a_whole_batch_sees_the_rows_of_all_ranks(ranks: list[Seen], name: str) -> None:
    steps: list[dict[str, float]] = []
    made = whole_batch(WHOLE_BATCH[name])
    start = made.weights()
    made.fit(two_teachers(), on_step=lambda step, values: steps.append(values))
    assert max(float((value - start[key]).abs().max()) for key, value in made.weights().items()) > 1e-2
    for seen in ranks:
        for ours, theirs in zip(seen[name]["steps"], steps, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
        for key, value in made.weights().items():
            torch.testing.assert_close(seen[name]["weights"][key], value, atol=1e-5, rtol=1e-5)


def test_only_the_first_rank_validates(ranks: list[Seen]) -> None:
    assert [seen["validated"] for seen in ranks] == [[2, 4, 6, 8], []]


def test_a_resumed_pair_ends_where_an_undisturbed_one_does(ranks: list[Seen]) -> None:
    for seen in ranks:
        assert_near(seen["resumed"], seen["weights"])


def test_statistics_of_normalisation_are_those_of_all_ranks(ranks: list[Seen]) -> None:
    first, second = (seen["noisy"] for seen in ranks)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["1.running_mean"], torch.zeros(4))


def test_a_resumed_pair_drops_the_same_units(ranks: list[Seen]) -> None:
    for seen in ranks:
        assert_near(seen["noisy_resumed"], seen["noisy"])


def test_the_ranks_draw_apart(ranks: list[Seen]) -> None:
    assert not torch.equal(ranks[0]["random"], ranks[1]["random"])


def test_a_divergence_of_one_rank_stops_all_and_names_its_keys(ranks: list[Seen]) -> None:
    expected = "the loss is nan in step 3; the batch holds key2-0, key2-1, key2-2, key2-3"
    assert [seen["diverged"] for seen in ranks] == [expected] * 2


def test_when_one_rank_is_preempted_all_end(ranks: list[Seen]) -> None:
    assert [seen["preempted"] for seen in ranks] == ["stopped on request after step 3 of 8"] * 2

"""Contrastive distillation against its formula, its banks, and what a checkpoint must hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from models.feature_losses.contrast import Contrastive
from models.feature_losses.registry import feature_loss
from tests.models.feature_losses.given import features, targets, without_gradient

SAMPLES, WIDTH, TAU, MOMENTUM = 6, 4, 0.2, 0.5
ALL = 1000
OWN, THEIRS = features(3, 5), features(3, 7, seed=1)


def contrastive(
    negatives: int = ALL, samples: int = SAMPLES, *, tau: float = TAU, own: Sequence[tuple[int, ...]] = ((5,),)
) -> Contrastive:
    torch.manual_seed(3)
    options = {"width": WIDTH, "negatives": negatives, "tau": tau, "momentum": MOMENTUM}
    loss = feature_loss("crd", list(own), [(7,)], classes=3, samples=samples, temperature=1.0, **options)
    assert isinstance(loss, Contrastive)
    return loss.double()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embedded(loss: Contrastive) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        return unit(loss.embed_student(OWN).numpy()), unit(loss.embed_teacher(THEIRS).numpy())


def by_the_formula(anchor: np.ndarray, bank: np.ndarray, index: list[int]) -> np.ndarray:
    """Every other image is a negative; Z is the mean over all the pairs times the number of images."""
    scores = np.exp(anchor @ bank.T / TAU)
    p = scores / (scores.mean() * SAMPLES)
    noise = (SAMPLES - 1) / SAMPLES
    losses = []
    for row, place in enumerate(index):
        others = np.delete(p[row], place)
        losses.append(-np.log(p[row, place] / (p[row, place] + noise)) - np.log(noise / (others + noise)).sum())
    return np.array(losses)


def test_value_is_the_paper_s_in_both_directions() -> None:
    loss = contrastive()
    student, teacher = embedded(loss)
    index = [4, 0, 2]
    expected = by_the_formula(student, loss.teacher_bank.numpy().copy(), index)
    expected += by_the_formula(teacher, loss.student_bank.numpy().copy(), index)
    value = loss([OWN], [THEIRS], targets(3, index_B=torch.tensor(index)))
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-10)


def test_gradients_are_those_of_the_value() -> None:
    loss = contrastive()
    loss([OWN], [THEIRS], targets(3))  # Z, which is a constant afterwards
    loss.eval()
    own, theirs = OWN.clone().requires_grad_(), THEIRS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss([a], [b], targets(3)), (own, theirs))


def test_partition_is_that_of_the_first_batch() -> None:
    loss = contrastive()
    loss([OWN], [THEIRS], targets(3))
    first = loss.log_partition.clone()
    loss([OWN * 3], [THEIRS - 2], targets(3))
    assert torch.equal(loss.log_partition, first)
    assert bool(first.isfinite().all())


def test_a_training_pass_moves_the_entries_of_its_images_alone() -> None:
    loss = contrastive()
    student, teacher = embedded(loss)
    before = loss.student_bank.numpy().copy(), loss.teacher_bank.numpy().copy()
    loss([OWN], [THEIRS], targets(3, index_B=torch.tensor([4, 0, 2])))
    for bank, old, new in zip((loss.student_bank, loss.teacher_bank), before, (student, teacher), strict=True):
        expected = old.copy()
        expected[[4, 0, 2]] = unit(MOMENTUM * old[[4, 0, 2]] + (1 - MOMENTUM) * new)
        np.testing.assert_allclose(bank.numpy(), expected, rtol=1e-10)


def test_an_image_that_comes_twice_counts_as_the_mean_of_both() -> None:
    loss = contrastive()
    student, _ = embedded(loss)
    old = loss.student_bank.numpy().copy()
    loss([OWN], [THEIRS], targets(3, index_B=torch.tensor([1, 5, 1])))
    expected = unit(MOMENTUM * old[1] + (1 - MOMENTUM) * (student[0] + student[2]) / 2)
    np.testing.assert_allclose(loss.student_bank[1].numpy(), expected, rtol=1e-10)


def test_evaluation_leaves_everything_as_it_is() -> None:
    loss = contrastive().eval()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss([OWN], [THEIRS], targets(3))
    assert all(
        torch.equal(tensor, before[name]) or name == "log_partition" for name, tensor in loss.state_dict().items()
    )
    assert bool(loss.log_partition.isnan().all())


def test_negatives_come_from_the_global_generator() -> None:
    def drawn(seed: int) -> torch.Tensor:
        loss = contrastive(negatives=2)
        torch.manual_seed(seed)
        return loss([OWN], [THEIRS], targets(3)).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_a_resumed_training_goes_on_with_the_same_values() -> None:
    loss, again = contrastive(negatives=3), contrastive(negatives=3)
    for _ in range(2):
        loss([OWN], [THEIRS], targets(3))
    again.load_state_dict(loss.state_dict())
    state = torch.get_rng_state()
    value = loss([OWN], [THEIRS], targets(3))
    torch.set_rng_state(state)
    assert torch.equal(again([OWN], [THEIRS], targets(3)), value)


@pytest.mark.parametrize(("rows", "samples"), [(1, SAMPLES), (1, 1), (0, SAMPLES), (3, SAMPLES)])
@pytest.mark.parametrize("tau", [TAU, 0.001])
def test_few_rows_few_images_and_zero_features_stay_finite(rows: int, samples: int, tau: float) -> None:
    loss = contrastive(samples=samples, tau=tau)
    own = torch.zeros(rows, 5, dtype=torch.float64, requires_grad=True)
    value = loss([own], [torch.zeros(rows, 7, dtype=torch.float64)], targets(rows))
    value.sum().backward()
    assert value.shape == (rows,)
    assert bool(value.isfinite().all())
    assert own.grad is not None
    assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in loss.parameters())


def test_maps_are_averaged_and_both_embeddings_learn() -> None:
    loss = contrastive()
    on_vectors = loss.eval()([OWN], [THEIRS], targets(3))
    spread = features(3, 5, 2, 2, seed=9)
    maps = spread - spread.mean(dim=(2, 3), keepdim=True) + OWN[:, :, None, None]
    on_maps = loss([maps], [THEIRS], targets(3))
    torch.testing.assert_close(on_maps, on_vectors)
    on_maps.sum().backward()
    assert without_gradient(loss) == []


def test_student_learns_to_find_the_teacher_s_embedding_of_its_image() -> None:
    torch.manual_seed(0)
    theirs = features(16, 7, seed=5)
    own = theirs[:, :5] + 0.1 * features(16, 5, seed=6)
    loss = contrastive(samples=16)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(100):
        optimiser.zero_grad()
        loss([own], [theirs], targets(16)).mean().backward()
        optimiser.step()
    found = (torch.nn.functional.normalize(loss.embed_student(own)) @ loss.teacher_bank.T).argmax(1)
    assert int((found == torch.arange(16)).sum()) >= 14


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="crd reads one tap of each network, and 2 are named"):
        contrastive(own=[(5,), (6,)])
    with pytest.raises(ValueError, match="number of images that may train"):
        contrastive(samples=0)
    with pytest.raises(ValueError, match="index_B"):
        contrastive()([OWN], [THEIRS], targets(3, index_B=None))


# Rank 1 sees nothing in the second step.
ROWS = [[slice(0, 2), slice(2, 3)], [slice(0, 3), slice(0, 0)]]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    loss = contrastive()
    for step in ROWS:
        loss([OWN[step[rank]]], [THEIRS[step[rank]]], targets(3).rows(torch.arange(3)[step[rank]]))
    torch.save(loss.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_keep_the_banks_that_one_process_would(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    alone = contrastive()
    for _ in ROWS:
        alone([OWN], [THEIRS], targets(3))
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in alone.state_dict().items():
        assert torch.equal(states[0][name], states[1][name]), name
        torch.testing.assert_close(states[0][name], tensor)

"""Rows and sums over the ranks of a torch.distributed training, for losses that read a batch as a whole.

Data parallelism sums the gradients of the ranks. So each rank computes such a loss on the rows of all of them, with its
own rows in the graph, and the sum of its gradients over the ranks is that of the whole batch. Without a process group
there is one rank, and every function returns its input. All calls are collective, also of ranks without rows.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def several_ranks() -> bool:
    """Whether the training has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def of_all_ranks(rows_N: Tensor) -> Tensor:
    """The rows of every rank, in the order of the ranks; ranks may have different numbers of rows. No gradient."""
    if not several_ranks():
        return rows_N
    return torch.cat(_gathered(rows_N.detach()))


def with_other_ranks(rows_N: Tensor) -> Tensor:
    """As `of_all_ranks`, with this rank's own rows in the graph."""
    if not several_ranks():
        return rows_N
    gathered = _gathered(rows_N.detach())
    gathered[dist.get_rank()] = rows_N
    return torch.cat(gathered)


def sum_of_ranks(value: Tensor) -> Tensor:
    """The sum over all ranks, without a gradient; the input stays as it is."""
    if not several_ranks():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def of_own_rows(value: Tensor, weight_N: Tensor) -> Tensor:
    """A loss of the rows of all ranks, for an objective that multiplies it by the weight of this rank's rows.

    The value is unchanged: multiplied by the weights, it sums over the ranks to that of the whole batch. The gradient,
    which belongs to the own rows alone, is that of the loss times the weight of all rows divided by that of the own.

    Args:
        value: a scalar, equal on all ranks.
        weight_N: of this rank's rows.
    """
    if not several_ranks():
        return value
    own = weight_N.sum()
    factor = torch.where(own > 0, sum_of_ranks(own) / own.clamp(min=1e-12), 0.0)
    return value.detach() + (value - value.detach()) * factor


def _gathered(rows_N: Tensor) -> list[Tensor]:
    ranks = dist.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows_N.device) for _ in range(ranks)]
    dist.all_gather(counts, torch.tensor([len(rows_N)], device=rows_N.device))
    sizes = [int(count) for count in counts]
    padded = rows_N.new_zeros(max(sizes), *rows_N.shape[1:])
    padded[: len(rows_N)] = rows_N
    gathered = [torch.empty_like(padded) for _ in range(ranks)]
    dist.all_gather(gathered, padded)
    return [rows[:size] for rows, size in zip(gathered, sizes, strict=True)]

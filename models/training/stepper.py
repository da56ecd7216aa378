"""One optimizer step: forward pass, gradient of the whole batch over its parts and over the ranks, clipping, update."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.losses.targets import Targets
from models.networks.taps import Taps
from models.training.config import Batch, TrainConfig
from models.training.distributed import SharedBuffers, smallest_over_ranks, sum_over_ranks, world_size
from models.training.objective import Objective
from models.training.online_teachers import OnlineTeachers
from models.training.optimization import clip_gradients, freeze, learning, make_optimizer, set_learning_rate

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast of a precision; for float32 one that does nothing.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


class Learner(nn.Module):
    """Student and objective as one module, the one that data parallelism wraps: computes the loss of a batch.

    Args:
        student: the network.
        objective: its losses, always computed in float32.
        taps: of the student, where the objective reads its features.
        precision: of the student's forward pass.
    """

    def __init__(self, student: nn.Module, objective: Objective, taps: Taps | None, precision: str) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self._taps, self._precision = taps, precision
        self._learning = learning(student)

    def forward(
        self,
        x_B3HW: Tensor,
        targets: Targets,
        *,
        done: float,
        total_weight: Tensor,
        measure: bool,
        rows: list[Tensor | None] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar) and unweighted parts by title, both shares of a batch that weighs `total_weight`.

        Args:
            done: share of the training that is done, 0 to 1.
            measure: whether gradient norms may be computed, for terms that are rescaled.
            rows: the rows of each term, see `Objective.rows`; None: computed here.
        """
        with autocast(x_B3HW.device, self._precision):
            z_BC = self.student(x_B3HW)
        maps = {} if self._taps is None else self._taps.take()
        loss, parts = self.objective(
            z_BC,
            targets,
            done=done,
            maps=maps,
            student=self._learning if measure else (),
            total_weight=total_weight,
            rows=rows,
        )
        # Data parallelism waits for a gradient of the classifier, which an objective on features alone does not give.
        return loss + 0.0 * z_BC.float().sum(), parts


class Stepper:
    """Updates a student and the parameters of its objective, one batch at a time.

    Args:
        student, objective: on their device.
        config: of freezing, optimizer, precision, accumulation and clipping.
        device: of both.
        taps: of the student, where the objective reads its features.
        teachers: run on each batch; None: the batches contain their outputs.

    Raises:
        ValueError: see `Trainer`.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        config: TrainConfig,
        device: torch.device,
        taps: Taps | None,
        teachers: OnlineTeachers | None,
    ) -> None:
        self._config, self._device = config, device
        self._teachers = None if teachers is None else teachers.to(device)
        self._frozen_norms = freeze(student, config.freeze)
        self._learner = Learner(student, objective, taps, config.precision)
        # Clipped apart: the norm of projectors, which start at random, would shorten the student's steps.
        self._clipped = [part for part in (learning(student), learning(objective)) if part]
        self._optimizer = make_optimizer(student, objective, config)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._parallel: DistributedDataParallel | None = None
        self._shared: SharedBuffers | None = None
        if world_size() > 1:
            self._parallel = DistributedDataParallel(
                self._learner, forward_sync_buffers=False, gradient_as_bucket_view=True
            )
            self._shared = SharedBuffers(student, objective)

    def training_mode(self) -> None:
        """Everything in training mode but frozen normalisation layers."""
        self._learner.train()
        for norm in self._frozen_norms:
            norm.eval()

    def take(self, batch: Batch, *, done: float, rate: float) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """One step; float32 scalars: the loss, its unweighted parts by title, the norm of the gradient before clipping.

        Loss and parts are this rank's share of those of the whole batch. Where loss scaling finds that a gradient
        overflowed, the weights stay as they are.

        Args:
            done: share of the training that is done, 0 to 1.
            rate: learning rate of the student.
        """
        set_learning_rate(self._optimizer, rate)
        if self._shared is not None:
            self._shared.save()
        self._optimizer.zero_grad(set_to_none=True)
        loss, parts = self._backward(batch, done)
        norm = self._clip()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._shared is not None:
            self._shared.merge()
        return loss, parts, norm

    def _backward(self, batch: Batch, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        weight = sum_over_ranks(batch.targets.weight_B.sum().to(self._device))
        count = self._config.accumulate
        # Every rank computes the same number of parts: losses may communicate over the ranks.
        pieces = _split(batch, count if count == 1 else min(count, smallest_over_ranks(len(batch.x_B3HW))))
        losses: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces):
            x = piece.x_B3HW.to(self._device, memory_format=torch.channels_last, non_blocking=True)
            rows = None if self._teachers is not None else self._rows(piece.targets)
            targets = self._targets(piece)
            # Gradients are exchanged in the last part only.
            local = self._parallel is not None and number < len(pieces) - 1
            with self._parallel.no_sync() if self._parallel and local else contextlib.nullcontext():
                run = self._parallel or self._learner
                # Gradient norms are computed in the first part of a step only, so that all parts use the same scales.
                loss, values = run(x, targets, done=done, total_weight=weight, measure=number == 0, rows=rows)
                # Data parallelism takes the mean over the ranks; the whole batch needs the sum.
                self._scaler.scale(loss * world_size()).backward()
            losses.append(loss.detach())
            parts = {title: parts[title] + value if number else value for title, value in values.items()}
        return torch.stack(losses).sum(), parts

    def _rows(self, targets: Targets) -> list[Tensor | None]:
        found = self._learner.objective.rows(targets)
        return [None if one is None else one.to(self._device, non_blocking=True) for one in found]

    def _targets(self, batch: Batch) -> Targets:
        targets = batch.targets.to(self._device)
        if self._teachers is None:
            return targets
        with autocast(self._device, self._config.precision):
            return self._teachers.with_outputs(batch.teacher_x, targets)

    def _clip(self) -> Tensor:
        """Clip the gradients of the student and of the objective, each by its own norm; returns the norm of both."""
        self._scaler.unscale_(self._optimizer)
        norms = [clip_gradients(part, self._config) for part in self._clipped]
        return torch.linalg.vector_norm(torch.stack(norms))

    def state(self) -> dict[str, Any]:
        """What the next step depends on, beside the networks."""
        return {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])


def _split(batch: Batch, count: int) -> list[Batch]:
    """A batch in parts of (nearly) equal size."""
    if count == 1:
        return [batch]
    pieces = []
    for index_N in torch.arange(len(batch.x_B3HW)).tensor_split(count):
        rows = slice(int(index_N[0]), int(index_N[-1]) + 1)
        teacher_x = tuple(x[rows] for x in batch.teacher_x)
        pieces.append(Batch(batch.x_B3HW[rows], batch.targets.rows(index_N), batch.keys[rows], teacher_x))
    return pieces

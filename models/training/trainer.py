"""One trainer for teachers and students: steps, schedule, averaged weights, exact resume, one process or several.

The trainer knows networks and tensors; where samples come from and where checkpoints go is its caller's. Everything
that decides the next step is in the checkpoint or a function of the step, so a killed run that resumes on a CPU ends
with the same bits as one that was left alone.

In a torch.distributed process group every rank has a trainer and calls `fit` with its own slices of the batches. The
gradient is that of the whole batch: losses are divided by the weight of all slices, and gradients are summed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.taps import Taps
from models.training.average import Average
from models.training.config import Batch, DivergedError, LeavingError, TrainConfig
from models.training.guard import Guard
from models.training.objective import Objective
from models.training.online_teachers import Teachers
from models.training.randomness import random_state, separate_randomness, set_random_state
from models.training.ranks import from_all, from_first, rank
from models.training.rates import learning_rate, validation_steps
from models.training.readings import Pace, Progress, Reading, Readings
from models.training.stepper import Stepper
from models.training.watch import Watch

LATE = 16
"""Steps after which numbers are read back from a device that would have to be waited for."""

OnStep = Callable[[int, dict[str, float]], None]
Validate = Callable[[dict[str, Tensor]], dict[str, float]]


class Trainer:
    """Trains `student` on `objective`, whose own parameters learn with it.

    Args:
        student: the network; moved to `device`, channels_last.
        objective: weighted loss terms.
        config: how.
        device: cpu or cuda, with a number where there are several.
        taps: of the student, where the objective reads its features.
        teachers: that see each batch; default: the batches bring what teachers said.
        compile: torch.compile the student.

    Attributes:
        student: as given, in training.
        step: steps done.
        progress: running means since the last log line.

    Raises:
        ValueError: a name that config does not know, prefixes to freeze that are not there, or nothing that learns.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        config: TrainConfig,
        device: str = "cpu",
        *,
        taps: Taps | None = None,
        teachers: Teachers | None = None,
        compile: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.student = student.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(self.device)
        self.config = config
        self.step = 0
        self.progress = Progress()
        self._stepper = Stepper(self.student, self.objective, config, self.device, taps, teachers)
        self._average = None if config.ema is None else Average(self.student, config.ema)
        self._best: dict[str, Tensor] | None = None
        self._watch = Watch(config)
        self._guard = Guard(scaled=config.precision == "float16")
        self._readings = Readings(self.objective.titles)
        self._late = 1 if self.device.type == "cpu" else LATE
        self._on_step: OnStep | None = None
        if compile:
            if self.objective.rescale is not None:
                # Its gradients are taken from a graph that is used again; compiled code would have freed parts of it.
                torch._functorch.config.donated_buffer = False
            self.student.compile()

    def fit(
        self,
        batches: Iterator[Batch],
        *,
        on_log: Callable[[int, dict[str, float], dict[str, float]], None] | None = None,
        on_step: OnStep | None = None,
        on_checkpoint: Callable[[int, bytes], None] | None = None,
        validate: Validate | None = None,
        metric: str = "",
        stop: Callable[[], None] | None = None,
        leave: Callable[[], bool] | None = None,
    ) -> None:
        """Run from the current step to the last, or until early stop.

        Args:
            batches: yields the batch (this rank's slice) of each remaining step, in order.
            on_log: gets (step, means since the last call, pace) every `log_every` steps, after every validation and at
                the end. Means are those of the loss, its parts and lr, with the metrics of a validation beside them;
                a resumed run gives the same. Pace is `images_per_second` and `waiting`, a share of the time.
            on_step: gets (step, loss, parts and lr) of each step in order, some steps late.
            on_checkpoint: gets (step, bytes) every `checkpoint_every` steps, and when the training leaves.
            validate: from weights to metrics; asked `validations` times, of several ranks the first alone.
            metric: of these, that plateau, early stop and best weights go by.
            stop: called before each step; raises to stop.
            leave: asked after each step (on an accelerator every 16); True: write a checkpoint and leave.

        Raises:
            DivergedError: the loss is no number or out of all proportion.
            LeavingError: `leave` said so; the last step is in a checkpoint.
            RuntimeError: the data ended early.
            ValueError: plateau, early stop or best weights lack a metric, or the validation tells nothing of it.
        """
        config = self.config
        if (config.schedule == "plateau" or config.early_stop or config.keep == "best") and not (validate and metric):
            raise ValueError("schedule plateau, early_stop and keep best go by a metric of the validation; give both")
        self._on_step = on_step
        asked = validation_steps(self.config) if validate is not None else set()
        pace = Pace()
        if self.step == 0:
            separate_randomness()
        self._stepper.training_mode()
        while self.step < self.config.steps:
            if stop is not None:
                stop()
            batch = pace.waiting(batches)
            if batch is None:
                raise RuntimeError(f"the data ended at step {self.step} of {self.config.steps}")
            self._one(batch)
            last = self.step == self.config.steps
            validating = self.step in asked
            logging = validating or last or self.step % self.config.log_every == 0
            saving = not last and self.step % self.config.checkpoint_every == 0
            leaving = False
            if logging or saving or len(self._readings) >= self._late:
                leaving = self._read(leave is not None and leave()) and not last
            metrics = self._validate(validate, metric) if validate is not None and validating else {}
            if logging:
                means = {**self.progress.take(), **metrics}
                if on_log is not None:
                    on_log(self.step, means, pace.take())
            if validating and self._watch.over:
                return
            if on_checkpoint is not None and (saving or leaving):
                on_checkpoint(self.step, self.state())
            if leaving:
                raise LeavingError(f"asked to leave after step {self.step} of {self.config.steps}")

    def _one(self, batch: Batch) -> None:
        """One optimiser step."""
        rate = learning_rate(self.step, self.config, self._watch.falls)
        done = self.step / self.config.steps
        loss, parts, norm = self._stepper.take(batch, done=done, rate=rate)
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        titled = zip(self.objective.titles, self.objective.terms, strict=True)
        active = [title for title, term in titled if term.weight * term.factor(done) > 0]
        self._readings.add(self.step, loss, parts, norm, rate, batch, active)

    def _read(self, flag: bool) -> bool:
        """Take what the steps said, and whether any rank has its flag up."""
        readings, raised = self._readings.take(flag)
        for one in readings:
            trouble = self._guard.judge(one.loss, one.parts, one.norm, one.active)
            if trouble:
                raise DivergedError(f"{trouble} in step {one.step}; the batch holds {_named(one)}")
            values = {"loss": one.loss, **one.parts, "lr": one.rate}
            self.progress.add(values)
            if self._on_step is not None:
                self._on_step(one.step, values)
        return raised

    def _validate(self, validate: Validate, metric: str) -> dict[str, float]:
        """Metrics of the current weights; notes the best."""
        weights = self._current()
        metrics = from_first(validate(weights) if rank() == 0 else {})
        if not metrics or not metric:
            return metrics
        if metric not in metrics:
            raise ValueError(f"the validation tells nothing of {metric!r}; it tells of {', '.join(metrics)}")
        if self._watch.note(metrics[metric]) and self.config.keep == "best":
            self._best = weights
        return metrics

    def _current(self) -> dict[str, Tensor]:
        chosen = self.student.state_dict() if self._average is None else self._average.weights()
        contiguous = torch.contiguous_format
        return {name: v.detach().to("cpu", copy=True, memory_format=contiguous) for name, v in chosen.items()}

    def weights(self) -> dict[str, Tensor]:
        """The student's weights to keep: best or last, averaged where config says so; on the CPU, contiguous."""
        return self._current() if self._best is None else dict(self._best)

    def state(self) -> bytes:
        """A checkpoint: everything that decides the next step; of several ranks all must ask, and get the same."""
        self._read(False)
        buffer = io.BytesIO()
        torch.save(
            {
                "step": self.step,
                "student": self.student.state_dict(),
                "objective": self.objective.state_dict(),
                "stepper": self._stepper.state(),
                "average": None if self._average is None else self._average.weights(),
                "best": self._best,
                "watch": self._watch.state(),
                "guard": self._guard.state(),
                "progress": {"counts": self.progress.counts, "sums": self.progress.sums},
                "random": from_all(random_state(self.device)),
            },
            buffer,
        )
        return buffer.getvalue()

    def resume(self, data: bytes) -> None:
        """Go back to a checkpoint that `state` made with the same networks and config."""
        saved: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        self.step = int(saved["step"])
        self.student.load_state_dict(saved["student"])
        self.objective.load_state_dict(saved["objective"])
        self._stepper.load(saved["stepper"])
        if self._average is not None:
            self._average.load(saved["average"])
        self._best = saved["best"]
        self._watch.load(saved["watch"])
        self._guard.load(saved["guard"])
        self.progress = Progress(**saved["progress"])
        set_random_state(saved["random"], self.device, self.step)


def _named(reading: Reading) -> str:
    """Keys of the ranks whose share is no number; of all ranks where each has one."""
    everybody = from_all((reading.sound, reading.keys))
    keys = [key for sound, keys in everybody if not sound for key in keys]
    keys = keys or [key for _, keys in everybody for key in keys]
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")

"""The trainer of teachers and students: steps, schedule, averaged weights, exact resume, one process or several.

The trainer handles networks and tensors; its caller reads samples and stores checkpoints. Everything that the next step
depends on is in the checkpoint or a function of the step, so a killed run that resumes on a CPU ends with the same bits
as an uninterrupted one.

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
from models.training.config import Batch, DivergedError, PreemptedError, TrainConfig
from models.training.distributed import from_all, from_first, random_state, rank, separate_randomness, set_random_state
from models.training.divergence_check import DivergenceCheck
from models.training.early_stopping import EarlyStopping
from models.training.objective import Objective
from models.training.online_teachers import OnlineTeachers
from models.training.optimization import WeightAverage, average_decay, learning_rate, validation_steps
from models.training.step_statistics import PendingSteps, RunningMeans, StepValues, Throughput
from models.training.stepper import Stepper

READ_BACK_STEPS = 16
"""Steps whose values are read back from an accelerator at once; each read waits for the device."""

OnStep = Callable[[int, dict[str, float]], None]
Validate = Callable[[dict[str, Tensor]], dict[str, float]]


class Trainer:
    """Trains `student` on `objective`, whose own parameters are trained with it.

    Args:
        student: the network; moved to `device`, channels_last.
        objective: weighted loss terms.
        config: of the training.
        device: cpu or cuda, with a number where there are several.
        taps: of the student, where the objective reads its features.
        teachers: run on each batch; default: the batches contain their outputs.
        compile: torch.compile the student.

    Attributes:
        student: the network in training.
        step: steps done.
        progress: running means since the last log line.

    Raises:
        ValueError: an unknown name in config, prefixes to freeze that do not exist, or no parameter to train.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        config: TrainConfig,
        device: str = "cpu",
        *,
        taps: Taps | None = None,
        teachers: OnlineTeachers | None = None,
        compile: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.student = student.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(self.device)
        self.config = config
        self.step = 0
        self.progress = RunningMeans()
        self._stepper = Stepper(self.student, self.objective, config, self.device, taps, teachers)
        decay = average_decay(config)
        self._average = None if decay is None else WeightAverage(self.student, decay)
        self._best: dict[str, Tensor] | None = None
        self._early_stopping = EarlyStopping(config)
        self._divergence_check = DivergenceCheck(scaled=config.precision == "float16")
        self._pending = PendingSteps(self.objective.titles)
        self._read_back_steps = 1 if self.device.type == "cpu" else READ_BACK_STEPS
        self._on_step: OnStep | None = None
        if compile:
            if self.objective.rescale is not None:
                # The graph of its gradients is used twice; compiled code would otherwise free parts of it.
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
        preempted: Callable[[], bool] | None = None,
    ) -> None:
        """Run from the current step to the last, or until early stop.

        Args:
            batches: yields the batch (this rank's slice) of each remaining step, in order.
            on_log: gets (step, means since the last call, throughput) every `log_every` steps, after every validation
                and at the end. Means are those of the loss, its parts and lr, with the metrics of a validation added; a
                resumed run gives the same. Throughput is `images_per_second` and `waiting`, a share of the time.
            on_step: gets (step, loss, parts and lr) of each step in order, some steps late.
            on_checkpoint: gets (step, bytes) every `checkpoint_every` steps, and when `preempted` ends the training.
            validate: from weights to metrics; called `validations` times, on rank 0 only.
            metric: of these, the one that plateau, early stop and best weights depend on.
            stop: called before each step; raises to stop.
            preempted: called after each step (on an accelerator every 16); True: write a checkpoint and stop, to be
                resumed elsewhere.

        Raises:
            DivergedError: the loss is not finite or far above its first values.
            PreemptedError: `preempted` returned True; the last step is in a checkpoint.
            RuntimeError: the data ended early.
            ValueError: plateau, early stop or best weights lack a metric, or the validation does not return it.
        """
        config = self.config
        if (config.schedule == "plateau" or config.early_stop or config.keep == "best") and not (validate and metric):
            raise ValueError(
                "schedule plateau, early_stop and keep best need a validation and a metric of it; give both"
            )
        self._on_step = on_step
        validated = validation_steps(self.config) if validate is not None else set()
        throughput = Throughput()
        if self.step == 0:
            separate_randomness()
        self._stepper.training_mode()
        while self.step < self.config.steps:
            if stop is not None:
                stop()
            batch = throughput.next_batch(batches)
            if batch is None:
                raise RuntimeError(f"the data ended at step {self.step} of {self.config.steps}")
            self._train_step(batch)
            last = self.step == self.config.steps
            validating = self.step in validated
            logging = validating or last or self.step % self.config.log_every == 0
            saving = not last and self.step % self.config.checkpoint_every == 0
            ending = False
            if logging or saving or len(self._pending) >= self._read_back_steps:
                ending = self._read_back(preempted is not None and preempted()) and not last
            metrics = self._validate(validate, metric) if validate is not None and validating else {}
            if logging:
                means = {**self.progress.take(), **metrics}
                if on_log is not None:
                    on_log(self.step, means, throughput.take())
            if validating and self._early_stopping.should_stop:
                return
            if on_checkpoint is not None and (saving or ending):
                on_checkpoint(self.step, self.state())
            if ending:
                raise PreemptedError(f"stopped on request after step {self.step} of {self.config.steps}")

    def _train_step(self, batch: Batch) -> None:
        """One optimizer step."""
        rate = learning_rate(self.step, self.config, self._early_stopping.reductions)
        done = self.step / self.config.steps
        loss, parts, norm = self._stepper.take(batch, done=done, rate=rate)
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        titled = zip(self.objective.titles, self.objective.terms, strict=True)
        active = [title for title, term in titled if term.weight * term.factor(done) > 0]
        self._pending.add(self.step, loss, parts, norm, rate, batch, active)

    def _read_back(self, flag: bool) -> bool:
        """Read pending steps back and check them; returns whether the flag of any rank is set."""
        steps, flag_set = self._pending.take(flag)
        for one in steps:
            error = self._divergence_check.error(one.loss, one.parts, one.norm, one.active)
            if error:
                raise DivergedError(f"{error} in step {one.step}; the batch holds {_keys_to_report(one)}")
            values = {"loss": one.loss, **one.parts, "lr": one.rate}
            self.progress.add(values)
            if self._on_step is not None:
                self._on_step(one.step, values)
        return flag_set

    def _validate(self, validate: Validate, metric: str) -> dict[str, float]:
        """Metrics of the current weights; saves the best weights."""
        weights = self._current()
        metrics = from_first(validate(weights) if rank() == 0 else {})
        if not metrics or not metric:
            return metrics
        if metric not in metrics:
            raise ValueError(f"the validation does not return {metric!r}; it returns {', '.join(metrics)}")
        if self._early_stopping.update(metrics[metric]) and self.config.keep == "best":
            self._best = weights
        return metrics

    def _current(self) -> dict[str, Tensor]:
        chosen = self.student.state_dict() if self._average is None else self._average.weights()
        contiguous = torch.contiguous_format
        return {name: v.detach().to("cpu", copy=True, memory_format=contiguous) for name, v in chosen.items()}

    def weights(self) -> dict[str, Tensor]:
        """The resulting weights: best or last, averaged where config says so; on the CPU, contiguous."""
        return self._current() if self._best is None else dict(self._best)

    def state(self) -> bytes:
        """A checkpoint: everything that the next step depends on; a collective call, equal on all ranks."""
        self._read_back(False)
        buffer = io.BytesIO()
        torch.save(
            {  # names that stored checkpoints have
                "step": self.step,
                "student": self.student.state_dict(),
                "objective": self.objective.state_dict(),
                "stepper": self._stepper.state(),
                "average": None if self._average is None else self._average.weights(),
                "best": self._best,
                "watch": self._early_stopping.state(),
                "guard": self._divergence_check.state(),
                "progress": {"counts": self.progress.counts, "sums": self.progress.sums},
                "random": from_all(random_state(self.device)),
            },
            buffer,
        )
        return buffer.getvalue()

    def resume(self, data: bytes) -> None:
        """Restore a checkpoint that `state` made with the same networks and config."""
        saved: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        self.step = int(saved["step"])
        self.student.load_state_dict(saved["student"])
        self.objective.load_state_dict(saved["objective"])
        self._stepper.load(saved["stepper"])
        if self._average is not None:
            self._average.load(saved["average"])
        self._best = saved["best"]
        self._early_stopping.load(saved["watch"])
        self._divergence_check.load(saved["guard"])
        self.progress = RunningMeans(**saved["progress"])
        set_random_state(saved["random"], self.device, self.step)


def _keys_to_report(step: StepValues) -> str:
    """Keys of the ranks whose share is not finite; of all ranks where each share is."""
    all_ranks = from_all((step.finite, step.keys))
    keys = [key for finite, keys in all_ranks if not finite for key in keys]
    keys = keys or [key for _, keys in all_ranks for key in keys]
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")

"""Many small trainings side by side on one GPU, their data on the device and each step a CUDA graph.

A student of 60 thousand parameters leaves a large GPU idle: its step is a few hundred kernels of some microseconds.
Here a step needs no number from the host. The order of samples, the learning rate and the weights of the loss are
tables on the device, read at a counter that the step itself advances, so a step is one replay, and trainings on streams
of their own overlap. Formulas are those of `models.losses`; without a GPU the same steps run one by one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.losses.labels import label_loss
from models.losses.logits import logit_loss
from models.losses.targets import Targets

WARM_STEPS = 3  # before a graph is recorded; they count as steps of the training
MEMORY = {"layout": torch.channels_last}
"""Layout of networks and inputs in memory; `choose_layout` measures which is faster here."""
REPLAYS = 16  # of one training before the next one's turn
LONGEST_EMA = 0.05  # horizon of the averaged weights, as a share of the steps


@dataclass(frozen=True)
class Phase:
    """A stretch of a training.

    Attributes:
        steps: optimiser steps.
        rows: images that train; with `other`, those of the first half of each batch.
        lr: highest learning rate; it rises over a tenth of the steps and falls to zero as half a cosine.
        on_labels, on_teacher: weights of the two terms.
        other: images of the second half of each batch.
        views: numbers of the views, one after another in an image's turns.
    """

    steps: int
    rows: tuple[int, ...]
    lr: float
    on_labels: float = 1.0
    on_teacher: float = 0.0
    other: tuple[int, ...] = ()
    views: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Data:
    """The images of a corpus on the device.

    Attributes:
        views: uint8 [V, N, S, S, 3].
        label: int64 [N], 0 where unknown.
        known: float32 [N], 1 where the label is known to the training.
    """

    views: Tensor
    label: Tensor
    known: Tensor


@dataclass
class Training:
    """One training.

    Attributes:
        module: the network, with its initial weights, on the CPU.
        phases: one after another.
        seed: of the order.
        batch: samples a step.
        mean, std: of the input.
        teacher: float32 [V, N, C] logits on the device; None: labels alone.
        temperature: of the term on the teacher.
        early_rate: factor of the learning rate of all modules but the classifier.
        judged: validation rows that are asked at the fifths of the training, the best weights being kept; None: last.
        tag: what the caller likes to know it by.
    """

    module: nn.Module
    phases: Sequence[Phase]
    seed: int
    data: Data
    batch: int = 64
    mean: Sequence[float] = (0.5,) * 3
    std: Sequence[float] = (0.5,) * 3
    teacher: Tensor | None = None
    temperature: float = 1.0
    weight_decay: float = 0.02
    early_rate: float = 1.0
    judged: np.ndarray | None = None
    tag: dict[str, Any] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)


def run_all(
    trainings: Iterable[Training],
    done: Callable[[Training, nn.Module], None],
    *,
    device: str,
    slots: int = 8,
) -> None:
    """Run trainings, `slots` of them at a time, and hand each over with its averaged network in eval mode.

    They are taken one by one: a training exists only while it runs.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()  # streams of their own do not wait for what made the data
    waiting = iter(trainings)
    running: list[_Running] = [_Running(one, device) for one in _few(waiting, slots)]
    while running:
        for one in list(running):
            one.advance()
            if one.over:
                running.remove(one)
                done(one.training, one.result())
                one.release()
                running += [_Running(new, device) for new in _few(waiting, 1)]


def _few(trainings: Iterator[Training], count: int) -> list[Training]:
    return [one for _, one in zip(range(count), trainings, strict=False)]


class _Running:
    def __init__(self, training: Training, device: str) -> None:
        self.training, self.device = training, torch.device(device)
        self.steps = sum(phase.steps for phase in training.phases)
        self.step = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.best: tuple[float, dict[str, Tensor]] | None = None
        with self._own_stream():
            self._prepare()

    @property
    def over(self) -> bool:
        return self.step >= self.steps

    def _own_stream(self) -> Any:
        return torch.cuda.stream(self.stream)

    def _prepare(self) -> None:
        one, device = self.training, self.device
        self.module = one.module.to(device, memory_format=MEMORY["layout"]).train()  # type: ignore[call-overload]
        order, rate, on_labels, on_teacher = _tables(one)
        self.order = torch.from_numpy(order).to(device)
        values = np.stack([rate, on_labels, on_teacher, _averaging(one)], axis=1).astype(np.float32)
        self.values = torch.from_numpy(values).to(device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.scale = torch.tensor([1 / (255 * s) for s in one.std], device=device).view(1, 1, 1, 3)
        self.shift = torch.tensor([m / s for m, s in zip(one.mean, one.std, strict=True)], device=device).view(
            1, 1, 1, 3
        )
        # On a GPU the optimiser reads its rates from tensors; on a CPU it takes numbers only.
        self.on_gpu = device.type == "cuda"
        self.rates = [torch.zeros((), device=device) for _ in range(2)]
        self.optimizer = torch.optim.AdamW(
            _groups(self.module, self.rates if self.on_gpu else [0.0, 0.0], one.weight_decay),
            foreach=True,
            capturable=self.on_gpu,
        )
        self.live = [v for v in self.module.state_dict(keep_vars=True).values() if v.is_floating_point()]
        self.average = [v.detach().clone() for v in self.live]
        self.label_loss = label_loss("cross_entropy", prior=(), smoothing=0.0)
        self.logit_loss = logit_loss("kl", temperature=one.temperature)
        views, images = one.data.views.shape[:2]
        self.flat = one.data.views.view(views * images, *one.data.views.shape[2:])
        self.taught = None if one.teacher is None else one.teacher.reshape(views * images, -1)
        self.loss = torch.zeros((), device=device)

    def advance(self) -> None:
        """Some steps; on a GPU they are only asked for."""
        stop = min(self.step + REPLAYS, self.steps, *(s for s in self._judgements() if s > self.step))
        with self._own_stream():
            if self.stream is not None:
                self.stream.synchronize()
            while self.step < stop:
                if self.stream is None or self.step < WARM_STEPS:
                    self._one()
                else:
                    if self.graph is None:
                        self._record()
                    self.graph.replay()  # type: ignore[union-attr]
                self.step += 1
            if self.step in self._judgements():
                self._judge()

    def _judgements(self) -> list[int]:
        if self.training.judged is None:
            return [self.steps]
        return [round(self.steps * part / 5) for part in range(1, 6)]

    def _record(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self._one(clear=False)

    def _one(self, *, clear: bool = True) -> None:
        if clear:
            self.optimizer.zero_grad(set_to_none=True)
        one = self.training
        index_B = self.order.index_select(0, self.counter)[0]
        rate, on_labels, on_teacher, share = self.values.index_select(0, self.counter)[0].unbind()
        x_BSS3 = self.flat.index_select(0, index_B).float() * self.scale - self.shift
        x_B3SS = x_BSS3.permute(0, 3, 1, 2).contiguous(memory_format=MEMORY["layout"])
        z_BC = self.module(x_B3SS).float()
        row_B = index_B % one.data.views.shape[1]
        known_B = one.data.known.index_select(0, row_B)
        label_B = one.data.label.index_select(0, row_B)
        targets = Targets(label_B, None, None, known_B > 0, known_B)
        loss = on_labels * (self.label_loss(z_BC, targets) * known_B).sum() / len(index_B)
        if self.taught is not None:
            t_BC = self.taught.index_select(0, index_B)
            loss = loss + on_teacher * self.logit_loss(z_BC, t_BC, targets).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0, foreach=True)
        if self.on_gpu:
            self.rates[0].copy_(rate * one.early_rate)
            self.rates[1].copy_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = float(rate) * (1.0 if group["late"] else one.early_rate)
        self.optimizer.step()
        with torch.no_grad():
            change = torch._foreach_sub(self.live, self.average)
            torch._foreach_mul_(change, share)
            torch._foreach_add_(self.average, change)
            self.loss.copy_(loss)
            self.counter += 1

    def _judge(self) -> None:
        one = self.training
        if one.judged is None:
            return
        network = self.result(best=False)
        rows = torch.from_numpy(one.judged).to(self.device)
        z_NC = predict(network, one.data.views[0].index_select(0, rows), one.mean, one.std)
        labels = one.data.label.index_select(0, rows)
        value = float(nn.functional.cross_entropy(z_NC, labels))
        one.curve.append(value)
        if self.best is None or value < self.best[0]:
            self.best = (value, {name: v.clone() for name, v in network.state_dict().items()})

    def result(self, *, best: bool = True) -> nn.Module:
        """The network with averaged weights (the best ones where they were judged), in eval mode."""
        with self._own_stream():
            network = copy.deepcopy(self.module).eval()
            own = [v for v in network.state_dict(keep_vars=True).values() if v.is_floating_point()]
            with torch.no_grad():
                torch._foreach_copy_([v.detach() for v in own], self.average)
            if best and self.best is not None:
                network.load_state_dict(self.best[1])
            if self.stream is not None:
                self.stream.synchronize()
        return network

    def release(self) -> None:
        """Free what the graph holds."""
        self.graph = None
        del self.optimizer, self.module, self.live, self.average


def choose_layout(module: nn.Module, side: int, batch: int) -> dict[str, float]:
    """Measure a step of a network in both layouts and keep to the faster one; milliseconds by layout."""
    found: dict[str, float] = {}
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for name, layout in layouts.items():
        MEMORY["layout"] = layout
        data = Data(
            torch.zeros(1, batch, side, side, 3, dtype=torch.uint8, device="cuda"),
            torch.zeros(batch, dtype=torch.int64, device="cuda"),
            torch.ones(batch, device="cuda"),
        )
        moments: list[float] = []
        for steps in (16, 16, 64):  # the first one starts the device
            training = Training(copy.deepcopy(module), [Phase(steps, tuple(range(batch)), 1e-3)], 0, data, batch)
            start = time.perf_counter()
            run_all([training], lambda _, __: None, device="cuda")
            moments.append(time.perf_counter() - start)
        found[name] = round(1000 * (moments[2] - moments[1]) / 48, 2)
    MEMORY["layout"] = layouts[min(found, key=lambda name: found[name])]
    return found


def predict(
    network: nn.Module, views_NSS3: Tensor, mean: Sequence[float], std: Sequence[float], block: int = 256
) -> Tensor:
    """Logits [N, C] of uint8 views, on their device."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=views_NSS3.device).view(1, 1, 1, 3)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=views_NSS3.device).view(1, 1, 1, 3)
    with torch.inference_mode():
        parts = [network((x.float() * scale - shift).permute(0, 3, 1, 2)).float() for x in views_NSS3.split(block)]
    return torch.cat(parts)


def _groups(module: nn.Module, rates: Sequence[Any], weight_decay: float) -> list[dict[str, Any]]:
    groups = []
    for number, chosen in enumerate((False, True)):
        own = [p for name, p in module.named_parameters() if name.startswith(("classifier", "head.")) == chosen]
        for decay, part in ((weight_decay, [p for p in own if p.ndim > 1]), (0.0, [p for p in own if p.ndim <= 1])):
            if part:
                groups.append({"params": part, "weight_decay": decay, "lr": rates[number], "late": chosen})
    return groups


def _tables(one: Training) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """By step: samples int64 [steps, B] as view * N + row, learning rate, and weights of the terms."""
    images = one.data.views.shape[1]
    orders, rates, on_labels, on_teacher = [], [], [], []
    for number, phase in enumerate(one.phases):
        halves = [phase.rows, phase.other] if phase.other else [phase.rows]
        sizes = [one.batch // len(halves)] * len(halves)
        sizes[-1] += one.batch - sum(sizes)
        parts = [
            _order(np.array(rows), phase.steps * size, phase.views, images, (one.seed, number, part)).reshape(-1, size)
            for part, (rows, size) in enumerate(zip(halves, sizes, strict=True))
        ]
        orders.append(np.concatenate(parts, axis=1))
        warm = max(1, round(0.1 * phase.steps))
        step = np.arange(phase.steps)
        fall = 0.5 * (1 + np.cos(math.pi * (step - warm) / max(1, phase.steps - warm)))
        rates.append(phase.lr * np.where(step < warm, (step + 1) / (warm + 1), fall))
        on_labels.append(np.full(phase.steps, phase.on_labels))
        on_teacher.append(np.full(phase.steps, phase.on_teacher))
    return np.concatenate(orders), np.concatenate(rates), np.concatenate(on_labels), np.concatenate(on_teacher)


def _order(rows: np.ndarray, count: int, views: Sequence[int], images: int, seed: tuple[int, ...]) -> np.ndarray:
    """So many samples: all rows in a new order each epoch, each row's views one after another from a random one on."""
    draw = np.random.default_rng(seed)
    first = draw.integers(len(views), size=len(rows))
    found: list[np.ndarray] = []
    for epoch in range(-(-count // len(rows))):
        place = draw.permutation(len(rows))
        view = np.array(views)[(first[place] + epoch) % len(views)]
        found.append(view * images + rows[place])
    return np.concatenate(found)[:count]


def _averaging(one: Training) -> np.ndarray:
    """By step, the share of the new weights in the average; the first step of a phase begins it anew."""
    shares = []
    for phase in one.phases:
        step = np.arange(1, phase.steps + 1)
        decay = np.minimum(1 - 1 / max(1.0, LONGEST_EMA * phase.steps), (1 + step) / (10 + step))
        decay[0] = 0.0
        shares.append(1 - decay)
    return np.concatenate(shares)

"""How others distil: the teacher answers for every batch, images come from a DataLoader.

Each is given our decoding and our views, which are faster than Pillow's and torchvision's, the same modules and the
same memory settings, and picks the workers and the collation that are fastest for it here. All networks are
channels_last: on the CPUs that were tried both networks are a fifth to a third faster so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler

from models.augmentation.rendering import to_input
from models.networks.build import Built
from tests.bench.distill_task import BATCH, DECAY, RATE, SIDE, Pace, Stretch, Task, class_of, mean_loss, picture

TORCHDISTILL = "torchdistill==1.1.5"


@dataclass(frozen=True)
class Ran:
    """What a stretch of training showed: its pace, the loss at its end."""

    pace: Pace
    loss: float


class Views(Dataset[tuple[Any, int]]):
    """The endless sequence of views, epoch after epoch: a fresh view of every image in each.

    Args:
        count: samples; they begin with those of `start`.
        built: the network whose input they are; None: uint8 [3, SIDE, SIDE].
    """

    transform: Any = None  # timm sets one, for datasets that use it

    def __init__(self, paths: Sequence[Path], start: int, count: int, built: Built | None) -> None:
        self.paths, self.start, self.count = paths, start, count
        self.norm = (built.mean, built.std) if built is not None else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Any, int]:
        epoch, image = divmod(self.start + number, len(self.paths))
        view = picture(self.paths[image], 1 + epoch)
        if self.norm is None:
            return np.ascontiguousarray(view.transpose(2, 0, 1)), class_of(image)
        return torch.from_numpy(to_input(view[None], SIDE, *self.norm))[0], class_of(image)


class Rival:
    """A contender whose settings are chosen by trying.

    Args:
        options: values to try of every setting, the first of each to begin with.
    """

    options: Mapping[str, Sequence[Any]]

    def __init__(self, task: Task) -> None:
        task.settle()
        self.task = task
        self.chosen: dict[str, Any] = {}

    def choose(self, steps: int) -> dict[str, Any]:
        """Take one setting after the other and keep the value that is fastest over so many steps."""
        self.chosen = {name: values[0] for name, values in self.options.items()}
        known: dict[tuple[Any, ...], float] = {}
        for name, values in self.options.items():
            if len(values) == 1:
                continue
            for value in values:
                tried = {**self.chosen, name: value}
                if tuple(tried.values()) not in known:
                    known[tuple(tried.values())] = self._run(0, steps, tried).pace.rate
            self.chosen[name] = max(values, key=lambda v: known[tuple({**self.chosen, name: v}.values())])
        return self.chosen

    def train(self, epoch: int) -> Ran:
        """Train for an epoch."""
        return self._run(epoch, self.task.steps, self.chosen)

    def _run(self, epoch: int, steps: int, chosen: dict[str, Any]) -> Ran:
        stretch = Stretch(steps, self.task.device)
        start = epoch * self.task.steps * BATCH
        count = stretch.total * BATCH
        losses = [loss.item() for loss in self._losses(stretch, start, count, chosen)]
        return Ran(stretch.pace(), mean_loss(losses))

    def _losses(self, stretch: Stretch, start: int, count: int, chosen: Mapping[str, Any]) -> Iterator[Tensor]:
        """Train, and say the loss of every step."""
        raise NotImplementedError

    def _laid_out(self, module: nn.Module) -> nn.Module:
        moved: nn.Module = module.to(self.task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved


class Timm(Rival):
    """timm's task for distillation of logits, in the loop of its training script."""

    def __init__(self, task: Task, workers: Sequence[int]) -> None:
        super().__init__(task)
        self.options = {"workers": workers, "prefetcher": (True, False) if len(workers) > 1 else (True,)}

    def _losses(self, stretch: Stretch, start: int, count: int, chosen: Mapping[str, Any]) -> Iterator[Tensor]:
        from timm.data import create_loader
        from timm.optim import create_optimizer_v2
        from timm.task import DistillationTeacher, LogitDistillationTask

        device = torch.device(self.task.device)
        built = self.task.student_built()
        student = self._laid_out(built.module)
        student.pretrained_cfg = {"mean": built.mean, "std": built.std}  # type: ignore[assignment]
        teacher = DistillationTeacher(self._laid_out(self.task.teacher_built().module), device=device)
        task = LogitDistillationTask(student, teacher, nn.CrossEntropyLoss(), device=device, verbose=False).train()
        optimizer = create_optimizer_v2(student, opt="adamw", lr=RATE, weight_decay=DECAY)
        loader = create_loader(
            Views(self.task.paths, start, count, None if chosen["prefetcher"] else built),
            (3, SIDE, SIDE),
            BATCH,
            mean=built.mean,
            std=built.std,
            num_workers=chosen["workers"],
            pin_memory=device.type == "cuda",
            device=device,
            use_prefetcher=chosen["prefetcher"],
        )
        for views_B3SS, target_B in stretch.of(loader):
            x_B3SS = views_B3SS.to(device, memory_format=torch.channels_last, non_blocking=True)
            loss = task(x_B3SS, target_B.to(device, non_blocking=True))["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.detach()


class TorchDistill(Rival):
    """torchdistill's box with its loss of Hinton et al., in the loop of its example for ImageNet.

    Args:
        packages: folder of the environment that has torchdistill.
    """

    def __init__(self, task: Task, workers: Sequence[int], packages: Path) -> None:
        super().__init__(task)
        self.options = {"workers": workers}
        sys.path.append(str(packages))

    def _losses(self, stretch: Stretch, start: int, count: int, chosen: Mapping[str, Any]) -> Iterator[Tensor]:
        box_of = import_module("torchdistill.core.distillation").DistillationBox
        device = torch.device(self.task.device)
        built = self.task.student_built()
        loader = {"num_workers": chosen["workers"], "batch_size": BATCH, "pin_memory": device.type == "cuda"}
        config = {
            "num_epochs": 1,
            "train_data_loader": {
                "dataset_id": "train",
                "sampler": {"class_or_func": SequentialSampler},
                "kwargs": loader,
            },
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {"key": "AdamW", "kwargs": {"lr": RATE, "weight_decay": DECAY}},
            "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": _KD}}},
        }
        box = box_of(
            self._laid_out(self.task.teacher_built().module),
            self._laid_out(built.module),
            {"train": Views(self.task.paths, start, count, built)},
            config,
            device,
            None,
            False,
            1,
        )
        box.pre_epoch_process(epoch=0)
        for views_B3SS, target_B, extra in stretch.of(box.train_data_loader):
            x_B3SS = views_B3SS.to(device, memory_format=torch.channels_last, non_blocking=True)
            loss = box.forward_process(x_B3SS, target_B.to(device, non_blocking=True), extra)
            box.post_forward_process(loss=loss)
            yield loss.detach()


_KD = {
    "criterion": {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": ".",
            "student_module_io": "output",
            "teacher_module_path": ".",
            "teacher_module_io": "output",
            "temperature": 1.0,
            "alpha": 1.0,
            "beta": 1.0,
        },
    },
    "weight": 1.0,
}

"""What travels to the worker that trains: names and numbers, never a module or a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.losses.terms import Term
from models.training import TrainConfig
from tasks.data.weights import WeightsRef
from tasks.teachers.model import TeacherModel


@dataclass(frozen=True)
class Sampling:
    """Which samples come, and how often.

    Attributes:
        pool: all or labelled: training images that are used.
        classes: natural, or balanced: every class as often.
        ratio: unlabelled samples for a labelled one in each batch; None: as they come.
    """

    pool: str = "all"
    classes: str = "natural"
    ratio: float | None = None


@dataclass(frozen=True)
class TrainJob:
    """One training.

    Attributes:
        stage: teach or distill.
        key: key of the unit; names its checkpoints and its model.
        arm: taught, labels_only or teacher:<name>.
        labels: manifests of soft labels by key, empty for a training on labels alone or with teachers at hand.
        select: key of the select manifest, None for equal weights.
        weights: where the initial weights are, and their digest.
        batch: samples an optimiser step, over all ranks.
        sampling: which samples come, and how often.
        online: teachers that see each batch; empty: stored soft labels teach, or nobody.
        metric: of validation, that plateau, early stop and best go by.
        ranks: processes of the training; 1: this one.
        loaders: threads that load ahead.
        compile: torch.compile the student.
        restarts: of a training on several ranks, from its last checkpoint.
        fold: (number, of how many) whose labels are held out; None: none are.
        input: mean and std of the network's input; None: its own.
        input_size: side of the network's input in pixels.
        threads: CPU threads of the training.
    """

    stage: str
    key: str
    arm: str
    seed: int
    store: str
    ingest: str
    labels: tuple[str, ...]
    select: str | None
    model: str
    options: dict[str, Any]
    input_size: int
    weights: WeightsRef
    views: dict[str, Any]
    terms: tuple[Term, ...]
    config: TrainConfig
    batch: int
    device: str
    threads: int
    sampling: Sampling = Sampling()
    online: tuple[TeacherModel, ...] = ()
    metric: str = ""
    ranks: int = 1
    loaders: int = 2
    compile: bool = False
    restarts: int = 3
    fold: tuple[int, int] | None = None
    input: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    topic: str = ""  # of the events that tell of progress, and of the flag that asks to stop

    @property
    def taught(self) -> bool:
        """Whether teachers teach."""
        return bool(self.labels or self.online)

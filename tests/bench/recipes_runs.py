"""One scarce corpus on one device: its teachers, then its students, and what each says of the test images."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.build import build
from models.statistics.metrics import metrics, probabilities
from tests.bench.graph_trainings import Data, Phase, Training, predict, run_all
from tests.bench.recipes_data import Pictures

LITE = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Model:
    """A network by name, as a spec would write it."""

    model: str
    cut: str = ""
    head: int | None = None
    pypi: bool = False

    def build(self, classes: int, seed: int) -> Any:
        """The network with its initial weights."""
        options = {"cut": {"after": self.cut, "width": self.head}} if self.cut else {}
        return build(self.model, num_classes=classes, options=options, pypi=self.pypi, seed=seed)


MODELS = {
    "lite0": Model(LITE, pypi=True),
    "micro": Model("micro"),
    "cut60k": Model(LITE, "blocks.2", 96, pypi=True),
    "cut60k_random": Model(LITE, "blocks.2", 96),
    "cut52k": Model(LITE, "blocks.2.0", 448, pypi=True),
    "cut300k": Model(LITE, "blocks.3", 160, pypi=True),
    "cut1m": Model(LITE, "blocks.5.0", 256, pypi=True),
}


@dataclass(frozen=True)
class Run:
    """One training of the table.

    Attributes:
        arm: teacher, labels, joint, transfer, two_phase, two_phase_kd or oracle.
        steps: of all phases together.
        teacher: name of the ensemble that teaches; "" for arms without.
        targets: view (the teacher's answer to the view shown) or mean (of its answers to all stored views).
        keep: last or best (on validation, teachers).
    """

    arm: str
    model: str
    seed: int
    side: int
    steps: int
    lr: float
    teacher: str = ""
    batch: int = 64
    temperature: float = 1.0
    targets: str = "view"
    early_rate: float = 1.0
    on_teacher: float = 1.0
    keep: str = "last"
    fine_tune: float = 0.25  # share of the steps, and factor of the rate, of a second phase
    labelled_half: bool = False


class Corpus:
    """A corpus on a device, its teachers' outputs and the results so far.

    Args:
        out: file that gets a line of JSON a result; what it holds already is not run again.
        until: moment (`time.time`) after which no training begins.
    """

    def __init__(self, name: str, pictures: Pictures, device: str, out: Path, until: float, slots: int) -> None:
        self.name, self.pictures, self.device, self.out, self.until = name, pictures, device, out, until
        self.slots = slots
        self.classes = len(pictures.classes)
        self.stored = {side: torch.from_numpy(views).to(device) for side, views in pictures.stored.items()}
        self.fresh = {side: torch.from_numpy(views).to(device) for side, views in pictures.fresh.items()}
        self.train, self.labelled = pictures.rows("train"), pictures.rows("train", labelled=True)
        self.true = pictures.rows("train", true=True)
        self.val, self.test = pictures.rows("val"), pictures.rows("test")
        self.teachers: dict[str, Tensor] = {}  # float32 [V, N, C] log-probabilities
        self.probs: dict[str, np.ndarray] = {}
        self.members: list[tuple[nn.Module, Run, Any]] = []  # teachers trained since this was emptied
        self.last: dict[str, Any] = {}
        self.left_out = 0
        self._read()

    def run(self, runs: Iterable[Run]) -> None:
        """Train and judge what has no result yet; what would begin too late is counted in `left_out`."""
        run_all(self._trainings(runs), self._done, device=self.device, slots=self.slots)

    def teach(self, name: str, members: Sequence[tuple[nn.Module, Run, Any]]) -> None:
        """Average members into a teacher, and judge it, unless it stands already."""
        if name in self.teachers:
            return
        views = self.stored[members[0][1].side]
        probs = torch.zeros(len(views), views.shape[1], self.classes, device=self.device)
        for network, _, built in members:
            for view in range(len(views)):
                probs[view] += predict(network, views[view], built.mean, built.std).softmax(1) / len(members)
        self.teachers[name] = probs.clamp(min=1e-8).log()
        self._say({"arm": f"{name}", "model": "ensemble", "members": len(members)}, self.teachers[name][0])
        np.save(self._outputs(name), self.teachers[name].half().cpu().numpy())
        mean = probs.mean(0).clamp(min=1e-8).log()
        self._say({"arm": f"{name} views", "model": "ensemble", "members": len(members)}, mean)

    def _trainings(self, runs: Iterable[Run]) -> Iterable[Training]:
        for run in runs:
            # The networks of teachers are not kept, only what they said together.
            if run.arm != "teacher" and (found := self._known.get(_name(asdict(run)))) is not None:
                self.last = found
                continue
            if time.time() > self.until:
                self.left_out += 1
                continue
            built = MODELS[run.model].build(self.classes, run.seed)
            teacher = None
            if run.teacher:
                teacher = self.teachers[run.teacher]
                if run.targets == "mean":
                    teacher = teacher.exp().mean(0, keepdim=True).log().expand(len(teacher), -1, -1)
                teacher = teacher.contiguous()
            judged = self.val if run.keep == "best" else None
            # Labels alone never come back to a picture; what is judged lies among the stored views.
            alone = not run.teacher and run.arm != "oracle" and judged is None
            yield Training(
                built.module,
                self._phases(run, alone),
                run.seed,
                self._data(run.side, alone, run.arm == "oracle"),
                batch=run.batch,
                mean=built.mean,
                std=built.std,
                teacher=teacher,
                temperature=run.temperature,
                early_rate=run.early_rate,
                judged=judged,
                tag={"run": run, "built": built, "begun": time.monotonic()},
            )

    def _data(self, side: int, alone: bool, oracle: bool) -> Data:
        pictures = self.pictures
        label = pictures.truth if oracle else pictures.label
        if alone:
            label = pictures.label[self.labelled]
        known = torch.from_numpy((label >= 0).astype(np.float32)).to(self.device)
        return Data(
            self.fresh[side] if alone else self.stored[side],
            torch.from_numpy(np.maximum(label, 0)).to(self.device),
            known,
        )

    def _phases(self, run: Run, alone: bool) -> list[Phase]:
        views = tuple(range(len(self.fresh[run.side] if alone else self.stored[run.side])))
        labelled = tuple(range(len(self.labelled))) if alone else tuple(self.labelled.tolist())
        everything = tuple(self.train.tolist())
        if run.arm in ("teacher", "labels"):
            return [Phase(run.steps, labelled, run.lr, views=views)]
        if run.arm == "oracle":
            return [Phase(run.steps, tuple(self.true.tolist()), run.lr, views=views)]
        if run.arm == "joint":
            if run.labelled_half:
                pool = tuple(np.setdiff1d(self.train, self.labelled).tolist())
                return [Phase(run.steps, labelled, run.lr, 1.0, run.on_teacher, other=pool, views=views)]
            return [Phase(run.steps, everything, run.lr, 1.0, run.on_teacher, views=views)]
        last = round(run.steps * run.fine_tune)
        transfer = Phase(
            run.steps if run.arm == "transfer" else run.steps - last, everything, run.lr, 0.0, 1.0, views=views
        )
        if run.arm == "transfer":
            return [transfer]
        beside = run.on_teacher if run.arm == "two_phase_kd" else 0.0
        return [transfer, Phase(last, labelled, run.lr * run.fine_tune, 1.0, beside, views=views)]

    def _done(self, training: Training, network: nn.Module) -> None:
        run, built = training.tag["run"], training.tag["built"]
        views = self.stored[run.side]
        z_NC = predict(network, views[0], built.mean, built.std)
        row = asdict(run) | {"seconds": round(time.monotonic() - training.tag["begun"], 1), "curve": training.curve}
        if run.teacher:
            row |= self._fit(network, run, built, z_NC)
        self._say(row, z_NC)
        if run.arm == "teacher":
            self.members.append((copy.deepcopy(network), run, built))

    def _fit(self, network: nn.Module, run: Run, built: Any, z_NC: Tensor) -> dict[str, float]:
        """KL of the student's answers from its teacher's on training and validation images (plain view), beside the
        KL of the best constant."""
        found = {}
        for split, rows in (("train", self.train), ("val", self.val)):
            index = torch.from_numpy(rows).to(self.device)
            t = self.teachers[run.teacher][0].index_select(0, index)
            p, log_q = t.exp(), z_NC.index_select(0, index).log_softmax(1)
            found[f"kl_{split}"] = float((p * (t - log_q)).sum(1).mean())
            found[f"kl_constant_{split}"] = float((p * (t - p.mean(0).log())).sum(1).mean())
            spread = (p - p.mean(0)).square().sum()
            found[f"r2_{split}"] = float(1 - (log_q.exp() - p).square().sum() / spread)
        return found

    def _say(self, row: dict[str, Any], z_NC: Tensor) -> None:
        probs = probabilities("single", z_NC.float().cpu().numpy())
        for split, rows in (("val", self.val), ("test", self.test)):
            found = metrics("single", probs[rows], self.pictures.truth[rows], None)
            row |= {
                f"{split}_{name}": found[name] for name in ("macro_f1", "auc", "accuracy", "log_loss") if name in found
            }
            chosen = np.clip(probs[rows, self.pictures.truth[rows]], 1e-8, 1)
            row[f"{split}_ce"] = float(-np.log(chosen).mean())
        row |= {"set": self.name, "number": len(self.probs)}
        self.last = row
        self.probs[str(len(self.probs))] = probs.astype(np.float16)
        facts = {"truth": self.pictures.truth, "split": self.pictures.split, "patient": self.pictures.patient}
        part = self.out.with_suffix(".part.npz")
        np.savez_compressed(part, **self.probs, **facts)
        part.replace(self.out.with_suffix(".npz"))
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _outputs(self, teacher: str) -> Path:
        """File of a teacher's log-probabilities float16 [V, N, C] on the stored views."""
        return self.out.with_name(f"{self.out.stem}-{teacher.replace(' ', '-')}.npy")

    def _read(self) -> None:
        """Results, their probabilities and teachers' outputs of earlier runs."""
        self._known: dict[str, dict[str, Any]] = {}
        if not self.out.is_file():
            return
        rows = [json.loads(line) for line in self.out.read_text().splitlines()]
        with np.load(self.out.with_suffix(".npz")) as stored:
            self.probs = {str(row["number"]): stored[str(row["number"])] for row in rows}
        for row in rows:
            self._known[_name(row)] = row
            if row["model"] == "ensemble" and self._outputs(row["arm"]).is_file():
                outputs = torch.from_numpy(np.load(self._outputs(row["arm"]))).float()
                self.teachers[row["arm"]] = outputs.to(self.device)


def _name(row: dict[str, Any]) -> str:
    """What a result is known by: the fields of its `Run`; an ensemble by its name."""
    names = ("arm", "model") if row["model"] == "ensemble" else [one.name for one in fields(Run)]
    return json.dumps([row.get(name) for name in names])

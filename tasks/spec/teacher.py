"""`teachers:` who teaches."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from models.augmentation.view_numbers import FIRST_UNSTORED
from tasks.spec.train import ModelSection, TrainSection

Kind = Literal["network", "graph", "onnx", "python", "table"]

_PREFIXES: dict[str, Kind] = {"onnx:": "onnx", "python:": "python", "table:": "table", "models:": "graph"}
_SHAPES: dict[Kind, tuple[str, str]] = {
    "onnx": (r".+", "onnx:FILE"),
    "python": (r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", "python:package.module:function"),
    "table": (r".+", "table:FILE.parquet"),
    "graph": (r"/[^/@:]+(@[^/@:]+|/[0-9]+)", "models:/NAME@ALIAS or models:/NAME/VERSION"),
}
_WHAT: dict[Kind, str] = {
    "network": "a network",
    "graph": "a registered student",
    "onnx": "an ONNX file",
    "python": "a Python function",
    "table": "a table",
}
# Which kinds a field means something to; anything else would be ignored without a word.
_TAKES: dict[str, frozenset[Kind]] = {
    "weights": frozenset({"network", "python"}),
    "options": frozenset({"network", "python"}),
    "cut": frozenset({"network"}),
    "head": frozenset({"network"}),
    "size": frozenset({"network", "onnx", "python"}),
    "mean": frozenset({"network", "graph", "onnx"}),
    "std": frozenset({"network", "graph", "onnx"}),
    "version": frozenset({"python"}),
    "features": frozenset({"network", "onnx"}),
    "outputs": frozenset({"onnx", "python", "table"}),
    "train": frozenset({"network"}),
    "folds": frozenset({"network"}),
    "average": frozenset({"network"}),
    "members": frozenset({"network"}),
}
_SINCE = ("mean", "std", "version", "cut", "head")
_ASKED = {"outputs", "members", "weights", "name", "features", "folds", "average", "seed", "require_better"}


class TeacherSection(ModelSection):
    """One of `teachers:`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the teacher in this spec")
    model: str = Field(
        description="timm model name, or micro, micro_xs, micro_m; onnx:FILE; python:package.module:function; "
        "table:FILE.parquet (logits by key); models:/NAME@ALIAS or models:/NAME/VERSION (a registered student)"
    )
    mean: tuple[float, float, float] | None = Field(
        None, description="of the input, values scaled to 0..1; default: the network's own; onnx needs it"
    )
    std: tuple[float, float, float] | None = Field(None, description="of the input; see mean")
    version: str | None = Field(
        None, min_length=1, description="of a Python function: change it with the code; default: its distribution's"
    )
    features: str | None = Field(
        None,
        min_length=1,
        description="also store features: pooled, features (the last map) or the path of a module (of an ONNX output)",
    )
    outputs: Literal["logits", "probabilities"] | None = Field(
        None,
        description="of ONNX, a function or a table: probabilities, whose logarithms are taken, or logits; null: "
        "logits, refused where they look like probabilities",
    )
    train: TrainSection | None = Field(None, description="fine-tune on the labels first; null: use as it is")
    seed: int = Field(0, ge=0, description="of the fine-tuning; members of an ensemble differ by it")
    members: int | None = Field(
        None, ge=2, le=20, description="train so many, NAME-1, NAME-2, ..., which differ by their seed alone"
    )
    folds: int | None = Field(
        None, ge=2, le=100, description="out-of-fold labels: that many more trainings, none of which saw its own fold"
    )
    require_better: bool | Literal["clearly"] = Field(
        False,
        description="stop before labelling where it is no better on validation than the student on labels alone; "
        "clearly: also where the 95 % interval of the difference is not above zero",
    )
    average: int | None = Field(
        None,
        ge=1,
        lt=FIRST_UNSTORED,
        description="judge it by the mean over the plain view and so many random ones of each image; null: the plain "
        "one alone",
    )
    _whole: str = PrivateAttr("")

    @property
    def whole(self) -> str:
        """Name of the teacher that the spec asks for: its own, or that of the ensemble that it is a member of."""
        return self._whole or self.name

    @property
    def kind(self) -> Kind:
        """What `model` names: graph is the exported graph of a registered student."""
        return next((kind for prefix, kind in _PREFIXES.items() if self.model.startswith(prefix)), "network")

    @property
    def target(self) -> str:
        """`model` without its prefix; NAME@ALIAS or NAME/VERSION of a registered student."""
        if self.kind == "network":
            return self.model
        return self.model.partition(":")[2].removeprefix("/" if self.kind == "graph" else "")

    @model_validator(mode="after")
    def _fits(self) -> TeacherSection:
        kind = self.kind
        if kind != "network":
            pattern, shape = _SHAPES[kind]
            if not re.fullmatch(pattern, self.model.partition(":")[2]):
                raise ValueError(f"model {self.model!r}: write it as {shape}")
        for field, kinds in _TAKES.items():
            if getattr(self, field) not in (None, {}) and kind not in kinds:
                raise ValueError(f"`{field}` means nothing to {_WHAT[kind]}; leave it out")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both of mean and std, or neither")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if kind == "onnx" and self.mean is None:
            raise ValueError("an ONNX file does not say what its input is normalised with; give mean and std")
        if self.folds is not None and self.train is None:
            raise ValueError("`folds` are trainings; add `train:`")
        if self.average is not None and self.train is None:
            raise ValueError("`average` is of the report, which judges trained teachers; add `train:`")
        if self.require_better and self.train is None:
            raise ValueError("`require_better` goes by the validation of a training; add `train:`")
        if self.members is not None and self.train is None:
            raise ValueError("`members` differ by the seed of their training; add `train:`")
        if self.starts_from is not None:
            raise ValueError(f"weights {self.weights}: only a student starts from a teacher")
        if self.seed and self.train is None:
            raise ValueError("`seed` is of the fine-tuning; add `train:`")
        return self

    def identity(self) -> dict[str, Any]:
        """What of the section the key of its training depends on; how it is asked afterwards is no part of it."""
        section = self.model_dump(mode="json", exclude=_ASKED)
        for field in _SINCE:
            # Fields that came later are left out where they are unset, so that what was trained before is found.
            if section[field] is None:
                del section[field]
        section["train"] = self.train.identity() if self.train else None
        if self.kind in ("onnx", "table", "graph"):
            # A place; its file's digest enters the key beside this section.
            section["model"] = self.kind
        return section

    def each(self) -> list[TeacherSection]:
        """The teacher, or its members: named by their numbers from 1, their seeds counting up from its own."""
        if self.members is None:
            return [self]
        return [self._member(n) for n in range(self.members)]

    def _member(self, number: int) -> TeacherSection:
        update = {"members": None, "name": f"{self.name}-{number + 1}", "seed": self.seed + number}
        member = self.model_copy(update=update)
        member._whole = self.name
        return member

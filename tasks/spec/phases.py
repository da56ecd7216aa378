"""`student.phases` and `student.arms`: trainings one after another, and other students beside; what each inherits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.losses.terms import LOSSES
from tasks.spec.base import Section
from tasks.spec.losses import LossTerm
from tasks.spec.train import TrainSection

INHERITED = ("labels", "pool", "loss", "train")
"""Keys of `student:` that a phase may set for itself."""


class PhaseSection(Section):
    """One of `student.phases`; what it leaves out is as in `student:`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="of the phase, such as transfer or fine-tune")
    labels: bool = Field(True, description="false: labels of training images are hidden, teachers' outputs alone teach")
    pool: Literal["all", "labelled"] = Field("all", description="training images that are used")
    loss: list[LossTerm] | None = Field(
        None, min_length=1, description="default: labels plus soft labels; only losses on labels: teachers take no part"
    )
    train: TrainSection = TrainSection(epochs=30)


def inherited(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a phase or an arm on top of those it inherits; `train` is inherited key by key.

    Args:
        given: as they stand in `student:`.
        own: as they stand in the phase or the arm.
    """
    whole = {**given, **own}
    if "train" in given and "train" in own:
        whole["train"] = _train(given["train"], own["train"])
    return whole


def _train(given: Any, own: Any) -> Any:
    given = given.model_dump(exclude_unset=True) if isinstance(given, BaseModel) else given
    own = own.model_dump(exclude_unset=True) if isinstance(own, BaseModel) else own
    if not isinstance(given, Mapping) or not isinstance(own, Mapping):
        return own
    lengths = {"steps", "epochs", "min_steps", "max_steps"}
    if own.keys() & {"steps", "epochs"}:
        # How long is said by these keys together: the nearer word counts, and no bound of another length with it.
        given = {name: value for name, value in given.items() if name not in lengths}
    return {**given, **own}


def check_unlabelled(name: str, pool: str, losses: list[LossTerm] | None, train: TrainSection) -> None:
    """Whether a training that hides the labels can go by teachers alone.

    Raises:
        ValueError: it selects, balances or weighs by labels; the text names what to change.
    """
    if pool == "labelled":
        raise ValueError(f"{name}: labels: false hides which images are labelled; use pool: all")
    if train.sampling == "balanced" or train.unlabelled_ratio is not None:
        raise ValueError(f"{name}: labels: false; sampling: balanced and unlabelled_ratio go by labels, leave them out")
    for term in losses or []:
        if LOSSES[term.loss].reads != "labels" and (term.where != "all" or term.teachers == "confidence"):
            raise ValueError(f"{name}: labels: false; {term.loss} with where or teachers: confidence goes by labels")
    if losses and all(LOSSES[term.loss].reads == "labels" for term in losses):
        raise ValueError(f"{name}: labels: false leaves no loss; add one on the teachers, such as kl")


def check_grafts(phases: list[PhaseSection]) -> None:
    """Whether all phases train one network.

    Raises:
        ValueError: some phases, not all, use a teacher's classifier again, which is a part of the network.
    """
    grafts = [sorted(term.loss for term in phase.loss or [] if LOSSES[term.loss].inside) for phase in phases]
    if any(graft != grafts[0] for graft in grafts):
        used = next(name for graft in grafts for name in graft)
        raise ValueError(f"phases: {used} changes the network; use it in every phase or in none")

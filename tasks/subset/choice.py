"""Which patients keep their labels: by class alike, in an order of hashes, a smaller choice inside every larger one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.errors import SpecError


@dataclass(frozen=True)
class Patients:
    """Patients of labelled training images, and what they have.

    Attributes:
        names: [P] str.
        has: [P, C] bool: whether an image of the patient has the class.
        stratum: [P] int: patients of one number are chosen in equal shares.
    """

    names: np.ndarray
    has: np.ndarray
    stratum: np.ndarray

    @classmethod
    def of(cls, patient: np.ndarray, has: np.ndarray, *, exclusive: bool) -> Patients:
        """Patients of some images.

        Args:
            patient: [N] str.
            has: [N, C] bool: classes of each image.
            exclusive: an image has one class; the patient's stratum is then the last that any of the images has, such
                as the worst grade. Else all patients are one stratum.
        """
        names, who = np.unique(patient.astype(str), return_inverse=True)
        own = np.zeros((len(names), has.shape[1]), bool)
        np.logical_or.at(own, who, has)
        last = has.shape[1] - 1 - own[:, ::-1].argmax(axis=1) if exclusive else np.zeros(len(names), int)
        return cls(names, own, np.asarray(last))


def places(names: np.ndarray, stratum: np.ndarray, seed: int) -> np.ndarray:
    """Place of each patient in 0..1 within its stratum, in the order of sha256(seed, name).

    Those at or below a share are that share of every stratum, rounded to the nearest; the first n by place are n
    patients of strata in proportion (Sainte-Lague's rule, which never takes from one what a larger n gave it).
    """
    digest = np.array([hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in names])
    found = np.zeros(len(names))
    for each in np.unique(stratum):
        own = np.flatnonzero(stratum == each)
        found[own[np.argsort(digest[own], kind="stable")]] = (np.arange(len(own)) + 0.5) / len(own)
    return found


def choose(
    patients: Patients,
    classes: Sequence[str],
    *,
    share: float | None,
    count: int | None,
    least: int | None,
    seed: int,
) -> np.ndarray:
    """Which patients keep their labels, bool [P].

    Args:
        share, count: of all; one is None.
        least: patients that every class keeps; None: at least one, or an error.

    Raises:
        SpecError: there are fewer patients than asked for, or a class is left without any; says which and what to set.
    """
    place = places(patients.names, patients.stratum, seed)
    total = len(place)
    if count is not None and count > total:
        raise SpecError(f"labels.patients: {count} are asked for, and {total} training patients have a label")
    # Equal places of two strata: by the stratum, so that a choice never depends on the order of rows.
    order = np.lexsort((patients.stratum, place))
    chosen = np.zeros(total, bool)
    if count is not None:
        chosen[order[:count]] = True
    else:
        chosen = place <= (1.0 if share is None else share)
    for number, name in enumerate(classes):
        own = patients.has[:, number]
        wanted = min(least or 1, int(own.sum()))
        missing = wanted - int((chosen & own).sum())
        if missing <= 0:
            continue
        if least is None:
            raise SpecError(
                f"labels: {'share' if count is None else 'patients'} leaves no patient of class {name}, which has "
                f"{int(own.sum())}; take more, or set labels.least: 1"
            )
        more = [row for row in order if own[row] and not chosen[row]]
        chosen[more[:missing]] = True
    return chosen

"""Test images that cannot be graded: how many there are, and what screening with their referral comes to.

A patient whose image cannot be graded is referred to a person, whatever a network says of the image. So the figures of
screening count labelled images that are known to be ungradable as referred, and the share of gradable images stands
beside them (imageability, and the analysis by intention to screen: Abramoff et al., "Pivotal trial of an autonomous
AI-based diagnostic system", npj Digital Medicine 2018). Other metrics are of the network's answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.statistics.bootstrap import share_interval
from models.statistics.ordinal import at_least
from tasks.data.catalog import LEFT_OUT, OK, UNGRADABLE
from tasks.data.grade_decision import GradeDecision
from tasks.drawing.markdown import interval_text, number, table_text
from tasks.evaluate.arms import Arm, Truth, mean_of, pair_of
from tasks.evaluate.titles import title_of

_REFERRED = 0.5  # calibrated probability of a referable grade from which a network refers
_FIGURES = ("sensitivity", "specificity")


def imageability(catalog: pa.Table, *, resamples: int) -> dict[str, Any] | None:
    """Of the test images, those left out as ungradable included; None where nothing is known of any of them.

    `images`, `patients`; `ungradable`, `unlabelled` of these; `unknown`: of which nobody said whether they can be
    graded,
    which count as gradable; `share` of gradable images and its `interval` over patients.
    """
    used = pc.or_(
        pc.equal(catalog["status"], OK),
        pc.and_(pc.equal(catalog["status"], LEFT_OUT), pc.equal(catalog["reason"], UNGRADABLE)),
    )
    rows = catalog.filter(pc.and_(used, pc.equal(catalog["split"], "test")))
    if rows["gradable"].null_count == len(rows):
        return None
    ungradable = _ungradable(rows)
    patient = pc.if_else(pc.equal(rows["patient"], ""), rows["key"], rows["patient"]).to_numpy(zero_copy_only=False)
    interval = None
    if resamples:
        every = np.ones(len(rows), bool)
        interval = pair_of(share_interval([~ungradable], every, patient, resamples=resamples))
    return {
        "images": len(rows),
        "patients": len(np.unique(patient.astype(str))),
        "ungradable": int(ungradable.sum()),
        "unlabelled": int((ungradable & ~_labelled(rows)).sum()),
        "unknown": rows["gradable"].null_count,
        "share": round(float(1 - ungradable.mean()), 6),
        "interval": interval,
    }


def screening(
    catalog: pa.Table, arms: Sequence[Arm], val: Truth, test: Truth, *, referable: int, resamples: int
) -> dict[str, Any]:
    """Sensitivity and specificity of referral on the labelled test images, ungradable ones referred.

    `referable`; `referred`: labelled test images that are ungradable; `arms`: name to sensitivity and specificity, each
    with `value`, the mean over the seeds (None where no image has such a label), and `interval` over patients.

    Args:
        referable: the first grade that is referred; a network refers where its calibrated probability is 0.5 or more.
    """
    places = pc.index_in(pa.array(test.keys.astype(str)), value_set=catalog["key"].combine_chunks())
    ungradable = _ungradable(catalog.take(places))
    positive = test.label >= referable
    found: dict[str, Any] = {}
    for arm in arms:
        said = []
        for on_val, on_test in zip(arm.val, arm.test, strict=True):
            decision = GradeDecision.fit(on_val, val.label)
            said.append((at_least(decision.calibrated(on_test), referable) >= _REFERRED) | ungradable)
        found[arm.name] = {
            "sensitivity": _share(said, positive, test.patient, resamples),
            "specificity": _share([~each for each in said], ~positive, test.patient, resamples),
        }
    return {"referable": referable, "referred": int(ungradable.sum()), "arms": found}


def _share(right: Sequence[np.ndarray], rows: np.ndarray, patient: np.ndarray, resamples: int) -> dict[str, Any]:
    """Mean over the seeds of the share of `rows` that are right, and its interval."""
    if not rows.any():
        return {"value": None, "interval": None}
    interval = None
    if resamples:
        interval = pair_of(share_interval(right, rows, patient, resamples=resamples))
    return {"value": mean_of([float(each[rows].mean()) for each in right]), "interval": interval}


def _ungradable(rows: pa.Table) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.invert(rows["gradable"]), False).to_numpy())


def _labelled(rows: pa.Table) -> np.ndarray:
    label = np.asarray(rows["label"].to_numpy()) >= 0
    many = [any(value >= 0 for value in values or ()) for values in rows["labels"].to_pylist()]
    return label | np.array(many, bool)


def imageability_text(numbers: Mapping[str, Any]) -> str:
    """Section "Imageability" in Markdown, of facts that have `imageability`."""
    own = numbers["imageability"]
    line = (
        f"Of {own['images']:,} test images of {own['patients']:,} patients {own['images'] - own['ungradable']:,} can "
        f"be graded, a share of {number(own['share'])}{interval_text(own['interval'])}"
        + (", 95 % interval over patients" if own["interval"] else "")
        + f"; {own['ungradable']:,} cannot, and {own['unlabelled']:,} of these have no label and so count in no metric."
    )
    if own["unknown"]:
        line += f" Of {own['unknown']:,} nobody said; they count as gradable."
    if "screening" not in numbers:
        return line
    found = numbers["screening"]
    rows = [
        [title_of(arm), *(number(row[name]["value"]) + interval_text(row[name]["interval"]) for name in _FIGURES)]
        for arm, row in found["arms"].items()
    ]
    note = (
        f"A network refers where its calibrated probability of grade {found['referable']} or worse is {_REFERRED} or "
        f"more. {found['referred']:,} labelled test images that cannot be graded count as referred, whatever it says; "
        "every other metric of this report is of its answers alone."
    )
    return "\n\n".join([line, table_text(["model", *(f"referable {name}" for name in _FIGURES)], rows), note])

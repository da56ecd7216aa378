"""Test images that cannot be graded: how many there are.

A patient whose image cannot be graded is referred to a person, whatever a network says of the image. So the figures of
screening (`tasks.evaluate.screening`) count labelled images that are known to be ungradable as referred, and the share
of gradable images stands beside them (imageability, and the analysis by intention to screen: Abramoff et al., "Pivotal
trial of an autonomous AI-based diagnostic system", npj Digital Medicine 2018). Other metrics are of the network's
answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.statistics.bootstrap import share_interval
from tasks.data.catalog import LEFT_OUT, OK, UNGRADABLE
from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.arms import pair_of


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
    return line

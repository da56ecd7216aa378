"""A student and the champion on the same test images, patients resampled.

The rule is one of non-inferiority: the lower end of the 95 % interval of (new - champion) lies above -`gate.margin`.
The default margin is 0.02. Superiority (a margin of 0) would keep out nearly every retrain, as two trainings of one
recipe differ by less than the interval of a test set of some hundred patients. A margin of 0.05 would let five retrains
in a row lose 0.25 without one that failed. 0.02 is small beside what people differ by (single readers reached a
quadratic kappa of 0.80 to 0.91 with an adjudicated consensus: Krause et al., Ophthalmology 125, 2018). A test set that
is too small to exclude a loss of 0.02 keeps the champion: more test patients are then what is needed. [our choice]
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from models.statistics.metrics import LOWER_IS_BETTER
from models.statistics.ordinal import CutPoints
from tasks.data.corpus import Corpus
from tasks.data.grade_decision import GradeDecision
from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.arms import Arm, Judged, Truth, pair_of, rounded
from tasks.evaluate.grades import decided_by
from tasks.evaluate.scope import DECIDED
from tasks.gate.champion_predictions import NotComparableError, Said, champion_says
from tasks.gate.opponent import Champion
from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED, Ruling
from tasks.pipeline.context import Context
from tasks.spec import CorpusSection

RULE = "champion"
_NEW = "new"


@dataclass(frozen=True)
class Tested:
    """The test images that a report judged, and what its student said of them."""

    truth: Truth
    prob: np.ndarray  # [N, C]


def tested(corpus: Corpus, report: Manifest) -> Tested:
    """Of the student that a report would register.

    Raises:
        CorruptError: the table of predictions is damaged.
    """
    best = report.facts["best"]
    rows = pq.read_table(
        io.BytesIO(read_output(corpus.store, report.output(kind="predictions"))),
        filters=[("arm", "=", best["arm"]), ("seed", "=", best["seed"]), ("split", "=", "test")],
    ).to_pydict()
    catalog = corpus.catalog.select(["key", "patient"]).to_pydict()
    patients = dict(zip(catalog["key"], catalog["patient"], strict=True))
    keys = np.array(rows["key"], dtype=object)
    many = np.array(rows["labels"], np.int8) if corpus.task == "multilabel" else None
    truth = Truth(
        keys=keys,
        label=np.array(rows["label"], np.int32),
        labels=many,
        patient=np.array([patients.get(key) or key for key in rows["key"]], dtype=object),
        leak=np.zeros(len(keys), bool),
    )
    return Tested(truth, np.array(rows["prob"], np.float64).reshape(len(keys), -1))


def against_champion(
    context: Context,
    champion: Champion,
    corpus: Corpus,
    report: Manifest,
    found: Tested,
    sections: Sequence[CorpusSection],
    margin: float,
) -> tuple[Ruling, dict[str, Any]]:
    """The ruling, and what the report tells of the comparison.

    Returns:
        Ruling, and `metric`, `new`, `champion`, `difference` ({value, interval}, larger is better), `seen`: None where
        it could not be compared, for `reason`.

    Raises:
        TransientError, CancelledError: see `champion_says`.
    """
    asks = f"the 95 % interval of new - champion begins above -{margin:g} (gate.margin)"
    facts = report.facts
    nothing = {"metric": facts["metric"], "new": None, "champion": None, "difference": None, "seen": None}
    if champion.same:
        reason = f"version {champion.version} is this student: nothing to compare"
        return Ruling(RULE, PASSED, reason, asks), {**nothing, "reason": reason}
    try:
        said = champion_says(context, champion, corpus, [str(key) for key in found.truth.keys], sections)
    except NotComparableError as error:
        return Ruling(RULE, NOT_JUDGED, str(error), asks), {**nothing, "reason": str(error)}
    judged = _judged(facts, found, said)
    new, old = (arm_value(judged, arm, facts["bins"]) for arm in judged.arms)
    told = {**nothing, "new": new, "champion": old, "seen": said.seen, "reason": None}
    named = f"{number(new)}, version {champion.version} {number(old)}"
    if new is None or old is None:
        reason = f"{facts['metric']} is undefined for one of the two"
        return Ruling(RULE, NOT_JUDGED, f"{named}; {reason}", asks), {**told, "reason": reason}
    sign = -1.0 if judged.metric in LOWER_IS_BETTER else 1.0
    span = _interval(judged, sign, facts)
    told["difference"] = {"value": rounded(sign * (new - old)), "interval": span}
    figure = f"{facts['metric']} {named}; better by {sign * (new - old):+.3f}{interval_text(span)} on {said.seen}"
    if span is None:
        reason = "there is no interval"
        return Ruling(RULE, NOT_JUDGED, f"{figure}; {reason}", asks), {**told, "reason": reason}
    return Ruling(RULE, PASSED if span[0] > -margin else FAILED, figure, asks), told


def arm_value(judged: Judged, arm: Arm, bins: int) -> float | None:
    """The metric of one arm of one seed on all test images."""
    return rounded(judged.on_test(arm, bins)[0].values[judged.metric])


def _interval(judged: Judged, sign: float, facts: Mapping[str, Any]) -> list[float] | None:
    drawn = judged.resampled("test", facts["resamples"], facts["bins"])
    span = None if drawn is None else pair_of(drawn.difference(_NEW, RULE, judged.metric))
    return None if span is None else sorted(sign * end for end in span if end is not None)


def _judged(facts: Mapping[str, Any], found: Tested, said: Said) -> Judged:
    """The report's main metric of both."""
    no_rows = (np.zeros((0, found.prob.shape[1])),)
    arms = [Arm(_NEW, (0,), no_rows, (found.prob,)), Arm(RULE, (0,), no_rows, (said.prob,))]
    none = found.truth.where(np.zeros(len(found.truth), bool))
    metric = facts["metric"]
    if metric not in DECIDED:
        return Judged(metric, facts["task"], metric, arms, none, found.truth)
    best = facts["best"]
    reading = next(each for each in facts["grades"]["readings"][best["arm"]] if each["seed"] == best["seed"])
    # Each decides as it does in service: by its own cut points and temperature.
    decisions = {_NEW: [_decision(reading)], RULE: [_decision(said.about)]}
    return decided_by(metric, arms, decisions, none, found.truth, len(facts["classes"]), facts["grades"]["referable"])


def _decision(given: Mapping[str, Any]) -> GradeDecision:
    cuts = given.get("cut_points")
    return GradeDecision(None if cuts is None else CutPoints(tuple(cuts), ()), float(given.get("temperature") or 1.0))

"""The rules of the gate that need the figures of a report alone.

Each gives a name, a verdict, the figure it looked at and what it asks for, in words. Where a figure is not there, or
rests on too little, the verdict is NOT_JUDGED: such a student gets no alias either, but nobody says that it is bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.statistics.metrics import LOWER_IS_BETTER
from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.groups import FEWEST, UNKNOWN
from tasks.spec.gate import GateSection

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"

_BASELINES = {"thumbnails": "thumbnails 16 x 16", "borders": "image borders"}


@dataclass(frozen=True)
class Ruling:
    """What one rule says of a student."""

    rule: str
    verdict: str
    figure: str
    asks: str

    def to_json(self) -> dict[str, str]:
        """JSON-safe."""
        return asdict(self)

    @property
    def text(self) -> str:
        """For people, in one line."""
        return f"{self.rule}: {self.figure}; asked for: {self.asks}"


def overall(rulings: list[Ruling]) -> str:
    """FAILED where a rule failed, else NOT_JUDGED where one could not be judged, else PASSED."""
    verdicts = {ruling.verdict for ruling in rulings}
    return FAILED if FAILED in verdicts else NOT_JUDGED if NOT_JUDGED in verdicts else PASSED


def rule_on_report(facts: Mapping[str, Any], section: GateSection) -> list[Ruling]:
    """Rulings on the student that a report would register.

    Args:
        facts: of the report's manifest (`tasks.evaluate.write.facts_of`), with a student in `best`.
    """
    rulings = [_defined(facts), _enough_patients(facts, section.patients)]
    if section.baselines and "majority" in facts["arms"]:
        rulings.append(_majority(facts))
        rulings += [_baseline(facts, name) for name in _BASELINES if name in facts["arms"]]
    rulings += _recalls(facts, section)
    if section.worst_group is not None:
        rulings += _worst_groups(facts, section.worst_group)
    if section.ece is not None:
        rulings.append(_calibration(facts, section.ece))
    return rulings


def _defined(facts: Mapping[str, Any]) -> Ruling:
    found = facts["against_majority"]
    asks = "its main metric is defined and it tells images apart"
    if found["value"] is None:
        return Ruling("defined", FAILED, f"{facts['metric']} is undefined", asks)
    if found["one_answer"] is not None:
        return Ruling("defined", FAILED, f"it gives every test image the class {found['one_answer']}", asks)
    return Ruling("defined", PASSED, f"{facts['metric']} {found['value']:.3f}", asks)


def _enough_patients(facts: Mapping[str, Any], least: int) -> Ruling:
    count = facts["patients"]
    verdict = PASSED if count >= least else NOT_JUDGED
    return Ruling("patients", verdict, f"{count} test patients", f"at least {least} (gate.patients)")


def _majority(facts: Mapping[str, Any]) -> Ruling:
    found = facts["against_majority"]
    asks = "the 95 % interval lies above the majority's figure"
    figure = f"{number(found['value'])}{interval_text(found['interval'])}, majority {number(found['majority'])}"
    if found["better"] is None or (found["better"] and found["interval"] is None):
        return Ruling("majority", NOT_JUDGED, f"{figure}; {found['reason'] or 'no interval was asked for'}", asks)
    if found["better"]:
        return Ruling("majority", PASSED, figure, asks)
    return Ruling("majority", FAILED, f"{figure}; {found['reason']}", asks)


def _baseline(facts: Mapping[str, Any], name: str) -> Ruling:
    found = facts["against_baselines"].get(name, {"value": None, "interval": None})
    asks = f"the 95 % interval of the difference to {_BASELINES[name]} lies above 0"
    figure = f"better by {number(found['value'])}{interval_text(found['interval'])}"
    if found["interval"] is None:
        return Ruling(name, NOT_JUDGED, f"{figure}; there is no interval", asks)
    return Ruling(name, PASSED if found["interval"][0] > 0 else FAILED, figure, asks)


def _recalls(facts: Mapping[str, Any], section: GateSection) -> Iterator[Ruling]:
    rows = {row["class"]: row for row in facts["per_class"]}
    floors = {name: (least, "gate.recall") for name, least in section.recall.items()}
    if section.recall_floor is not None:
        # A class that is rare in the test set is no reason to leave all others unjudged.
        common = (name for name, row in rows.items() if row["n"] >= section.cases)
        floors = {name: (section.recall_floor, "gate.recall_floor") for name in common} | floors
    for name, (least, key) in floors.items():
        rule, asks = f"recall of {name}", f"at least {least:g} ({key})"
        if name not in rows:
            known = ", ".join(rows)
            yield Ruling(rule, FAILED, f"there is no class {name}; there are {known}", asks)
        elif rows[name]["n"] < section.cases:
            yield Ruling(rule, NOT_JUDGED, f"{rows[name]['n']} test images, fewer than gate.cases", asks)
        else:
            value = rows[name]["recall"]
            met = value is not None and value >= least
            yield Ruling(rule, PASSED if met else FAILED, f"{number(value)} on {rows[name]['n']} test images", asks)


def _worst_groups(facts: Mapping[str, Any], most: float) -> Iterator[Ruling]:
    """The worst group of each attribute; not judged where a group is large enough, but its figure undefined."""
    found: Mapping[str, Any] = facts.get("groups") or {"whole": None, "worst": {}, "by": {}}
    asks = f"at most {most:g} worse than on all (gate.worst_group)"
    whole, sign = found["whole"], -1.0 if facts["metric"] in LOWER_IS_BETTER else 1.0
    if not found["worst"]:
        few = f"no two groups of one attribute have {FEWEST} test images and a figure"
        yield Ruling("worst group", NOT_JUDGED, few, asks)
    for attribute, row in found["worst"].items():
        rule = f"worst {attribute}"
        figure = f"{attribute} {row['group']}: {number(row['value'])}, {number(whole)} on all"
        behind = None if whole is None or row["value"] is None else sign * (whole - row["value"])
        undefined = [
            str(each["group"])
            for each in found.get("by", {}).get(attribute, ())
            if each["value"] is None and each["images"] >= FEWEST and each["group"] != UNKNOWN
        ]
        if behind is not None and behind > most:
            yield Ruling(rule, FAILED, figure, asks)
        elif behind is None or undefined:
            where = f"; undefined where {attribute} is {', '.join(undefined)}" if undefined else ""
            yield Ruling(rule, NOT_JUDGED, f"{figure}{where}", asks)
        else:
            yield Ruling(rule, PASSED, figure, asks)


def _calibration(facts: Mapping[str, Any], most: float) -> Ruling:
    best = facts["best"]
    row = facts["arms"][best["arm"]]
    value = row["per_seed"][row["seeds"].index(best["seed"])].get("ece")
    met = value is not None and value <= most
    return Ruling("calibration", PASSED if met else FAILED, f"ECE {number(value)}", f"at most {most:g} (gate.ece)")

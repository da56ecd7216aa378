"""What a student is for, and what not, in sentences that follow from its corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESEARCH_USE = (
    "For research only. It is no medical device, it has no clearance of any authority, and it must not decide on the "
    "care of a patient."
)

_PICTURES = {
    "fundus": "colour photographs of the eye's fundus",
    "endoscopy": "frames of gastrointestinal endoscopy",
    "xray": "radiographs of the chest",
}
_OTHERS = {
    "fundus": "pictures of the outer eye, angiograms, OCT, wide-field photographs unless the corpus has them",
    "endoscopy": "capsule endoscopy, narrow-band or stained pictures unless the corpus has them, surgery",
    "xray": "computed tomography, radiographs of other parts of the body or of other projections than the corpus has",
}


def pictures_of(modality: str) -> str:
    """What a student looks at, in a few words."""
    return _PICTURES.get(modality, "images of the kind of its corpus")


def purpose(facts: Mapping[str, Any], modality: str) -> list[str]:
    """What it is for.

    Args:
        facts: of the report.
    """
    names = list(facts["classes"])
    listed = ", ".join(names)
    question = {
        "ordinal": f"grades them on a scale of {len(names)}: {listed}",
        "single": f"says which of {len(names)} classes each shows: {listed}",
        "multilabel": f"says of {len(names)} findings whether each is there: {listed}",
    }[facts["task"]]
    lines = [f"It looks at {pictures_of(modality)} and {question}."]
    first = facts.get("grades", {}).get("referable")
    if first is not None:
        lines.append(f"Grade {first} ({names[first]}) or worse counts as referable.")
    lines.append(
        f"It was made to study what a small network learns from {facts['corpus']}, and to be compared with others on "
        "the same test images."
    )
    return lines


def not_for(facts: Mapping[str, Any], modality: str) -> list[str]:
    """What it is not for."""
    lines = [RESEARCH_USE]
    others = _OTHERS.get(modality)
    lines.append(
        f"Not for other pictures than {pictures_of(modality)}" + (f": {others}." if others else ".") + " It gives an "
        "answer whatever it is shown."
    )
    lines.append(
        f"It knows no disease but these classes, and no patients, cameras or hospitals but those of {facts['corpus']}: "
        "elsewhere its figures do not hold until they have been measured there."
    )
    if facts["absent"]:
        lines.append(f"Nobody has measured it on {', '.join(facts['absent'])}: no test image shows that.")
    return lines


def limits(facts: Mapping[str, Any]) -> list[str]:
    """What lessens the weight of the figures."""
    lines = []
    if facts["phantom"]:
        lines.append("The images were drawn by code: the figures prove that the plumbing works, no more.")
    lines.append(
        f"The figures rest on {facts['images']['test']:,} test images of {facts['patients']:,} patients of one "
        "data set" + ("s' mixture." if facts.get("corpora") else ".")
    )
    if facts["leaks"]:
        lines.append(f"{facts['leaks']:,} test images show a patient, or are a file, that is also in training.")
    if facts["without_patient"]["unknown"]:
        lines.append(
            f"Of {facts['without_patient']['unknown']:,} images the patient is not known; each counts as one patient."
        )
    if facts["images"]["val"] == 0:
        lines.append("No validation image is labelled: nothing was calibrated, and the first seed was taken.")
    return lines

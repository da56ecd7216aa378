"""The few facts of a DICOM's header that may leave it."""

from __future__ import annotations

from tasks.corpora.attributes import age, day, eye, projection, sex
from tasks.preprocessing.dicomfile import open_dicom

_OPHTHALMIC = ("OP", "OPT", "OPM", "OPTBSV", "OPTENF")
_DATES = ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")


def attributes_of(data: bytes) -> dict[str, str]:
    """What of the header may stand in a catalog where it is known: eye, projection, age, sex, camera (maker), date."""
    with open_dicom(data, pixels=False) as dataset:

        def text(*names: str) -> str:
            return next((str(dataset.get(name)).strip() for name in names if dataset.get(name)), "")

        side = text("ImageLaterality", "Laterality") if text("Modality") in _OPHTHALMIC else ""
        found = {
            "eye": eye(side),
            "projection": projection(text("ViewPosition")),
            "age": age(text("PatientAge")),
            "sex": sex(text("PatientSex")),
            "camera": text("Manufacturer"),
            "date": day(text(*_DATES)),
        }
        return {name: value for name, value in found.items() if value}

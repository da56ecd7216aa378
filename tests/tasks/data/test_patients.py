"""What people are told where patients are not known."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tasks.data.catalog import MISSING, OK
from tasks.data.patients import images_without_patient, leakage_text


def test_stored_images_without_a_patient_are_counted() -> None:
    catalog = pa.table({"status": [OK, OK, MISSING, OK], "patient": ["ann", "", "", ""]})
    assert images_without_patient(catalog) == {"images": 3, "unknown": 2}


@pytest.mark.parametrize(
    ("unknown", "text"),
    [
        (0, None),
        (1200, "patient leakage cannot be checked for 1,200 of 3,000 images, whose patient is not known"),
        (
            3000,
            "patient leakage cannot be checked: no patient is known, and each image stands for a patient of its own",
        ),
    ],
)
def test_whether_leakage_can_be_checked_is_said(unknown: int, text: str | None) -> None:
    assert leakage_text({"images": 3000, "unknown": unknown}) == text

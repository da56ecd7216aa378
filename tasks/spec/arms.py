"""Arms: what the students of a run are compared by."""

from __future__ import annotations

TAUGHT = "taught"
"""The student that learns from labels and teachers."""

LABELS_ONLY = "labels_only"
"""The same student, for the same number of steps, on the labels alone."""

RANDOM_START = "random_start"
"""Name of an arm of `student.arms` with `weights: null`: what the report calls the start is measured against it."""

RESERVED = frozenset({TAUGHT, LABELS_ONLY, "teacher", "teachers", "phase", "majority", "thumbnails", "borders"})
"""Names in reports that no arm of `student.arms` may have."""

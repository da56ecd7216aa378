"""Arms: what the students of a run are compared by."""

TAUGHT = "taught"
"""The student that learns from labels and teachers."""

LABELS_ONLY = "labels_only"
"""The same student, for the same number of steps, on the labels alone."""

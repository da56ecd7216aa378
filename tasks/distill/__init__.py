"""Distil: one trainer for teachers (labels alone) and students (labels, soft labels or both)."""

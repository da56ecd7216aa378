"""The select stage: calibration and sample weights out of stored soft labels, and lists for annotators."""

from tasks.select.stage import STAGE, VERSION, select

__all__ = ["STAGE", "VERSION", "select"]

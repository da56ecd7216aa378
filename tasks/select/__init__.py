"""The select stage: calibration and sample weights out of stored soft labels, and lists for annotators."""

from tasks.select.calibrate import fit_temperature
from tasks.select.stage import STAGE, VERSION, WEIGHTS, read_weights, select

__all__ = ["STAGE", "VERSION", "WEIGHTS", "fit_temperature", "read_weights", "select"]

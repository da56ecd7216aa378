"""Drift: whether the images of a run, or those seen in service, are unlike those that the champion learned from."""

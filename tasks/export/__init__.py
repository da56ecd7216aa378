"""The stage export: the best student as files for other programs, compared and timed."""

"""Evaluate: students, teachers and baselines on the same images."""

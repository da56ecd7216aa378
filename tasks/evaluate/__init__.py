"""Evaluate: students beside teachers, beside labels alone, beside what can be had without medicine."""

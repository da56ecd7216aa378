"""Keeping a store: is everything as written, what is no longer needed, what is in it, make whole again."""

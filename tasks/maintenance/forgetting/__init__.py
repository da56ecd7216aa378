"""Erasing patients and images from a store, so that nothing of them is left and nothing of them comes back."""

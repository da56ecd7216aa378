"""Proposal of a spec for a folder of images (`stillroom init`)."""

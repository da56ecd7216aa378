"""The first hour: a spec for a folder, and what a run of a spec would do and cost. Neither starts anything."""

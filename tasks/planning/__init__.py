"""Plan of a run before it starts (`stillroom plan`)."""

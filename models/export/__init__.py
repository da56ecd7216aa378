"""Students as files for other programs: graphs, their int8 form, what they cost and how fast they are."""

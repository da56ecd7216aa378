"""A training set with fewer labels, for studies of scarce ones."""

"""Several ingested corpora as one training set."""

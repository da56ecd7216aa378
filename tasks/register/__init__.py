"""Register: the best student as a version in MLflow, with its lineage, and the alias it deserves."""

"""The gate: rules that a student must pass before it gets an alias."""

"""Training of teachers and students: objective, optimizer steps, schedules, checkpoints."""

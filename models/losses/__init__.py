"""Losses on labels and on teachers' logits. This file and `terms` import no torch: keys are computed without it."""

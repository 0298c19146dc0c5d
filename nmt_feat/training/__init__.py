"""Training: the loop, schedules, optimisers, checkpoints."""

"""Training: the loop, schedules, checkpoints, and a run from its settings to its result."""

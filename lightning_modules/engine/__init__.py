"""What every run rests on: the base objective, the trainer, checkpoints, resuming, loggers."""

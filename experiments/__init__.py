"""Runs of the benchmark: tasks, models, baselines, the training loop and its records."""

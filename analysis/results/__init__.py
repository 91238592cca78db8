"""Records as frames, and what they hold: groups, settings, methods, workloads, trials, costs."""

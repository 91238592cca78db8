"""Measurements of cost, as ratios to a peer in one process: `python -m experiments bench`."""

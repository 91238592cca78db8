"""Statistics of a comparison: pure functions of arrays; a result has its statistic, n and level.

Randomness is an argument, a numpy ``Generator``. An interval that cannot be had is ``None``, as
with one seed; nothing is guessed in its place.
"""

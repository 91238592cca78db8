"""The record of a comparison of two configurations: when it is looked at, and how it may end.

``runs/.versus/<comparison>/verdict.json``. Standard library only.
"""

LOOKS = (3, 5, 7, 10)
"""Seeds at each look, fixed before the first."""

BETTER, WORSE, WITHIN, UNDECIDED = "better", "worse", "within the margin", "undecided"

EXIT_CODES = {BETTER: 0, WORSE: 1, WITHIN: 1, UNDECIDED: 3}
"""Of the command, where it is not refused (2) or stopped (130)."""

FOLDER = ".versus"
FILE = "verdict.json"
SCHEMA = 1

"""The benchmark of sweeps: how commands are timed, what the table says of two builds, bad input."""

import sys
from pathlib import Path

import pytest

from experiments.bench import sweeps
from experiments.errors import UserError

TRAINING = "all methods: training and evaluation"
WHOLE = "all methods: wall"


def test_a_command_is_timed_with_its_children_and_to_its_line(tmp_path: Path) -> None:
    program = """
import subprocess, sys, time
print("something else")
subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
time.sleep(0.3)
print("digits adam")
time.sleep(0.3)
"""
    path = tmp_path / "program.py"
    path.write_text(program)
    asked = sweeps.ask(tmp_path, str(path), until=("nowhere", "digits ada"))
    assert asked.first_line is not None
    assert 0.3 < asked.first_line < asked.wall - 0.29
    alone = sweeps.ask(tmp_path, "-c", "import time; time.sleep(0.1)")
    assert asked.cpu > 2 * alone.cpu  # two interpreters, one of which adds
    assert alone.first_line is None


def test_a_command_that_fails_is_told_with_its_last_lines() -> None:
    with pytest.raises(UserError, match=r"print\('why'\); sys.exit\(3\) failed: why"):
        sweeps.ask(Path(sys.prefix), "-c", "import sys; print('why'); sys.exit(3)")


def test_both_builds_are_held_against_the_training_of_the_earlier_one() -> None:
    """Medians of three rounds: a whole sweep of 90 and 30 seconds, of which 20 were training."""
    rounds = [
        {
            "before": {WHOLE: 90.0 + by, TRAINING: 20.0, "smoke: wall": 100.0},
            "now": {WHOLE: 30.0 + by, TRAINING: 21.0, "smoke: wall": 15.0},
        }
        for by in (-1.0, 0.0, 30.0)
    ]
    rows = {row["measure"]: row for row in sweeps.table(rounds)}
    over = rows["all methods: wall over training before"]
    assert (over["before"], over["now"]) == (4.5, 1.5)
    assert rows["smoke: wall"]["ratio"] == 0.15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rounds=0"], r"Invalid rounds: 0\. Must be >= 1"),
        (["done=1"], r"Invalid done: 1\. Must be >= 2"),
        (["before=no-such-commit"], r"Invalid before: 'no-such-commit'\. fatal: invalid reference"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweeps.main(words)

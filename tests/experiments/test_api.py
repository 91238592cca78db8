"""``run``: one run from Python."""

from pathlib import Path

import numpy as np
import pytest

from experiments import api
from experiments.config import compose
from experiments.errors import UserError
from experiments.records.outcome import EXIT_CODES

SHORT = {
    "task": "digits",
    "optimizer": "adam",
    "optimizer.lr": 0.003,
    "optimizer.betas": (0.8, 0.99),
    "budget": "steps",
    "budget.steps": np.int64(4),
    "tracking": "none",
    "threads": 1,
}
TYPED = [
    *("task=digits", "optimizer=adam", "optimizer.lr=0.003", "optimizer.betas=[0.8,0.99]"),
    *("budget=steps", "budget.steps=4"),
]


def test_a_run_is_the_one_of_the_command_line_and_is_trained_once(tmp_path: Path, capfd) -> None:
    folder = tmp_path / "a folder"  # which the command line has in quotes
    config = {**SHORT, "runs_dir": folder, "seed": np.int64(1)}

    done = api.run(config)

    assert done.status == "done"
    assert done.run_id == compose.composed([*TYPED, "seed=1"]).run_id
    assert done.path == folder / done.run_id
    assert done.identity["hyperparameters"]["betas"] == [0.8, 0.99]
    assert done.rows[-1]["step"] == 4
    before = (done.path / "status.json").stat()
    assert api.run(config) == done
    assert (done.path / "status.json").stat() == before
    assert "sweep of 1: 1 done (1 from before)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"optimizer": "adem"}, "Unknown optimizer: 'adem'. Did you mean: adam"),
        ({"optimizer.lr": "high"}, r"Invalid optimizer\.lr: 'high'\. Must be a number"),
        ({"optimizer": "adam,sgd"}, "Invalid optimizer: 'adam,sgd'. Several values are a sweep"),
        ({"experiment": "table2_cifar10"}, "It is a sweep"),
        ({"no.such.key": None}, r"Unknown key: 'no\.such\.key'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_raised_before_anything_is_written(tmp_path: Path, more, line) -> None:
    with pytest.raises(UserError, match=line):
        api.run({**SHORT, "runs_dir": tmp_path / "runs", **more})
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_told_to_stop_stops_the_loop_around_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(api.launching, "launch", lambda overrides: EXIT_CODES["interrupted"])
    with pytest.raises(KeyboardInterrupt):
        api.run({**SHORT, "runs_dir": tmp_path})


def test_a_run_that_was_refused_a_record_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(api.launching, "launch", lambda overrides: 1)
    with pytest.raises(UserError, match="digits adam seed 0 has no record; the lines above say"):
        api.run({**SHORT, "runs_dir": tmp_path})

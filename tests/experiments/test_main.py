"""One command line: a verb, and what its module takes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as main
from experiments.errors import UserError
from tests.support import served

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_a_command(verb: str) -> None:
    assert callable(importlib.import_module(main.VERBS[verb]).main)


def test_help_is_the_text_of_the_command_line_by_line(capsys) -> None:
    assert main.main(["plan", "--help"]) == 0
    module = importlib.import_module(main.VERBS["plan"])
    assert capsys.readouterr().out == str(module.__doc__)


@pytest.mark.parametrize(
    "verb", sorted({*main.VERBS} - {"train", "plan", "publish", "steps", "study", "tune", "versus"})
)
def test_an_unknown_key_is_told_with_the_nearest(verb: str) -> None:
    keys = {"data": "data_dirr=x", "golden": "outt=x", "recipes": "fil=x", "bench": "quik=true"}
    keys["bench_sweep"] = "befor=x"
    typed = keys.get(verb, "runs_dirr=x")
    with pytest.raises(UserError) as refused:
        main.main([verb, *(["part=adafisher"] if verb == "bench" else []), typed])
    key = typed.partition("=")[0]
    assert str(refused.value).startswith(f"Unknown key: {key!r}. Did you mean: {key[:3]}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: Missing command. Must be one of: archive, bench, bench_sweep, calibration, "),
        (["statu"], "error: Unknown command: 'statu'. Did you mean: status"),
        (
            ["status", "runs"],
            "error: Invalid argument: 'runs'. Must be key=value, of: runs_dir, json.",
        ),
        (["status", "runs_dir="], "error: Missing value: runs_dir. Give it as runs_dir=<value>."),
        (["status", 'runs_dir=""'], "error: Missing value: runs_dir."),
        (["data", "task="], "error: Missing value: task."),
        (["calibration", "out="], "error: Missing value: out."),
        (["train", "--experimental-rerun", "x"], "error: --experimental-rerun is none of ours: "),
        (["replay"], "error: Missing value: run. Give it as run=<value>."),
        (["tune", "optimizer=adam"], "error: Missing value: task."),
        (
            ["tune", "optimizer=adam", "task=digits", "trials=many"],
            "error: Invalid trials: 'many'. ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(words: list[str], line: str) -> None:
    command = [sys.executable, "-m", "experiments", *words]
    done = served.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (printed,) = done.stderr.splitlines()
    assert printed.startswith(line)


def test_a_verb_hands_its_arguments_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "status", f"runs_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path) in done.stdout

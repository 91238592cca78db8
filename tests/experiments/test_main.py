"""One command line: a verb, and what its module takes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_a_command(verb: str) -> None:
    assert callable(importlib.import_module(main.VERBS[verb]).main)


@pytest.mark.parametrize("words", [[], ["sweeep"]])
def test_an_unknown_verb_is_one_line(words: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", *words])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: Unknown command: {''.join(words)!r}. Must be one of: ")


def test_a_verb_hands_its_arguments_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "status", f"runs_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path) in done.stdout

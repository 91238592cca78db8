"""Each script of examples/, run as its docstring says, from a folder of its own."""

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = {
    "python": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run"],
}
WARNING = re.compile(r"^.*Warning: .*$", re.MULTILINE)


def said(script: Path, verb: str) -> list[str]:
    """What follows a verb in the indented lines of the script's docstring."""
    docstring = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    return re.findall(rf"^    {verb} (.*)$", docstring, re.MULTILINE)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_does_as_it_says(script: Path, tmp_path: Path, loopback: None) -> None:
    lacking = [name for name in said(script, "pip install") if find_spec(name) is None]
    if lacking:
        pytest.skip(f"{lacking[0]} is not installed")
    ((program, typed),) = ((name, line) for name in PROGRAMS for line in said(script, name))
    words = shlex.split(typed)
    assert words[-1] == f"examples/{script.name}"
    result = run([*PROGRAMS[program], *words[:-1], str(script)], tmp_path)

    assert result.returncode == 0, result.stderr
    assert WARNING.findall(result.stderr) == []
    losses = re.findall(r"loss: first ([\d.]+), last ([\d.]+)", result.stdout)
    assert losses, result.stdout
    for first, last in losses:
        assert float(last) < 0.7 * float(first)
    assert "False" not in result.stdout


@pytest.mark.parametrize(
    ("script", "library"),
    [(script, name) for script in EXAMPLES for name in said(script, "pip install")],
    ids=lambda value: getattr(value, "stem", value),
)
def test_a_library_that_is_missing_is_one_line(script: Path, library: str, tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.modules[{library!r}] = None; runpy.run_path(sys.argv[1])"
    result = run([sys.executable, "-c", code, str(script)], tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"error: this example needs {library}: pip install {library}\n"


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_needs_nothing_of_the_suite(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    assert not re.search(
        r"^ *(?:from|import) (?:experiments|analysis|tests|examples)\b", text, re.M
    )


def test_the_script_of_the_guide_trains_reads_and_draws(tmp_path: Path) -> None:
    page = (ROOT / "docs/guide.md").read_text("utf-8").partition("## From Python\n")[2]
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    result = run([sys.executable, "-c", script], tmp_path)
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\d +(adam|sgd) +0 +done +\d+\.\d+ ", result.stdout, re.MULTILINE)
    assert rows == ["adam", "sgd"]
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF-")
    assert len(list((tmp_path / "runs").glob("*/status.json"))) == 2

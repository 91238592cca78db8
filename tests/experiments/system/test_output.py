"""What leaves the suite: no character that a terminal obeys, and no stream that ends a run."""

import ast
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from experiments.run.display import Display
from experiments.system import log, output
from tests.support.commands import exit_code

ROOT = Path(__file__).parents[3]
TURNS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
HOSTILE = "\x1b[31m\x1b]8;;http://evil\x1b\\\x07\x9b2J\u202e\u2066\u200f\u200b\ufeff\ud800\r\x7f"
HARMLESS = "5 µs ± 0.1, naïve café, β₂ → 日本語 \U0001f600 Ω\u0301"


def is_obeyed(character: str) -> bool:
    """By Unicode's own tables: it is no letter, it turns the direction, or it is half of one."""
    category, turns = unicodedata.category(character), unicodedata.bidirectional(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or turns in TURNS


def test_what_is_obeyed_is_escaped_and_what_is_seen_is_kept():
    # The planes of letters and signs, and that of tags; what is between them is not assigned.
    for character in map(chr, (*range(0x20000), *range(0xE0000, 0xE1000))):
        shown = output.plain_line(character)
        if is_obeyed(character):
            assert shown.isascii(), hex(ord(character))
            assert shown.isprintable(), hex(ord(character))
        elif unicodedata.category(character)[0] in "LMNPS" or character == " ":
            assert shown == character, hex(ord(character))


@pytest.mark.parametrize("mark", "\u200e\u200f\u061c\u200b\u2060\ufeff\xad\u206a\U000e0041")
def test_marks_that_show_nothing_are_escaped(mark):
    assert unicodedata.category(mark) == "Cf"
    assert output.plain(mark).isprintable()
    assert output.plain(mark).isascii()


def test_a_text_keeps_its_lines_and_a_line_stays_one():
    assert output.plain("a\tb\nc\r\n") == "a\tb\nc\\r\n"
    assert output.plain_line("a\tb\nc") == "a\\tb\\nc"
    assert output.plain(HARMLESS) == output.plain_line(HARMLESS) == HARMLESS


def test_every_text_of_a_record_is_reached():
    value = {"a\x1b": ["\x9b", {"b": ("\u202e", 1, None, True)}], "c": 0.5}
    cleaned = {"a\\x1b": ["\\x9b", {"b": ("\\u202e", 1, None, True)}], "c": 0.5}
    assert output.plain_values(value) == cleaned


def test_lines_remarks_and_displays_show_none_of_it(capsys):
    output.say(HOSTILE, f"{HOSTILE}\nerror: forged")
    output.say(HOSTILE, error=True)
    Display(f"run 1/2 {HOSTILE}\nforged").line(f"failed ({HOSTILE})")
    record = log.logging.LogRecord("experiments", 30, "", 0, "remark %s", (HOSTILE,), None)
    print(log._Formatter("%(message)s").format(record))
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (3, 2)
    assert not any(is_obeyed(character) for character in (out + err).replace("\n", ""))
    assert out.count(r"\x1b]8;;http://evil\x1b\\x07\x9b2J\u202e\u2066") == 3


def test_an_error_shows_none_of_it(capsys):
    assert exit_code("status", f"runs_dir_{HOSTILE}=x") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert not any(is_obeyed(character) for character in err.rstrip("\n"))


# What prints something else than lines: answers of a process to another, a script for a shell, and
# the benchmarks, whose tables have numbers and names of their own.
PRINTERS = {
    "analysis/report/bench.py",
    "analysis/statistics/simulation.py",
    "experiments/system/output.py",
    "experiments/timing/calibration_child.py",
    "experiments/train.py",
}


def test_there_is_no_other_way_out():
    printers = set()
    for package in ("analysis", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if type(n) is ast.Call)
            if any(ast.unparse(call.func) == "print" for call in calls):
                printers.add(path.relative_to(ROOT).as_posix())
    assert {name for name in printers if not name.startswith("experiments/bench/")} == PRINTERS


def ended(code: str, redirection: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a shell that redirects its streams."""
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code],
        env=os.environ | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


PREPARED = "import os, sys; from experiments.system import output; output.prepare();"


def test_with_closed_streams_no_file_is_taken_for_one_of_them(tmp_path):
    code = f"{PREPARED} f = open({str(tmp_path / 'record')!r}, 'w'); assert f.fileno() > 2;"
    code += " print('out'); print('err', file=sys.stderr); output.say('x', error=True); f.close();"
    code += " os.system('echo from a child >&2'); assert sys.stdin is None or True"
    assert ended(code, ">&- 2>&- <&-").returncode == 0
    assert (tmp_path / "record").read_text() == ""


@pytest.fixture
def full() -> str:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    return "/dev/full"


def test_a_full_disk_behind_standard_error_ends_nothing(full):
    code = f"{PREPARED} print('lost', file=sys.stderr, flush=True); output.say('lost', error=True);"
    told = ended(f"{code} output.say('told')", f"2>{full}")
    assert (told.returncode, told.stdout) == (0, "told\n")


def test_a_full_disk_behind_standard_output_is_one_line(full, tmp_path):
    code = "import sys; sys.argv[1:] = ['status', 'runs_dir=nowhere'];"
    code += " import runpy; runpy.run_module('experiments', run_name='__main__')"
    told = ended(code, f">{full}")
    assert told.returncode == 2
    line = "error: cannot read or write standard output: No space left on device."
    assert told.stderr == f"{line} What is already recorded is kept.\n"


def test_a_reader_that_leaves_is_no_error():
    code = f"{PREPARED} [output.say('y' * 1000) for _ in range(1000)]"
    told = ended(code, "| head -c 1")
    assert (told.returncode, told.stdout, told.stderr) == (0, "y", "")


def test_a_notebooks_backend_is_not_asked_for():
    code = f"{PREPARED} import matplotlib; print(matplotlib.get_backend())"
    told = ended(code, MPLBACKEND="module://nowhere.backend_inline")
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_a_run_ends_well_without_home_and_in_a_notebooks_shell(tmp_path):
    words = "tracking=wandb task=digits optimizer=sgd budget=steps budget.steps=2 threads=1"
    command = [sys.executable, "-m", "experiments.train", *words.split(), f"runs_dir={tmp_path}"]
    environment = {"PATH": os.environ["PATH"], "MPLBACKEND": "module://nowhere.backend_inline"}
    told = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    offline, done = told.stderr.splitlines()
    assert offline.startswith("W&B: offline (")
    assert done.startswith("digits sgd seed 0: done")

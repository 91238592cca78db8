"""What is seen of a sweep: on a terminal of any width, elsewhere, and what of it is estimated."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.records.outcome import Outcome
from experiments.sweep import live
from experiments.sweep.shared_folder import Ends, Growing, SweepFolder
from tests.support.sweeps import ROOT, command

SHORT = ["optimizer=sgd", "seed=0,1", "budget.epochs=4", "threads=1"]
LINE = re.compile(
    r"run \d/2 digits sgd seed \d: done, final test accuracy \d+\.\d\d %, "
    r"\d+\.\d s of training, run [0-9a-f]{12}"
)


@pytest.fixture
def shared(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path / "runs" / ".sweeps" / "x")
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def board(shared: SweepFolder, make_config: Any) -> live.Board:
    configs = [make_config(f"optimizer={name}") for name in ("adam", "adam", "sgd", "sgd")]
    return live.Board(shared, configs, 1)


def note(shared: SweepFolder, number: int, **facts: object) -> None:
    shared.request(number, "{}")
    if facts:
        shared.progress_file(number).write_text(json.dumps(facts))


def drawn(board: live.Board, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(board.picture(width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_picture_counts_ends_and_shows_what_is_under_way(shared, board):
    shared.note(0, Outcome("a" * 12, "digits adam seed 0", "done"))
    shared.note(1, Outcome("b" * 12, "digits adam seed 1", "failed", "why"))
    note(shared, 2, share=0.5, facts="epoch 1.0/2  loss 0.1", seconds_left=30.0)
    whole, run = drawn(board, 100)
    assert whole.startswith("sweep: 2 of 4")
    assert "1 done, 1 failed" in whole
    assert whole.endswith("60 s left")  # 30 of this run, and of its like as much as this one takes
    assert run.startswith("digits sgd seed 0")
    assert run.endswith("50 %  epoch 1.0/2  loss 0.1")


def test_what_is_not_known_yet_is_no_estimate(shared, board):
    note(shared, 0)
    whole, run = drawn(board, 100)
    assert "left" not in whole
    assert run.endswith("starting")


@pytest.mark.parametrize("content", ["", '{"share": 0.', "[]", '"text"'])
def test_half_a_note_is_none(shared, board, content):
    note(shared, 0)
    shared.progress_file(0).write_text(content)
    assert drawn(board, 100)[1].endswith("starting")


def test_a_narrow_terminal_still_has_the_numbers(shared, board):
    note(shared, 0, share=0.25, facts="loss 0.1234  validation accuracy 97.50 %  epoch 1.0/4")
    run = drawn(board, 40)[1]
    assert run.startswith("digits adam ")
    assert " 25 %  loss 0.1234" in run
    assert "loss 0.1234  validation accuracy 97.50 %" in drawn(board, 100)[1]


def test_a_ledger_is_read_once_however_often_it_is_asked(shared, monkeypatch):
    """Of thousands of runs, so that to look at a sweep takes nothing from it."""
    for number in range(50):
        shared.note(number, Outcome(f"{number:012x}", "it", "done"))
    ends, parsed = Ends(shared), []
    monkeypatch.setattr(json, "loads", lambda line, of=json.loads: parsed.append(line) or of(line))
    assert set(ends.read()) == set(range(50))
    shared.note(7, Outcome("7" * 12, "it", "failed"))
    parsed.clear()
    found = ends.read() | ends.read()
    assert len(parsed) == 2  # the line, and the outcome in it
    assert found == shared.outcomes()
    assert found[7].status == "failed"


def test_a_line_comes_when_it_is_whole(tmp_path):
    path = tmp_path / "lines"
    growing = Growing(path)
    assert growing.lines() == []
    path.write_bytes(b"one\ntw")
    assert growing.lines() == [b"one"]
    path.write_bytes(b"one\ntwo\nthree\n")
    assert growing.lines() == [b"two", b"three"]
    assert growing.lines() == []


def test_a_request_to_stop_is_part_of_the_picture(shared, board):
    note(shared, 0, share=0.5, facts="loss 1")
    shared.stop("SIGINT")
    assert drawn(board, 100)[1].split(maxsplit=1) == [
        "stopping",
        "the runs save their state; Ctrl-C again does not wait",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_every_run_stays_one_line_at_any_width(shared, board, width):
    note(shared, 0, share=2.0, facts="epoch " + "9" * 300, seconds_left=1e12)
    note(shared, 1, share=None, facts="\x1b[2J\n")
    lines = drawn(board, width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert "\x1b[2J" not in "".join(lines)


def test_of_each_method_the_rest_is_what_its_runs_took(shared, make_config, monkeypatch):
    """Two of one method are to come that took 10 s, and one of another that took 4, two at once."""
    names = ("adam", "sgd", "adam", "adam", "sgd")
    board = live.Board(shared, [make_config(f"optimizer={name}") for name in names], 2)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in (0, 1):
        note(shared, number)
    drawn(board, 100)
    now = 4.0
    shared.note(1, Outcome("b" * 12, "it", "done"))
    drawn(board, 100)
    now = 10.0
    shared.note(0, Outcome("a" * 12, "it", "done"))
    assert drawn(board, 100)[0].endswith("12 s left")


def test_lines_of_the_runs_and_ends_that_nothing_else_tells(shared, board):
    lines = shared.path / live.LINES_FILE
    lines.write_text('"one"\n"two"\n"hal')
    shared.note(
        0, Outcome("a" * 12, "digits adam seed 0", "done", result="final test accuracy 1 %")
    )
    shared.note(1, Outcome("b" * 12, "digits adam seed 1", "failed", "why"))
    shared.note(2, Outcome("c" * 12, "digits sgd seed 0", "done", skipped=True))
    assert board.lines(prints=True) == ["one", "two"]
    with lines.open("a") as handle:
        handle.write('f"\n')
    folder = shared.path.parents[1]
    assert board.lines(prints=False) == [
        "half",
        f"run 1/4 digits adam seed 0: done, final test accuracy 1 %, run {'a' * 12}",
        f"run 2/4 digits adam seed 1: failed (why), run {'b' * 12}, see {folder / ('b' * 12)}",
    ]
    assert board.lines(prints=False) == []


def on_a_terminal(
    words: list[str], *, stop_at: str | None = None, **variables: str
) -> tuple[int, str]:
    """Run a command with a terminal as its standard error; returns its code and what was shown.

    Args:
        words: The command.
        stop_at: What its processes are sent Ctrl-C at, once it is shown.
        variables: Of its environment.
    """
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "90"} | variables
    process = subprocess.Popen(words, cwd=ROOT, stderr=theirs, env=environment, process_group=0)
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                if not (data := os.read(ours, 65536)):
                    return
            except OSError:  # the other end is closed
                return
            shown.append(data)
            if stop_at is not None and stop_at in b"".join(shown).decode(errors="replace"):
                stop.set()

    stop = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    if stop_at is not None:
        assert stop.wait(timeout=300)
        os.killpg(process.pid, signal.SIGINT)
    code = process.wait(timeout=300)
    reader.join(timeout=10)
    os.close(ours)
    return code, b"".join(shown).decode()


@pytest.mark.skipif(
    sys.platform != "linux", reason="the end of a pseudo-terminal is read as on Linux"
)
def test_on_a_terminal_one_display_shows_the_sweep_and_leaves_its_lines(tmp_path):
    # Long enough that a run is looked at under way on a fast machine too.
    code, shown = on_a_terminal(command(tmp_path, *SHORT, "budget.epochs=20"))
    assert code == 0, shown
    assert shown.index("digits sgd seed 0") < shown.index("sweep: 0 of 2")  # while it is checked
    assert "loss " in shown  # of what is told of a run the first, and so the last to be cut
    assert len(set(LINE.findall(shown))) == 2
    assert shown.endswith("sweep of 2: 2 done (0 from before)\r\n")
    # The cursor was hidden, and is there again.
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > 0


@pytest.mark.skipif(
    sys.platform != "linux", reason="the end of a pseudo-terminal is read as on Linux"
)
def test_ctrl_c_gives_the_cursor_back_and_a_last_line(tmp_path):
    code, shown = on_a_terminal(
        command(tmp_path, *SHORT, "budget.epochs=400"), stop_at="validation accuracy"
    )
    assert code == 130, shown
    assert "Traceback" not in shown
    assert "sweep of 2: 1 interrupted, 1 not started (0 from before)" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > 0


@pytest.mark.skipif(
    sys.platform != "linux", reason="the end of a pseudo-terminal is read as on Linux"
)
def test_a_terminal_that_obeys_nothing_gets_plain_lines(tmp_path):
    code, shown = on_a_terminal(command(tmp_path, *SHORT), TERM="dumb")
    assert code == 0, shown
    assert "\x1b" not in shown
    assert len(set(LINE.findall(shown))) == 2


@pytest.mark.parametrize("launcher", ["local", "joblib", "submitit_local"])
def test_elsewhere_a_line_a_run_ends_with_metric_seconds_and_id(tmp_path, launcher):
    more = [] if launcher == "local" else ["jobs=2"]
    done = subprocess.run(
        command(tmp_path, *SHORT, f"launcher={launcher}", *more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("run ")]
    ends = [line for line in told if ": done" in line]
    assert len(ends) == 2
    assert all(LINE.fullmatch(line) for line in ends), ends
    assert "\x1b" not in done.stderr

"""What a sweep costs beside its training, here and in an earlier build: verb `bench_sweep`.

The build of ``before=COMMIT`` lies in a worktree; what it is asked and what this one is asked take
turns, ``rounds=N`` times, and the median counts. ``done=N`` is the size of a sweep that has nothing
left to do. ``out=FOLDER`` gets ``bench/sweep.json``. Times of a machine that others use are no use.
"""

import contextlib
import json
import os
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.bench.builds import ROOT, worktree
from experiments.config import arguments, compose
from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.system.output import say

SHORT = ("task=digits", "budget=steps", "budget.steps=6")
_OF_A_RUN = ("run 1/", "sweep: 0 of")  # the second: of a display of the whole sweep
_FEWER_BEFORE = 30  # an earlier build takes a second and more for each run that is done

Numbers = dict[str, float]


@dataclass(frozen=True)
class SweepBenchOptions:
    """What is measured.

    Attributes:
        before: The commit that this build is compared with.
        rounds: How often each is measured.
        done: Runs of the sweep that has nothing left to do.
        out: Folder of ``bench/``, which gets the numbers.
    """

    before: str = "HEAD"
    rounds: int = 1
    done: int = 3000
    out: Path = Path("out")

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("done", 2)):
            if getattr(self, name) < least:
                raise UserError(f"Invalid {name}: {getattr(self, name)}. Must be >= {least}.")


@dataclass(frozen=True)
class Asked:
    """How a command went: seconds of the wall, of the processor with all children, to a line."""

    wall: float
    cpu: float
    first_line: float | None


def ask(tree: Path, *words: str, until: Sequence[str] = ()) -> Asked:
    """Run a command of a build to its end.

    Args:
        tree: The checkout.
        words: Of Python: ``-m``, a module, what it takes.
        until: What the first line that is timed has; one of them.

    Raises:
        UserError: If it fails.
    """
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"TERM": "xterm", "COLUMNS": "100"}
    ours, theirs = pty.openpty()  # what a person sees, and when
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=tree, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    told, first = b"", None
    # What reads a terminal whose other end is closed raises.
    with open(ours, "rb", buffering=0) as shown, contextlib.suppress(OSError):
        while data := shown.read(65536):
            told += data
            if first is None and any(text.encode() in told for text in until):
                first = time.monotonic() - started
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = told.decode(errors="replace").strip()[-300:]
        raise UserError(f"{tree}: {' '.join(words)} failed: {last}")
    return Asked(wall, usage.ru_utime + usage.ru_stime, first)


def train(tree: Path, runs: Path, *words: str, until: Sequence[str] = ()) -> Asked:
    """Sweep with a build, into a folder."""
    return ask(tree, "-m", "experiments.train", "-m", *words, f"runs_dir={runs}", until=until)


def trained(runs: Path) -> tuple[float, int]:
    """Sum up what the runs of a folder took to train and to evaluate, and count them."""
    found, _ = load_runs(runs)
    keys = ("train_seconds", "evaluation_seconds")
    return sum(float(run.progress.get(key) or 0) for run in found for key in keys), len(found)


def measure(tree: Path, folder: Path, methods: str, *, done: int) -> Numbers:
    """Measure one build once.

    Args:
        tree: Its checkout.
        folder: Where it may write.
        methods: What both builds have, commas between.
        done: Runs of the sweep that has nothing left to do.
    """
    found: Numbers = {}
    every = f"optimizer={methods}"
    whole = train(tree, folder / "all", every, "task=digits", "seed=0", until=_OF_A_RUN)
    found["all methods: wall"] = whole.wall
    found["all methods: first line of a run"] = whole.first_line or whole.wall
    found["all methods: training and evaluation"], count = trained(folder / "all")
    found["a further short run: cpu"] = _further(tree, folder)
    short = (every, *SHORT, "seed=0")
    found["a run of all methods, short: cpu"] = train(tree, folder / "short", *short).cpu / count
    both = (every, "task=digits,tinyshakespeare", "seed=0", "budget=steps")
    smoke = train(tree, folder / "smoke", *both, "budget.steps=2", "tracking=none")
    found |= {"smoke: wall": smoke.wall, "smoke: cpu": smoke.cpu}
    six = ("optimizer=adafisher,adam", *SHORT, "seed=0,1,2", "tracking=none")
    train(tree, folder / "six", *six)
    report = ("-m", "analysis.report", "--runs", f"{folder / 'six'}", "--out", f"{folder / 'out'}")
    found["report of six, first: cpu"] = ask(tree, *report).cpu
    found["report of six, unchanged: cpu"] = ask(tree, *report).cpu
    found["a run that is done: ms"] = _done(tree, folder, done)
    return found


def _further(tree: Path, folder: Path) -> float:
    """Tell what the fifth to the twelfth run of a sweep of short runs cost."""
    few, many = (
        train(tree, folder / f"further-{count}", "optimizer=adam", *SHORT, f"seed=range(0,{count})")
        for count in (4, 12)
    )
    return (many.cpu - few.cpu) / 8


def _done(tree: Path, folder: Path, count: int) -> float:
    """Tell what a run that is done costs, in milliseconds: copies of one, under their own seeds."""
    runs = folder / "done"
    words = ("optimizer=adam", *SHORT, "tracking=none", "threads=1")
    train(tree, runs, *words, "seed=0")
    config = compose.composed([*words, "seed=0", f"runs_dir={runs}"])
    if not (runs / config.run_id).exists():
        raise UserError(f"{tree} names the run otherwise than this build. Take a later before=.")
    status = json.loads((runs / config.run_id / "status.json").read_text(encoding="utf-8"))
    for seed in range(1, count):
        run_id = config.having(seed=seed).run_id
        shutil.copytree(runs / config.run_id, runs / run_id)
        own = status | {"run_id": run_id, "identity": status["identity"] | {"seed": seed}}
        (runs / run_id / "status.json").write_text(json.dumps(own), encoding="utf-8")
    alone = train(tree, runs, *words, "seed=0").wall
    return 1000 * (train(tree, runs, *words, f"seed=range(0,{count})").wall - alone) / (count - 1)


def table(found: Sequence[dict[str, Numbers]]) -> list[dict[str, Any]]:
    """Make the rows: medians of both builds, and the ratio or the value that is aimed at."""
    old, new = (
        {key: statistics.median(one[build][key] for one in found) for key in found[0][build]}
        for build in ("before", "now")
    )
    training = old["all methods: training and evaluation"]
    whole = "all methods: wall"
    rows = [
        _row("all methods: wall over training before", old[whole] / training, new[whole] / training)
    ]
    return rows + [_row(key, old[key], new[key]) for key in old]


def _row(name: str, before: float, now: float) -> dict[str, Any]:
    return {"measure": name, "before": before, "now": now, "ratio": now / before}


def main(words: Sequence[str]) -> int:
    """Measure, print and write; returns the exit code."""
    options, _ = arguments.parse(words, SweepBenchOptions)
    found: list[dict[str, Numbers]] = []
    with worktree(options.before) as before, tempfile.TemporaryDirectory() as folder:
        methods = ",".join(sorted(path.stem for path in before.glob("conf/optimizer/*.yaml")))
        for number in range(options.rounds):
            sizes = {"before": max(2, options.done // _FEWER_BEFORE), "now": options.done}
            trees = {"before": before, "now": ROOT}
            found.append(
                {
                    build: measure(
                        tree, Path(folder) / f"{number}-{build}", methods, done=sizes[build]
                    )
                    for build, tree in trees.items()
                }
            )
            say(f"round {number + 1} of {options.rounds}")
    rows = table(found)
    for row in rows:
        values = "  ".join(f"{row[key]:8.2f}" for key in ("before", "now", "ratio"))
        say(f"{row['measure']:42s}  {values}")
    _write(options, rows, found)
    return 0


def _write(options: SweepBenchOptions, rows: Sequence[Any], found: Sequence[Any]) -> None:
    import torch

    from experiments.engine.machine import describe_machine

    path = options.out / "bench" / "sweep.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = describe_machine(torch.device("cpu")) | {"load": os.getloadavg()}
    content = {"environment": environment, "before": options.before, "rows": rows, "rounds": found}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(f"written: {path}")

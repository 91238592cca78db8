"""Run what needs a GPU, and write what came of it: ``make gpu-check``.

Runs the tests marked `gpu`, then the benchmarks, within a budget of seconds, and writes one JSON
after each result. It needs a checkout, Python 3.11 to 3.13, torch and pytest, and no network: a
module of tests or a benchmark that lacks more is left out, with the reason. What is lacking may lie
in any folder on PYTHONPATH. Tests run in a process of their own, and in a new one after a test that
hangs, ends the process or breaks its context on the device.

Exits 0 if no test failed and all were reached, 1 if not, 2 if it could not begin.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}. Must be 3.11 to 3.13.")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.report.options import OneLineParser
from experiments.records.store import write_atomic
from experiments.system.output import say

ROOT = Path(__file__).resolve().parents[1]
CHILD = ROOT / "tests" / "support" / "gpu_child.py"
SECONDS = 480.0
TEST_SECONDS = 120.0  # a test that takes longer hangs; the first ones compile
BENCH_SECONDS = 180.0  # left to the benchmarks by the tests
BENCHES = (  # part, model and what it needs; the most telling first, as the time may be spent
    ("adafisher", "gpt_char", None),
    ("adafisher", "resnet18", "torchvision"),
    ("adafisher", "gpt1_mini", None),
    ("adafisher", "vit_s16", "timm"),
    ("methods", "resnet18", "torchvision"),
    ("methods", "gpt_char", "tokenizers"),
)
PROBE = """
import json, torch
from experiments.engine.machine import describe_machine
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
print(json.dumps(describe_machine(device)))
"""
TIME_SPENT = "the time was spent"
LONGEST = 3000  # letters that are kept of an output: its end

Facts = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    """Check; returns the exit code."""
    began = time.monotonic()
    options = parser().parse_args(words)
    lacking = [name for name in ("torch", "pytest") if find_spec(name) is None]
    if lacking:
        return refused(f"{sys.executable} lacks {' and '.join(lacking)}. Name another: PYTHON=")
    code, text = ask("-c", PROBE)
    if code != 0:
        return refused(f"torch cannot be used: {last_line(text) or 'no answer'}")
    environment = json.loads(last_line(text))
    if environment["gpu"] is None and not options.collect_only:
        version = environment["packages"]["torch"]
        return refused(f"torch {version} sees no CUDA device here; --collect-only needs none.")
    path = options.out / "bench" / ("gpu_collected.json" if options.collect_only else "gpu.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    record = Record(path, environment, options.seconds, began)
    code, text = ask("-m", "experiments", "bench", "--help")
    lacks = (last_line(text) or "no answer") if code != 0 else None
    with tempfile.TemporaryDirectory() as folder:
        run = TestRun(gpu_files(ROOT), Path(folder), record, collect_only=options.collect_only)
        run.run(until=options.seconds - (0 if lacks else min(BENCH_SECONDS, options.seconds / 2)))
        for part, model, needs in BENCHES:
            is_there = needs is None or find_spec(needs) is not None
            if lacks or not is_there:
                reason = lacks or f"No module named {needs!r}"
                record.bench[f"{part} {model}"] = {"outcome": "skipped", "reason": reason}
            elif options.collect_only:
                record.bench[f"{part} {model}"] = {"outcome": "ready"}
            else:
                measure(part, model, record, Path(folder))
    record.save()
    say(*record.told(), f"written: {path}")
    return 0 if options.collect_only or record.is_good else 1


def parser() -> OneLineParser:
    found = OneLineParser(prog="gpu-check", description=__doc__)
    found.add_argument("--out", type=Path, default="out", help="folder of bench/gpu.json")
    found.add_argument("--seconds", type=_seconds, default=SECONDS, help="budget of all of it")
    found.add_argument("--collect-only", action="store_true", help="run nothing; needs no GPU")
    return found


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number > 0")
    return seconds


def refused(line: str) -> int:
    say(f"error: {line}", error=True)
    return 2


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def gpu_files(root: Path) -> list[Path]:
    """Find the files with tests marked `gpu`, without importing any."""
    files = sorted((root / "tests").rglob("test_*.py"))
    return [file for file in files if "pytest.mark.gpu" in file.read_text("utf-8")]


def ask(*words: str) -> tuple[int | None, str]:
    """Run a child to its end; returns its exit code, None if it hangs, and what it printed."""
    with tempfile.TemporaryDirectory() as folder, Child(words, Path(folder) / "log") as child:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(TEST_SECONDS)
        return child.process.poll(), child.printed()


class Child:
    """A Python of its own session, in the checkout, whose output goes to a file.

    Args:
        words: Behind the interpreter.
        log: The file.
    """

    def __init__(self, words: Sequence[str | Path], log: Path) -> None:
        self.log = log
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONFAULTHANDLER": "1"}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it
            self.process.wait(10)

    def looks(self) -> Iterator[None]:
        """Yield every so often while it runs, and once after its end."""
        while self.process.poll() is None:
            yield
            time.sleep(0.1)
        yield

    def printed(self) -> str:
        """Return the end of what it has printed; where it crashed or hangs, from there on."""
        text = self.log.read_text("utf-8", errors="replace").strip()
        at = text.rfind("Current thread 0x")  # by faulthandler, the innermost call first
        return text[-LONGEST:] if at < 0 else text[max(0, at - LONGEST // 3) :][:LONGEST]


class Record:
    """What is known so far, as it is written.

    Args:
        path: The file.
        environment: What everything runs on.
        budget: Seconds that all of it may take.
        began: Since when, by ``time.monotonic``.
    """

    def __init__(self, path: Path, environment: Facts, budget: float, began: float) -> None:
        self.path, self.environment, self.budget, self.began = path, environment, budget, began
        self.left_out: list[Facts] = []  # modules
        self.tests: dict[str, Facts] = {}
        self.error: str | None = None  # why tests were not reached
        self.bench: dict[str, Facts] = {}

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.began

    @property
    def is_good(self) -> bool:
        """Whether nothing failed and every test was reached."""
        is_good = {facts["outcome"] for facts in self.tests.values()} <= {"passed", "skipped"}
        others = [*self.left_out, *self.bench.values()]
        return is_good and not self.error and all(one["outcome"] != "failed" for one in others)

    def save(self) -> None:
        content = {
            "environment": self.environment,
            "seconds": round(self.seconds, 1),
            "budget_seconds": self.budget,
            "left_out": self.left_out,
            "error": self.error,
            "tests": [{"test": name, **facts} for name, facts in self.tests.items()],
            "bench": self.bench,
        }
        write_atomic(self.path, (json.dumps(content, indent=1) + "\n").encode())

    def told(self) -> Iterator[str]:
        """Tell of all of it in a few lines."""
        for module in self.left_out:
            yield f"{module['outcome']}: {module['file']}: {last_line(module['reason'])}"
        ends = [facts["outcome"] for facts in self.tests.values()]
        yield f"tests: {', '.join(f'{ends.count(end)} {end}' for end in sorted({*ends})) or 'none'}"
        if self.error:
            yield f"error: {self.error.splitlines()[0]}"
        for part, facts in self.bench.items():
            reason = f": {facts['reason']}" if facts.get("reason") else ""
            yield f"bench {part}: {facts['outcome']}{reason}"
        yield f"{self.seconds:.0f} of {self.budget:g} s"


class TestRun:
    """The tests of some files, run in as many children as it takes.

    Args:
        files: The files.
        folder: For what the children write.
        record: Gets what comes of it.
        collect_only: Whether to list them only.
    """

    __test__ = False  # it is none of pytest's

    def __init__(
        self, files: Sequence[Path], folder: Path, record: Record, *, collect_only: bool = False
    ) -> None:
        self.record, self.events, self.log = record, folder / "events", folder / "tests.log"
        flags = ["--collect-only"] if collect_only else []
        self.words = [CHILD, self.events, *flags, *files]
        self.collect_only, self.unseen = collect_only, "collected" if collect_only else "not run"
        self.read = 0  # bytes of the events
        self.current: str | None = None

    def run(self, *, until: float) -> None:
        """Run them, until so many seconds of the record are over."""
        record = self.record
        self.events.touch()
        while record.error is None:
            why = self._child(until)
            left = [name for name, facts in record.tests.items() if facts["outcome"] == "not run"]
            if why is None and not left:
                return
            if why is not None or record.seconds > until:
                what = f"{len(left)} tests were not reached" if left else "no tests were collected"
                record.error = f"{what}: {why or TIME_SPENT}"
        record.save()

    def _child(self, until: float) -> str | None:
        """Run one child to its end; returns what stood in its way if it began no test."""
        got_on, since = False, time.monotonic()
        with Child(self.words, self.log) as child:
            for _ in child.looks():
                for event in self._new_events():
                    since = time.monotonic()
                    got_on |= self._take(event)
                taken = time.monotonic() - since
                end, why = "hung", f"nothing came for {TEST_SECONDS:g} s"
                if self.record.seconds > until:
                    end, why = "stopped", TIME_SPENT
                if self.record.seconds > until or taken > TEST_SECONDS:
                    break
            else:
                end, why = "crashed", f"its process ended with code {child.process.returncode}"
            if child.process.poll() is None and self.current:
                child.process.send_signal(signal.SIGUSR1)  # it prints where it is
                time.sleep(1)
            why = f"{why}\n{child.printed()}"
        if self.current:
            facts = {"outcome": end, "reason": why, "seconds": round(taken, 3)}
            self._take({"event": "ended", "test": self.current, **facts})
        return None if got_on else why

    def _take(self, event: Facts) -> bool:
        """Note an event; returns whether a child has got on by it."""
        kind, record = event.pop("event"), self.record
        got_on = False
        if kind == "left out":
            record.left_out += [event] if event not in record.left_out else []
        elif kind == "collected":
            for name in event["tests"]:
                record.tests.setdefault(name, {"outcome": self.unseen})
            got_on = self.collect_only or not event["tests"]
        elif kind == "began":
            self.current, got_on = event["test"], True
        else:
            self.current, name = None, event.pop("test")
            record.tests[name] = event
            say(f"{event['outcome']}  {name}")
        record.save()
        return got_on

    def _new_events(self) -> Iterator[Facts]:
        with self.events.open("rb") as file:
            file.seek(self.read)
            whole, end, _ = file.read().rpartition(b"\n")
        self.read += len(whole + end)
        yield from map(json.loads, whole.splitlines())


def measure(part: str, model: str, record: Record, folder: Path) -> None:
    """Run one benchmark, and keep each row as it comes, until the time of the record is spent."""
    facts = record.bench[f"{part} {model}"] = {"outcome": "done", "results": []}
    out = folder / f"{part} {model}"
    words = ["-m", "experiments", "bench", f"part={part}", "device=cuda", f"models={model}"]
    words.append(f"out={json.dumps(str(out))}")
    if part == "methods":
        words.append(f"runs_dir={json.dumps(str(folder / 'runs'))}")
    began = record.seconds
    with Child(words, folder / "bench.log") as child:
        for _ in child.looks():
            with contextlib.suppress(OSError, ValueError):  # there is none yet, or half of it
                text = (out / "bench" / f"{part}.json").read_text("utf-8")
                facts["results"] = json.loads(text)["results"]
            if record.seconds > record.budget:
                facts |= {"outcome": "stopped", "reason": TIME_SPENT}
                break
        if child.process.poll():
            facts |= {"outcome": "failed", "reason": last_line(child.printed())}
        say(*child.printed().splitlines())
    facts["seconds"] = round(record.seconds - began, 1)
    record.save()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by an exception, which ends children
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

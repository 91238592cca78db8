"""What a test does that takes time, as markers that are set by what was seen of it.

``pytest --renew-costs`` sees of each test whether it starts a process (``process``), compiles by
``torch.compile`` (``compiles``), or takes more than ``LONG_SECONDS`` of the processor in the mean
over its parameters (``long``), and keeps that in ``costs.txt``: the names of functions alone, so
that a test may move to another file. A fixture of several tests that costs is there too, as
``fixture:NAME``. What did not run keeps what is there. From the file each test gets its markers,
and ``--quick`` leaves out those that have one.

A test that the file does not know yet runs in the quick suite too. It is not trusted: what would
start a process or compile is skipped at that moment, so that the quick suite does neither whatever
the file says, and what the file should say is told at the end. With both options it is written
there: ``make quick ARGS=--renew-costs`` is enough for tests that are new.
"""

from __future__ import annotations

import multiprocessing.util
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.distribution import Seen, distributed

KINDS = {
    "process": "starts a process",
    "compiles": "compiles by torch.compile",
    "long": "takes more than a tenth of a second",
}
LONG_SECONDS = 0.1  # of the processor, as other work on the machine changes those of the wall
SURPRISING_SECONDS = 1.0  # as the first test of a kind loads what it needs
FIXTURE = "fixture:{}"
EVENTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec")


def add_options(parser: pytest.Parser) -> None:
    """Add the two options to pytest's."""
    group = parser.getgroup("costs")
    group.addoption("--quick", action="store_true", help="leave out tests that cost: costs.py")
    group.addoption("--renew-costs", action="store_true", help="see what tests cost: costs.py")


def name_of(item: pytest.Item) -> str:
    """The name of a test function, without its parameters."""
    return getattr(item, "originalname", None) or item.name


class Costs:
    """The plugin.

    Args:
        config: Of pytest.
        path: The file.
    """

    def __init__(self, config: pytest.Config, path: Path) -> None:
        for kind, meaning in KINDS.items():
            config.addinivalue_line("markers", f"{kind}: {meaning}; set by what was seen of it")
        self.path = path
        self.is_quick: bool = config.getoption("quick")
        self.is_renewing: bool = config.getoption("renew_costs")
        self.known = read(path)
        self.seen: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._running: set[str] | None = None  # kinds of the test that runs
        self._taken = 0.0
        self._fixtures: dict[str, list[str]] = {}
        if self.is_quick or self.is_renewing:
            sys.addaudithook(self._audit)
            spawn = multiprocessing.util.spawnv_passfds  # which tells no audit hook
            multiprocessing.util.spawnv_passfds = self._before("process", spawn)

    @pytest.hookimpl(tryfirst=True)  # before `-m` reads the markers
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Set the markers, and which worker of several runs what."""
        kept, tests = [], []
        for item in items:
            fixtures = map(FIXTURE.format, getattr(item, "fixturenames", ()))
            shared = [name for name in fixtures if name in self.known]
            kinds = {kind for name in (name_of(item), *shared) for kind in self.known.get(name, ())}
            for kind in sorted(kinds):
                item.add_marker(kind)
            if not (self.is_quick and kinds):
                kept.append(item)
                tests.append(Seen(str(item.path), frozenset(kinds), bool(shared)))
        if len(kept) < len(items):
            config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
            items[:] = kept
        if hasattr(config, "workerinput"):
            order = distributed(tests)
            items[:] = [kept[number] for number, _ in order]
            for number, group in order:
                if group is not None:
                    kept[number].add_marker(pytest.mark.xdist_group(group))
        torch = sys.modules.get("torch")
        if (self.is_quick or self.is_renewing) and torch is not None:
            torch.compile = self._before("compiles", torch.compile)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Watch a test from its fixtures to their end."""
        self._running, self._taken, self._fixtures = set(), 0.0, {}
        yield
        self._running = None

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Watch a fixture: its cost is that of a test, or its own where several tests share it."""
        began, before = time.process_time(), set(self._running or ())
        yield
        taken, kinds = time.process_time() - began, set(self._running or ()) - before
        if fixturedef.scope == "function":
            self._taken += taken
        elif kinds or taken > SURPRISING_SECONDS:
            kinds |= {"long"} if taken > SURPRISING_SECONDS else set()
            self._fixtures[FIXTURE.format(fixturedef.argname)] = sorted(kinds)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Measure the test itself."""
        began = time.process_time()
        yield
        self._taken += time.process_time() - began

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Tell whoever writes the file, which is another process where several test."""
        report = (yield).get_result()
        kinds = sorted(self._running or ())
        seen = (name_of(item), kinds, self._taken, self._fixtures)
        report.user_properties.append(("costs", seen))
        if self.is_quick and kinds and report.failed:  # as where a thread was to start it
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {KINDS[kinds[0]]}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather what was seen."""
        for name, value in report.user_properties:
            if name == "costs":
                test, kinds, seconds, fixtures = value
                self.seen[test] |= set(kinds)
                for fixture, its in fixtures.items():
                    self.seen[fixture] |= set(its)
                if report.when == "call":
                    self.seconds[test].append(seconds)

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Write the file, or name what it should have."""
        if hasattr(config, "workerinput"):
            return
        if self.is_renewing:
            known = dict(self.known)
            for test, kinds in self.seen.items():
                long = {"long"} if self._mean(test) > LONG_SECONDS else set()
                known[test] = tuple(sorted(kinds | long))
            write(self.path, known)
            terminalreporter.write_line(f"{self.path}: {len(self.seen)} functions seen")
        elif self.is_quick:
            for test, kinds in sorted(self.seen.items()):
                what = [KINDS[kind] for kind in sorted(kinds)]
                if self._mean(test) > SURPRISING_SECONDS:
                    what.append(f"took {self._mean(test):.1f} s")
                if what:
                    terminalreporter.write_line(
                        f"not in {self.path.name} (--renew-costs): {test} {', '.join(what)}"
                    )

    def _mean(self, test: str) -> float:
        return statistics.fmean(self.seconds[test]) if self.seconds[test] else 0.0

    def _audit(self, event: str, _arguments: object) -> None:
        if event in EVENTS:
            self._note("process")

    def _before(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            self._note(kind)
            return function(*arguments, **keywords)

        return noted

    def _note(self, kind: str) -> None:
        if self._running is None:
            return
        self._running.add(kind)
        if self.is_quick:
            pytest.skip(KINDS[kind])


def read(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the kinds of each function that costs; those of a missing file are none."""
    if not path.exists():
        return {}
    lines = (line.split() for line in path.read_text("utf-8").splitlines())
    return {name: tuple(kinds) for name, *kinds in lines}


def write(path: Path, known: dict[str, tuple[str, ...]]) -> None:
    """Write a line for each function that costs."""
    lines = [f"{name} {' '.join(kinds)}\n" for name, kinds in sorted(known.items()) if kinds]
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text("".join(lines), "utf-8")
    partial.replace(path)

"""The child of ``tests/gpu_check.py``: pytest, which writes down what happens as it happens.

``python tests/support/gpu_child.py EVENTS [--collect-only] FILE ...`` appends a line of JSON to the
file EVENTS for each module that cannot be imported, for what was collected, and for the begin and
the end of each test. A test that began in an earlier child is left out: that one did not survive
it, or was over. It needs pytest and none of its plugins.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("adafisher", "analysis", "experiments", "tests")
LONGEST = 3000  # letters of what pytest says of a failure: its end
# Our own options name plugins that may not be there.
OPTIONS = ("-o", "addopts=", "--import-mode=importlib", "--continue-on-collection-errors", "-q")
OPTIONS += ("-m", "gpu", "-p", "no:cacheprovider")


class Notes:
    """The plugin.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        self.begun = {event["test"] for event in events if event["event"] == "began"}
        self._phases: list[pytest.TestReport] = []

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.addini("timeout", "pytest-timeout's, which is not loaded: the parent has a clock")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """Have a module that lacks a package of others skip, as if it had asked for it."""
        outcome: Any = yield
        report = outcome.get_result()
        if report.failed:
            error = report.call.excinfo.value
            error = error if isinstance(error, ImportError) else error.__cause__
            if isinstance(error, ImportError) and (error.name or "").split(".")[0] not in OURS:
                reason = f"Skipped: {error}"
                report.outcome, report.longrepr = "skipped", (str(collector.path), 0, reason)
        if not report.passed:
            self._note("left out", file=collector.nodeid, **_end(report))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.begun]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._note("collected", tests=[item.nodeid for item in session.items])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._phases = []
        self._note("began", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        telling = [phase for phase in self._phases if not phase.passed]
        # What failed counts more than what skipped before it was taken down.
        last = min(telling, key=lambda phase: phase.skipped, default=self._phases[-1])
        seconds = sum(phase.duration for phase in self._phases)
        self._note("ended", test=nodeid, seconds=round(seconds, 3), **_end(last))
        if last.failed and _is_device_lost():
            os._exit(1)  # no further test could pass: the parent starts the next child

    def _note(self, event: str, **facts: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **facts}) + "\n")


def _end(report: Any) -> dict[str, str | None]:
    """How something ended, and why if it did not pass."""
    if report.passed:
        return {"outcome": "passed", "reason": None}
    why = report.longrepr
    text = why[2].removeprefix("Skipped: ") if isinstance(why, tuple) else report.longreprtext
    return {"outcome": report.outcome, "reason": text[-LONGEST:]}


def _is_device_lost() -> bool:
    """Whether an error has broken the context of this process on the device, for good."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        if cuda is not None and cuda.is_initialized():
            cuda.synchronize()
    except RuntimeError:
        return True
    return False


def main(words: Sequence[str]) -> int:
    events, *rest = words
    # Not one that some package has installed under the name.
    sys.modules["tests"] = types.ModuleType("tests")
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    sys.path[0] = str(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    faulthandler.register(signal.SIGUSR1, file=os.dup(2))  # the parent asks where a test hangs
    return int(pytest.main([*OPTIONS, *rest], plugins=[Notes(Path(events))]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

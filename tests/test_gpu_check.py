"""The check of what needs a GPU, on made-up tests and benchmarks, which need none."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests import gpu_check
from tests.gpu_check import Record, TestRun, gpu_files, main, measure

MARK = "@pytest.mark.{}".format("gpu")  # not in one word: this file has no such test
# Of pyproject.toml all but torch, torchvision, numpy and pytest.
LACKING = """
accelerate asdl hydra hydra_plugins hypothesis jinja2 joblib lightning matplotlib omegaconf optuna
pandas pytest_timeout pytorch_optimizer ray rich safetensors scipy selenium sklearn submitit
tensorboard timm tokenizers wandb xdist yaml
"""
WITHOUT = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {LACKING.split()}:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "gpu.json", {"gpu": None}, 60.0, time.monotonic())


def run_of(
    folder: Path, record: Record, sources: dict[str, str], *, until: float = 60.0
) -> dict[str, dict[str, Any]]:
    """The ends of the tests of some files, by name, as they are written."""
    tests = folder / "tests"
    tests.mkdir()
    for name, source in sources.items():
        (tests / f"test_{name}.py").write_text(
            f"import pytest\n{dedent(source)}".replace("@GPU", MARK), "utf-8"
        )
    TestRun(gpu_files(folder), folder, record).run(until=until)
    written = json.loads(record.path.read_text("utf-8"))["tests"]
    return {facts.pop("test").rpartition(":")[2]: facts for facts in written}


def test_each_test_ends_as_it_does(tmp_path: Path, record: Record) -> None:
    source = """
    @GPU
    def test_passes(): pass

    @GPU
    def test_fails(): assert 1 == 2, "as one is not two"

    @GPU
    def test_skips(): pytest.skip("one device")

    @GPU
    def test_asks_for_more(): pytest.importorskip("a_package_of_nobody")

    def test_needs_no_device(): pass

    @pytest.fixture
    def broken(): raise OSError("no such fixture")

    @GPU
    def test_does_not_begin(broken): pass
    """
    ends = run_of(tmp_path, record, {"ends": source, "other": "def test_other(): pass"})
    assert [(name, facts["outcome"]) for name, facts in ends.items()] == [
        ("test_passes", "passed"),
        ("test_fails", "failed"),
        ("test_skips", "skipped"),
        ("test_asks_for_more", "skipped"),
        ("test_does_not_begin", "failed"),
    ]
    assert "as one is not two" in ends["test_fails"]["reason"]
    assert ends["test_skips"]["reason"] == "one device"
    assert "a_package_of_nobody" in ends["test_asks_for_more"]["reason"]
    assert "no such fixture" in ends["test_does_not_begin"]["reason"]
    assert all(facts["seconds"] >= 0 for facts in ends.values())
    assert not record.is_good
    assert "tests: 2 failed, 1 passed, 2 skipped" in record.told()


def test_a_module_that_lacks_a_package_is_left_out_and_one_that_is_broken_has_failed(
    tmp_path: Path, record: Record
) -> None:
    test = "@GPU\ndef test_one(): pass"
    ends = run_of(
        tmp_path,
        record,
        {
            "broken": f"from experiments import nothing_of_the_kind\n{test}",
            "lacks": f"import a_package_of_nobody\n{test}",
            "old": f"from json import nothing_of_the_kind\n{test}",
            "asks": f'pytest.importorskip("a_package_of_nobody")\n{test}',
            "whole": test.replace("one", "whole"),
        },
    )
    assert ends["test_whole"]["outcome"] == "passed"
    assert len(ends) == 1
    found = {Path(end["file"]).stem: (end["outcome"], end["reason"]) for end in record.left_out}
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_broken": "failed",
        "test_lacks": "skipped",
        "test_old": "skipped",
        "test_asks": "skipped",
    }
    assert found["test_lacks"][1] == "No module named 'a_package_of_nobody'"
    assert not record.is_good
    record.left_out = [end for end in record.left_out if end["outcome"] != "failed"]
    assert record.is_good


def test_a_test_that_ends_its_process_or_hangs_loses_no_other(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "TEST_SECONDS", 10.0)
    test = "@GPU\ndef test_{}(): {}\n"
    dies = test.format("dies", "import os; os.abort()") + test.format("after_it", "pass")
    hangs = test.format("hangs", "import time; time.sleep(600)") + test.format("last", "pass")
    ends = run_of(tmp_path, record, {"a": test.format("first", "pass"), "b": dies, "c": hangs})
    assert [(name, facts["outcome"]) for name, facts in ends.items()] == [
        ("test_first", "passed"),
        ("test_dies", "crashed"),
        ("test_after_it", "passed"),
        ("test_hangs", "hung"),
        ("test_last", "passed"),
    ]
    assert "ended with code -6" in ends["test_dies"]["reason"]
    assert "in test_dies" in ends["test_dies"]["reason"]  # by faulthandler
    assert "in test_hangs" in ends["test_hangs"]["reason"]
    assert ends["test_hangs"]["seconds"] >= 10.0
    assert record.error is None
    assert not record.is_good


def test_a_broken_device_costs_the_test_that_broke_it(tmp_path: Path, record: Record) -> None:
    source = """
    import sys
    from types import SimpleNamespace

    def lost():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    @GPU
    def test_breaks_it():
        cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=lost)
        sys.modules["torch"] = SimpleNamespace(cuda=cuda)
        lost()

    @GPU
    def test_has_a_new_one():
        assert "torch" not in sys.modules
    """
    ends = run_of(tmp_path, record, {"device": source})
    assert {name: facts["outcome"] for name, facts in ends.items()} == {
        "test_breaks_it": "failed",
        "test_has_a_new_one": "passed",
    }


def test_what_the_time_does_not_reach_is_said(tmp_path: Path, record: Record) -> None:
    source = """
    @GPU
    def test_takes_long():
        import time; time.sleep(600)

    @GPU
    def test_never_reached(): pass
    """
    ends = run_of(tmp_path, record, {"long": source}, until=5.0)
    assert ends["test_takes_long"]["outcome"] == "stopped"
    assert ends["test_never_reached"]["outcome"] == "not run"
    assert record.error == "1 tests were not reached: the time was spent"
    assert not record.is_good


def test_tests_that_cannot_be_collected_at_all_are_said(tmp_path: Path, record: Record) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text("import a_package_of_nobody")
    (tmp_path / "tests" / "test_one.py").write_text(
        f"import pytest\n{MARK}\ndef test_one(): pass\n"
    )
    TestRun(gpu_files(tmp_path), tmp_path, record).run(until=60.0)
    assert record.error is not None
    assert record.error.startswith("no tests were collected: its process ended with code 4\n")
    assert "a_package_of_nobody" in record.error
    assert not record.is_good


BENCH = """
import json, sys, time
from pathlib import Path
verb, part, device, models, out, *others = sys.argv[1:]
assert (verb, part, device) == ("bench", "part=adafisher", "device=cuda"), sys.argv
folder = Path(json.loads(out.removeprefix("out="))) / "bench"
folder.mkdir(parents=True)
(folder / "adafisher.json").write_text(json.dumps({"results": [{"model": models, "batch": 2}]}))
"""


@pytest.mark.parametrize(
    ("then", "budget", "end"),
    [
        ("", 60.0, {"outcome": "done"}),
        (
            "sys.exit('error: the machine is busy')",
            60.0,
            {"outcome": "failed", "reason": "error: the machine is busy"},
        ),
        ("time.sleep(600)", 4.0, {"outcome": "stopped", "reason": "the time was spent"}),
    ],
    ids=["done", "failed", "stopped"],
)
def test_rows_of_a_benchmark_are_kept_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, budget: float, end: dict[str, str]
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    (tmp_path / "experiments" / "__main__.py").write_text(BENCH + then)
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    record = Record(tmp_path / "gpu.json", {}, budget, time.monotonic())
    measure("adafisher", "gpt1_mini", record, tmp_path)
    found = json.loads(record.path.read_text("utf-8"))["bench"]["adafisher gpt1_mini"]
    assert found.pop("seconds") < 60
    assert found == end | {"results": [{"model": "models=gpt1_mini", "batch": 2}]}
    assert record.is_good == (end["outcome"] != "failed")


def told_machine(monkeypatch: pytest.MonkeyPatch, code: int | None, text: str) -> None:
    monkeypatch.setattr(gpu_check, "ask", lambda *words: (code, text))


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        (
            0,
            json.dumps({"gpu": None, "packages": {"torch": "2.11.0"}}),
            "error: torch 2.11.0 sees no CUDA device here; --collect-only needs none.",
        ),
        (None, "", "error: torch cannot be used: no answer"),
        (1, "Traceback:\nOSError: libcudart", "error: torch cannot be used: OSError: libcudart"),
    ],
)
def test_a_machine_that_will_not_do_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int | None,
    text: str,
    line: str,
) -> None:
    told_machine(monkeypatch, code, text)
    assert main([]) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_python_without_pytest_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None if name == "pytest" else name)
    assert main(["--collect-only"]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {sys.executable} lacks pytest. Name another: PYTHON=\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "long"])
def test_a_budget_is_a_positive_number(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--seconds={seconds}"])
    error = capsys.readouterr().err
    assert error.startswith("error: argument --seconds: ")
    assert error.count("\n") == 1


def test_collection_needs_torch_and_pytest_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    done = subprocess.run(
        [sys.executable, gpu_check.__file__, "--collect-only", "--out", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "bench" / "gpu_collected.json").read_text("utf-8"))
    assert (found["left_out"], found["error"]) == ([], None)
    files = {facts["test"].partition(":")[0] for facts in found["tests"]}
    assert files == {str(path.relative_to(gpu_check.ROOT)) for path in gpu_files(gpu_check.ROOT)}
    lacks = "ModuleNotFoundError: No module named 'omegaconf'"
    assert {(one["outcome"], one["reason"]) for one in found["bench"].values()} == {
        ("skipped", lacks)
    }

"""The cache gives what the records say, whatever happens to either."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.results import cache
from analysis.results.cache import CACHE, CachedRecord, read_records


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTHWHILE", 0)


def assert_equal(found: list[CachedRecord], wanted: list[CachedRecord]) -> None:
    assert [record.head for record in found] == [record.head for record in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert list(one.columns) == list(other.columns)
        for key, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[key])


def uncached(runs_dir: Path) -> list[CachedRecord]:
    (runs_dir / CACHE).unlink(missing_ok=True)
    return read_records(runs_dir)[0]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders whose text was read."""
    names: list[str] = []

    def load_run(folder: Path) -> Any:
        names.append(folder.name)
        return original(folder)

    original = cache.load_run
    monkeypatch.setattr(cache, "load_run", load_run)
    return names


def test_a_second_reading_parses_nothing_and_gives_the_same(
    write_run: Any, runs_dir: Path, parsed: list[str]
) -> None:
    write_run(run_id="a")
    write_run(seed=1, rows=[], status="failed", reason="no", run_id="b")
    odd = [
        {"step": 1, "other": float("nan")},
        {"step": 2, "loss": float("nan"), "other": 1.0},
        {"step": 3, "loss": None, "other": None},
    ]
    write_run(seed=2, rows=odd, run_id="c")

    first, _ = read_records(runs_dir)
    assert parsed == ["a", "b", "c"]
    second, _ = read_records(runs_dir)

    assert parsed == ["a", "b", "c"]
    assert_equal(second, first)
    # No number, and one that is not finite.
    np.testing.assert_array_equal(second[2].columns["loss"], [np.nan, np.inf, np.nan])
    np.testing.assert_array_equal(second[2].columns["other"], [np.inf, 1.0, np.nan])


def test_runs_of_two_places_are_told_apart(
    writer_to: Any, runs_dir: Path, parsed: list[str]
) -> None:
    for place in ("here", "there"):
        (runs_dir / place).mkdir()
        writer_to(runs_dir / place)(run_id=f"from {place}", seed=len(place)).rename(
            runs_dir / place / "first"
        )

    first, broken = read_records(runs_dir)
    second, _ = read_records(runs_dir)

    assert parsed == ["first", "first"]
    assert broken == []
    assert [record.head["folder"] for record in first] == ["here/first", "there/first"]
    assert_equal(second, first)


def test_only_what_changed_is_read_again(write_run: Any, runs_dir: Path, parsed: list[str]) -> None:
    for seed in range(3):
        write_run(seed=seed, run_id=f"run{seed}")
    read_records(runs_dir)
    parsed.clear()

    with (runs_dir / "run1" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 30, "test_accuracy_percent": 99.0}) + "\n")
    (runs_dir / "run2" / "status.json").unlink()
    write_run(seed=7, run_id="run7")
    found, broken = read_records(runs_dir)

    assert sorted(parsed) == ["run1", "run2", "run7"]
    assert [record.run_id for record in found] == ["run0", "run1", "run7"]
    assert found[1].head["best_test"] == 99.0
    assert broken == ["run2/status.json: missing"]
    assert_equal(found, uncached(runs_dir))


def test_a_change_that_keeps_the_size_is_seen(write_run: Any, runs_dir: Path) -> None:
    folder = write_run(values=(90.0, 95.0))
    read_records(runs_dir)
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("95.0", "96.0"))
    os.utime(path, ns=(1, 1))
    (found,), _ = read_records(runs_dir)
    assert found.head["best_test"] == 96.0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_damaged_cache_is_made_anew(write_run: Any, runs_dir: Path, content: bytes) -> None:
    write_run()
    wanted, _ = read_records(runs_dir)
    (runs_dir / CACHE).write_bytes(content)
    assert_equal(read_records(runs_dir)[0], wanted)
    assert (runs_dir / CACHE).stat().st_size > 100


def test_a_cache_that_is_cut_short_is_made_anew(
    write_run: Any, runs_dir: Path, parsed: list[str]
) -> None:
    write_run()
    read_records(runs_dir)
    with np.load(runs_dir / CACHE) as file:
        arrays = dict(file)
    np.savez(runs_dir / CACHE, **(arrays | {"values": arrays["values"][:-1]}))
    parsed.clear()
    read_records(runs_dir)
    assert len(parsed) == 1


def test_a_disk_that_takes_no_cache_is_no_fault(
    write_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    (found,), broken = read_records(runs_dir)
    assert found.head["best_test"] == 95.0
    assert broken == []
    assert list((runs_dir / CACHE).parent.iterdir()) == []


def test_few_runs_leave_no_cache(
    write_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "WORTHWHILE", 2)
    write_run(seed=0)
    read_records(runs_dir)
    assert not (runs_dir / CACHE).exists()
    write_run(seed=1)
    read_records(runs_dir)
    assert (runs_dir / CACHE).exists()

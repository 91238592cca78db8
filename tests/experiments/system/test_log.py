"""A remark is shown once: in a process, and among the runs of one sweep."""

import pytest

from experiments.system import log


@pytest.fixture
def fresh(monkeypatch):
    """As if in a process that has said nothing."""
    monkeypatch.delenv(log.SAID_VARIABLE, raising=False)

    def anew():
        monkeypatch.setattr(log, "_said", set())

    anew()
    return anew


@pytest.fixture
def said(monkeypatch):
    """The lines that were shown."""
    lines = []
    monkeypatch.setattr(log.logger, "warning", lambda form, line: lines.append(form % line))
    return lines


def test_a_process_says_each_line_once(fresh, said):
    for line in ("offline", "offline", "other", "offline"):
        log.once(line)
    assert said == ["offline", "other"]


def test_the_runs_of_a_sweep_say_it_once_and_another_sweep_again(
    fresh, said, monkeypatch, tmp_path
):
    for sweep in ("one", "one", "two"):
        fresh()
        (tmp_path / sweep).mkdir(exist_ok=True)
        monkeypatch.setenv(log.SAID_VARIABLE, str(tmp_path / sweep))
        log.once("offline")
    assert said == ["offline"] * 2


def test_it_is_said_where_no_mark_can_be_left(fresh, said, monkeypatch, tmp_path):
    monkeypatch.setenv(log.SAID_VARIABLE, str(tmp_path / "gone"))
    log.once("offline")
    assert said == ["offline"]

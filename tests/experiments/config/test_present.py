"""`task=here`: every task that finds its data, in place of a list."""

from pathlib import Path

import pytest

from experiments.config import commandline, present
from experiments.errors import UserError
from experiments.tasks import mnist

SHIPPED = {"diabetes", "digits", "digits_autoencoder", "tinyshakespeare"}


def here(folder: Path) -> set[str]:
    (task,) = commandline.normalise(["task=here", f"data_dir={folder}"])[:1]
    return set(task.removeprefix("task=").split(","))


def test_what_comes_with_the_suite_is_there_and_what_is_made_up_reads_no_data(tmp_path: Path):
    assert here(tmp_path / "nothing") == SHIPPED


def test_what_lies_in_the_data_folder_is_there_too(tmp_path: Path, monkeypatch):
    asked = []

    def check(data_dir: Path) -> None:
        asked.append(data_dir)
        if data_dir != tmp_path:
            raise UserError("not there")

    monkeypatch.setattr(mnist, "check", check)
    assert here(tmp_path) == SHIPPED | {"mnist"}
    assert here(tmp_path / "other") == SHIPPED
    assert asked == [tmp_path, tmp_path / "other"]


def test_nothing_there_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"Invalid task: here\. No task has its data in"):
        present.tasks(["mnist", "rosenbrock"], commandline.CONF, [f"data_dir={tmp_path}"])


def test_here_stands_alone():
    with pytest.raises(UserError, match="here is every one whose data are there; it must"):
        commandline.normalise(["task=here,digits"])

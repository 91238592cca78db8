"""The command that shows and fetches data sets."""

from pathlib import Path

import pytest

from experiments.config import commandline
from experiments.errors import UserError
from experiments.tasks import cifar10, download, imagenet1k, mnist
from experiments.tasks import fetch as data
from experiments.tasks.source import Source
from tests.support.commands import exit_code

TASKS = commandline.choices("task")


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run the command with no network; the data folder has a space and a comma in its name."""
    monkeypatch.setattr(download, "_receive", no_network)
    folder = tmp_path / "my data, here"

    def run(*arguments):
        return exit_code("data", *arguments, f'data_dir="{folder}"'), folder

    return run


def no_network(*arguments):
    raise download._NoConnectionError("no connection (Name or service not known)")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_declares_its_source(name):
    source = data._module(name).SOURCE
    assert isinstance(source, Source)
    assert min(len(source.title), len(source.size), len(source.terms)) > 3
    # It comes with the suite, or it is fetched, or the user is told what to do.
    assert [not source.place, bool(source.files), bool(source.manual)].count(True) == 1
    for remote in source.files:
        kind, _, digest = remote.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[kind]
        assert not Path(remote.path).is_absolute()
        assert ".." not in Path(remote.path).parts


@pytest.mark.parametrize("name", TASKS)
def test_missing_data_name_the_folder_or_the_command(name, tmp_path):
    module = data._module(name)
    if not module.SOURCE.place:
        module.check(tmp_path)  # it came with the suite
        return
    with pytest.raises(UserError) as error:
        module.check(tmp_path / "nothing")
    assert str(tmp_path / "nothing") in str(error.value)
    if module.SOURCE.files:
        assert f"make data TASK={name}'" in str(error.value)
    else:
        assert "data_dir=FOLDER" in str(error.value)


def test_all_that_matters_is_shown_before_anything_is_fetched(call, capsys):
    code, folder = call("task=cifar10")
    captured = capsys.readouterr()
    assert code == 2
    for text in (
        cifar10.SOURCE.size,
        cifar10.SOURCE.terms,
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        str(folder / "cifar-10-batches-py"),
    ):
        assert text in captured.out
    assert captured.err.startswith("error: cifar10: https://")
    assert "no connection" in captured.err
    assert captured.err.count("\n") == 1


def test_one_that_cannot_be_had_does_not_stop_the_others(call, capsys):
    code, _ = call("task=ptb,digits")
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("error: ptb: ")
    assert "digits: Handwritten digits" in captured.out
    assert captured.out.endswith("present and verified\n")


def test_what_is_there_is_left_alone(call, monkeypatch, capsys):
    monkeypatch.setattr(mnist, "check", lambda data_dir: None)
    monkeypatch.setattr(download, "fetch", lambda *_, **__: pytest.fail("fetched"))
    assert call("task=mnist")[0] == 0
    assert "present and verified" in capsys.readouterr().out


def test_what_was_fetched_is_checked_by_its_task(call, monkeypatch, capsys):
    fetched = []
    monkeypatch.setattr(download, "fetch", lambda source, *_, **__: fetched.append(source))
    code, _ = call("task=mnist")
    assert (code, fetched) == (2, [mnist.SOURCE])
    assert capsys.readouterr().err.startswith("error: mnist: Data folder")


def test_imagenet_says_how_to_get_it(call, capsys):
    code, folder = call("task=imagenet1k")
    error = capsys.readouterr().err
    assert code == 2
    assert str(folder / "imagenet" / "train") in error
    assert imagenet1k.SOURCE.manual in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=cifar"], "Unknown task: 'cifar'. Did you mean: cifar10"),
        (["task=zzzzzz"], "Unknown task: 'zzzzzz'. Known: cifar10, "),
        ([], "Missing value: task."),
        (["task=mnist", "seed=1"], "Unknown key: 'seed'. Known: task, data_dir."),
    ],
)
def test_mistakes_are_one_line(call, capsys, arguments, message):
    assert call(*arguments)[0] == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")

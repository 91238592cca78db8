"""A record from elsewhere is data: nothing that it names is imported, called or resolved."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.config import foreign
from experiments.errors import UserError
from experiments.records.schema import PATCH_FILE
from experiments.replay import recorded_code, rerun
from experiments.system import checkout
from tests.support.commands import exit_code

MARKER = "a secret of whoever reads the record"
MODULE = "was_called"


@pytest.fixture
def record(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "runs" / recorded.name))


@pytest.fixture(autouse=True)
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported, and leaves a file when it is."""
    folder, mark = tmp_path / "elsewhere", tmp_path / "mark"
    folder.mkdir()
    text = (
        f"open({str(mark)!r}, 'w').close()\n\ndef Optimizer(*args, **kwargs):\n    raise OSError\n"
    )
    (folder / f"{MODULE}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("A_MARKER", MARKER)
    return mark


def change(record: Path, **sections: Any) -> None:
    """Change a recorded config; a key may be dotted with two underscores."""
    path = record / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for key, value in sections.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(config))


def refused(record: Path, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Replay it; gives the one line that refuses it."""
    before = {path: path.read_bytes() for path in record.rglob("*") if path.is_file()}
    assert exit_code("replay", f"run={record}", f"runs_dir={record.parent}", *words) == 2
    told = capfd.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert {path: path.read_bytes() for path in record.rglob("*") if path.is_file()} == before
    assert not list(record.parent.glob(".replays/*/*/*"))
    return told


FOREIGN: dict[str, tuple[str, Any, str]] = {
    "a target": ("optimizer___target_", f"{MODULE}.Optimizer", "optimizer._target_"),
    "one of another group": ("optimizer___target_", "experiments.models.vit.build", "optimizer"),
    "a task": ("task___target_", f"{MODULE}.Optimizer", "task._target_"),
    "a schedule": ("schedule___target_", f"{MODULE}.Optimizer", "schedule._target_"),
    "a nested one": (
        "optimizer__lr",
        {"_target_": f"{MODULE}.Optimizer"},
        "optimizer.lr._target_",
    ),
    "one in a list": (
        "model__widths",
        [1, {"_target_": f"{MODULE}.Optimizer"}],
        "model.widths.1._target_",
    ),
    "one of the suite": (
        "task__suite",
        {"name": "digits", "a": {"_target_": f"{MODULE}.Optimizer"}},
        "task.suite.a._target_",
    ),
    "a launcher": (
        "hydra",
        {"launcher": {"_target_": f"{MODULE}.Optimizer"}},
        "hydra.launcher._target_",
    ),
    "one where nothing is built": (
        "debug",
        {"_target_": f"{MODULE}.Optimizer"},
        "debug._target_",
    ),
    "arguments": ("optimizer___args_", [1], "optimizer._args_"),
    "no partial": ("optimizer___partial_", False, "optimizer._partial_"),
    "a way to convert": ("optimizer___convert_", "object", "optimizer._convert_"),
}


@pytest.mark.parametrize(("key", "value", "said"), FOREIGN.values(), ids=FOREIGN.keys())
def test_only_what_conf_names_is_built(
    record: Path, trap: Path, capfd: Any, key: str, value: Any, said: str
) -> None:
    change(record, **{key: value})
    told = refused(record, capfd)
    assert f"The record has {said}" in told
    assert "which no file of conf/" in told
    assert not trap.exists()


def test_what_is_typed_beside_the_command_is_built(record: Path, trap: Path, capfd: Any) -> None:
    """The trap is imported and called then, and the run fails by it."""
    target = f"optimizer._target_={MODULE}.Optimizer"
    change(record, optimizer___target_=f"{MODULE}.Optimizer")
    assert f"type {target} beside" in refused(record, capfd)
    assert f"type {target} beside" in refused(record, capfd, "optimizer._target_=another.One")
    assert not trap.exists()
    exit_code("replay", f"run={record}", f"runs_dir={record.parent}", target)
    assert trap.exists()


def test_a_file_of_ones_own_in_conf_names_it(tmp_path: Path, recorded: Path) -> None:
    conf = Path(shutil.copytree(checkout.ROOT / "conf", tmp_path / "conf"))
    config = rerun.read(recorded).config
    foreign.check(config, conf=conf)
    config["optimizer"] = config["optimizer"] | {"_target_": "mine.Optimizer"}
    with pytest.raises(UserError, match=r"optimizer._target_=mine.Optimizer"):
        foreign.check(config, conf=conf)
    (conf / "optimizer" / "broken.yaml").write_text("_target_: [")
    (conf / "optimizer" / "mine.yaml").write_text("_target_: mine.Optimizer\n_partial_: true\n")
    foreign.check(config, conf=conf)


def test_what_steps_at_equal_time_were_measured_of_is_that_of_their_file(recorded: Path) -> None:
    file = checkout.ROOT / "conf" / "budget" / "study_mnist.yaml"
    measured = yaml.safe_load(file.read_text("utf-8"))["measured"]
    config = rerun.read(recorded).config
    config["budget"] = {"steps": 1, "measured": measured}
    foreign.check(config)
    measured["setting"]["task"]["_target_"] = f"{MODULE}.Optimizer"
    with pytest.raises(UserError, match=rf"budget.measured.setting.task._target_={MODULE}"):
        foreign.check(config)


def test_a_mirror_that_a_record_names_is_not_started(
    record: Path, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(path: Path, **choices: Any) -> int:
        assert json.loads(path.read_text())["tracking"] == {"_target_": None, "mode": "none"}
        shutil.copytree(record, path.parent / record.name)
        return 0

    monkeypatch.setattr(rerun, "_launch", launch)
    change(record, tracking={"_target_": f"{MODULE}.Optimizer", "project": "x"})
    rerun.rerun(rerun.read(record), record.parent, code=rerun.Code(), folders={})
    assert not trap.exists()


def test_a_cache_is_made_where_a_record_says_only_if_that_is_there(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[str] = []

    def launch(path: Path, **choices: Any) -> int:
        caches.append(json.loads(path.read_text())["cache_dir"])
        shutil.copytree(record, path.parent / record.name)
        return 0

    monkeypatch.setattr(rerun, "_launch", launch)
    (tmp_path / "there").mkdir()
    for name in ("there", "not there"):
        change(record, cache_dir=str(tmp_path / name))
        rerun.rerun(rerun.read(record), record.parent, code=rerun.Code(), folders={})
    assert caches == [str(tmp_path / "there"), str(checkout.ROOT / ".cache")]
    assert not (tmp_path / "not there").exists()


ASKING: dict[str, tuple[str, Any]] = {
    "a value": ("optimizer__lr", "${oc.env:A_MARKER}"),
    "within text": ("setting", "of ${oc.env:A_MARKER}"),
    "a folder": ("data_dir", "${oc.env:A_MARKER}/data"),
    "in a list": ("grids", [{"a": "${oc.env:A_MARKER}"}]),
    "a note": ("origin", {"command": ["${oc.env:A_MARKER}"], "setting": {}, "typed": {}}),
    "a mirror": ("tracking", {"project": "${oc.env:A_MARKER}"}),
    "another resolver": ("setting", "${oc.decode:'[1]'}"),
    "another key": ("setting", "${seed}"),
    "half of one": ("setting", "${seed"),
}


@pytest.mark.parametrize(("key", "value"), ASKING.values(), ids=ASKING.keys())
def test_no_variable_is_resolved_and_none_gets_into_a_file(
    record: Path, tmp_path: Path, capfd: Any, key: str, value: Any
) -> None:
    change(record, **{key: value})
    told = refused(record, capfd)
    assert MARKER not in told
    out = tmp_path / "out"
    assert exit_code("golden", f"runs_dir={record.parent}", f"out={out}") == 2
    assert capfd.readouterr().err.count("\n") == 1
    migrated = json.loads((record / "status.json").read_text())
    del migrated["identity"]["protocol"]
    (record / "status.json").write_text(json.dumps(migrated | {"schema": 1}))
    assert exit_code("migrate", f"runs_dir={record.parent}") == 0
    assert "1 left as they are" in capfd.readouterr().out
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if MARKER.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"a: !!python/object/apply:{MODULE}.Optimizer []", "could not determine a constructor"),
        (f"a: !!python/name:{MODULE}.Optimizer", "could not determine a constructor"),
        ("a: &b [1]\nc: *b", "a reference to another part"),
        ("a: " + "[" * 60 + "]" * 60, "more than 32 levels"),
        ("a: 1\na: 2", "found duplicate key a"),
    ],
    ids=["an object", "a name", "references", "nesting", "a key twice"],
)
def test_yaml_is_read_as_data(record: Path, trap: Path, capfd: Any, text: str, said: str) -> None:
    with (record / "config.yaml").open("a") as file:
        file.write(text + "\n")
    assert said in refused(record, capfd)
    assert not trap.exists()


def test_a_name_of_a_record_is_no_path_of_hydra(record: Path, tmp_path: Path, capfd: Any) -> None:
    """Migrating composes by names; one outside of conf is none."""
    (tmp_path / "outside.yaml").write_text("name: '${oc.env:A_MARKER}'\n")
    for name in (f"../../../../..{tmp_path}/outside", "digits,mnist", "digits +a=1"):
        change(
            record,
            task__suite={
                **yaml.safe_load((record / "config.yaml").read_text())["task"]["suite"],
                "name": name,
            },
        )
        exit_code("migrate", f"runs_dir={record.parent}")
    assert not [p for p in record.rglob("*.json") if MARKER in p.read_text()]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit with a change that is not committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "code.py").write_text("committed\n")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "Begin")):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    (folder / "code.py").write_text("changed\n\x1b]0;title\x07\n")
    monkeypatch.setattr(recorded_code, "ROOT", folder)
    return folder


def test_a_patch_is_shown_and_applied_only_where_it_is_trusted(
    record: Path, repository: Path, capfd: Any
) -> None:
    version = checkout.version(repository)
    patch = version.patch_to_keep()
    assert patch is not None
    (record / PATCH_FILE).write_bytes(patch)
    environment = json.loads((record / "environment.json").read_text())
    content = environment | {"code": version.facts()}
    (record / "environment.json").write_text(json.dumps(content))
    assert exit_code("replay", f"run={record}", "code=recorded") == 2
    told, errors = capfd.readouterr()
    assert "\n+changed\n" in told
    assert "\x1b" not in told
    assert r"\x1b]0;title\x07" in told
    assert "add trust=true" in errors
    assert errors.count("\n") == 1
    with recorded_code.recorded(version.facts(), record, trusted=True) as tree:
        assert (tree / "code.py").read_text().startswith("changed\n")


def test_the_recorded_code_runs_what_its_own_conf_names(
    record: Path, repository: Path, trap: Path, capfd: Any
) -> None:
    """Trust in a patch is none in a target that even the patched code does not name."""
    content = json.loads((record / "environment.json").read_text())
    content["code"] = {"commit": checkout.version(repository).commit}
    (record / PATCH_FILE).unlink(missing_ok=True)
    (record / "environment.json").write_text(json.dumps(content))
    change(record, optimizer___target_=f"{MODULE}.Optimizer")
    told = refused(record, capfd, "code=recorded", "trust=true")
    assert "which no file of conf/" in told
    assert not trap.exists()


def test_a_commit_is_no_option_and_no_command(record: Path, capfd: Any) -> None:
    content = json.loads((record / "environment.json").read_text())
    for commit in ("--output=x", "0; touch x", "HEAD"):
        content["code"] = {"commit": commit}
        (record / "environment.json").write_text(json.dumps(content))
        assert "must be a commit's id" in refused(record, capfd, "code=recorded")


def test_a_record_asks_for_no_more_processes_than_a_run_has(record: Path, capfd: Any) -> None:
    content = json.loads((record / "environment.json").read_text())
    content["processes"] = {"count": 10**6}
    (record / "environment.json").write_text(json.dumps(content))
    assert "processes.count is 1000000, must be a whole number in [1, " in refused(record, capfd)


def test_reading_a_record_imports_nothing_of_it(record: Path, trap: Path, tmp_path: Path) -> None:
    change(record, optimizer___target_=f"{MODULE}.Optimizer")
    out = tmp_path / "out"
    for command in (
        ["-m", "analysis.report", "--runs", str(record.parent), "--out", str(out), "--tables-only"],
        ["-m", "experiments", "status", f"runs_dir={record.parent}"],
    ):
        subprocess.run(
            [sys.executable, *command], cwd=checkout.ROOT, check=True, capture_output=True
        )
    assert not trap.exists()


def test_a_finished_run_that_lacks_rows_is_refused_before_anything_runs(recorded, tmp_path):
    folder = shutil.copytree(recorded, tmp_path / recorded.name)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"metrics\.jsonl: rows of a finished run are missing"):
        rerun.read(folder)

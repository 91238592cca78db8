"""A record replayed: what it says, what it leaves alone, and the code that it runs."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.errors import UserError
from experiments.records.schema import PATCH_FILE, load_run
from experiments.replay import compare, recorded_code, rerun
from experiments.system import checkout
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def record(recorded, tmp_path):
    """A copy of it that a test may change."""
    return Path(shutil.copytree(recorded, tmp_path / recorded.name))


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def call(*arguments):
    """The command in this process; returns its exit code."""
    return exit_code("replay", *arguments)


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_replay_is_identical_and_leaves_the_record_alone(record, monkeypatch, capfd):
    """Also from its folder, wherever that is; with what was measured for the run."""
    (record / "calibration.json").write_text("{}")
    mirrored = OmegaConf.load(record / "config.yaml")
    mirrored.tracking = {"_target_": "experiments.tracking.tensorboard.start"}
    OmegaConf.save(mirrored, record / "config.yaml")
    before = snapshot(record)
    runs_dir = record.parent / "own runs"
    assert call(f"run={record}", f"runs_dir={runs_dir}") == 0
    told, remarks = capfd.readouterr()
    assert "tracking" not in remarks  # a replay has no mirror, whichever the run had
    assert "environment: no difference" in told
    assert told.splitlines()[-1].startswith("identical: ")
    assert snapshot(record) == before
    assert set(record.parent.iterdir()) == {record, runs_dir}
    (again,) = (runs_dir / ".replays" / record.name).glob("1/*/status.json")
    assert load_run(again.parent).status == "done"
    assert (again.parent / "calibration.json").read_text() == "{}"
    assert not (again.parent / "tensorboard").exists()
    report = json.loads((again.parents[1] / "comparison.json").read_text())
    assert report["verdict"] == "identical"


@pytest.fixture
def same_again(recorded, monkeypatch, tmp_path):
    """Let a replay give what was recorded, so that tests of the report train nothing."""
    again = tmp_path / "replays" / "1" / recorded.name

    def copied(record, store, **choices):
        shutil.copytree(recorded, again)
        return rerun.read(again)

    monkeypatch.setattr(compare, "rerun", copied)


@pytest.mark.usefixtures("same_again")
def test_a_difference_is_named_with_what_differs_around_it(record, monkeypatch, capsys):
    path = record / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    true = rows[0]["train_loss"]
    rows[0]["train_loss"] = true * 1.5
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def age(environment):
        environment["packages"]["torch"] = "2.0.0"
        environment["code"]["commit"] = "f" * 40

    rewrite(record / "environment.json", age)
    assert call(f"run={record.name}", f"runs_dir={record.parent}") == 1
    told = capsys.readouterr().out
    assert f"packages.torch: recorded 2.0.0, replayed {metadata.version('torch')}" in told
    assert f"git worktree add --detach {ROOT.parent}/replay-{record.name} {'f' * 40}" in told
    step = rows[0]["step"]
    first = f"different: step {step}, train_loss: recorded {true * 1.5!r}, replayed {true!r}"
    assert first in told.splitlines()
    assert "rtol 1e-06" in told
    assert "note: packages.torch differ: the last bits do too" in told
    assert f"0 of {len(rows)} rows agree before the first difference" in told
    # A tolerance that covers it is the user's to choose.
    shutil.rmtree(record.parent / "replays")
    assert call(f"run={record}", "rtol=0.5") == 0
    assert "within tolerance: " in capsys.readouterr().out


@pytest.mark.usefixtures("same_again")
def test_a_run_is_looked_for_in_its_places_and_then_among_the_kept(
    record, monkeypatch, capsys, tmp_path
):
    """In folders for each place too; what the user has comes before what the repository has."""
    golden, runs_dir = tmp_path / "golden", tmp_path / "runs"
    monkeypatch.setattr(compare, "GOLDEN", golden)
    for place in (golden / "runs" / "kept", runs_dir / "a machine"):
        shutil.copytree(record, place / record.name)
        assert call(f"run={record.name}", f"runs_dir={runs_dir}") == 0
        assert f"{place / record.name}\n" in capsys.readouterr().out
        shutil.rmtree(tmp_path / "replays")


def test_no_replay_goes_among_the_kept_records(monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "GOLDEN", tmp_path / "golden")
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    for runs_dir in (tmp_path / "golden", tmp_path / "x" / ".." / "golden" / "runs" / "kept"):
        assert compare._store(runs_dir) == tmp_path / "runs"
    assert compare._store(tmp_path / "golden runs") == tmp_path / "golden runs"


@pytest.mark.parametrize(
    ("device", "hidden"), [("cpu", {"CUDA_VISIBLE_DEVICES": ""}), ("H200", {})]
)
def test_a_run_without_a_gpu_is_replayed_without_one(
    recorded, monkeypatch, tmp_path, device, hidden
):
    """With the folders of this checkout where the record names none."""
    record = rerun.read(recorded)
    record.environment["device"] = device
    for key in ("data_dir", "cache_dir"):
        del record.config[key]

    def launch(path, *, variables, **choices):
        assert variables == hidden
        config = json.loads(path.read_text())
        assert config["data_dir"] == str(ROOT / "data")
        assert config["cache_dir"] == str(tmp_path / "given")
        shutil.copytree(recorded, path.parent / recorded.name)
        return 0

    monkeypatch.setattr(rerun, "_launch", launch)
    folders = {"cache_dir": str(tmp_path / "given")}
    rerun.rerun(record, tmp_path, code=rerun.Code(), folders=folders)


@pytest.mark.usefixtures("same_again")
def test_an_interrupted_record_is_compared_as_far_as_it_goes(record, monkeypatch, capsys):
    rows = (record / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert len(rows) > 1
    (record / "metrics.jsonl").write_text(rows[0])
    rewrite(record / "status.json", lambda status: status.update(status="interrupted"))
    assert call(f"run={record}") == 0
    assert "the record is interrupted; it is compared as far as it goes" in capsys.readouterr().out


def test_a_record_of_which_nothing_can_be_compared_is_not_run(record, monkeypatch, capsys):
    """Else nothing would be found identical to nothing."""
    (record / "metrics.jsonl").unlink()
    rewrite(record / "status.json", lambda status: status.update(status="interrupted"))
    assert call(f"run={record}") == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "has no measurements (status interrupted): nothing can be compared" in told[0]
    assert set(record.parent.iterdir()) == {record}


@pytest.mark.usefixtures("same_again")
@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_another_end_is_a_difference(record, monkeypatch, capsys, status):
    rewrite(record / "status.json", lambda s: s.update(status=status, reason="loss is nan"))
    assert call(f"run={record}") == 1
    assert f"different: status: recorded '{status}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing value: run"),
        (["run=no-such-run"], "Invalid run: 'no-such-run'"),
        (["run=RECORD", "code=old"], "Invalid code: 'old'. Must be one of: current, recorded."),
        (["run=RECORD", "rtol=-1"], "Invalid rtol: '-1'"),
        (["run=RECORD", "run_dir=x"], "Unknown key: 'run_dir'. Did you mean: runs_dir"),
        (["RECORD"], "Must be key=value"),
    ],
)
def test_a_mistake_is_one_line(record, monkeypatch, capsys, arguments, told):
    given = [word.replace("RECORD", str(record)) for word in arguments]
    assert call(*given) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert told in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "status.json"])
@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["missing", "broken", "a list"])
def test_a_record_that_cannot_be_read_is_refused(record, monkeypatch, capsys, name, content):
    (record / name).unlink() if content is None else (record / name).write_text(content)
    assert call(f"run={record}") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_replay_that_cannot_run_says_why_and_exits_with_2(record, monkeypatch, capfd):
    """The child refuses a value; its line is the one that the user sees."""
    config = (record / "config.yaml").read_text()
    (record / "config.yaml").write_text(config.replace("precision: fp32", "precision: fp31"))
    assert call(f"run={record.name}", f"runs_dir={record.parent}") == 2
    assert "error: Invalid precision: 'fp31'." in capfd.readouterr().err


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one commit, with a change that is not committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "code.py").write_text("committed\n")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "Begin")):
        subprocess.run(["git", "-C", folder, *arguments], check=True)
    (folder / "code.py").write_text("changed\n")
    monkeypatch.setattr(recorded_code, "ROOT", folder)
    return folder


def test_the_recorded_code_is_its_commit_with_its_patch(repository, tmp_path):
    version = checkout.version(repository)
    (tmp_path / PATCH_FILE).write_bytes(version.patch_to_keep())
    (repository / "code.py").write_text("later\n")
    with recorded_code.recorded(version.facts(), tmp_path, trusted=True) as tree:
        assert (tree / "code.py").read_text() == "changed\n"
        assert checkout.version(tree).facts() == version.facts()
    assert not tree.exists()
    assert (repository / "code.py").read_text() == "later\n"
    listed = checkout.git(repository, "worktree", "list", "--porcelain")
    assert listed.count(b"worktree ") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"commit": None}, "names no commit"),
        ({"commit": "0" * 40}, "is not in"),
        ({"patch_sha256": "0"}, "is not the patch that the record names"),
    ],
)
def test_code_that_cannot_be_had_is_refused(repository, tmp_path, change, told):
    version = checkout.version(repository)
    (tmp_path / PATCH_FILE).write_bytes(version.patch_to_keep())
    with (
        pytest.raises(UserError, match=told),
        recorded_code.recorded({**version.facts(), **change}, tmp_path, trusted=True),
    ):
        pass


def test_changes_that_were_not_kept_are_told_of(tmp_path):
    assert recorded_code.lost_changes({"uncommitted_changes": True}, tmp_path)
    assert not recorded_code.lost_changes({"uncommitted_changes": False}, tmp_path)
    (tmp_path / PATCH_FILE).touch()
    assert not recorded_code.lost_changes({"uncommitted_changes": True}, tmp_path)


@pytest.mark.slow
def test_five_runs_replay_with_the_recorded_code(tmp_path):
    methods = "adafisher,adahessian,kfac,shampoo,adamw"
    sweep = [sys.executable, "-m", "experiments.train", "-m", f"optimizer={methods}"]
    sweep += ["budget=steps", "budget.steps=20", "tracking=none", f"runs_dir={tmp_path}"]
    subprocess.run(sweep, cwd=ROOT, check=True)
    ids = [path.parent.name for path in tmp_path.glob("*/status.json")]
    assert len(ids) == 5
    for run_id in ids:
        command = [sys.executable, "-m", "experiments", "replay", f"run={run_id}", "code=recorded"]
        command.append("trust=true")
        told = subprocess.run(
            [*command, f"runs_dir={tmp_path}"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        assert "identical: " in told, told

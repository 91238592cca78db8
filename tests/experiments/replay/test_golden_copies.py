"""Copies of records: what they hold, that they can be replayed, and what is not copied."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.records.schema import load_run, roots
from experiments.replay import compare, golden, rerun
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "tests" / "golden" / "runs"
STUDY = ".studies/landscape/0123456789ab"


@pytest.fixture
def runs_dir(recorded, tmp_path):
    """A folder with a run and a study, whose files a test may change."""
    folder = tmp_path / "runs"
    record = shutil.copytree(recorded, folder / recorded.name)
    for name in ("checkpoint.pt", "uncommitted.patch", "wandb/debug.log", "arrays/trace.npz"):
        (record / name).parent.mkdir(exist_ok=True)
        (record / name).write_text("x")
    (record / "calibration.json").write_text("{}")
    (folder / STUDY).mkdir(parents=True)
    (folder / STUDY / "study.json").write_text('{"study": "landscape"}')
    (folder / STUDY / "arrays.npz").write_bytes(b"arrays of a study")
    return folder


@pytest.fixture
def record(runs_dir, recorded):
    return runs_dir / recorded.name


def copy(*arguments):
    """The command in this process; returns its exit code."""
    return exit_code("golden", *arguments)


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_holds_what_is_read_and_nothing_of_the_machine(
    runs_dir, record, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    assert copy(f"runs_dir={runs_dir}", f"out={out}") == 0
    assert f"1 runs and 1 studies copied to {out}\n" in capsys.readouterr().out
    files = ("status.json", "metrics.jsonl", "config.yaml", "environment.json", "calibration.json")
    assert names(out) == {
        *(f"{record.name}/{name}" for name in files),
        *(f"{STUDY}/{name}" for name in ("study.json", "arrays.npz")),
    }
    for name in names(out):
        content = (out / name).read_bytes()
        if not name.endswith("config.yaml"):
            assert content == (runs_dir / name).read_bytes()
        assert str(tmp_path).encode() not in content
    before, after = (
        OmegaConf.to_container(OmegaConf.load(folder / record.name / "config.yaml"))
        for folder in (runs_dir, out)
    )
    left_out = {"data_dir", "runs_dir", "cache_dir", "tracking"}
    assert left_out <= set(before)
    assert after == {key: value for key, value in before.items() if key not in left_out}


def test_a_copy_is_replayed_by_its_id_and_left_alone(
    runs_dir, record, tmp_path, monkeypatch, capfd
):
    kept, own = tmp_path / "golden" / "runs" / "sweep", tmp_path / "own"
    copy(f"runs_dir={runs_dir}", f"out={kept}")
    before = {name: (kept / name).read_bytes() for name in names(kept)}
    monkeypatch.setattr(compare, "GOLDEN", tmp_path / "golden")
    code = exit_code("replay", f"run={record.name}", f"runs_dir={own}")
    told = capfd.readouterr().out
    assert code == 0, told
    assert "environment: no difference" in told
    assert told.splitlines()[-1].startswith("identical: ")
    assert {name: (kept / name).read_bytes() for name in names(kept)} == before
    (again,) = (own / ".replays").rglob("status.json")
    assert load_run(again.parent).run_id == record.name


def test_records_that_are_gone_are_named_and_removed_on_request(
    runs_dir, record, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    copy(f"runs_dir={runs_dir}", f"out={out}")
    (out / record.name).rename(out / "fedcba987654")
    (out / STUDY).rename(out / STUDY.replace("0123", "4567"))
    for name in ("notes", ".studies"):
        (out / name / "kept by hand.txt").parent.mkdir(exist_ok=True)
        (out / name / "kept by hand.txt").write_text("x")
    before = names(out)
    arguments = (f"runs_dir={runs_dir}", f"out={out}")
    assert copy(*arguments) == 0
    told = capsys.readouterr().out
    assert f"{out / 'fedcba987654'}: not in {runs_dir}, keep" in told
    assert before < names(out)
    assert copy(*arguments, "stale=remove") == 0
    assert {name.split("/")[0] for name in names(out)} == {record.name, ".studies", "notes"}
    assert {path.parent.name for path in out.rglob("study.json")} == {"0123456789ab"}
    assert (out / ".studies" / "kept by hand.txt").exists()


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def interrupted(record):
    change_json(record / "status.json", status="interrupted")


def failed(record):
    change_json(record / "status.json", status="failed", reason="x")


def with_remark(record):
    change_json(record / "environment.json", remarks=["loaded from '/home/someone/x.pt'"])


def with_weights(record):
    config = OmegaConf.load(record / "config.yaml")
    config.pretrained.source = "~/weights.pt"
    OmegaConf.save(config, record / "config.yaml")


def without_environment(record):
    (record / "environment.json").unlink()


def broken(record):
    (record / "status.json").write_text("{")


def broken_study(record):
    (record.parent / STUDY / "study.json").write_text("{")


def half_a_study(record):
    (record.parent / STUDY / "arrays.npz").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (interrupted, "is interrupted; must be done or diverged. Run it to its end"),
        (failed, "is failed; must be done or diverged"),
        (with_remark, "names a path of its machine (remarks: /home/someone/x.pt"),
        (with_weights, "names a path of its machine (pretrained.source: ~/weights.pt); must"),
        (without_environment, "environment.json: missing"),
        (broken, "status.json: not readable as JSON"),
        (broken_study, "is no study that can be copied"),
        (half_a_study, "is no study that can be copied"),
    ],
)
def test_a_record_that_cannot_be_kept_is_refused_in_one_line_and_nothing_is_written(
    runs_dir, record, tmp_path, monkeypatch, capsys, spoil, told
):
    spoil(record)
    out = tmp_path / "out"
    assert copy(f"runs_dir={runs_dir}", f"out={out}") == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert told in errors
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs_dir=RUNS"], "Missing value: out"),
        (["runs_dir=RUNS", "out=RUNS"], "Must not be runs_dir"),
        (["runs_dir=no/such/place", "out=OUT"], "There are no records in it"),
        (["runs_dir=RUNS", "out=OUT", "stale=no"], "Must be one of: keep, remove"),
        (["runs=RUNS", "out=OUT"], "Unknown key: 'runs'. Did you mean: runs_dir?"),
    ],
)
def test_a_mistake_is_one_line(runs_dir, tmp_path, monkeypatch, capsys, arguments, told):
    places = {"RUNS": str(runs_dir), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [word.replace(f"={name}", f"={place}") for word in arguments]
    assert copy(*arguments) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("source /home/me/x.pt", "/home/me/x.pt"),
        ("'/x'", "/x'"),
        ("C:\\Users\\me", "C:\\Users\\me"),
        ("~me/x", "~me/x"),
        ("3,333 images/s, and/or", None),
        ("tuned/digits/sgd.yaml", None),
        ("https://example.org/a/b", None),
        ("(n / m)", None),
    ],
)
def test_paths_of_a_machine_are_told_from_other_texts(text, found):
    match = golden._PATH.search(text)
    assert (match and match[0]) == found


def test_every_kept_run_can_be_replayed_and_names_no_path():
    folders = [path.parent for root in roots(KEPT) for path in root.glob("*/status.json")]
    assert folders
    for folder in folders:
        record = rerun.read(folder)
        assert set(record.config).isdisjoint(golden._PRIVATE)
        assert record.environment["cpu_model"]
        assert set(golden.files_of(record)) == {path.name for path in folder.iterdir()}

"""Archives: what comes out is what went in, to the byte, and a damaged one is one line."""

import json
import lzma
import re
import shutil
from pathlib import Path

import pytest

from analysis.report.unchanged import inputs_digest
from analysis.results.load import load_results
from experiments.records import archive
from experiments.records.schema import load_runs
from experiments.tuning import tune
from tests.support.commands import exit_code

KEPT = Path(__file__).resolve().parents[2] / "golden" / "runs" / "sweep"
RUNS = ("00630c88e593", "00a3e764a12a", "00dd39f16ed6")


@pytest.fixture
def runs_dir(tmp_path):
    """Three kept records: two runs, and one that takes the place of a trial."""
    for name in RUNS[:2]:
        shutil.copytree(KEPT / name, tmp_path / "runs" / name)
    shutil.copytree(KEPT / RUNS[2], tmp_path / "runs" / archive.TRIALS_DIR / RUNS[2])
    (tmp_path / "runs" / archive.TRIALS_DIR / "digits-adam-01234567").mkdir()  # a study's own
    return tmp_path / "runs"


@pytest.fixture
def archived(runs_dir, tmp_path):
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={tmp_path / 'kept'}") == 0
    return tmp_path / "kept"


def task_of(name):
    return json.loads((KEPT / name / "status.json").read_text())["identity"]["task"]


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "ledgers"
    }


def lines_of(path):
    return lzma.decompress(path.read_bytes()).decode().splitlines()


def write_lines(path, lines):
    path.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))


def test_each_task_has_a_file(tmp_path, capsys):
    assert exit_code("archive", f"runs_dir={KEPT}", f"out={tmp_path}") == 0
    tasks = {task_of(path.name) for path in KEPT.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {f"{task}.jsonl.xz" for task in tasks}
    assert len(tasks) == len(capsys.readouterr().out.splitlines()) == 2
    size, count = sum(path.stat().st_size for path in tmp_path.iterdir()), len(list(KEPT.iterdir()))
    assert 2200 * size / count < 10e6  # of a study; the more runs share their words the less


def test_it_has_every_run_and_trial(archived):
    found = [json.loads(line) for path in archived.iterdir() for line in lines_of(path)]
    assert sorted(line["run"] for line in found if "run" in line) == sorted(RUNS)
    assert {line["run"]: line["place"] for line in found if "run" in line}[RUNS[2]] == ".tuning"
    assert archive.TRIALS_DIR == tune.TRIALS_DIR
    assert found[0] == {"archive": archive.VERSION}


def test_what_is_laid_out_is_what_was_archived_to_the_byte(runs_dir, archived):
    folder, faults = archive.opened(archived)
    assert faults == []
    out = {name: content for name, content in files(folder).items() if "ledgers" not in name}
    out.pop("faults.json")
    assert out == files(runs_dir)
    assert archive.opened(archived)[0] == folder  # and once only
    assert [run.run_id for run in load_runs(folder)[0]] == list(RUNS[:2])


def test_the_same_records_are_the_same_bytes(runs_dir, archived, tmp_path):
    moved = tmp_path / "elsewhere"
    (moved / "one").mkdir(parents=True)
    shutil.copytree(runs_dir, moved / "one", dirs_exist_ok=True)  # a place of several
    assert exit_code("archive", f"runs_dir={moved}", f"out={tmp_path / 'again'}") == 0
    assert files(tmp_path / "again") == files(archived)


def test_results_of_an_archive_are_those_of_its_runs(runs_dir, archived):
    own, kept = load_results(runs_dir), load_results(archived)
    assert kept.runs.equals(own.runs)
    assert kept.digest == own.digest
    assert kept.broken == own.broken == ()


def cut(lines):
    return lzma.compress("\n".join(lines).encode())[:-40]


DAMAGES = {
    "cut off": (cut, "not readable (it is cut off, or has more than 2 GiB)"),
    "none": (lambda lines: b"x" * 40, "not readable (Input format not supported by decoder)"),
    "other text": (lambda lines: lzma.compress(b"[1]\n"), "not readable (no archive of runs)"),
    "newer": (
        lambda lines: lzma.compress(b'{"archive": 2}\n'),
        "not readable (archive is 2, this version reads 1)",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_an_archive_that_cannot_be_read_is_one_line_and_the_others_are_reported(
    archived, damage, said, capsys
):
    (path,) = archived.iterdir()
    whole = shutil.copy(path, archived / f"other{archive.SUFFIX}")
    path.write_bytes(damage(lines_of(path)))
    folder, faults = archive.opened(archived)
    (line,) = [one for one in faults if one.startswith(path.name)]
    assert line.startswith(f"{path.name}: {said}")
    assert line.endswith("its runs are left out")
    assert [run.run_id for run in load_runs(folder)[0]] == list(RUNS[:2])
    assert line in load_results(archived).broken
    assert exit_code("status", f"runs_dir={archived}") == 0
    assert line in capsys.readouterr().out.splitlines()
    assert Path(whole).is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: {**line, "run": "../x"}, 'run is "../x", must be a name without slashes'),
        (lambda line: {**line, "place": "/tmp"}, 'place is "/tmp", must be one of: , .tuning'),
        (lambda line: {**line, "run": "another"}, "run another has the status of another"),
        (lambda line: {**line, "rows": [3]}, "rows[0] is 3, must be a mapping"),
        (
            lambda line: {"ledger": "../../x", "text": ""},
            'ledger is "../../x", must be the path of a tuned file',
        ),
        (lambda line: [line], ", must be a mapping"),
    ],
)
def test_a_line_that_is_none_is_left_out_and_the_others_are_laid_out(archived, change, said):
    (path,) = archived.iterdir()
    head, *lines = lines_of(path)
    at = next(i for i, one in enumerate(lines) if json.loads(one).get("run") == RUNS[0])
    lines[at] = json.dumps(change(json.loads(lines[at])))
    write_lines(path, [head, *lines])
    folder, (fault,) = archive.opened(archived)
    assert fault.startswith(f"{path.name}: line {at + 2}")
    assert said in fault
    assert [run.run_id for run in load_runs(folder)[0]] == [RUNS[1]]


def test_a_record_in_it_is_checked_as_any_other(archived):
    (path,) = archived.iterdir()
    head, *lines = lines_of(path)
    lines = [re.sub(r'"seed": \d', '"seed": "zero"', line) for line in lines]
    write_lines(path, [head, *lines])
    broken = load_results(archived).broken
    assert any('identity.seed is "zero", must be a whole number >= 0' in line for line in broken)


def test_a_run_that_two_archives_have_counts_once(archived):
    (path,) = archived.iterdir()
    shutil.copy(path, archived / f"z{archive.SUFFIX}")
    folder, faults = archive.opened(archived)
    assert len(load_runs(folder)[0]) == 2
    assert sum(f"is in {path.name} too" in line for line in faults) == 3


def test_where_nothing_can_be_written_it_is_read_all_the_same(archived, monkeypatch):
    mkdir = Path.mkdir

    def refusing(self, *arguments, **options):
        if archive.OPENED_DIR in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refusing)
    folder, faults = archive.opened(archived)
    assert faults == []
    assert not folder.is_relative_to(archived)
    assert len(load_runs(folder)[0]) == 2


def test_a_changed_archive_is_laid_out_anew_and_the_old_one_goes(archived):
    before, _ = archive.opened(archived)
    (path,) = archived.glob(f"*{archive.SUFFIX}")
    head, *lines = lines_of(path)
    write_lines(path, [head, *(line for line in lines if RUNS[0] not in line)])
    after, _ = archive.opened(archived)
    assert [run.run_id for run in load_runs(after)[0]] == [RUNS[1]]
    assert after != before
    assert not before.exists()


def test_a_ledger_that_is_a_file_and_a_folder_is_one_line(archived):
    (path,) = archived.iterdir()
    made = [json.dumps({"ledger": name, "text": "x"}) for name in ("a/b.yaml", "a/b.yaml/c.yaml")]
    write_lines(path, [*lines_of(path), *made])
    folder, (fault,) = archive.opened(archived)
    assert fault.endswith("a/b.yaml/c.yaml is a file and a folder")
    assert len(load_runs(folder)[0]) == 2


def test_what_is_laid_out_makes_no_report_anew(archived, tmp_path):
    before = inputs_digest(archived, tmp_path / "out")
    archive.opened(archived)
    assert inputs_digest(archived, tmp_path / "out") == before


def test_runs_beside_archives_are_told(archived):
    shutil.copytree(KEPT / RUNS[0], archived / RUNS[0])
    _, faults = archive.opened(archived)
    assert faults == ["kept: has archives, so the runs that lie beside them are left out"]


def test_a_folder_without_archives_is_itself(runs_dir, tmp_path):
    assert archive.opened(runs_dir) == (runs_dir, [])
    assert archive.opened(tmp_path / "none") == (tmp_path / "none", [])


@pytest.mark.parametrize("place", ["", archive.TRIALS_DIR])
def test_a_run_that_is_not_over_is_refused_and_one_that_failed_is_kept(
    runs_dir, tmp_path, capsys, place
):
    path = runs_dir / place / RUNS[2 if place else 0] / "status.json"
    done, out = path.read_text(), tmp_path / "kept"
    path.write_text(done.replace('"status": "done"', '"status": "interrupted"'))
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={out}") == 2
    line = "is interrupted; must be done or diverged or failed or out_of_memory"
    assert line in capsys.readouterr().err
    assert not out.exists()
    path.write_text(done.replace('"status": "done"', '"status": "failed"'))
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={out}") == 0


def test_what_names_a_path_of_its_machine_is_refused(runs_dir, tmp_path, capsys):
    path = runs_dir / RUNS[0] / "environment.json"
    facts = json.loads(path.read_text()) | {"remarks": ["see /home/me/x"]}
    path.write_text(json.dumps(facts))
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={tmp_path / 'kept'}") == 2
    assert "names a path of its machine" in capsys.readouterr().err


def test_nothing_to_archive_is_one_line(tmp_path, capsys):
    assert exit_code("archive", f"runs_dir={tmp_path}", f"out={tmp_path / 'kept'}") == 2
    assert "There are no records in it." in capsys.readouterr().err


def test_an_archive_beside_its_runs_is_refused(runs_dir, capsys):
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={runs_dir / '..' / 'runs'}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Must be another folder than runs_dir" in line
    assert not list(runs_dir.glob("*.xz"))


def test_an_archive_is_not_replaced_by_one_that_lacks_some_of_its_runs(runs_dir, archived, capsys):
    before = files(archived)
    command = ("archive", f"runs_dir={runs_dir}", f"out={archived}")
    assert exit_code(*command) == 0  # the same runs
    task = task_of(RUNS[0])
    for name in RUNS[1:]:
        shutil.rmtree(runs_dir / name, ignore_errors=True)
        shutil.rmtree(runs_dir / archive.TRIALS_DIR / name, ignore_errors=True)
    lost = sum(task_of(name) == task for name in RUNS[1:])
    capsys.readouterr()
    assert exit_code(*command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{task}.jsonl.xz has {lost} runs and trials that {runs_dir} lacks" in line
    assert files(archived) == before


def test_an_archive_that_cannot_be_read_is_not_replaced(runs_dir, archived, capsys):
    path = archived / f"{task_of(RUNS[0])}.jsonl.xz"
    path.write_bytes(path.read_bytes()[:-9])
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={archived}") == 2
    assert "cannot be read (it is cut off" in capsys.readouterr().err


def test_what_an_archive_leaves_out_is_one_line(runs_dir, tmp_path, capsys):
    (runs_dir / RUNS[0] / "uncommitted.patch").touch()
    for name in (".versus/x-y-01234567/verdict.json", ".studies/some/01234567/study.json"):
        (runs_dir / name).parent.mkdir(parents=True)
        (runs_dir / name).touch()
    assert exit_code("archive", f"runs_dir={runs_dir}", f"out={tmp_path / 'kept'}") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "note: an archive has no comparisons (.versus: 1), no studies (.studies: 1), no patches of "
        f"uncommitted code (uncommitted.patch: 1): {runs_dir} alone has them"
    )

"""Damaged records, each by its line: the others are reported, and nothing happens to it."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.report.__main__ import main as report
from experiments.errors import UserError
from experiments.records import calibration, store
from experiments.records.schema import SCHEMA, load_run
from experiments.replay import rerun
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "runs" / "sweep"
STATUS, ROWS, CONFIG, ENVIRONMENT = (
    "status.json",
    "metrics.jsonl",
    "config.yaml",
    "environment.json",
)
HUGE = int("9" * 400)
DELETED = object()

Damage = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    file: str
    damage: Damage
    line: str


def put(key: str, value: Any) -> Damage:
    """Put a value at a dotted key; in rows the first part is the number of the line."""

    def damage(path: Path) -> None:
        as_yaml, as_rows = path.suffix == ".yaml", path.suffix == ".jsonl"
        text = path.read_text()
        if as_rows:
            content: Any = {str(n): json.loads(row) for n, row in enumerate(text.splitlines(), 1)}
        else:
            content = yaml.safe_load(text) if as_yaml else json.loads(text)
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place[parent]
        if value is DELETED:
            del place[last]
        else:
            place[last] = value
        if as_rows:
            path.write_text("".join(json.dumps(row) + "\n" for row in content.values()))
        else:
            path.write_text(yaml.safe_dump(content) if as_yaml else json.dumps(content))

    return damage


def content(new: bytes | str) -> Damage:
    """Replace the whole file."""
    return lambda path: path.write_bytes(new if isinstance(new, bytes) else new.encode()) and None


def changed(old: str, new: str) -> Damage:
    """Replace some text."""

    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def in_its_place(make: Callable[[Path], Any]) -> Damage:
    """Put something in place of the file."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def wrong(key: str, value: Any, must: str, shown: str | None = None) -> tuple[str, Damage, str]:
    """A value of the wrong kind, with what the line says of it."""
    said = json.dumps(value) if shown is None else shown
    return f"{key} {said}"[:60], put(key, value), f"{key} is {said}, must be {must}"


LABEL = "text, not empty"
NAME = "a name without slashes and control characters"
WHOLE = "a whole number >= 0"
AMOUNT = "a number >= 0"
UNREADABLE = "not readable as JSON ("
BIG = f"{UNREADABLE}a whole number of more than 64 bits, 999999999999...)"
STATUSES = "one of: done, diverged, out_of_memory, failed, interrupted, running"
SECTION = {"name": "x", "ruleset": "tuned", "hyperparameters": {}}

OF_STATUS = [
    *(wrong(f"identity.{key}", 5, LABEL) for key in ("task", "model", "optimizer", "ruleset")),
    *(wrong(f"identity.{key}", ["a"], LABEL) for key in ("metric", "group_id", "budget")),
    wrong("identity.task", "", LABEL),
    wrong("identity.model", None, LABEL),
    wrong("run_id", None, NAME),
    wrong("run_id", "/etc/passwd", NAME),
    wrong("run_id", "../../out", NAME),
    wrong("run_id", ".hidden", NAME),
    wrong("run_id", "a\x1b[31m", NAME),
    wrong("run_id", "x" * 300, NAME, '"' + "x" * 39 + "..."),
    wrong("identity", None, "a mapping"),
    wrong("identity", [1], "a mapping"),
    wrong("progress", "far", "a mapping or null"),
    wrong("progress", [1, 2], "a mapping or null"),
    wrong("summary", 3, "a mapping or null"),
    wrong("summary", "good", "a mapping or null"),
    wrong("status", "finished", STATUSES),
    wrong("status", 0, STATUSES),
    wrong("status", ["done"], STATUSES),
    wrong("reason", {"why": 1}, "text or null"),
    wrong("identity.seed", "one", WHOLE),
    wrong("identity.seed", 1.5, WHOLE),
    wrong("identity.seed", True, WHOLE),
    wrong("identity.seed", -1, WHOLE),
    wrong("identity.seed", None, WHOLE),
    wrong("identity.higher_is_better", 1, "true or false"),
    wrong("identity.higher_is_better", "yes", "true or false"),
    wrong("identity.setting", ["scratch"], "text or null"),
    wrong("identity.setting", 1, "text or null"),
    wrong("identity.tokenization", {"name": "bpe"}, "text or null"),
    wrong("identity.tokenization", 8192, "text or null"),
    wrong("identity.dataset", [], "text or null"),
    wrong("identity.family", 7, "text or null"),
    wrong("identity.schedule", {}, "text or null"),
    wrong("identity.precision", 32, "text or null"),
    wrong("identity.unit", 1, "text or null"),
    wrong("identity.control", {}, "text or null"),
    wrong("identity.control_of", 5, "text or null"),
    wrong("identity.batch_size", "64", "a whole number >= 1 or null"),
    wrong("identity.batch_size", 0, "a whole number >= 1 or null"),
    wrong("identity.validation", "no", "true or false or null"),
    wrong("identity.hyperparameters", None, "a mapping"),
    wrong("identity.hyperparameters", "lr", "a mapping"),
    wrong("identity.hyperparameters.lr", [0.1], "a number or null"),
    wrong("identity.hyperparameters.lr", "high", "a number or null"),
    wrong("identity.published_as", "adam", "a mapping or null"),
    wrong("identity.published_as.optimizer", 5, "text or null"),
    wrong("identity.tuning", [8], "a mapping or null"),
    wrong("identity.tuning.trials", "many", WHOLE),
    wrong("identity.tuning.seeds", 3, "a list"),
    wrong("identity.tuning.spread", 1.0, "a mapping"),
    wrong("identity.tuning.on_edge", "lr", "a list"),
    wrong("identity.tuning.chosen", 1, "a mapping or null"),
    wrong("identity.protocol", None, "a mapping"),
    wrong("identity.protocol", "the paper's", "a mapping"),
    wrong("identity.protocol.task", "digits", "a mapping or null"),
    wrong("identity.protocol.budget", 5, "a mapping or null"),
    wrong("identity.protocol.model", ["a"], "a mapping or null"),
    wrong("identity.protocol.schedule", 1, "a mapping or null"),
    wrong("identity.protocol.pretrained", "imagenet", "a mapping or null"),
    wrong("identity.origin", "elsewhere", "a mapping or null"),
    wrong("identity.origin.command", "task=digits", "a list"),
    wrong("identity.origin.setting", None, "a mapping"),
    wrong("identity.origin.typed", [], "a mapping"),
    wrong("identity.origin.ruleset_file", "tuned.yaml", "a mapping or null"),
    wrong("identity.origin.ruleset_file.path", "/dev/zero", "a path below its folder"),
    wrong("identity.origin.ruleset_file.path", "../../x", "a path below its folder"),
    wrong("identity.origin.ruleset_file.sha256", "0", "a sha256"),
    wrong("identity.origin.experiment", "table2", "a mapping or null"),
    (
        "an experiment of no protocol",
        put("identity.origin.experiment", SECTION),
        "lacks identity.origin.experiment.protocol",
    ),
    (
        "a word of a command that is none",
        put("identity.origin.command", ["task=digits", 5]),
        "identity.origin.command[1] is 5, must be text",
    ),
    wrong("progress.step", "last", WHOLE),
    wrong("progress.step", -3, WHOLE),
    wrong("progress.step", 1.5, WHOLE),
    wrong("progress.epoch", [1], AMOUNT),
    wrong("progress.epoch", float("inf"), AMOUNT),
    wrong("progress.train_seconds", "long", AMOUNT),
    wrong("progress.train_seconds", float("nan"), AMOUNT),
    wrong("progress.train_seconds", -1.0, AMOUNT),
    wrong("progress.evaluation_seconds", {}, f"{AMOUNT} or null"),
    wrong("progress.total_steps", "all", f"{WHOLE} or null"),
    wrong("progress.last_row_step", [], f"{WHOLE} or null"),
    wrong("summary.parameters", "many", WHOLE),
    wrong("summary.state_bytes", 1.5, WHOLE),
    wrong("summary.peak_memory_bytes", {}, WHOLE),
    wrong("summary.left_alone_percent", "half", "a number or null"),
    wrong("summary.final", "good", "a number or null"),
    wrong("summary.best_test", [99.0], "a number or null"),
    wrong("summary.final_epoch", True, "a number or null"),
    wrong("summary.calibration", 5, "a mapping"),
    wrong("summary.budget_train_seconds", 0, "a number > 0"),
    wrong("summary.steps_to_target", "soon", f"{WHOLE} or null"),
    wrong("schema", None, "a whole number >= 1"),
    wrong("schema", "2", "a whole number >= 1"),
    wrong("schema", 0, "a whole number >= 1"),
    *((f"no {key}", put(key, DELETED), f"lacks {key}") for key in ("run_id", "status", "schema")),
    ("no identity", put("identity", DELETED), "lacks identity"),
    *(
        (f"no {key}", put(f"identity.{key}", DELETED), f"lacks identity.{key}")
        for key in ("task", "optimizer", "seed", "metric", "group_id", "protocol", "budget")
    ),
    ("a newer schema", put("schema", SCHEMA + 1), "written by a newer version: schema 3, this one"),
    ("a far newer schema", put("schema", 2**63), "written by a newer version: schema 92233720368"),
    ("400 digits of a seed", put("identity.seed", HUGE), BIG),
    ("400 digits of a step", put("progress.step", HUGE), BIG),
    ("400 digits of seconds", put("progress.train_seconds", HUGE), BIG),
    ("400 digits of a learning rate", put("identity.hyperparameters.lr", HUGE), BIG),
    ("400 digits of what is not known", put("what", [{"is": HUGE}]), BIG),
    (
        "5000 digits",
        changed('"schema"', f'"x": {"9" * 5000}, "schema"'),
        BIG,
    ),
    (
        "deep nesting",
        changed('"schema"', f'"x": {"[" * 40}{"]" * 40}, "schema"'),
        f"{UNREADABLE}more than 32 levels)",
    ),
    (
        "nesting without end",
        content('{"x": ' + "[" * 100_000),
        f"{UNREADABLE}more than 32 levels)",
    ),
    (
        "nested mappings",
        put("identity.hyperparameters", json.loads('{"a": ' * 40 + "1" + "}" * 40)),
        f"{UNREADABLE}more than 32 levels)",
    ),
    ("a key twice", changed('"schema"', '"schema": 2, "schema"'), f"{UNREADABLE}'schema' twice)"),
    (
        "an inner key twice",
        changed('"seed"', '"seed": 5, "seed"'),
        f"{UNREADABLE}'seed' twice)",
    ),
    ("half a character", changed('"scratch"', r'"\ud800"'), f"{UNREADABLE}no UTF-8)"),
    ("no UTF-8", content(b'{"schema": 2, "run_id": "\xff"}'), f"{UNREADABLE}no UTF-8)"),
    ("UTF-16", content('{"schema": 2}'.encode("utf-16")), f"{UNREADABLE}no UTF-8)"),
    ("an empty file", content(""), f"{UNREADABLE}Expecting value: line 1 column 1 (char 0))"),
    ("zeros", content(bytes(500)), f"{UNREADABLE}Expecting value: line 1 column 1 (char 0))"),
    ("cut off", content('{"schema": 2, "run'), f"{UNREADABLE}Unterminated string"),
    ("two in one", content("{}{}"), f"{UNREADABLE}Extra data"),
    ("a page", content("<html></html>"), f"{UNREADABLE}Expecting value"),
    ("a list", content("[]"), "[], must be a mapping"),
    ("a number", content("5"), "5, must be a mapping"),
    ("null", content("null"), "null, must be a mapping"),
    ("a folder", in_its_place(Path.mkdir), "not readable (not a file)"),
    ("a pipe", in_its_place(os.mkfifo), "not readable (not a file)"),
    (
        "a device",
        in_its_place(lambda path: path.symlink_to("/dev/zero")),
        "not readable (not a file)",
    ),
    (
        "a loop",
        in_its_place(lambda path: path.symlink_to(path)),
        "not readable (Too many levels of symbolic links)",
    ),
    ("no file", in_its_place(lambda path: None), "missing"),
    (
        "a link to nothing",
        in_its_place(lambda path: path.symlink_to(path.parent / "nothing")),
        "missing",
    ),
]
OF_ROWS = [
    (
        "a word for a loss",
        put("1.train_loss", "low"),
        'line 1: train_loss is "low", must be a number or null',
    ),
    (
        "a list",
        put("2.test_accuracy_percent", [1.0, 2.0]),
        "line 2: test_accuracy_percent is [1.0, 2.0], must be a number or null",
    ),
    ("a mapping", put("1.epoch", {}), "line 1: epoch is {}, must be a number or null"),
    ("a flag", put("1.lr", True), "line 1: lr is true, must be a number or null"),
    ("a word for seconds", put("1.train_seconds", "1 s"), 'line 1: train_seconds is "1 s", must'),
    ("no step", put("2.step", DELETED), "line 2: lacks step"),
    ("a word for a step", put("2.step", "two"), f'line 2: step is "two", must be {WHOLE}'),
    ("half a step", put("1.step", 1.5), f"line 1: step is 1.5, must be {WHOLE}"),
    ("no number of a step", put("1.step", None), f"line 1: step is null, must be {WHOLE}"),
    ("a step before the first", put("1.step", -1), f"line 1: step is -1, must be {WHOLE}"),
    (
        "400 digits",
        put("1.test_loss", HUGE),
        "line 1 is not a JSON object (a whole number of more than 64 bits, 999999999999...)",
    ),
    (
        "400 digits of a step",
        put("1.step", HUGE),
        "line 1 is not a JSON object (a whole number of more than 64 bits, 999999999999...)",
    ),
    (
        "a key twice",
        changed('"epoch"', '"epoch": 9.0, "epoch"'),
        "line 1 is not a JSON object ('epoch' twice)",
    ),
    ("nonsense first", changed("{", "nonsense\n{"), "line 1 is not a JSON object"),
    ("half of the first", changed(', "epoch"', "\n"), "line 1 is not a JSON object"),
    ("an empty line", changed("{", "\n{"), "line 1 is not a JSON object"),
    ("a list of a row", changed("{", "[1]\n{"), "line 1 is not a JSON object"),
    (
        "nesting without end",
        changed("{", "[" * 100_000 + "\n{"),
        "line 1 is not a JSON object (more than 32 levels)",
    ),
    ("no UTF-8", changed("{", "{\n"), "line 1 is not a JSON object"),
    ("a folder", in_its_place(Path.mkdir), "not readable (not a file)"),
    ("a pipe", in_its_place(os.mkfifo), "not readable (not a file)"),
    (
        "a loop",
        in_its_place(lambda path: path.symlink_to(path)),
        "not readable (Too many levels of symbolic links)",
    ),
]
OF_CONFIG = [
    ("no file", in_its_place(lambda path: None), "missing"),
    ("a folder", in_its_place(Path.mkdir), "not readable (not a file)"),
    ("an empty file", content(""), "lacks task, model, optimizer, schedule"),
    ("a list", content("- 1"), "[1], must be a mapping"),
    ("no YAML", content("a: ["), "not readable as YAML (while parsing a flow"),
    ("a tab", content("a:\n\tb: 1"), "not readable as YAML (while scanning"),
    ("no UTF-8", content(b"a: \xff"), "not readable as YAML (no UTF-8)"),
    ("nesting", content("a: " + "[" * 50 + "]" * 50), "not readable as YAML (more than 32 levels)"),
    *((f"no {key}", put(key, DELETED), f"lacks {key}") for key in ("task", "optimizer", "seed")),
    wrong("task", "digits", "a mapping"),
    wrong("model", [1], "a mapping"),
    wrong("optimizer", None, "a mapping"),
    wrong("seed", "one", WHOLE),
    wrong("budget", 5, "a mapping"),
    wrong("pretrained", "imagenet", "a mapping"),
    wrong("threads", 10**6, "a whole number in [1, 4096] or null"),
    wrong("tokenization", 3, "a mapping or null"),
]
OF_ENVIRONMENT = [
    ("no file", in_its_place(lambda path: None), "missing"),
    ("a list", content("[]"), "[], must be a mapping"),
    ("nonsense", content("{"), UNREADABLE),
    ("400 digits", put("cpu_count", HUGE), BIG),
    wrong("threads", "all", "a whole number in [1, 4096] or null"),
    wrong("processes", 2, "a mapping or null"),
    wrong("processes.count", 10**6, "a whole number in [1, 4096]"),
    wrong("code", "mine", "a mapping or null"),
    wrong("code.commit", "HEAD; x", "a commit's id or null"),
    wrong("packages", ["torch"], "a mapping"),
    wrong("packages.torch", 2.0, "text or null"),
    wrong("remarks", "none", "a list"),
    wrong("earlier_code", 5, "a list"),
]
TABLE = [
    Case(file, damage, line)
    for file, cases in (
        (STATUS, OF_STATUS),
        (ROWS, OF_ROWS),
        (CONFIG, OF_CONFIG),
        (ENVIRONMENT, OF_ENVIRONMENT),
    )
    for _, damage, line in cases
]
IDS = [
    f"{file} {name}"
    for file, cases in (
        (STATUS, OF_STATUS),
        (ROWS, OF_ROWS),
        (CONFIG, OF_CONFIG),
        (ENVIRONMENT, OF_ENVIRONMENT),
    )
    for name, _, _ in cases
]
IN_A_REPORT = (STATUS, ROWS)


def good_records() -> list[Path]:
    """Two of digits, of one method."""
    found = []
    for path in sorted(GOLDEN.glob("*/status.json")):
        identity = json.loads(path.read_text())["identity"]
        if (identity["task"], identity["optimizer"], identity["control"]) == (
            "digits",
            "adam",
            None,
        ):
            found.append(path.parent)
    return found[:2]


def copied(record: Path, folder: Path) -> Path:
    """Copy a record as one of another run."""
    shutil.copytree(record, folder)
    put("run_id", folder.name)(folder / STATUS)
    return folder


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Told:
    """What was printed of a folder of good and damaged records."""

    runs: Path
    warnings: list[str]
    states: list[str]
    untouched: bool
    table: str
    plain_table: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Report on them, and show how they stand, once for all cases."""
    folder = tmp_path_factory.mktemp("damaged")
    runs, plain = folder / "runs", folder / "plain"
    for record in good_records():
        shutil.copytree(record, runs / record.name)
    shutil.copytree(runs, plain)
    for number, case in enumerate(TABLE):
        if case.file in IN_A_REPORT:
            case.damage(copied(good_records()[0], runs / f"case{number}") / case.file)
    before = snapshot(runs)
    tables, errors, out = [], io.StringIO(), io.StringIO()
    for source in (runs, plain):
        target = folder / f"out of {source.name}"
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(out):
            assert report(["--runs", str(source), "--out", str(target), "--tables-only"]) == 0
        tables.append((target / "tables" / "results.csv").read_text())
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert exit_code("status", f"runs_dir={runs}") == 0
    return Told(
        runs,
        errors.getvalue().splitlines(),
        out.getvalue().splitlines(),
        snapshot(runs) == before,
        *tables,
    )


def test_there_are_enough_of_them(told: Told) -> None:
    assert len(TABLE) >= 120
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("number", range(len(TABLE)), ids=IDS)
def test_a_damaged_record_has_its_line(told: Told, tmp_path: Path, number: int) -> None:
    case, name = TABLE[number], f"case{number}"
    where = f"{name}/{case.file}: "
    if case.file in IN_A_REPORT:
        for lines, prefix in ((told.warnings, "warning: "), (told.states, f"run {name}: ")):
            own = [line.partition(prefix)[2] for line in lines if where in line]
            assert len(own) == 1
            assert own[0].startswith(where + case.line)
        return
    folder = copied(good_records()[0], tmp_path / name)
    case.damage(folder / case.file)
    before = snapshot(folder)
    with pytest.raises(UserError) as refused:
        rerun.read(folder)
    assert where + case.line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert snapshot(folder) == before
    assert load_run(folder).status == "done"  # a report needs neither


def test_the_other_records_are_reported_and_nothing_is_lost(told: Told) -> None:
    assert told.untouched
    assert told.table == told.plain_table
    damaged = sum(case.file in IN_A_REPORT for case in TABLE)
    assert len(told.warnings) == damaged
    (summary,) = (line for line in told.states if " runs: " in line)
    newer = sum("newer" in case.line for case in TABLE)
    assert summary == f"{damaged + 2} runs: 2 done, {damaged - newer} broken, {newer} newer"


def test_what_is_damaged_is_whole_before(tmp_path: Path) -> None:
    """Else a line could come from the copy."""
    record = copied(good_records()[0], tmp_path / "case")
    assert rerun.read(record).run.run_id == "case"


def test_no_file_behind_a_link_is_written(tmp_path: Path) -> None:
    """A folder from elsewhere may have links to the user's own files where a run would write."""
    mine = tmp_path / "mine"
    mine.write_text("not to be lost")
    record = copied(good_records()[0], tmp_path / "runs" / "case")
    put("status", "running")(record / STATUS)
    folder = store.RunFolder(record.parent, record.name)
    (record.parent / store.LOCKS).mkdir()
    (record.parent / store.LOCKS / record.name).symlink_to(mine)
    (record / f".{STATUS}.partial").symlink_to(mine)
    (record / ROWS).unlink()
    (record / ROWS).symlink_to(mine)
    assert exit_code("status", f"runs_dir={record.parent}") == 0
    for write in (
        folder.is_locked,
        folder.lock().__enter__,
        lambda: folder.write_status("failed"),
        lambda: folder.append_row({"step": 1}),
    ):
        with pytest.raises(OSError, match="symbolic links"):
            write()
    assert mine.read_text() == "not to be lost"


@pytest.mark.parametrize(
    "damage",
    [
        content("{"),
        content("[]"),
        content("{}"),
        put("ratio", HUGE),
        put("ratio", 0),
        put("noise_percent", -1.0),
        put("cpu_ratio", "a"),
        put("rounds", "three"),
        put("published_ratio", "1"),
        put("setting", 5),
        in_its_place(Path.mkdir),
        in_its_place(os.mkfifo),
    ],
)
def test_a_damaged_calibration_is_none(tmp_path: Path, damage: Damage) -> None:
    facts = {"task": "digits"}
    made = calibration.Calibration(
        *("kfac", "adam", 0.2, 0.1, 2.0, 1.0, 3, 10, None, facts, facts)  # type: ignore[arg-type]
    )
    path = tmp_path / "calibration.json"
    path.write_bytes(made.to_json())
    assert calibration.read(path) == made
    damage(path)
    assert calibration.read(path) is None

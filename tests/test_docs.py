"""Every file, function, command and link that the pages of text name is there."""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from adafisher.stats import Spread
from experiments.__main__ import VERBS
from experiments.config.essence import IDENTIFYING, NOT_HASHED
from experiments.config.run_config import RunConfig
from experiments.engine.machine import describe_machine
from experiments.records import tables
from experiments.records.schema import load_runs
from experiments.run.run_record import _NO_PROGRESS
from tests.test_layering import ORDERS

ROOT = Path(__file__).resolve().parents[1]
# README also names files by what they are called in a folder that it speaks of.
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
RECORDS = ROOT / "docs/records.md"
GOLDEN = ROOT / "tests/golden/runs"
# Folders that runs, set-up and the user make.
MADE = ("runs", "out", "data", "DATA", "CACHE", "CHECKOUT", ".venv", "fsdp2_checkpoint")
PATH = re.compile(r"(?<![\w:/.=-])(?:[\w.<>*-]+/)+[\w.<>*-]*")
FUNCTION = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)")
PLACEHOLDER = re.compile(r"<|\bNAME\b")


def code(text: str) -> Iterator[str]:
    """The spans and blocks of code."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def absent_files(text: str) -> set[str]:
    """Paths without a file; of one with a placeholder the folders before it are looked at."""
    absent = set()
    for path in (found for span in code(text) for found in PATH.findall(span)):
        known, *placeholder = PLACEHOLDER.split(path)
        known = known.rpartition("/")[0] if placeholder else known
        if path.partition("/")[0] not in MADE and not any(ROOT.glob(known.strip("/") or ".")):
            absent.add(path)
    return absent


def absent_targets(text: str) -> set[str]:
    named = {name for span in code(text) for name in re.findall(r"\bmake ([a-z][a-z-]*)", span)}
    return named - TARGETS


def absent_modules(text: str) -> set[str]:
    """Modules of ours that `python -m` would not run, and unknown verbs of `experiments`."""
    absent = set()
    for span in code(text):
        for module, word in re.findall(r"python -m ([\w.]+)(?: (\w+)\b(?!=))?", span):
            path = ROOT.joinpath(*module.split("."))
            if module.split(".")[0] not in ("experiments", "analysis", "tests", "adafisher"):
                continue
            if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
                absent.add(module)
            if module == "experiments" and word not in {*VERBS, "VERB"}:
                absent.add(f"{module} {word}")
    return absent


def names_in(path: Path) -> set[str]:
    """Functions and classes of a file, and methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            own = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
            found |= {f"{node.name}.{inner.name}" for inner in own}
    return found


def absent_functions(text: str) -> set[str]:
    """What `path::name` says that is not in its file, or has no file."""
    return {
        f"{path}::{name}"
        for path, name in FUNCTION.findall(text)
        if not (ROOT / path).is_file() or name not in names_in(ROOT / path)
    }


def absent_links(text: str, page: Path) -> set[str]:
    """Links to files that are not there, or to headings that those do not have."""
    absent = set()
    for path, heading in LINK.findall(text):
        target = (page.parent / path) if path else page
        if not target.exists() or (heading and heading not in headings(target.read_text("utf-8"))):
            absent.add(f"{path}#{heading}")
    return absent


def headings(text: str) -> set[str]:
    """Headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert absent_files(page.read_text("utf-8")) == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    assert absent_targets(text) == set()
    assert absent_modules(text) == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_function_and_link_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    assert absent_functions(text) == set()
    assert absent_links(text, page) == set()


def test_the_page_of_the_architecture_has_every_package_and_the_layers() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    packages = {
        f"`{path.parent.relative_to(ROOT).as_posix()}/`"
        for top in ORDERS
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert {name for name in packages if name not in page} == set()
    (block,) = re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    layers = " ".join(f"{package}: {order}" for package, order in ORDERS.items())
    assert block.split() == layers.split()


def test_the_guide_has_every_verb() -> None:
    page = (ROOT / "docs/guide.md").read_text("utf-8")
    assert {verb for verb in VERBS if f"`{verb}`" not in page} == set()


@pytest.mark.parametrize(
    ("page", "most"), [("README.md", 120), ("docs/architecture.md", 120), ("docs/records.md", 100)]
)
def test_a_page_stays_short(page: str, most: int) -> None:
    assert len((ROOT / page).read_text("utf-8").splitlines()) <= most


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_no_span_of_code_goes_over_the_end_of_a_line(page: Path) -> None:
    """A command that does could not be copied, and the checks above would not see it."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if line.count("`") % 2] == []


def test_what_is_not_there_is_found() -> None:
    text = (
        "`conf/task/digits.yaml`, `conf/task/digit.yaml`, `conf/tasks/<name>.yaml`, `no/where.py`\n"
        "`conf/task/<name>.yaml`, `conf/optimizer/ada*.yaml`, `conf/optimizer/bda*.yaml`\n"
        "`a=b/c`, `finding/NAME.sh`, `conf/NAME`\n"
        "`make sweep`, `make swept`, make prose, `python -m pytest x`, `runs/<id>/`\n"
        "```bash\nmake lint\npython -m experiments plan task=a\npython -m experiments plans\n"
        "python -m experiments VERB a=b\npython -m experiments.train a=b\n"
        "python -m experiments.tune\n```\n"
    )
    files = {"conf/task/digit.yaml", "conf/tasks/<name>.yaml", "no/where.py"}
    assert absent_files(text) == files | {"conf/optimizer/bda*.yaml", "finding/NAME.sh"}
    assert absent_targets(text) == {"swept"}
    assert absent_modules(text) == {"experiments plans", "experiments.tune"}


def test_what_a_page_names_wrongly_is_found() -> None:
    text = (
        "`tests/test_docs.py::code`, `tests/test_docs.py::codes`, `tests/no.py::code`\n"
        "`tests/test_layering.py::ORDERS`, `experiments/records/outcome.py::Outcome`\n"
        "`experiments/records/outcome.py::Outcome.to_line`, `experiments/errors.py::to_line`\n"
        "[a](README.md), [b](READ.md#x), [c](#here-now), [d](#there), [e](https://example.org/a)\n"
        "## Here, now\n"
    )
    assert absent_functions(text) == {
        "tests/test_docs.py::codes",
        "tests/no.py::code",
        "tests/test_layering.py::ORDERS",
        "experiments/errors.py::to_line",
    }
    assert headings(text) == {"here-now"}
    page = ROOT / "README.md"
    assert absent_links(text, page) == {"READ.md#x", "#here-now", "#there"}


def section(title: str) -> str:
    """What docs/records.md says under a heading."""
    text = RECORDS.read_text("utf-8")
    return next(part for part in text.split("\n## ")[1:] if part.startswith(title))


def keys_of(text: str, head: str) -> set[str]:
    """What the first cells of the table below the header `head` name."""
    table = text.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {key for row in table for key in re.findall(r"`([\w<>]+)`", row.split("|")[1])}


def keys(mappings: Iterable[dict[str, Any]]) -> set[str]:
    return {key for mapping in mappings for key in mapping}


def golden(name: str) -> list[dict[str, Any]]:
    """The mappings of one file of every golden run."""
    texts = (path.read_text("utf-8") for path in sorted(GOLDEN.glob(f"*/*/{name}")))
    if name.endswith(".yaml"):
        return [yaml.load(text, Loader=yaml.CSafeLoader) for text in texts]
    return [json.loads(text) for text in texts]


def test_the_page_of_records_has_the_keys_of_a_status() -> None:
    statuses, text = golden("status.json"), section("`status.json`")
    assert keys_of(text, "key") == keys(statuses)
    identities = [status["identity"] for status in statuses]
    told = keys_of(text, "key of `identity`")
    assert keys(identities) <= told
    # What came after the golden runs.
    source = (ROOT / "experiments/config/identity.py").read_text("utf-8")
    assert {key for key in told - keys(identities) if f'"{key}"' not in source} == set()
    named = keys_of(text, "key of `progress`, of `summary`")
    measured = keys(status["progress"] | status["summary"] for status in statuses)
    assert measured | set(_NO_PROGRESS) <= named
    # What the golden runs do not have, as their budgets have no use for it.
    source = (ROOT / "experiments/run/run_summary.py").read_text("utf-8")
    rates = {f"{unit}_per_second" for unit in tables.UNITS}
    assert {key for key in named - measured - rates if f'"{key}"' not in source} == set()


def test_the_page_of_records_has_the_columns_of_rows() -> None:
    runs, broken = load_runs(GOLDEN)
    assert runs
    assert not broken
    named = keys_of(section("`metrics.jsonl`"), "column") - {"<split>_<metric>"}  # any other's
    spelled = {key.replace("<split>", split) for key in named for split in ("validation", "test")}
    of_layers = {f"curvature_{field}" for field in Spread._fields}  # a layer's name follows after /
    measured = {key.partition("/") for key in keys(row for run in runs for row in run.rows)}
    assert {column for column, _, _ in measured} == spelled
    assert {column for column, _, layer in measured if layer} <= of_layers


def test_the_page_of_records_has_the_keys_of_a_config_and_an_environment() -> None:
    named = keys_of(section("`config.yaml`"), "key")
    assert named == {one.name for one in fields(RunConfig)} - {"values"}
    assert keys(golden("config.yaml")) <= named
    today = describe_machine(torch.device("cpu"))
    told = keys([*golden("environment.json"), today]) | {"date"}  # of runs, and newer than those
    assert keys_of(section("`environment.json`"), "key") == told


def test_the_page_of_records_has_the_keys_of_studies_and_tunings() -> None:
    named = set(code(section("Other files")))
    studies = [json.loads(p.read_text("utf-8")) for p in GOLDEN.glob("*/.studies/*/*/study.json")]
    files = [(p, yaml.safe_load(p.read_text("utf-8"))) for p in ROOT.glob("conf/tuned/**/*.yaml")]
    tuned = [content for path, content in files if path.parent.name != "ledgers"]
    ledgers = [content for path, content in files if path.parent.name == "ledgers"]
    trials = [trial for ledger in ledgers for trial in ledger["trials"]]
    efforts = [file["tuning"] for file in tuned]
    assert all((studies, tuned, ledgers, trials))
    for mappings in (studies, tuned, ledgers, trials, efforts):
        assert keys(mappings) - named == set()


def test_the_page_of_records_says_what_is_no_part_of_an_id() -> None:
    named = set(code(section("What an id")))
    assert {*NOT_HASHED, *IDENTIFYING} - named == set()
    dotted = {name for name in named if re.fullmatch(r"[a-z]+\.[a-z_]+", name)}
    assert dotted - set(NOT_HASHED) == {"config.yaml"}


def test_the_page_of_records_has_the_keys_that_are_checked() -> None:
    text = RECORDS.read_text("utf-8")
    named = set(code(text))
    for kind in (tables.STATUS, tables.IDENTITY, tables.PROGRESS, tables.SUMMARY):
        assert set(kind.keys) - named == set()
    for kind in (tables.EFFORT, tables.CONFIG, tables.ENVIRONMENT, tables.STUDY, tables.LEDGER):
        assert set(kind.keys) - named == set()

"""Every file and command that the pages of text name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.__main__ import VERBS

ROOT = Path(__file__).resolve().parents[1]
# README also names files by what they are called in a folder that it speaks of.
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
# Folders that runs, set-up and the user make.
MADE = ("runs", "out", "data", "DATA", "CACHE", "CHECKOUT", ".venv", "fsdp2_checkpoint")
PATH = re.compile(r"(?<![\w:/.=-])(?:[\w.<>*-]+/)+[\w.<>*-]*")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert absent_files(page.read_text("utf-8")) == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    assert absent_targets(text) == set()
    assert absent_modules(text) == set()


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

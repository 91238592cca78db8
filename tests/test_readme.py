"""What README and the pages of docs/ say of measurements is in a file of the repository."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import test_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Numbers that no run gave.
NOT_MEASURED = {
    "95 %": "of an interval, by definition",
    "5 %": "what its truth is not within, by definition",
    "2405.16397": "an arXiv id",
    "3.11": "a version",
    "3.13": "a version",
    "4.1.0": "a version",
    "3.1": "a proposition, of version 3 of the paper",
    "0.015": "an argument, in conf/optimizer/muon.yaml",
}
WORDS = "one|two|three|four|five|six|seven|eight|nine|ten|twenty|thirty|fifty|hundred"
UNIT = r"(?:%|[kMGT]i?B\b|(?:ms|s|seconds?|minutes?|hours?)\b)"
MEASURED = re.compile(rf"\d[\d.,]*[ -]?{UNIT}|\b(?:{WORDS})[ -]{UNIT}|\d+(?:\.\d+)+")


def measurements(text: str) -> set[str]:
    """Numbers with a unit or decimals, code and their exceptions aside."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return {found for found in MEASURED.findall(prose) if found not in NOT_MEASURED}


def shares() -> set[str]:
    """How often the rule of `versus` errs, and what it finds."""
    table = json.loads((ROOT / "tests/golden/bench/sequential.json").read_text("utf-8"))
    found = {row[key] for row in table["rows"] for key in ("better", "worse", "within")}
    numbers = {f"{100 * share:.1f}" for share in found}
    return numbers | {f"{number} %" for number in numbers}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_sentence_has_a_measurement_that_no_file_carries(page: Path) -> None:
    """What is said of the study is held to its tables, in test_study."""
    known = costs() | shares() | measurements(test_study.said())
    assert measurements(page.read_text("utf-8")) - known == set()


def test_a_gpu_is_said_to_be_unmeasured_until_its_record_is_kept() -> None:
    is_said = "Nothing has been measured on a GPU yet." in (ROOT / "README.md").read_text("utf-8")
    assert is_said != (ROOT / "tests" / "golden" / "bench" / "gpu.json").exists()


def test_measurements_are_told_from_other_numbers() -> None:
    text = (
        "about 6 GB, 1.07 times, `2.5 s`, two minutes, 95 % of 1,797 digits, 3 rows\n```\n9 s\n```"
    )
    assert measurements(text) == {"6 GB", "1.07", "two minutes"}


def ratios(name: str) -> dict[str, dict[str, Any]]:
    """What ``make bench`` measured, by model and contender."""
    found = json.loads((ROOT / "tests/golden/bench" / f"{name}.json").read_text("utf-8"))
    return {result["model"]: result["ratios"] for result in found["results"]}


def cost_rows() -> list[str]:
    """The table of costs, as README is to have it."""
    native, plain = ratios("adafisher"), ratios("adafisher_without_compiler")
    rows = {
        "with the native library": (native, "refresh every step", "refresh every 100"),
        "without a C compiler": (plain, "refresh every step", "refresh every 100"),
        "before both": (native, "refresh every step, before", "refresh every 100, before"),
        "AdamW beside itself": (native, "the reference itself", "the reference itself"),
    }
    lines = []
    for title, (found, often, rarely) in rows.items():
        cells = [
            f"{found[model][name][part]['wall']:.2f}"
            for model in ("gpt_char", "resnet18")
            for name, part in ((often, "whole"), (rarely, "whole"), (rarely, "alone"))
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def costs() -> set[str]:
    """Ratios of the table of costs."""
    return {cell for line in cost_rows() for cell in line.strip("| ").split(" | ")[1:]}


def test_the_table_of_costs_is_what_was_measured() -> None:
    guide = (ROOT / "docs/guide.md").read_text("utf-8").splitlines()
    assert [line for line in cost_rows() if line not in guide] == []
    native = cost_rows()[0].strip("| ").split(" | ")[1:]
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    said = (
        f"{native[0]} times as long as one of AdamW's fused form on a small GPT and {native[3]} on "
        f"ResNet-18, with a refresh every hundred steps {native[1]} and {native[4]} "
    )
    assert said in readme
    for name, form in (("adafisher", "native"), ("adafisher_without_compiler", "mixed")):
        measured = [ratio for one in ratios(name).values() for ratio in one.values()]
        assert {ratio["form"] for ratio in measured if "form" in ratio} == {form}

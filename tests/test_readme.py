"""What README and the pages of docs/ say of measurements is in a file of the repository."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEDGERS = ROOT / "conf" / "tuned" / "tinyshakespeare" / "ledgers"
# Numbers that no run gave.
NOT_MEASURED = {
    "95 %": "of an interval, by definition",
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


def tried() -> set[str]:
    """Rates and scores of the two ledgers that README speaks of."""
    numbers: set[str] = set()
    for name in ("adafisher", "adafisherw_v3"):
        for trial in yaml.safe_load((LEDGERS / f"{name}.yaml").read_text())["trials"]:
            numbers |= {f"{trial['score']:.2f}", f"{trial['values']['lr']:g}"}
    return numbers


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_sentence_has_a_measurement_that_no_file_carries(page: Path) -> None:
    """The table of results is held to the golden one, in test_golden."""
    lines = page.read_text("utf-8").splitlines()
    prose = "\n".join(
        line for line in lines if not line.startswith("| adafisher") and "±" not in line
    )
    assert measurements(prose) - tried() == set()


def test_a_gpu_is_said_to_be_unmeasured_until_its_record_is_kept() -> None:
    is_said = "Nothing has been measured on a GPU yet." in (ROOT / "README.md").read_text("utf-8")
    assert is_said != (ROOT / "tests" / "golden" / "bench" / "gpu.json").exists()


def test_measurements_are_told_from_other_numbers() -> None:
    text = (
        "about 6 GB, 1.07 times, `2.5 s`, two minutes, 95 % of 1,797 digits, 3 rows\n```\n9 s\n```"
    )
    assert measurements(text) == {"6 GB", "1.07", "two minutes"}

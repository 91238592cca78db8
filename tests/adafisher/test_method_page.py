"""The page that leads from equation to line: its stops, and the forms stand as it says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/method.md").read_text("utf-8")
STOP = re.compile(r"^## Stop (\d): .*`(adafisher/[\w/]+\.py)::([\w.]+)`$", re.MULTILINE)
STEP = (ROOT / "adafisher/execution/step.py").read_text("utf-8")


def test_at_most_five_stops_from_the_printed_rule_to_the_step() -> None:
    stops = STOP.findall(PAGE)
    assert len(stops) == PAGE.count("## Stop") <= 5
    assert [number for number, _, _ in stops] == [str(1 + i) for i in range(len(stops))]
    assert stops[0][1:] == ("adafisher/reference.py", "Reference.step")
    assert stops[-1][1:] == ("adafisher/execution/step.py", "plain_step_")


def test_it_prints_the_equations_of_the_reference() -> None:
    reference = (ROOT / "adafisher/reference.py").read_text("utf-8")
    numbers = re.findall(r"  # (\(\d\))$", reference, re.MULTILINE)
    assert numbers == [f"({i})" for i in range(1, 6)]
    assert all(f"{number}  " in PAGE for number in numbers)


def test_the_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= 90


@pytest.mark.parametrize("form", ["plain_step_", "fused_step_"])
def test_each_form_marks_m_then_f_then_theta(form: str) -> None:
    (node,) = [n for n in ast.parse(STEP).body if isinstance(n, ast.FunctionDef) and n.name == form]
    lines = STEP.splitlines()[node.lineno - 1 : node.end_lineno]
    marks = [line.strip() for line in lines if line.strip().startswith("#")]
    assert marks == ["# m", "# F", "# theta"]

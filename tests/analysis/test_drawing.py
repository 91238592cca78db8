import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.plots.missing import FAILED, MISSING, failed_figure, missing_figure
from analysis.report.drawing import draw
from analysis.results.load import load_results

ROOT = Path(__file__).parents[2]
NAME = "test_metric_vs_epoch"


def test_files_are_of_their_kind_and_without_dates(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    write_run("adam")
    drawn = draw(NAME, load_results(runs_dir), tmp_path)
    png, pdf, svg = (
        (tmp_path / f"{NAME}.{ending}").read_bytes() for ending in ("png", "pdf", "svg")
    )
    assert drawn.png == png
    assert drawn.problem is None
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert b"<svg" in svg
    assert b"FontFile2" in pdf  # TrueType: Type 3 fonts are refused by many publishers
    assert b"CreationDate" not in pdf
    assert b"dc:date" not in svg
    assert b"<text" not in svg  # outlines


def test_the_digest_is_of_the_data_and_the_same_in_every_process(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", 0)
    write_run("adam", 1)
    results = load_results(runs_dir)
    code = (
        "import sys; from pathlib import Path; from analysis.results.load import load_results; "
        "print(load_results(Path(sys.argv[1])).digest.hex())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(runs_dir)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert results.digest.hex() == elsewhere

    (one, columns), *others = results.curves.items()
    name, *names = columns
    changed = [
        {one: {**columns, name: columns[name] + 1e-9}, **dict(others)},
        {one: {"other": columns[name], **{key: columns[key] for key in names}}, **dict(others)},
        {"x": columns, **dict(others)},
    ]
    for curves in changed:
        assert replace(results, curves=curves).digest != results.digest
    for column in ("final", "status", "hyperparameters"):
        runs = results.runs.copy()
        runs.loc[1, column] = None
        assert replace(results, runs=runs).digest != results.digest


@pytest.mark.parametrize(
    "command", ["make sweep", "for n in 1 2; do x --n=$n y$n; done", " ".join(["word"] * 60)]
)
def test_a_command_can_be_copied_to_a_shell(command: str) -> None:
    figure = missing_figure(command)
    heading, shown = (text.get_text().replace(r"\$", "$") for text in figure.texts)
    assert heading == MISSING
    assert " ".join(shown.replace("\\\n", " ").split()) == command
    figure.draw_without_rendering()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x1 < figure.bbox.x1
        assert box.y0 > 0


def test_several_lines_of_a_command_stay_lines() -> None:
    assert missing_figure("make a\nmake b").texts[1].get_text() == "make a\nmake b"


def test_a_failure_is_shown_whole() -> None:
    figure = failed_figure("ValueError: " + "long " * 60)
    heading, shown = (text.get_text() for text in figure.texts)
    assert heading == FAILED
    assert shown.split() == ["ValueError:", *["long"] * 60]

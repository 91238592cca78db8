import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.plots.missing import FAILED, failed_figure
from analysis.report.drawing import DATA, FORMATS, draw
from analysis.results.load import load_results

ROOT = Path(__file__).parents[2]
NAME = "test_metric_vs_epoch"
SENSITIVE = "test_metric_vs_learning_rate"


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


def test_without_data_there_is_no_file_but_the_command(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    """Files of an earlier picture go, and the next call neither builds nor imports matplotlib."""
    stale = [tmp_path / f"{SENSITIVE}.{ending}" for ending in (*FORMATS, DATA)]
    for path in stale:
        path.write_text("an older picture")
    write_run("adam")
    drawn = draw(SENSITIVE, load_results(runs_dir), tmp_path)
    assert (drawn.png, drawn.problem) == (b"", None)
    assert drawn.command.startswith("make sweep ")
    assert [path.name for path in tmp_path.iterdir() if path in stale] == []

    code = (
        "import sys; from pathlib import Path; from analysis.report.drawing import draw; "
        "from analysis.results.load import load_results; "
        "drawn = draw(sys.argv[1], load_results(Path(sys.argv[2])), Path(sys.argv[3])); "
        "print(drawn.command); sys.exit('matplotlib' in sys.modules)"
    )
    again = [sys.executable, "-c", code, SENSITIVE, str(runs_dir), str(tmp_path)]
    said = subprocess.run(again, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said == f"{drawn.command}\n"


def test_a_picture_comes_with_its_data_and_goes_with_it(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    folders = [write_run("adam", 0, hyperparameters={"lr": lr}) for lr in (0.1, 0.01)]
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).png.startswith(b"\x89PNG")
    shutil.rmtree(folders[1])
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).command
    assert not list(tmp_path.glob("[!.]*.???"))
    shutil.copytree(folders[0], folders[1])
    status = json.loads(folders[1].joinpath("status.json").read_text("utf-8"))
    status |= {"run_id": folders[1].name}
    status["identity"] |= {"hyperparameters": {"lr": 0.01}, "group_id": "other"}
    folders[1].joinpath("status.json").write_text(json.dumps(status))
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).png.startswith(b"\x89PNG")


def test_a_failure_is_shown_whole() -> None:
    figure = failed_figure("ValueError: $x$ " + "long " * 60)
    heading, shown = (text.get_text() for text in figure.texts)
    assert heading == FAILED
    assert shown.split() == ["ValueError:", r"\$x\$", *["long"] * 60]
    figure.draw_without_rendering()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x1 < figure.bbox.x1
        assert box.y0 > 0

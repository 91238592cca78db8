import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.plots.missing import FAILED, failed_figure
from analysis.report.drawing import DATA, FORMATS, ON_PAGE, draw
from analysis.results.load import load_results
from analysis.style import Look

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
    assert drawn.svg.encode() == svg
    assert drawn.problem is None
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert svg.startswith(b"<svg")
    assert b"FontFile2" in pdf  # TrueType: Type 3 fonts are refused by many publishers
    assert b"CreationDate" not in pdf
    assert b"metadata" not in svg
    assert b">adam (n=1)</text>" in svg  # text


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
    assert (drawn.svg, drawn.problem) == ("", None)
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
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).svg.startswith("<svg")
    shutil.rmtree(folders[1])
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).command
    assert not list(tmp_path.glob("[!.]*.???"))
    shutil.copytree(folders[0], folders[1])
    status = json.loads(folders[1].joinpath("status.json").read_text("utf-8"))
    status |= {"run_id": folders[1].name}
    status["identity"] |= {"hyperparameters": {"lr": 0.01}, "group_id": "other"}
    folders[1].joinpath("status.json").write_text(json.dumps(status))
    assert draw(SENSITIVE, load_results(runs_dir), tmp_path).svg.startswith("<svg")


def test_formats_that_are_not_asked_for_are_not_drawn_and_old_ones_go(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    def there() -> set[str]:
        return {path.suffix[1:] for path in tmp_path.glob("[!.]*.*")}

    write_run("adam", 0)
    first = load_results(runs_dir)
    drawn = draw(NAME, first, tmp_path, formats=ON_PAGE)
    assert there() == {*ON_PAGE, DATA}
    assert drawn.note.startswith("Line: mean over seeds.")
    page = (tmp_path / f"{NAME}.svg").stat().st_mtime_ns
    assert draw(NAME, first, tmp_path, formats=ON_PAGE) == drawn
    assert (tmp_path / f"{NAME}.svg").stat().st_mtime_ns == page
    draw(NAME, first, tmp_path)  # all, as the others are not there
    assert there() == {*FORMATS, DATA}
    pdf = (tmp_path / f"{NAME}.pdf").stat().st_mtime_ns
    draw(NAME, first, tmp_path, formats=ON_PAGE)
    assert (tmp_path / f"{NAME}.pdf").stat().st_mtime_ns == pdf  # of the same data
    write_run("adam", 1)
    draw(NAME, load_results(runs_dir), tmp_path, formats=ON_PAGE)
    assert there() == {*ON_PAGE, DATA}  # a PDF of other data would be taken for one of these


def test_a_stamp_that_is_not_ours_counts_as_none(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    write_run("adam", 0)
    results = load_results(runs_dir)
    first = draw(NAME, results, tmp_path)
    for content in ("", "[]", '{"digest": 1}', "deadbeef"):
        (tmp_path / f".{NAME}.sha256").write_text(content)
        assert draw(NAME, results, tmp_path) == first


def test_with_serifs_every_letter_is_of_another_font(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    write_run("adam", 0)
    results = load_results(runs_dir)
    for serif, font in ((False, b"DejaVuSans"), (True, b"STIXGeneral"), (False, b"DejaVuSans")):
        drawn = draw(NAME, results, tmp_path, look=Look(serif=serif))
        pdf = (tmp_path / f"{NAME}.pdf").read_bytes()
        fonts = set(re.findall(rb"/FontName /(?:[A-Z]{6}\+)?([A-Za-z]+)", pdf))
        assert fonts == {font}
        assert ("STIXGeneral" in drawn.svg) == serif


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

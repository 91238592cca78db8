import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import analysis.tables
from analysis.report.__main__ import main
from analysis.report.report import names_of
from analysis.report.unchanged import FILE
from analysis.results.load import NO_RUNS

ROOT = Path(__file__).parents[2]
TABLES = names_of(analysis.tables)
ONE = "test_metric_vs_epoch"
FIGURES = ("cost_per_method", ONE, "train_loss_vs_train_seconds")
EVIL = "<script>alert('&')</script>"


class Page(HTMLParser):
    """Collects tags, and the addresses that a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch, draw_only: Any) -> None:
    draw_only(monkeypatch, *FIGURES)


@pytest.fixture
def write_run(write_run: Any) -> Any:
    """Records of the present schema."""
    protocol = {"task": {"name": "digits"}, "budget": {"epochs": 2}}
    return functools.partial(write_run, protocol=protocol)


def written(out: Path) -> set[str]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)) for path in files if not path.name.startswith(".")}


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


ALL = {f"tables/{name}.{ending}" for name in TABLES for ending in ("csv", "md", "tex", "html")}
DRAWN = ("png", "pdf", "svg", "csv")
ON_PAGE = ("svg", "csv")
ALL |= {f"figures/{name}.{ending}" for name in FIGURES for ending in ON_PAGE}
ALL |= {"report.html"}


def test_everything_is_written_and_the_table_printed(
    write_run: Any, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1, 2):
        write_run("adam", seed)
    write_run("sgd", 0, status="diverged", reason="loss is nan at step 12", run_id="gone")
    write_run("sgd", 1, status="running", run_id="on")

    assert run("--runs", runs_dir, "--out", tmp_path / "out") == 0

    assert written(tmp_path / "out") == ALL
    output, errors = capsys.readouterr()
    assert "95.00 ± 0.00 (n=3)" in output
    assert "diverged 1/3" in output
    assert "diverged: digits, sgd, seed 0 (gone): loss is nan at step 12" in output
    assert "running: digits, sgd, seed 1 (on)" in [line.strip() for line in output.splitlines()]
    assert errors == ""
    assert (tmp_path / f"out/figures/{ONE}.svg").read_bytes().startswith(b"<svg")


def test_the_page_is_self_contained_and_escaped(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    write_run(EVIL, 0, run_id="a")
    write_run(EVIL, 1, run_id="b", status="failed", reason=f"{EVIL} & more", rows=[])
    (runs_dir / "<script>alert(2)<").mkdir()

    assert run("--runs", runs_dir, "--out", tmp_path / "out") == 0

    text = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.tags.count("script") == 1  # the page's own
    assert "link" not in page.tags
    beside = {address for address in page.addresses if not address.startswith("#")}
    assert beside <= written(tmp_path / "out")
    assert f"figures/{ONE}.csv" in beside
    assert text.count(' role="img" aria-label="') >= len(FIGURES)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    escaped = "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt; &amp; more"
    assert text.count(escaped) == 1  # what did not finish
    assert "&lt;script&gt;alert(2)&lt;/status.json: missing" in text
    assert "python -m experiments.train" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_broken_records_are_named_on_stderr_and_in_the_page(
    write_run: Any, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("adam", 0)
    (write_run("adam", 1, run_id="torn") / "status.json").write_text("{")

    assert run("--runs", runs_dir, "--out", tmp_path / "out") == 0

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: torn/status.json: not readable as JSON")
    assert "torn/status.json" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_records_from_before_there_was_a_protocol_are_one_line(
    writer_to: Any, write_run: Any, runs_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    for seed in range(3):
        writer_to(runs_dir)("adam", seed)
    write_run("sgd")
    assert run("--runs", runs_dir, "--out", tmp_path / "out", "--tables-only") == 0
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("warning: 3 of 4 records are older than the protocol of a run")
    assert "`python -m experiments migrate runs_dir=FOLDER`" in line
    assert "sgd" in said.out


def test_without_runs_everything_says_what_makes_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()

    assert run("--runs", tmp_path / "runs", "--out", tmp_path / "out") == 0

    assert written(tmp_path / "out") == {name for name in ALL if "figures/" not in name}
    said = capsys.readouterr().out
    assert NO_RUNS in said
    assert f"{len(FIGURES)} of {len(FIGURES)} figures have no runs yet" in said
    text = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for name in FIGURES:
        assert re.search(f'<li id="figure-{name}">.*<code>make sweep OPT=', text)
    assert "<img" not in text
    for name in ("tables/results.md", "tables/results.csv", "tables/results.tex"):
        assert NO_RUNS in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_bytes(write_run: Any, runs_dir: Path, tmp_path: Path) -> None:
    for optimizer in ("adam", "sgd"):
        for seed in (0, 1):
            write_run(optimizer, seed)
    other = tmp_path / "copied"
    other.mkdir()
    for folder in sorted(runs_dir.iterdir(), reverse=True):
        shutil.copytree(folder, other / folder.name)

    run("--runs", runs_dir, "--out", tmp_path / "one")
    run("--runs", other, "--out", tmp_path / "two")

    for name in ALL:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_figures_are_drawn_again_when_the_runs_have_changed(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    arguments = ("--runs", runs_dir, "--out", tmp_path, "--only", ONE)
    png, svg = (tmp_path / f"figures/{ONE}.{ending}" for ending in ("png", "svg"))
    write_run("adam", 0)
    run(*arguments)
    first, drawn_at = png.read_bytes(), png.stat().st_mtime_ns

    run(*arguments)
    assert png.stat().st_mtime_ns == drawn_at

    svg.unlink()
    run(*arguments)
    assert svg.exists()

    write_run("adam", 1, (50.0, 60.0))
    run(*arguments)
    assert png.read_bytes() != first


def test_an_unchanged_report_says_the_same_and_makes_nothing(
    write_run: Any, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither pandas nor matplotlib is loaded, and no file is written again."""
    for optimizer, seed in itertools.product(("adam", "sgd"), (0, 1)):
        write_run(optimizer, seed)
    write_run("sgd", 2, status="failed", reason="gone", run_id="gone", rows=[])
    (write_run("adam", 2, run_id="torn") / "status.json").write_text("{")
    out = tmp_path / "out"
    arguments = ["--runs", str(runs_dir), "--out", str(out)]
    assert run(*arguments) == 0
    first = capsys.readouterr()
    times = {name: out.joinpath(name).stat().st_mtime_ns for name in written(out)}
    code = (
        "import sys; from analysis.report.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'pandas' in sys.modules or 'matplotlib' in sys.modules)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert (again.stdout, again.stderr) == (first.out, first.err)
    assert again.stderr.startswith("warning: torn/status.json")
    assert "failed: digits, sgd, seed 2 (gone): gone" in again.stdout
    assert {name: out.joinpath(name).stat().st_mtime_ns for name in written(out)} == times


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "a record's row": lambda runs, out: append(runs / "one/metrics.jsonl", '{"step": 99}\n'),
    "a record's config": lambda runs, out: append(runs / "one/config.yaml", "a: 1\n"),
    "a record less": lambda runs, out: shutil.rmtree(runs / "one"),
    "an empty folder more": lambda runs, out: (runs / "empty").mkdir(),
    "a file of a figure": lambda runs, out: out.joinpath(f"figures/{ONE}.svg").unlink(),
    "a damaged table": lambda runs, out: append(out / "tables/results.tex", "x"),
    "a damaged page": lambda runs, out: append(out / "report.html", "x"),
    "a damaged digest": lambda runs, out: append(out / FILE, "x"),
    "another digest": lambda runs, out: out.joinpath(FILE).write_text('{"version": 1}'),
}


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_is_made_again(
    write_run: Any, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """What is there afterwards is what a report from nothing writes."""
    write_run("adam", 0, run_id="one")
    write_run("adam", 1)
    out, anew = tmp_path / "out", tmp_path / "anew"
    assert run("--runs", runs_dir, "--out", out) == 0
    if what.startswith(("a record", "an empty folder")):
        CHANGES[what](runs_dir, out)
        capsys.readouterr()
        assert run("--runs", runs_dir, "--out", anew) == 0
    else:  # the first one was from nothing, and of the same records
        shutil.copytree(out, anew)
        CHANGES[what](runs_dir, out)
    fresh = capsys.readouterr()
    assert run("--runs", runs_dir, "--out", out) == 0
    said = capsys.readouterr()
    assert said.out.replace(str(out), str(anew)) == fresh.out.replace(str(out), str(anew))
    assert said.err == fresh.err
    assert written(out) == written(anew)
    for name in written(anew):
        assert out.joinpath(name).read_bytes() == anew.joinpath(name).read_bytes()


PICTURES = {f"figures/{name}.{ending}" for name in FIGURES for ending in DRAWN}
PARTS = {
    "tables": (["--tables-only"], {name for name in ALL if name.startswith("tables/")}),
    "figures": (["--figures-only"], PICTURES),
    "figures with serifs": (["--figures-only", "--serif", "--half"], PICTURES),
    "one figure": (
        ["--figures-only", "--only", ONE],
        {f"figures/{ONE}.{ending}" for ending in DRAWN},
    ),
    "one table": (["--only", "results"], {name for name in ALL if "/results." in name}),
}


@pytest.mark.parametrize(("options", "expected"), PARTS.values(), ids=PARTS.keys())
def test_a_part_is_all_that_is_written(
    write_run: Any, runs_dir: Path, tmp_path: Path, options: list[str], expected: set[str]
) -> None:
    write_run()
    assert run("--runs", runs_dir, "--out", tmp_path / "out", *options) == 0
    assert written(tmp_path / "out") == expected


def test_a_figure_that_fails_stops_no_other(
    write_run: Any,
    runs_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_run("adam", 0)
    arguments = ("--runs", runs_dir, "--out", tmp_path, "--figures-only")

    def fail(results: object) -> None:
        raise ValueError(f"no {EVIL}\nat $all")

    with monkeypatch.context() as patch:
        patch.setattr(f"analysis.figures.{ONE}.build", fail)
        assert run(*arguments) == 1

    assert written(tmp_path) >= PICTURES
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot draw {ONE}: ValueError: no {EVIL} at $all (test_report")
    failed = (tmp_path / f"figures/{ONE}.png").read_bytes()
    assert run(*arguments) == 0
    assert (tmp_path / f"figures/{ONE}.png").read_bytes() != failed


def test_mistakes_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    mistakes: dict[str, list[object]] = {
        "--runs is not a folder": ["--runs", file, "--out", tmp_path],
        "cannot write": ["--runs", tmp_path, "--out", file / "out"],
        f"Must be one of: {TABLES[0]}, ": [
            "--runs",
            tmp_path,
            "--only",
            "nonsense",
            "--out",
            tmp_path,
        ],
        f"Must be one of: {', '.join(TABLES)}.": [
            "--tables-only",
            "--only",
            ONE,
            "--out",
            tmp_path,
        ],
    }
    for says, arguments in mistakes.items():
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert says in line


def test_tables_need_neither_matplotlib_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from analysis.report.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'matplotlib' in sys.modules or 'torch' in sys.modules)"
    )
    arguments = ["--tables-only", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True)


def test_an_ascii_terminal_still_gets_its_table(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    write_run("adam", 0)
    write_run("adam", 1)
    command = [sys.executable, "-m", "analysis.report", "--tables-only", "--runs", str(runs_dir)]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "95.00" in ended.stdout

"""The page: its order, what is folded, its size, and what it makes of odd input."""

import html
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import analysis.figures
import analysis.tables
from analysis.plots.missing import Missing
from analysis.report.__main__ import main
from analysis.report.page import page, runnable
from analysis.report.parts import FIRST, PARTS, parts_of
from analysis.report.report import _table, names_of, report
from analysis.results.answer import answer
from analysis.results.load import NO_RUNS, load_results
from experiments.config import commandline, compose, grids
from tests.analysis.test_report import Page

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/runs"
SHIPPED = [f"tables/{name}" for name in names_of(analysis.tables)]
SHIPPED += [f"figures/{name}" for name in names_of(analysis.figures)]
TUNED = {"trials": 8, "seeds": [0]}
CURVE, POINTS = "test_metric_vs_epoch", "quality_vs_cost"


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch, draw_only: Any) -> None:
    draw_only(monkeypatch, CURVE, POINTS)


@pytest.fixture
def made(runs_dir: Path, tmp_path: Path) -> Callable[[], str]:
    """Write the page of the records, and check that each tag is closed."""

    def write() -> str:
        assert main(["--runs", str(runs_dir), "--out", str(tmp_path / "out")]) == 0
        text = (tmp_path / "out/report.html").read_text("utf-8")
        assert Page(text).open == []
        return text

    return write


def first_screen(text: str) -> str:
    return text[: text.index("<nav")]


def folded(text: str, start: str) -> str:
    """The first closed element after a text."""
    found = re.search(r"<details class=\"[^\"]*\">(.*?)</details>", text[text.index(start) :], re.S)
    assert found is not None
    return found[1]


def test_every_table_and_figure_has_its_place() -> None:
    placed = [*FIRST, *(name for part in PARTS.values() for name in part)]
    assert sorted(placed) == sorted(SHIPPED)


def test_one_of_your_own_comes_after_those_that_are_named() -> None:
    assert parts_of(["tables/mine", "tables/cost"])["further"] == ["tables/mine"]


def test_the_answer_comes_first_then_the_result_then_the_rest_in_order(
    write_run: Any, made: Any, runs_dir: Path
) -> None:
    for seed in range(3):
        write_run("adam", seed, (90.0, 95.0 + 0.1 * seed**2), tuning=TUNED)
        write_run("sgd", seed, (80.0, 85.0), tuning=TUNED)
    text = made()
    (sentence,) = answer(load_results(runs_dir)).sentences
    assert "adam is better than sgd" in sentence
    first = first_screen(text)
    places = [first.index(mark) for mark in (html.escape(sentence), 'class="facts"')]
    places += [first.index(f'id="{name}"') for name in ("table-results", f"figure-{CURVE}")]
    places += [first.index(f'id="figure-{POINTS}"')]
    assert places == sorted(places)
    sections = re.findall(r'<section id="(?:part-)?(\w+)"', text)
    order = ["result", *PARTS, "absent", "runs", "reading"]
    assert sections == sorted(sections, key=lambda name: order.index(name))
    assert {"result", "cost", "published", "absent", "runs"} <= set(sections)


def test_the_terminal_ends_with_the_sentence(
    write_run: Any, made: Any, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("adam")
    made()
    (sentence,) = answer(load_results(runs_dir)).sentences
    assert capsys.readouterr().out.splitlines()[-2] == sentence


def test_what_is_empty_is_one_folded_list_of_commands(write_run: Any, made: Any) -> None:
    write_run("adam")
    absent = folded(made(), 'id="absent"')
    lines = re.findall(r'<li id="(\w+)-(\w+)">.*?<code>(.+?)</code></li>', absent)
    assert ("table", "scalar_control") in {line[:2] for line in lines}
    assert ("table", "table2_from_scratch") in {line[:2] for line in lines}
    assert ("table", "results") not in {line[:2] for line in lines}
    assert len(lines) == absent.count("<li")


def test_published_numbers_that_no_run_is_near_are_folded_to_a_line_each(
    write_run: Any, made: Any
) -> None:
    named = {"optimizer": "adam", "task": "cifar10", "model": None}
    write_run("adam", task="cifar10", model="resnet18", published_as=named)
    text = made()
    shown = text[text.index('id="table-published_vs_reproduced"') :]
    rest = folded(shown, "<p>")
    rows = rest.count('<tr><th scope="row">')
    (touched,) = re.findall(r'<tr><th scope="row">2</th><td>cifar10</td>.*?</tr>', shown)
    assert "not comparable" in touched
    assert ">resnet18</td><td>scratch</td><td>adam<" in touched
    assert f"{rows} published numbers" in rest
    assert rows == 158
    assert "<details>" not in rest.replace("</details>", "")
    assert (
        "not run</td><td><code>.venv/bin/python -m experiments.train -m experiment=table2" in rest
    )


def commands() -> Iterator[str]:
    """All that a page may tell to type, but one of each kind of the published rows."""
    results = load_results(Path("none"))
    for name in names_of(analysis.tables):
        table = _table(name, results)
        item = table.frame.attrs
        yield from (made.command for made in item.values() if hasattr(made, "command"))
        experiments = {
            re.sub(r" (model|optimizer)=\S+", "", command): runnable(command)
            for command in (item["commands"].value if "commands" in item else ())
            if command
        }
        yield from experiments.values()
    for name in names_of(analysis.figures):
        built = getattr(__import__(f"analysis.figures.{name}").figures, name).build(results)
        if isinstance(built, Missing):
            yield built.command


COMMANDS = sorted(set(map(runnable, commands())))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
DEFAULTS = dict(re.findall(r"^([A-Z_]+) :=[ \t]*(.*)$", MAKEFILE, re.MULTILINE))
GROUPS = {"OPT": "optimizer", "TASK": "task", "FIG": "study"}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_works_as_it_is_printed(command: str) -> None:
    """``make`` knows target and variables, and what it or ``train`` would run composes."""
    once = re.sub(r"for n in [\d ]+; do (.*); done", r"\1", command)
    program, *words = shlex.split(once)
    if program == ".venv/bin/torchrun":
        assert words[2:4] == ["-m", "experiments.train"]
        words = words[4:]
    elif program == ".venv/bin/python":
        assert words[:3] == ["-m", "experiments.train", "-m"]
        words = words[3:]
    else:
        assert program == "make"
        assert re.search(rf"^{words[0]}:", MAKEFILE, re.MULTILINE)
        typed = dict(word.split("=", 1) for word in words[1:])
        assert set(typed) <= set(DEFAULTS)
        values = {key: typed.get(key, DEFAULTS[key]) for key in ("OPT", "TASK", "SEEDS")}
        if words[0] == "study":
            assert (ROOT / f"conf/study/{typed['FIG']}.yaml").is_file()
            return
        words = [f"optimizer={values['OPT']}", f"task={values['TASK']}", f"seed={values['SEEDS']}"]
        words += ["ruleset=tuned", "untuned=default"] * (program == "sweep")
        words += shlex.split(typed.get("ARGS", ""))
    for grid in grids.spelled_out(commandline.normalise(words)):
        assert next(compose.listed(grid))


def test_a_page_without_runs_is_one_screen_that_says_what_to_type(made: Any) -> None:
    text = made()
    first = first_screen(text)
    assert NO_RUNS.partition(" `")[0] in first
    assert "<pre>make sweep OPT=adafisher</pre>" in first
    assert "<img" not in text
    assert 'id="runs"' not in text
    assert not re.search(r"<details[^>]* open", text)


def one_seed(write: Any) -> None:
    for name in ("adam", "sgd"):
        write(name)


def twenty(write: Any) -> None:
    for at in range(20):
        for seed in range(3):
            write(f"method{at}", seed, (80.0, 90.0 + 0.3 * at + 0.2 * seed))


def long_names(write: Any) -> None:
    for seed in range(2):
        write("a" * 80, seed, task="t" * 80, model="m" * 80)
        write("b" * 80, seed, task="t" * 80, model="m" * 80)


def constant(write: Any) -> None:
    for seed in range(3):
        write("adam", seed, (95.0, 95.0))
        write("sgd", seed, (95.0, 95.0))


def without_costs(write: Any) -> None:
    rows = [{"step": 1, "epoch": 1.0, "test_accuracy_percent": 90.0}]
    for name in ("adam", "sgd"):
        write(name, rows=rows)


ODD: dict[str, tuple[Callable[[Any], None], str]] = {
    "one run": (lambda write: write(), "nothing can be compared: adam (test accuracy 95 %) alone"),
    "one seed": (one_seed, "nothing can be compared"),
    "twenty methods": (twenty, "method19"),
    "names of 80 letters": (long_names, "a" * 80),
    "a constant metric": (constant, "adam and sgd are equal in test accuracy, 95 % (n=3)"),
    "no costs": (without_costs, "nothing can be compared"),
}


@pytest.mark.parametrize(("write", "says"), ODD.values(), ids=ODD.keys())
def test_odd_input_still_has_its_answer(
    write_run: Any, made: Any, write: Callable[[Any], None], says: str
) -> None:
    write(write_run)
    text = made()
    (sentence,) = re.findall(r'<p class="answer">(.*?)</p>', text)
    assert says in html.unescape(sentence)
    assert 'id="table-results"' in text
    assert "Traceback" not in text


def test_more_blocks_than_fit_side_by_side_are_below_each_other(write_run: Any, made: Any) -> None:
    for task in "abcd":
        for name in ("adam", "sgd"):
            write_run(name, task=task)
    first = first_screen(made())
    assert first.count("<details open><summary>On a, nothing can be compared") == 1
    assert first.count("<details><summary>On ") == 3


@pytest.mark.parametrize(
    ("runs", "most"), [("sweep", 550_000), ("figures", 450_000), ("", 750_000)], ids=str
)
def test_a_page_is_light_without_its_pictures(runs: str, most: int, tmp_path: Path) -> None:
    made = report(GOLDEN / runs, tmp_path, figures=False)
    text = page(made.results, made.tables, [], made.answer)
    assert len(text.encode()) < most


def test_a_page_of_two_runs_is_under_a_megabyte_with_its_pictures(
    write_run: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # every figure
    write_run("adafisher")
    write_run("adamw")
    text = made()
    assert text.count("<figure") > 8
    assert len(text.encode()) < 1_000_000

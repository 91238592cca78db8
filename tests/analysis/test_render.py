import csv
import dataclasses
import io
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from analysis.render import (
    CSV_ONLY,
    MISSING,
    PACKAGES,
    Cell,
    blocks,
    cell_text,
    latex,
    number,
    to_csv,
    to_html,
    to_latex,
    to_latex_figure,
    to_markdown,
)
from analysis.render.cells import TRIALS, Kept
from analysis.render.terminal import terminal_table
from analysis.report.terminal import TABLE, show_table
from analysis.results.load import NO_RUNS
from analysis.statistics.summary import Summary
from experiments.records.kinds import fault

EVIL = "a_b & <script>alert(1)</script> 5% $x$ | `y`"
FULL = Summary(n=3, mean=98.1, std=0.25, low=97.5, high=98.7, expected=3, source={"command": "go"})
LOST = Summary(n=0, expected=3, diverged=3)


def table(rows: dict[str, list[object]], tasks: tuple[str, ...] = ("digits",)) -> pd.DataFrame:
    columns = [(task, "accuracy (%) ↑", result) for task in tasks for result in ("final", "best")]
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples([(n, "tuned") for n in rows], names=["optimizer", "rules"]),
        columns=pd.MultiIndex.from_tuples(columns, names=["task", "metric", "result"]),
        dtype=object,
    )


EMPTY = table({}, ())


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (FULL, "98.10 ± 0.25 (n=3)"),
        (LOST, "diverged 3/3"),
        (Summary(n=1, mean=5.0, expected=3), "5.00 (n=1/3)"),
        (Summary(n=2, mean=5.0, std=0.001, expected=2), "5.00 ± <0.01 (n=2)"),
        (Summary(n=2, mean=5.0, std=0.0, expected=2), "5.00 ± 0.00 (n=2)"),
        (Summary(n=2, mean=0.055, std=0.0012, expected=2), "0.0550 ± 1.20e-03 (n=2)"),
        ("not run", "not run"),
    ],
)
def test_a_cell_in_words(cell: object, text: str) -> None:
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0.00"), (100.0, "100.00"), (1e-9, "1.00e-09"), (2.5e7, "2.50e+07")),
        *((0.1, "0.10"), (-0.05265, "-0.0527"), (0.0051, "0.00510"), (0.0149, "0.0149")),
    ],
)
def test_numbers_stay_readable(value: float, text: str) -> None:
    assert number(value) == text


def test_csv_has_every_number_in_full() -> None:
    built = table({"adam": [FULL, LOST], "sgd": ["not run", FULL]})

    rows = list(csv.DictReader(io.StringIO(to_csv(built))))

    assert len(rows) == 4
    first = rows[0]
    assert (first["optimizer"], first["task"], first["result"]) == ("adam", "digits", "final")
    assert [float(first[key]) for key in ("mean", "std", "n", "ci_low", "ci_high", "ci_level")] == [
        98.1,
        0.25,
        3,
        97.5,
        98.7,
        0.95,
    ]
    assert (first["statistic"], first["command"]) == ("mean", "go")
    assert (rows[1]["mean"], rows[1]["diverged"], rows[1]["note"]) == ("", "3", "diverged 3/3")
    assert (rows[2]["n"], rows[2]["note"]) == ("0", "not run")


def test_csv_survives_names_with_commas_and_quotes() -> None:
    name = 'adam (betas=[0.9, 0.999], "x")'
    rows = list(csv.DictReader(io.StringIO(to_csv(table({name: [FULL, FULL]})))))
    assert rows[0]["optimizer"] == name


def test_markdown_is_one_row_a_method_with_nothing_that_breaks_it() -> None:
    text = to_markdown(table({EVIL: [FULL, LOST]}), "caption")

    *_, last = (line for line in text.splitlines() if line.startswith("|"))
    assert "<script>" not in text
    assert last.replace(r"\|", "").count("|") == 5
    assert last.endswith("| 98.10 ± 0.25 (n=3) | diverged 3/3 |")


def test_latex_escapes_what_latex_reads() -> None:
    assert latex(r"a_b & 5% $x$ #1 {y} \z ~ ^") == (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{}"
    )


def test_latex_is_a_float_with_caption_label_and_intervals() -> None:
    built = table({"adafisher_v3": [FULL, "not run"]}, ("digits",))
    text = to_latex(built, "What it is. How it is read.", "results")

    assert text == "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            r"\caption{What it is.}\label{tab:results}",
            r"\par\smallskip {\fontsize{9}{10.8}\selectfont\setlength{\tabcolsep}{3pt}",
            r"\begin{tabular}{@{}llrr@{}}",
            r"\toprule",
            r" &  & \multicolumn{2}{c}{accuracy (\%) $\uparrow$} \\",
            r"\cmidrule(lr){3-4}",
            r"optimizer & rules & final & best \\",
            r"\midrule",
            r"adafisher\_\allowbreak{}v3 & tuned & "
            r"98.10~$\pm$~0.25~(n=3) [97.50,~98.70] & not run \\",
            r"\bottomrule",
            r"\end{tabular}",
            "}",
            r"\par\smallskip \begin{minipage}{\linewidth}\fontsize{7}{8.4}\selectfont\noindent "
            r"How it is read. In square brackets: 95\% Student-t interval of the mean.\par"
            r"\end{minipage}",
            r"\end{table}",
            "% adafisher_v3, tuned, digits: go",
            "",
        ]
    )


def test_a_figure_is_listed_by_its_first_sentence_in_latex() -> None:
    text = to_latex_figure("curves", "Test metric (%). How to read it.")
    assert r"\includegraphics{\reportpath/figures/curves.pdf}" in text
    caption = r"\caption[{Test metric (\%).}]{Test metric (\%). How to read it.}\label{fig:curves}"
    assert caption in text


def flat(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(
        [(f"cifar{number}", "sgd") for number in range(len(rows))], names=["dataset", "optimizer"]
    )
    return pd.DataFrame(rows, index=index, columns=["published", "verdict"], dtype=object)


def test_a_flat_table_has_a_line_a_row_and_full_numbers_in_its_csv() -> None:
    built = flat([(95.123456, "reproduced"), (float("nan"), EVIL)])
    rows = list(csv.DictReader(io.StringIO(to_csv(built))))
    assert [row["published"] for row in rows] == ["95.123456", ""]
    assert rows[1] == {"dataset": "cifar1", "optimizer": "sgd", "published": "", "verdict": EVIL}
    head, _, first, second = (
        line for line in to_markdown(built, "").splitlines() if line.startswith("|")
    )
    assert head == "| dataset | optimizer | published | verdict |"
    assert first == "| cifar0 | sgd | 95.12 | reproduced |"
    assert second.replace(r"\|", "").count("|") == 5
    assert '<td data-value="95.123456">95.12</td>' in to_html(built)
    assert "<script>" not in to_html(built)


def test_a_long_flat_table_goes_over_pages_in_latex() -> None:
    long = to_latex(flat([(1.0, "ok")] * 100), "", "name")
    assert long.count(r"\begin{longtable}{@{}llll@{}}") == 1
    assert r"\usepackage{booktabs,longtable}" in long


def test_a_column_that_is_too_wide_follows_below_its_row_in_latex() -> None:
    text = to_latex(flat([(1.0, "x" * 120), (2.0, "")]), "", "name")
    assert r"\begin{tabular}{@{}lll@{}}" in text
    assert "dataset & optimizer & published" in text
    below = r"\multicolumn{3}{@{}p{\linewidth}@{}}{\hspace*{1em}verdict: " + "x" * 120 + "}"
    assert f"cifar0 & sgd & 1.00 \\\\*\n{below} \\\\[2pt]\ncifar1 & sgd & 2.00 \\\\\n" in text


def test_the_commands_of_a_flat_table_are_comments_in_latex() -> None:
    built = flat([(1.0, "ok"), (2.0, "ok")]).assign(command=["python -m x", ""])
    text = to_latex(built, "", "name")
    assert "% cifar0, sgd: python -m x\n" in text
    assert "command" not in text


def test_a_cell_of_its_own_keeps_its_numbers_and_leads_to_its_runs() -> None:
    source = {"group_id": "ab12", "run_ids": "r1 r2", "command": "python -m x"}
    cell = Cell("12.50 ms", {"seconds_per_step": 0.0125}, source, strong=True)
    built = table({"adam": [cell, LOST], "sgd": ["not run", cell]})
    (first, *_) = csv.DictReader(io.StringIO(to_csv(built)))
    assert (first["seconds_per_step"], first["run_ids"]) == ("0.0125", "r1 r2")
    assert '<a href="#group-ab12"><strong>12.50 ms</strong></a>' in to_html(built)
    assert "| **12.50 ms** |" in to_markdown(built, "")
    assert r"\textbf{12.50 ms}" in to_latex(built, "", "name")
    assert to_markdown(built, "").count("python -m x") == 1  # one command, two places
    assert "% adam, tuned, digits; sgd, tuned, digits: python -m x" in to_latex(built, "", "name")


def test_the_best_is_bold_everywhere_and_said_in_the_csv() -> None:
    best = dataclasses.replace(FULL, strong=True)
    built = table({"adam": [best, FULL]})
    assert "**98.10 ± 0.25 (n=3)** | 98.10 ± 0.25 (n=3) |" in to_markdown(built, "")
    assert to_latex(built, "", "name").count(r"\textbf{98.10~$\pm$~0.25~(n=3) [97.50,~98.70]}") == 1
    assert to_html(built).count("<strong>98.10 ± 0.25</strong>") == 1
    assert [row["best"] for row in csv.DictReader(io.StringIO(to_csv(built)))] == ["True", "False"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_every_kind_of_table_compiles(tmp_path: Path) -> None:
    names = ["adam", EVIL, "← ± ↑ ↓ − ≥ é 中"]
    tables = [
        table({name: [FULL, LOST] for name in names}),
        table({"adam": [FULL] * 8}, ("a", "b", "c", "d")),
        flat([(float("nan"), EVIL), (1.0, "x " * 60)]),
        flat([(1.0, "ok")] * 100),
        EMPTY,
    ]
    body = "\n\n".join(to_latex(built, EVIL, "name") for built in tables)
    document = rf"\documentclass{{article}}\usepackage{{{','.join(PACKAGES.values())}}}"
    source = tmp_path / "tables.tex"
    source.write_text(rf"{document}\begin{{document}}{body}\end{{document}}", "utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", source.name]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-1500:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000


def test_html_is_escaped_and_scoped() -> None:
    html = str(to_html(table({EVIL: [FULL, LOST]})))

    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert '<th scope="row">' in html
    assert "98.10 ± 0.25<small>n=3, 95% CI 97.50 to 98.70</small>" in html
    assert '<td class="bad">diverged 3/3</td>' in html


def test_many_blocks_are_written_below_each_other() -> None:
    tasks = ("a", "b", "c", "d")
    wide = table({"adam": [FULL] * 8}, tasks)
    assert to_latex(wide, "", "name").count(r"\begin{tabular}") == 4
    assert to_markdown(wide, "").count("| --- |") == 4


def test_a_block_has_one_row_for_each_method_that_is_missing_there() -> None:
    none = ["not run", "not run"]
    rows = {
        "adam": [*none, FULL, FULL],
        "adam (lr=0.1)": [FULL, FULL, *none],
        "kfac (lr=1)": [*none, FULL, FULL],
        "kfac (lr=2)": [*none, FULL, FULL],
    }
    (digits, first), (ptb, second) = blocks(table(rows, ("digits", "ptb")))

    assert (digits, ptb) == ("digits", "ptb")
    assert first.index.tolist() == [("adam (lr=0.1)", "tuned"), ("kfac", "")]
    assert first.map(cell_text).iloc[:, 0].tolist() == ["98.10 ± 0.25 (n=3)", "not run"]
    assert second.index.get_level_values(0).tolist() == ["adam", "kfac (lr=1)", "kfac (lr=2)"]


def print_table(built: pd.DataFrame, caption: str, console: Console) -> None:
    shown = terminal_table(built, caption)
    assert fault(shown, TABLE) is None
    show_table(json.loads(json.dumps(shown)), console)


@pytest.mark.parametrize("tasks", [("digits",), ("digits", "tinyshakespeare")])
def test_the_terminal_table_fits_80_columns(tasks: tuple[str, ...]) -> None:
    bad = Summary(n=1, mean=98.1, expected=3, diverged=1, failed=1)
    names = ("adam (lr=0.01, betas=[0.9,0.999])", "adafisherw_released", "[red]odd[/red]")
    built = table({name: [FULL, bad] * len(tasks) for name in names}, tasks)
    console = Console(width=80, file=io.StringIO(), record=True)

    print_table(built, "caption", console)

    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("98.10 ± 0.25 (n=3)") == 3 * len(tasks)
    assert "[red]odd[/red]" in text
    assert "diverged 1/3" in text
    assert all(task in text for task in tasks)


def test_what_all_rows_of_a_block_share_stands_in_its_title() -> None:
    built = table({"adam": [FULL] * 2, "sgd": [FULL] * 2})
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(built, "", console)
    title, *rows = console.export_text().splitlines()
    assert title.strip() == "digits: accuracy (%) ↑, rules tuned"
    assert not any("tuned" in row for row in rows)
    built.index = pd.MultiIndex.from_tuples(
        [("adam", "tuned"), ("sgd", "paper")], names=built.index.names
    )
    print_table(built, "", console)
    assert "paper" in console.export_text()


def test_a_method_that_has_not_run_in_a_block_widens_it_by_no_column() -> None:
    built = table(
        {"adam": [FULL] * 4, "sgd": ["not run", "not run", FULL, FULL]}, ("digits", "ptb")
    )
    console = Console(width=70, file=io.StringIO(), record=True)
    print_table(built, "", console)
    first, _, second = console.export_text().partition("ptb: ")
    assert first.startswith("digits: accuracy (%) ↑, rules tuned\n")
    assert "sgd" in first
    assert second.startswith("accuracy (%) ↑, rules tuned\n")


def test_a_title_that_is_wider_than_its_table_stays_in_a_line() -> None:
    built = table({"a": [FULL] * 2}, ("tinyshakespeare, 50 steps of a wide model",))
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(built, "", console)
    title, heads, *_ = console.export_text().splitlines()
    assert title == "tinyshakespeare, 50 steps of a wide model: accuracy (%) ↑, rules tuned"
    assert len(title) > len(heads.rstrip())


def test_the_trials_of_a_block_are_its_own() -> None:
    built = table({"adam": [FULL] * 4}, ("digits", "ptb"))
    built.index = pd.MultiIndex.from_tuples(
        [("adam", "tuned", "8, edge on ptb")], names=["optimizer", "ruleset", TRIALS]
    )
    row = ("adam", "tuned")
    built.attrs[TRIALS] = Kept({"digits": {row: "8"}, "ptb": {row: "8, edge"}})
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(built, "", console)
    text = console.export_text()
    assert "ruleset tuned, trials 8\n" in text
    assert "ruleset tuned, trials 8, edge\n" in text
    assert "edge on ptb" not in text


def test_a_wide_terminal_gets_one_table() -> None:
    built = table({"adam": [FULL] * 4}, ("digits", "ptb"))
    console = Console(width=160, file=io.StringIO(), record=True)
    print_table(built, "", console)
    (row,) = (line for line in console.export_text().splitlines() if "adam" in line)
    assert row.count("98.10") == 4


def test_an_empty_table_can_say_what_makes_its_own_runs() -> None:
    built = table({}, ())
    built.attrs[MISSING] = "make tune OPT=a_b"
    assert all("make tune" in write(built) for write in (to_csv, to_html))
    assert "make tune OPT=a_b" in to_markdown(built, "")
    assert r"make tune OPT=a\_b" in to_latex(built, "", "name")
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(built, "", console)
    assert "make tune OPT=a_b" in console.export_text()


def test_a_column_for_the_csv_alone_is_nowhere_else() -> None:
    built = pd.DataFrame({"shown": [1], "in full": [2]}, index=pd.Index(["adam"], name="method"))
    built.attrs[CSV_ONLY] = ["in full"]
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(built, "", console)
    others = (
        to_markdown(built, ""),
        to_latex(built, "", "name"),
        to_html(built),
        console.export_text(),
    )
    assert all("shown" in text and "in full" not in text for text in others)
    assert "in full" in to_csv(built)


def test_an_empty_table_says_what_makes_runs_in_every_format() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    print_table(EMPTY, "", console)

    assert NO_RUNS in console.export_text()
    assert NO_RUNS in to_csv(EMPTY)
    assert NO_RUNS in to_markdown(EMPTY, "")
    assert NO_RUNS in to_latex(EMPTY, "", "name")
    assert NO_RUNS in to_html(EMPTY)

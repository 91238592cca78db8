import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis.report import paper
from analysis.report.options import ReportError
from analysis.report.page import BuiltTable
from analysis.tables import results as table

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
EVIL = r"\input{x} 5% $x$ & #_^~ <b> é"


@needs_latex
def test_the_document_compiles_whatever_a_run_is_called(
    write_run: Any,
    runs_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    draw_only: Any,
) -> None:
    draw_only(monkeypatch, "test_metric_vs_epoch", "scalar_control")
    write_run(EVIL, task=EVIL)
    write_run("adam", status="failed", reason=EVIL, rows=[])
    out = tmp_path / "out"
    assert paper.main(["--runs", str(runs_dir), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"Written to {out}/paper/paper.pdf\n"
    text = (out / "paper" / "paper.tex").read_text("utf-8")
    names = {path.stem for path in (out / "figures").glob("*.pdf")}
    assert names
    assert all(rf"\input{{\reportpath/figures/{name}}}" in text for name in names)
    assert all((out / "figures" / f"{name}.tex").is_file() for name in names)
    assert r"\input{x}" not in text
    if shutil.which("pdftotext"):
        pdf = out / "paper" / "paper.pdf"
        words = subprocess.run(
            ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True
        ).stdout
        assert "5% $x$ & #_" in words
        assert "95.00 (n=1)" in words


@needs_latex
def test_each_table_and_figure_can_be_taken_alone(
    write_run: Any, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Any
) -> None:
    draw_only(monkeypatch, "test_metric_vs_epoch")
    for seed in range(2):
        write_run("adam", seed=seed)
        write_run("sgd", seed=seed, task="other")
    out = tmp_path / "of the report"
    paper.paper(runs_dir, out)
    parts = sorted([*out.glob("tables/*.tex"), *out.glob("figures/*.tex")])
    assert {path.parent.name for path in parts} == {"tables", "figures"}
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in parts:
        head = path.read_text("utf-8").partition("\n")[0]
        packages = re.findall(r"\\usepackage\{(.*?)\}", head)
        kind = {"tables": "tab", "figures": "fig"}[path.parent.name]
        lines = [
            r"\documentclass{article}",
            *(rf"\usepackage{{{each}}}" for each in packages if each),
            rf"\newcommand{{\reportpath}}{{{out}}}",
            rf'\begin{{document}}\input{{"{path.with_suffix("")}"}}',
            rf"See \ref{{{kind}:{path.stem}}}.\end{{document}}",
        ]
        source = alone / f"{path.stem}.tex"
        source.write_text("\n".join(lines), "utf-8")
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", source.name]
        for _ in range(2):
            ended = subprocess.run(command, cwd=alone, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout[-1500:]
        assert "undefined" not in ended.stdout


def test_without_a_latex_the_source_is_written(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper.shutil, "which", lambda name: None)
    monkeypatch.setattr(paper, "report", lambda *args, **kwargs: made(runs_dir))
    said = paper.paper(runs_dir, tmp_path)
    assert "pdflatex is not installed" in said
    assert (tmp_path / "paper" / "paper.tex").is_file()


@needs_latex
def test_what_latex_refuses_is_one_line(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "report", lambda *args, **kwargs: made(runs_dir))
    monkeypatch.setattr(paper, "document", lambda *args: r"\documentclass{article}\undefined")
    with pytest.raises(
        ReportError, match=r"pdflatex: Undefined control sequence\. See .*paper\.log"
    ):
        paper.paper(runs_dir, tmp_path)


def made(runs_dir: Path) -> Any:
    from analysis.report.report import Made
    from analysis.results.load import load_results

    results = load_results(runs_dir)
    return Made(results, [BuiltTable("results", "caption", table.build(results))], [])

"""A record that came from elsewhere: nothing that a terminal or a reader obeys gets through."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from analysis.report.__main__ import main

HOSTILE = "\x1b[31mx\x1b]8;;http://evil\x07\x9b2J\u202e\u2066\u200f\rend"
SEEN = "8;;http://evil"  # what is left of it, in every format
NAMES = ("task", "model", "optimizer", "ruleset", "budget", "setting", "group_id")
FIGURES = ("test_metric_vs_epoch", "cost_per_method", "test_metric_vs_learning_rate")


def obeyed(text: str) -> set[str]:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {hex(ord(c)) for c in set(text) - set("\n\t") if unicodedata.category(c) in kinds}


def test_a_hostile_record_is_shown_by_escapes_everywhere(
    write_run: Any,
    runs_dir: Path,
    tmp_path: Path,
    draw_only: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for seed, status in enumerate(("done", "done", "failed")):
        record = write_run("sgd", seed, status=status)
        told = json.loads((record / "status.json").read_text())
        texts = {key: f"{text}{HOSTILE}" for key, text in told["identity"].items() if key in NAMES}
        told["identity"] |= texts | {"hyperparameters": {"lr": 0.1, HOSTILE: HOSTILE}}
        told |= {"reason": HOSTILE if seed == 2 else None}
        (record / "status.json").write_text(json.dumps(told))
    write_run("sgd", 9).joinpath("config.yaml").write_text("a: \x1b[31m\x9b\n", encoding="utf-8")
    broken = write_run("adam", 0)
    broken.joinpath("status.json").write_text(json.dumps({"schema": HOSTILE}))
    draw_only(monkeypatch, *FIGURES)
    assert main(["--runs", str(runs_dir), "--out", str(tmp_path / "out")]) == 0
    written = dict(zip(("stdout", "stderr"), capfd.readouterr(), strict=True))

    for path in sorted((tmp_path / "out").rglob("*.*")):
        if path.suffix in (".csv", ".md", ".tex", ".html", ".svg"):
            written[path.relative_to(tmp_path / "out").as_posix()] = path.read_bytes().decode()
    assert {name: found for name, text in written.items() if (found := obeyed(text))} == {}
    shown = {name for name, text in written.items() if SEEN in text.replace("\n", "")}
    results = {f"tables/results.{ending}" for ending in ("csv", "md", "html", "tex")}
    figures = {f"figures/test_metric_vs_epoch.{ending}" for ending in ("csv", "svg")}
    assert results | figures | {"report.html", "stdout", "stderr"} <= shown

"""The trials of tuning studies and the figure of them, on records and ledgers made up by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.figures import expected_best, validation_vs_learning_rate
from analysis.plots.missing import Missing
from analysis.report import __main__ as report
from analysis.report import drawing
from analysis.results import trials
from analysis.results.load import load_results
from analysis.results.trials import (
    LEDGER,
    TRIALS_DIR,
    LedgerError,
    Trials,
    ledger_path,
    ledger_problems,
    panels_of,
    read_ledger,
    trials_digest,
    trials_of,
)
from analysis.style import KNOWN
from experiments.tuning import ledger as written
from experiments.tuning import tune
from experiments.tuning.tuned_file import LEDGERS

SHIPPED = sorted(trials.TUNED.glob("*/*.yaml"))


@pytest.fixture
def write_trial(runs_dir: Path, writer_to: Callable[[Path], Any]) -> Any:
    (runs_dir / TRIALS_DIR).mkdir()
    (runs_dir / TRIALS_DIR / "digits-adam-0123abcd").mkdir()  # a study's own folder, no record
    write = writer_to(runs_dir / TRIALS_DIR)

    def one(lr: float, *values: float, optimizer: str = "adam", **options: Any) -> Path:
        rows = [
            {"step": at, "epoch": at, "validation_accuracy_percent": value}
            for at, value in enumerate(values, start=1)
        ]
        options = {"ruleset": "default", "hyperparameters": {"lr": lr}, **options}
        return write(optimizer, rows=rows, **options)

    return one


def test_what_is_read_is_what_tuning_writes() -> None:
    assert str(TRIALS_DIR) == tune.TRIALS_DIR
    assert written.VERSION == LEDGER
    assert ledger_path("digits/adam.yaml").parent.name == LEDGERS


def test_the_line_is_the_expectation_of_the_best(write_trial: Any, runs_dir: Path) -> None:
    write_trial(0.1, 1.0, 90.0, 2.0)
    write_trial(0.2, 80.0)
    write_trial(0.3, 70.0, optimizer="sgd")
    write_trial(0.4, 99.0, optimizer="sgd", status="diverged")
    write_trial(0.5, 99.0, optimizer="sgd", status="running")  # no trial yet

    (ax,) = expected_best.build(load_results(runs_dir)).axes

    adam, sgd = ax.lines
    # One of {80, 90}: 85 with a deviation of 5; the best of two is 80 with 1/4: 87.5.
    assert adam.get_xdata().tolist() == [1, 2]
    assert adam.get_ydata().tolist() == [85.0, 87.5]
    corners = ax.collections[0].get_paths()[0].vertices
    assert sorted(set(corners[corners[:, 0] == 1, 1])) == [80, 90]
    low = 87.5 - np.sqrt(0.25 * 7.5**2 + 0.75 * 2.5**2)
    assert sorted(set(corners[corners[:, 0] == 2, 1])) == pytest.approx([low, 90])
    assert sgd.get_ydata().tolist() == [70, 70]  # a trial that diverged is as bad as the worst
    assert [text.get_text() for text in ax.get_figure(root=True).legends[0].get_texts()] == [
        "adam (n=2)",
        "sgd (n=1/2)",
    ]
    assert adam.get_color() == KNOWN["adam"].color
    assert ax.get_title() == "digits, small_cnn: trials of 2 epochs"
    assert ax.get_ylabel() == "validation accuracy (%)"


def test_what_blew_up_presses_nothing_together(write_trial: Any, runs_dir: Path) -> None:
    options = {"metric": "perplexity", "higher_is_better": False}
    for lr, value in ((0.1, 10.0), (0.2, 20.0), (0.3, 30.0), (0.4, 1e204)):
        path = write_trial(lr, **options)
        row = f'{{"step": 1, "validation_perplexity": {value}}}\n'
        (path / "metrics.jsonl").write_text(row)
    (ax,) = expected_best.build(load_results(runs_dir)).axes
    assert ax.lines[0].get_ydata()[0] == pytest.approx((10 + 20 + 30 + 30) / 4)
    assert ax.get_figure(root=True).legends[0].get_texts()[0].get_text() == "adam (n=3/4)"


def test_trials_of_other_budgets_are_other_panels(write_trial: Any, runs_dir: Path) -> None:
    write_trial(0.1, 90.0)
    write_trial(0.1, 50.0, budget="1 epoch")
    titles = [ax.get_title() for ax in expected_best.build(load_results(runs_dir)).axes]
    assert titles == [
        f"digits, small_cnn: trials of {budget}" for budget in ("1 epoch", "2 epochs")
    ]


def test_trials_of_two_widths_and_of_a_subset_are_panels_of_their_own(
    write_trial: Any, runs_dir: Path
) -> None:
    protocol = {"task": {"name": "digits"}, "model": {"width": 16}, "budget": {"epochs": 2}}
    write_trial(0.1, 90.0, protocol=protocol, origin=made_by({}))
    for task, model, setting in (
        ({"train_limit": 600}, {"width": 16}, {"task.train_limit": 600}),
        ({}, {"width": 8}, {"model.width": 8, "budget.epochs": 2}),
    ):
        apart = {**protocol, "task": {**protocol["task"], **task}, "model": model}
        write_trial(0.1, 50.0, protocol=apart, origin=made_by(setting), group_id=str(setting))
    found = {made.title: made.values.tolist() for made in trials_of(load_results(runs_dir))}
    assert found == {
        "digits, small_cnn: trials of 2 epochs": [90.0],
        "digits, small_cnn width=8: trials of 2 epochs": [50.0],
        "digits, small_cnn, 600 images: trials of 2 epochs": [50.0],
    }


def test_two_searches_of_one_method_are_two_lines(write_trial: Any, runs_dir: Path) -> None:
    """Of the rate as all others, and of rate and damping: the best of both is nobody's choice."""
    for name, lr, searched, value in (
        *(("adam", 0.1, ("lr",), 90.0), ("sgd", 0.1, ("lr",), 70.0), ("soap", 0.1, ("lr",), 60.0)),
        *(("adam", 0.2, ("damping", "lr"), 95.0), ("muon", 0.1, ("beta", "lr"), 50.0)),
        *(("sgd", 0.2, (), 71.0), ("adam", 0.3, ("damping",), 96.0)),  # at the method's own rate
    ):
        origin = {**made_by({}), "typed": dict.fromkeys(searched, lr)}
        write_trial(lr, value, optimizer=name, origin=origin)
    found = {made.optimizer: made.values.tolist() for made in trials_of(load_results(runs_dir))}
    assert found == {
        "adam": [90.0],
        "adam (damping, lr)": [95.0, 96.0],
        "muon": [50.0],
        "sgd": [70.0, 71.0],
        "soap": [60.0],
    }


def made_by(setting: dict[str, Any]) -> dict[str, Any]:
    return {"command": [], "setting": setting, "typed": {}, "ruleset_file": None}


def test_without_trials_it_says_what_makes_some(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")
    missing = expected_best.build(load_results(runs_dir))
    assert isinstance(missing, Missing)
    assert missing.command.startswith("make tune OPT=")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_ledger_tells_what_its_summary_does(path: Path) -> None:
    tuning = yaml.safe_load(path.read_text("utf-8"))["tuning"]
    ledger = read_ledger(f"{path.parent.name}/{path.name}")
    assert ledger["tuning"] == tuning
    scores = [trial["score"] for trial in ledger["trials"]]
    known = [score for score in scores if score is not None]
    assert (len(scores), len(known)) == (tuning["trials"], tuning["completed"])
    spread = tuning["spread"]  # by the loss, of which less is better, to four digits
    found = [min(known), np.median(known), max(known)]
    told = [spread[key] for key in ("best", "median", "worst")]
    assert found == pytest.approx(told, rel=5e-4, abs=1e-4)


@pytest.fixture
def own_conf(tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder of tuned files that a test may write to."""
    shutil.copytree(trials.TUNED / "digits", tmp_path / "conf" / "tuned" / "digits")
    monkeypatch.setattr(trials, "TUNED", tmp_path / "conf" / "tuned")
    return tmp_path / "conf" / "tuned" / "digits"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("ledger: 1", "ledger: 2"), "ledger is 2, this version reads 1"),
        (lambda text: text.replace("ledger: 1", "x: 1"), "ledger is None, this version reads 1"),
        (lambda text: "- 1", "ledger is None, this version reads 1"),
        (lambda text: text + "]", "not readable as YAML"),
        (
            lambda text: text.rpartition("\n- ")[0],
            "damaged (trials are missing)",
        ),  # one trial fewer
        (lambda text: text.replace("score:", "sum:"), "damaged (lacks trials[0].score)"),
        (lambda text: None, "missing, as of an older version that kept it as a comment"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_one_line_and_the_rest_is_made(
    write_run: Any,
    runs_dir: Path,
    tmp_path: Path,
    own_conf: Path,
    change: Any,
    why: str,
    capsys: Any,
) -> None:
    for name in ("adam", "sgd"):
        tuning = yaml.safe_load((own_conf / f"{name}.yaml").read_text())["tuning"]
        write_run(name, tuning=tuning)
    path = own_conf / "ledgers" / "adam.yaml"
    changed = change(path.read_text())
    path.unlink() if changed is None else path.write_text(changed)
    results = load_results(runs_dir)
    (line,) = ledger_problems(results)
    assert line == (
        f"conf/tuned/digits/ledgers/adam.yaml: {why}; its trials are left out. "
        "`make tune OPT=adam TASK=digits` writes it anew."
    )
    assert [one.optimizer for one in trials_of(results)] == ["sgd"]
    with pytest.raises(LedgerError):
        read_ledger("digits/adam.yaml")
    out = tmp_path / "out"
    assert report.main(["--runs", str(runs_dir), "--out", str(out), "--tables-only"]) == 0
    assert f"warning: {line}" in capsys.readouterr().err.splitlines()
    assert (out / "tables" / "results.md").is_file()


def test_the_rates_that_were_tried_are_drawn_with_those_that_were_lost(
    write_trial: Any, runs_dir: Path
) -> None:
    write_trial(0.1, 1.0, 90.0)
    write_trial(0.001, 80.0)
    write_trial(10.0, 85.0, status="diverged")
    for lr, damping in ((0.1, 1e-3), (0.2, 1e-4)):  # searched in pairs: no line over one of them
        write_trial(
            lr,
            95.0,
            optimizer="kfac",
            hyperparameters={"lr": lr, "damping": damping},
            origin={**made_by({}), "typed": {"lr": lr, "damping": damping}},
        )

    figure = validation_vs_learning_rate.build(load_results(runs_dir))

    (ax,) = figure.axes
    line, lost = ax.lines
    assert line.get_xdata().tolist() == [0.001, 0.1, 10.0]
    assert line.get_ydata()[:2].tolist() == [80.0, 90.0]
    assert lost.get_xdata().tolist() == [10.0]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "learning rate")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["adam"]


def test_a_trial_that_blew_up_is_a_cross_and_bends_no_axis(
    write_trial: Any, runs_dir: Path
) -> None:
    low = {"higher_is_better": False}
    for lr, value in ((0.1, 2.0), (0.2, 1.0), (0.3, 3.0), (0.4, 1e8)):
        write_trial(lr, value, **low)
    (ax,) = validation_vs_learning_rate.build(load_results(runs_dir)).axes
    line, lost = ax.lines
    assert line.get_ydata()[:3].tolist() == [2.0, 1.0, 3.0]
    assert lost.get_xdata().tolist() == [0.4]
    assert ax.get_ylim()[1] < 10


def test_a_trial_that_was_pruned_is_no_crash(
    write_run: Any, runs_dir: Path, own_conf: Path
) -> None:
    """It has no result; but nothing went wrong, and nobody knows what it would have come to."""
    path = own_conf / "ledgers" / "adam.yaml"
    ledger = yaml.safe_load(path.read_text())
    pruned = [0, 1, 2, 6]
    for index in [*pruned, 11]:
        state = "pruned" if index in pruned else "diverged"
        ledger["trials"][index] |= {"state": state, "score": None, "loss": None}
    rates = [trial["values"]["lr"] for trial in ledger["trials"]]
    ledger["tuning"] |= {"pruner": "median", "pruned": 4, "diverged": 1, "completed": 7}
    path.write_text(yaml.safe_dump(ledger))
    write_run("adam", tuning=ledger["tuning"])
    results = load_results(runs_dir)
    (ax,) = validation_vs_learning_rate.build(results).axes
    line, lost, stopped = ax.lines
    assert line.get_xdata().tolist() == [*rates[3:6], *rates[7:]]
    assert (lost.get_marker(), lost.get_xdata().tolist()) == ("x", rates[11:])
    assert (stopped.get_marker(), stopped.get_xdata().tolist()) == (
        "|",
        [rates[index] for index in pruned],
    )
    assert lost.get_ydata()[0] != stopped.get_ydata()[0]
    assert isinstance(expected_best.build(results), Missing)
    write_run("adamw", tuning=yaml.safe_load((own_conf / "adamw.yaml").read_text())["tuning"])
    (ax,) = expected_best.build(load_results(runs_dir)).axes
    assert [text.get_text() for text in ax.get_figure(root=True).legends[0].get_texts()] == [
        "adamw (n=10/12)"  # two have more than ten times the median loss
    ]


def test_what_was_never_tuned_has_no_ledger_and_no_fault(write_run: Any, runs_dir: Path) -> None:
    write_run("mine")  # its ruleset is called tuned, and there is no file
    assert ledger_problems(load_results(runs_dir)) == ()
    for name in ("digits/mine.yaml", "../digits/adam.yaml", "adam.yaml", "a/b/c/adam.yaml"):
        assert read_ledger(name) == {}


def test_a_ledger_counts_for_runs_that_tell_of_it(
    write_run: Any, write_trial: Any, runs_dir: Path, own_conf: Path
) -> None:
    path = own_conf / "adam.yaml"
    tuning = yaml.safe_load(path.read_text())["tuning"]
    write_run("adam", tuning={**tuning, "of a later version": 1}, budget="9 epochs")
    write_run("sgd", tuning=tuning)  # another study's
    write_run("kfac", ruleset="paper")
    results = load_results(runs_dir)
    (made,) = trials_of(results)
    assert (made.title, made.optimizer) == ("digits, small_cnn: trials of 20 epochs", "adam")
    kept = yaml.safe_load(ledger_path("digits/adam.yaml").read_text())["trials"]
    assert made.values.tolist() == [trial["score"] for trial in kept]
    assert len(made.values) == 12
    write_trial(0.1, 90.0, budget="20 epochs")  # by its worst seed, which chose nothing
    (again,) = trials_of(results)
    assert again.values.tolist() == made.values.tolist()
    ledger_path("digits/adam.yaml").unlink()
    assert [one.values.tolist() for one in trials_of(results)] == [[90.0]]


def test_a_setting_has_ledgers_of_its_own(write_run: Any, runs_dir: Path, own_conf: Path) -> None:
    """Two widths of one model, tuned side by side: each run's trials are those of its file."""
    tuning = yaml.safe_load((own_conf / "adam.yaml").read_text())["tuning"]
    text = (own_conf / "ledgers" / "adam.yaml").read_text()
    for setting in ("w8", "w16"):
        (own_conf / setting / "ledgers").mkdir(parents=True)
        changed = text.replace("model: small_cnn", f"model: {setting}")
        (own_conf / setting / "ledgers" / "adam.yaml").write_text(changed)
        file = {"path": f"tuned/digits/{setting}/adam.yaml", "sha256": "0" * 64}
        origin = {"command": [], "setting": {}, "typed": {}, "ruleset_file": file}
        write_run("adam", model=setting, tuning={**tuning, "model": setting}, origin=origin)
    results = load_results(runs_dir)
    assert [made.title for made in trials_of(results)] == [
        f"digits, {setting}: trials of 20 epochs" for setting in ("w16", "w8")
    ]
    (own_conf / "w8" / "ledgers" / "adam.yaml").write_text("- 1")
    (line,) = ledger_problems(results)
    assert line.startswith("conf/tuned/digits/w8/ledgers/adam.yaml: ledger is None")
    assert "`make tune OPT=adam TASK=digits ARGS=tuned=w8`" in line


def test_ledgers_of_two_searches_of_one_method_are_two_lines(
    write_run: Any, runs_dir: Path, own_conf: Path
) -> None:
    """As their records are, where no trial is recorded: neither hides the other."""
    tuning = yaml.safe_load((own_conf / "adam.yaml").read_text())["tuning"]
    text = (own_conf / "ledgers" / "adam.yaml").read_text()
    (own_conf / "damping" / "ledgers").mkdir(parents=True)
    both = text.replace("values: {lr: ", "values: {damping: 0.1, lr: ")
    assert both != text
    (own_conf / "damping" / "ledgers" / "adam.yaml").write_text(both)
    for setting, lr in (("", 0.1), ("damping/", 0.2)):
        file = {"path": f"tuned/digits/{setting}adam.yaml", "sha256": "0" * 64}
        origin = {**made_by({}), "ruleset_file": file}
        write_run("adam", tuning=tuning, origin=origin, hyperparameters={"lr": lr})
    write_run("sgd", tuning=yaml.safe_load((own_conf / "sgd.yaml").read_text())["tuning"])
    made = trials_of(load_results(runs_dir))
    assert [(one.optimizer, int(np.isfinite(one.rates).sum())) for one in made] == [
        ("adam", 12),
        ("adam (damping, lr)", 0),
        ("sgd", 12),
    ]


def test_ledgers_of_two_tuned_files_of_one_method_are_two_lines(
    write_run: Any, write_trial: Any, runs_dir: Path, own_conf: Path
) -> None:
    """Of one setting and search, as by other seeds: neither hides the other."""
    tuning = yaml.safe_load((own_conf / "adam.yaml").read_text())["tuning"]
    text = (own_conf / "ledgers" / "adam.yaml").read_text()
    write_run("sgd", tuning=yaml.safe_load((own_conf / "sgd.yaml").read_text())["tuning"])
    for setting, seed in (("mine", 1001), ("theirs", 1002)):
        (own_conf / setting / "ledgers").mkdir(parents=True)
        other = yaml.safe_load(text)
        other["tuning"]["seeds"] = [seed]
        other["trials"][0]["score"] = float(seed)
        (own_conf / setting / "ledgers" / "adam.yaml").write_text(yaml.safe_dump(other))
        origin = {**made_by({}), "ruleset_file": {"path": f"tuned/digits/{setting}/adam.yaml"}}
        origin["ruleset_file"]["sha256"] = "0" * 64
        hyperparameters = {"lr": seed / 1e4}
        write_run("adam", tuning=other["tuning"], origin=origin, hyperparameters=hyperparameters)
    write_run("adam", tuning=tuning)
    write_trial(0.1, 90.0, budget="20 epochs")  # of one of them: of which it does not tell
    made = {one.optimizer: float(one.values[0]) for one in trials_of(load_results(runs_dir))}
    assert list(made) == ["adam", "adam (tuned=mine)", "adam (tuned=theirs)", "sgd"]
    assert list(made.values())[1:3] == [1001.0, 1002.0]


def test_trials_under_two_timings_are_not_taken_for_one_another(
    write_trial: Any, runs_dir: Path
) -> None:
    for day, lrs in (("2026-11-29", (0.1, 0.2)), ("2026-12-01", (0.1,))):
        words = f"equal time (9 steps of sgd, timed {day} on M1)"
        for lr in lrs:
            write_trial(lr, 90.0, budget=words, group_id=f"{day} {lr}")
    made = {one.title: one.values.size for one in trials_of(load_results(runs_dir))}
    assert list(made.values()) == [2, 1]
    assert all("timed 2026-1" in title for title in made)


def test_what_was_judged_otherwise_has_a_panel_of_its_own() -> None:
    of = {"family": "adam", "higher_is_better": False, "units": {}, "searched": "lr", "tuned": ""}
    values = {"values": np.array([1.0]), "rates": np.array([0.1]), "pruned": np.array([False])}
    adam, sgd = (
        Trials(title="t", in_full="t", optimizer=name, metric=metric, **of, **values)
        for name, metric in (("adam", "validation_loss"), ("sgd", "validation_accuracy_percent"))
    )
    assert list(panels_of([adam])) == ["t"]
    both = {
        title: [one.optimizer for one in panel] for title, panel in panels_of([adam, sgd]).items()
    }
    assert both == {
        "t, by validation_loss": ["adam"],
        "t, by validation_accuracy_percent": ["sgd"],
    }


def test_of_a_loss_less_is_better_though_more_of_the_metric_is(
    write_run: Any, runs_dir: Path, own_conf: Path
) -> None:
    path = own_conf / "ledgers" / "adam.yaml"
    ledger = yaml.safe_load(path.read_text())
    ledger["tuning"] |= {"choose": "loss"}
    ledger["tuning"]["spread"]["metric"] = "validation_loss"
    path.write_text(yaml.safe_dump(ledger))
    write_run("adam", tuning=ledger["tuning"])
    (made,) = trials_of(load_results(runs_dir))
    assert (made.metric, made.higher_is_better) == ("validation_loss", False)


def test_new_trials_draw_the_figure_anew(
    write_trial: Any, runs_dir: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    assert trials_digest(None) == trials_digest(tmp_path)
    drawn = []
    write_trial(0.1, 90.0)
    monkeypatch.setattr(drawing, "_render", lambda figure, *_, **__: drawn.append(figure) or FILES)
    for lr in (None, 0.2, None):
        if lr:
            write_trial(lr, 95.0)
        drawing.draw("expected_best", load_results(runs_dir), tmp_path / "out")
    assert len(drawn) == 2


FILES = dict.fromkeys([*drawing.FORMATS, drawing.DATA], b"")

"""What the runs of a comparison say, from made-up records."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from analysis.results import versus
from analysis.statistics import sequential
from experiments.records.schema import Run
from experiments.records.verdict import BETTER, LOOKS, UNDECIDED, WITHIN, WORSE

SPREAD = np.array([0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.3, -0.3, 0.1])


def run(seed, final, *, higher=True, status="done", seconds=(1.0, 2.0), values=None):
    metric = "accuracy_percent" if higher else "perplexity"
    values = (final, final) if values is None else values
    rows = [
        {
            "step": 10 * (at + 1),
            "train_seconds": second,
            f"validation_{metric}": value,
            f"test_{metric}": final,
        }
        for at, (second, value) in enumerate(zip(seconds, values, strict=True))
    ]
    identity = {"metric": metric, "higher_is_better": higher, "validation": True, "seed": seed}
    progress = {"step": 20, "train_seconds": seconds[-1], "last_row_step": 10 * len(rows)}
    return Run(f"r{seed}", Path(f"r{seed}"), status, None, identity, progress, rows=rows)


def runs(finals, **options):
    return [run(seed, float(final), **options) for seed, final in enumerate(finals)]


def decided(ours, theirs, margin=None, **further):
    (told,) = versus.decide(
        {"t": {"ours": ours, "theirs": theirs, **further}}, margin=margin
    ).values()
    return told


@pytest.mark.parametrize(
    ("gain", "n", "verdict"),
    [(1.0, 5, BETTER), (-1.0, 5, WORSE), (0.05, 10, UNDECIDED), (1.0, 3, UNDECIDED)],
)
def test_a_verdict_is_where_the_bound_of_a_look_is_met(gain, n, verdict):
    gains = gain + SPREAD[:n]
    met = max(
        abs(z) / b for z, b in zip(sequential.z_scores(gains), sequential.bounds(), strict=False)
    )
    assert (met >= 1) == (verdict in (BETTER, WORSE))
    told = decided(runs(90 + gains), runs(np.full(n, 90.0)))
    assert (told["verdict"], told["n"]) == (verdict, n)
    assert told["final"] == (verdict != UNDECIDED or n == LOOKS[-1])
    assert told["ours"] == pytest.approx(90 + gains.mean())
    assert told["looks"][-1]["difference"] == pytest.approx(gains.mean())
    assert told["p"] == told["p_corrected"] == pytest.approx(sequential.look(gains).p)
    needed = told["seeds_needed"]
    assert (needed is None) == (verdict in (BETTER, WORSE))


def test_less_is_better_where_the_metric_says_so():
    ours, theirs = runs(9 - SPREAD[:5], higher=False), runs(np.full(5, 10.0), higher=False)
    assert decided(ours, theirs)["verdict"] == BETTER
    assert decided(theirs, ours)["verdict"] == WORSE


def test_a_small_difference_is_within_a_margin_that_was_typed_and_undecided_without():
    ours, theirs = runs(90 + SPREAD), runs(np.full(10, 90.0))
    assert decided(ours, theirs)["verdict"] == UNDECIDED
    assert decided(ours, theirs, margin=1.0)["verdict"] == WITHIN
    assert decided(ours, theirs, margin=0.05)["verdict"] == UNDECIDED


def test_several_tasks_are_corrected_by_holm():
    """By hand: the smallest p times 3, the next times 2, and none below one before it."""
    gains = {"one": 1.0 + SPREAD[:7], "other": 0.25 + SPREAD, "flat": 0.5 * SPREAD}
    tasks = {
        name: {"ours": runs(90 + of), "theirs": runs(np.full(len(of), 90.0))}
        for name, of in gains.items()
    }
    ps = {name: sequential.look(of).p for name, of in gains.items()}
    assert ps["one"] < ps["other"] < ps["flat"]
    told = versus.decide(tasks, margin=None)
    expected = {"one": 3 * ps["one"], "other": 2 * ps["other"], "flat": ps["flat"]}
    for name, p in expected.items():
        assert told[name]["p_corrected"] == pytest.approx(min(1.0, p))
        assert (told[name]["verdict"] == BETTER) == (p <= 0.05)
    alone = decided(**tasks["other"])
    assert alone["p_corrected"] == pytest.approx(ps["other"])


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [(("ours",), WORSE), (("theirs",), UNDECIDED), (("ours", "theirs"), UNDECIDED)],
)
def test_what_diverged_is_never_better_and_ends_the_comparison(lost, verdict):
    of = {"ours": runs(95 + SPREAD[:3]), "theirs": runs(np.full(3, 90.0))}
    for side in lost:
        of[side][1] = run(1, 0.0, status="diverged")
    told = decided(**of)
    assert (told["verdict"], told["final"]) == (verdict, True)
    assert all(f"{side}: 1 of 3 diverged" in told["reason"] for side in lost)
    assert told["looks"] == []


def test_a_finished_run_without_a_finite_result_counts_as_diverged():
    ours = runs(95 + SPREAD[:3])
    ours[2] = run(2, float("nan"))
    assert decided(ours, runs(np.full(3, 90.0)))["verdict"] == WORSE


def test_equal_results_decide_nothing():
    told = decided(runs(np.full(10, 91.0)), runs(np.full(10, 90.0)))
    assert (told["verdict"], told["reason"]) == (UNDECIDED, "all differences are equal")
    assert told["seeds_needed"] is None


def test_speed_up_and_cost_are_ratios_of_seconds():
    """The other one ends at 90 after 2 s; the method has 90 after 0.5 s, of half the seconds."""
    theirs = [run(seed, 90.0, seconds=(1.0, 2.0), values=(80.0, 90.0)) for seed in range(3)]
    ours = [run(seed, 91.0, seconds=(0.5, 1.0), values=(90.0, 91.0)) for seed in range(3)]
    told = decided(ours, theirs)
    assert told["speed_up"]["value"] == 4.0
    assert (told["speed_up"]["metric"], told["speed_up"]["target"]) == (
        "validation_accuracy_percent",
        90.0,
    )
    assert told["cost_ratio"] == 0.5


def test_as_many_epochs_are_told_without_a_verdict():
    theirs = runs(np.full(3, 90.0))
    told = decided(runs(90 + SPREAD[:3]), theirs, ours_equal_epochs=runs(np.full(3, 99.0)))
    lost = {"ours": "", "theirs": ""}
    assert told["equal_epochs"] == {"n": 3, "ours": 99.0, "theirs": 90.0, "lost": lost}
    assert told["verdict"] == UNDECIDED


def test_a_method_that_lost_runs_has_no_mean_of_the_others_after_as_many_epochs():
    of = [run(0, 99.0), *(run(seed, 0.0, status="diverged") for seed in (1, 2))]
    told = decided(runs(90 + SPREAD[:3]), runs(np.full(3, 90.0)), ours_equal_epochs=of)
    beside = told["equal_epochs"]
    assert (beside["ours"], beside["lost"]["ours"]) == (None, "2 of 3 diverged")


def test_what_met_a_bound_as_better_is_not_called_worse():
    """Clearly better at the second look, and then one seed lost by far: another task went on."""
    gains = np.array([1, 1.35, 0.65, 1.2, 0.8, 1.0, -60.0])
    assert sequential.look(gains[:5]).p < 0.05
    told = decided(runs(90 + gains), runs(np.full(7, 90.0)))
    assert told["p_corrected"] < 0.05
    assert told["looks"][-1]["difference"] < 0
    assert told["verdict"] == UNDECIDED


def test_it_answers_json_with_json(monkeypatch, capsys):
    stored = {one.run_id: one for one in runs(np.full(3, 90.0))}
    monkeypatch.setattr(versus, "load_run", lambda path: stored[path.name])
    request = {
        "runs_dir": "runs",
        "margin": None,
        "tasks": {"t": {side: list(stored) for side in ("ours", "theirs")}},
    }
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    assert versus.main() == 0
    assert json.loads(capsys.readouterr().out)["t"]["verdict"] == UNDECIDED


def test_a_record_that_lost_its_rows_is_no_run_that_diverged(monkeypatch, capsys):
    stored = {one.run_id: one for one in runs(np.full(3, 90.0))}
    stored["r1"].rows.clear()
    monkeypatch.setattr(versus, "load_run", lambda path: stored[path.name])
    of = {side: list(stored) for side in ("ours", "theirs")}
    request = {"runs_dir": "runs", "margin": None, "tasks": {"t": of}}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    assert versus.main() == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == (
        "",
        "error: r1/metrics.jsonl: rows of a finished run are missing\n",
    )

"""The study of docs/study.md: its committed records, and what README and the page say of them."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from analysis.results.load import load_results
from experiments.records.archive import opened

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "results" / "study"
CONF = ROOT / "conf"
# By what README and the page call them: task, and the steps of the reference at equal time.
WORKLOADS = {
    "autoencoder": ("digits_autoencoder", 1080),
    "mnist": ("mnist", 235),
    "cifar": ("cifar10_jpeg", 316),
    "ptb": ("ptb", 300),
}
OURS = ["adafisher", "adafisher_v3", "adafisher_released"]
OTHERS = ["adam", "adamw", "kfac", "muon", "sgd", "shampoo", "soap"]
NOT_RUN = {("cifar", "adam")}


@cache
def runs() -> pd.DataFrame:
    return load_results(STUDY).runs


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(STUDY / "tables" / f"{name}.csv")


def at_equal_time(frame: pd.DataFrame, column: str, workload: str) -> pd.DataFrame:
    task, steps = WORKLOADS[workload]
    return frame[
        frame[column].str.startswith(f"{task},")
        & frame[column].str.contains(f"equal time ({steps} steps of adafisher)", regex=False)
    ]


def one(frame: pd.DataFrame) -> dict[str, Any]:
    (row,) = frame.to_dict("records")
    return {str(key): value for key, value in row.items()}


def signed(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def mean_row(method: str) -> str:
    cells = []
    for workload in WORKLOADS:
        of = at_equal_time(table("results"), "task", workload)
        of = of[(of["optimizer"] == method) & (of["result"] == "final")]
        if (workload, method) in NOT_RUN:
            assert not of["n"].fillna(0).any()
            cells.append("not run")
            continue
        cell = one(of)
        assert cell["expected_seeds"] == cell["n"] == 10
        assert cell["note"] == "n=10"  # none collapsed, none diverged
        cells.append(signed(cell["mean"], cell["ci_low"], cell["ci_high"]))
    return f"| {method} | " + " | ".join(cells) + " |"


def difference(workload: str, method: str) -> dict[str, Any]:
    of = at_equal_time(table("paired_difference"), "workload", workload)
    row = one(of[of["method"] == method])
    assert (row["against"], row["n"]) == ("adamw", 10)
    return row


def primary_row() -> str:
    cells = []
    for workload in WORKLOADS:
        row = difference(workload, "adafisher")
        shown = signed(row["difference"], row["low"], row["high"])
        cells.append(f"{shown}, p {row['p over workloads']:.0e}")
    return "| adafisher less adamw | " + " | ".join(cells) + " |"


def front_rows() -> list[str]:
    """The table of README and of the page."""
    return [*map(mean_row, [*OURS, *OTHERS]), primary_row()]


def difference_rows() -> list[str]:
    """The table of the page of all methods against AdamW."""
    rows = []
    for method in [*OURS, *OTHERS]:
        found = [
            None if (workload, method) in NOT_RUN else difference(workload, method)
            for workload in WORKLOADS
            if method != "adamw"
        ]
        cells = [
            signed(of["difference"], of["low"], of["high"]) if of else "not run" for of in found
        ]
        rows += [f"| {method} | " + " | ".join(cells) + " |"] if cells else []
    return rows


def control(workload: str) -> str:
    """The released rule less its scalar control."""
    of = table("scalar_control")
    row = one(of[of["task"].str.startswith(f"{WORKLOADS[workload][0]},")])
    assert row["n"] == 10
    return paired(
        at_equal_steps(workload, "adafisher_released"),
        at_equal_steps(workload, "adafisher_released", control="scalar"),
        mean=row["difference"],
    )


def hundredfold(workload: str) -> str:
    """The released rule less momentum at a hundred times its rate."""
    ours = at_equal_steps(workload, "adafisher_released")
    return paired(ours, at_equal_steps(workload, "sgd", lr=hundredfold_rate(workload)))


def hundredfold_rate(workload: str) -> float:
    file = CONF / f"experiment/study_{workload}_hundredfold.yaml"
    (grid,) = yaml.safe_load(file.read_text("utf-8"))["grids"]
    return float(grid["optimizer.lr"])


def at_equal_steps(
    workload: str, method: str, *, control: str = "", lr: float | None = None
) -> pd.Series:
    """Final results by seed, with the steps of the reference."""
    task, steps = WORKLOADS[workload]
    of = runs()[(runs()["task"] == task) & (runs()["budget"] == f"{steps} steps")]
    of = of[(of["optimizer"] == method) & (of["control"].fillna("") == control)]
    if lr is not None:
        of = of[[values["lr"] == lr for values in of["hyperparameters"]]]
    return of.set_index("seed")["final"]


def paired(ours: pd.Series, theirs: pd.Series, *, mean: float | None = None) -> str:
    differences = (ours - theirs).dropna().astype(float)
    assert len(differences) == len(ours) == len(theirs) == 10
    assert mean is None or mean == pytest.approx(differences.mean())
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return signed(differences.mean(), interval.low, interval.high)


def share(workload: str, method: str, when: str) -> str:
    of = at_equal_time(table("damping_share"), "task", workload)
    row = one(of[(of["method"] == method) & (of["when"] == when)])
    assert row["n"] == 10
    return f"{row['share (%)']:.2f} %"


def shares(method: str, when: str) -> str:
    found = [share(workload, method, when) for workload in WORKLOADS]
    return f"{', '.join(found[:-1])} and {found[-1]}"


def ratio(workload: str) -> float:
    """The time of a step of AdamW, in those of AdaFisher."""
    file = yaml.safe_load((CONF / f"budget/study_{workload}.yaml").read_text("utf-8"))
    return float(file["measured"]["methods"]["adamw"]["ratio"])


def sentences() -> list[str]:
    """Parts of sentences that README and the page both have, in the order of ``WORKLOADS``."""
    released = [difference(workload, "adafisher_released") for workload in WORKLOADS]
    shown = [signed(of["difference"], of["low"], of["high"]) for of in released]
    four = "{}, {} points, {} points and {} nats"
    return [
        f"differs from `adamw` by {four.format(*shown)}",
        "from momentum with the mean of its step size and no shape by "
        f"{four.format(*map(control, WORKLOADS))}",
        "from SGD with momentum at a hundred times its rate by "
        f"{four.format(*map(hundredfold, WORKLOADS))}",
        f"{shares('adafisher_released', 'last')} of its F is damping",
        f"of that of `adafisher` {shares('adafisher', 'last')}",
    ]


def of_the_page() -> list[str]:
    """Parts of sentences that the page has besides."""
    return [
        f"at the first evaluation {shares('adafisher_released', 'first')}",
        f"of that of `adafisher_v3` {shares('adafisher_v3', 'last')}",
        ", ".join(f"{100 * ratio(workload):.0f} %" for workload in WORKLOADS),
    ]


def of_readme() -> list[str]:
    """And those that README has."""
    least, most = (of(1 / ratio(workload) for workload in WORKLOADS) for of in (min, max))
    return [f"takes {least:.1f} to {most:.1f} times as long as one of `adamw`"]


def said() -> str:
    """All that the two pages take from the study."""
    return "\n".join(
        [*front_rows(), *difference_rows(), *sentences(), *of_the_page(), *of_readme()]
    )


def text(page: str) -> str:
    return " ".join((ROOT / page).read_text("utf-8").split())


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_pages_say_what_the_tables_hold(page: str) -> None:
    lines = (ROOT / page).read_text("utf-8").splitlines()
    assert [row for row in front_rows() if row not in lines] == []
    assert [part for part in sentences() if part not in text(page)] == []


def test_the_page_has_every_method_against_adamw() -> None:
    lines = (ROOT / "docs/study.md").read_text("utf-8").splitlines()
    assert [row for row in difference_rows() if row not in lines] == []
    assert [part for part in of_the_page() if part not in text("docs/study.md")] == []
    assert [part for part in of_readme() if part not in text("README.md")] == []


def test_the_verdict_is_that_of_the_rule() -> None:
    """Worse on at least three of four and better on none: contradicted; all is against it here."""
    for workload, is_up in zip(WORKLOADS, (False, True, True, False), strict=True):
        row = difference(workload, "adafisher")
        assert row["p over workloads"] < 0.05
        assert (row["difference"] < 0) == is_up
        camera_ready = difference(workload, "adafisher_v3")
        assert (camera_ready["high"] < 0) if is_up else (camera_ready["low"] > 0)
    assert "contradicted here" in text("docs/study.md")
    assert "Here it is worse on all four" in text("README.md")


def test_the_primary_test_is_a_paired_t_with_holm_over_four_workloads() -> None:
    found = []
    for task, steps in WORKLOADS.values():
        of = runs()[runs()["task"] == task]
        of = of[of["budget"].str.startswith(f"equal time ({steps} ")]
        finals = of.pivot(index="seed", columns="optimizer", values="final")
        assert list(finals.index) == list(range(10))
        tested = stats.ttest_rel(finals["adafisher"].astype(float), finals["adamw"].astype(float))
        found.append(float(tested.pvalue))
    order = sorted(range(4), key=found.__getitem__)
    corrected, most = [0.0] * 4, 0.0
    for rank, at in enumerate(order):
        most = corrected[at] = max(most, min(1.0, (4 - rank) * found[at]))
    rows = [difference(workload, "adafisher") for workload in WORKLOADS]
    assert [row["p"] for row in rows] == pytest.approx(found)
    assert [row["p over workloads"] for row in rows] == pytest.approx(corrected)


def test_the_best_means_are_those_that_are_named() -> None:
    best = {}
    for workload, is_up in zip(WORKLOADS, (False, True, True, False), strict=True):
        of = at_equal_time(table("results"), "task", workload)
        of = of[of["result"] == "final"].sort_values("mean", ascending=not is_up)
        best[workload] = of["optimizer"].iloc[0]
    assert best == {"autoencoder": "kfac", "mnist": "muon", "cifar": "kfac", "ptb": "adamw"}
    of = at_equal_time(table("comparison"), "task", "cifar")
    outcomes = of.set_index("against")["outcome"]
    assert [name for name in outcomes.index if "inconclusive" in outcomes[name]] == ["muon"]


def test_no_run_of_a_result_diverged_or_collapsed() -> None:
    assert set(runs()["status"]) == {"done"}
    assert not runs()["collapsed"].any()


def test_no_published_number_could_be_checked() -> None:
    verdicts = table("published_vs_reproduced")["outcome"].value_counts().to_dict()
    assert verdicts == {"not run": 145, "not comparable": 14}
    counted = (
        "Of the paper's 159 none could be checked here: 145 are not run, 14 are not comparable"
    )
    assert counted in text("docs/study.md")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_momentum_has_a_hundred_times_the_rate_of_the_released_rule(workload: str) -> None:
    task = WORKLOADS[workload][0]
    tuned = yaml.safe_load((CONF / "tuned" / task / "study/adafisher_released.yaml").read_text())
    assert hundredfold_rate(workload) == pytest.approx(100 * tuned["optimizer"]["lr"], rel=1e-12)


@pytest.mark.parametrize(
    "path",
    sorted(CONF.glob("tuned/*/study/*.yaml")),
    ids=lambda path: f"{path.parents[1].name}-{path.stem}",
)
def test_no_chosen_rate_is_on_an_edge(path: Path) -> None:
    tuning = yaml.safe_load(path.read_text("utf-8"))["tuning"]
    assert tuning["on_edge"] == []
    assert (tuning["trials"], tuning["seeds"]) == (12, [1000, 1001])


def test_every_run_is_of_committed_code_that_knew_the_page() -> None:
    folder, faults = opened(STUDY)
    assert faults == []
    codes = [json.loads(path.read_bytes())["code"] for path in folder.rglob("environment.json")]
    assert codes
    assert {code["uncommitted_changes"] for code in codes} == {False}
    for commit in {code["commit"] for code in codes}:
        git = ["git", "-C", str(ROOT)]
        known = subprocess.run([*git, "cat-file", "-e", commit], capture_output=True)
        if known.returncode:
            pytest.skip("a copy without the history of the study")
        shown = subprocess.run([*git, "show", f"{commit}:docs/study.md"], capture_output=True)
        assert b"Written down before any run of it" in shown.stdout

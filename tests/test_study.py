"""The study of docs/study.md: its committed records, and what README and the page say of them."""

import json
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from analysis.results.groups import tuned_setting
from analysis.results.load import load_results
from experiments import schedule
from experiments.records.archive import opened

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "results" / "study"
CONF = ROOT / "conf"
# By what README and the page call them: task, and the steps of the reference.
WORKLOADS = {
    "autoencoder": ("digits_autoencoder", 1080),
    "mnist": ("mnist", 235),
    "cifar": ("cifar10_jpeg", 316),
    "ptb": ("ptb", 300),
}
ACCURACY = ("mnist", "cifar")  # of the others less is better
OURS = ["adafisher", "adafisher_v3", "adafisher_released"]
OTHERS = ["adam", "adamw", "kfac", "muon", "sgd", "shampoo", "soap"]
AGAINST = "adamw"
NOT_RUN = "not run"
WIDTH = 8  # of the network of mnist
WIDTHS = (4, WIDTH, 16)
SMALLER = "(tuned=study_damping)"  # in the name of a method that has one of the smaller dampings
CUT = "cifar"  # has no runs with these


@cache
def runs() -> pd.DataFrame:
    return load_results(STUDY).runs


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(STUDY / "tables" / f"{name}.csv")


def at_equal_time(
    frame: pd.DataFrame, column: str, workload: str, width: int = WIDTH
) -> pd.DataFrame:
    """The rows of a block, of which ``column`` has the titles; mnist has one a width."""
    task, steps = WORKLOADS[workload]
    of = frame[frame[column].str.startswith(f"{task}, ")]
    titles, timed = of[column].str, f"equal time ({steps} steps of adafisher)"
    # The width that the model has by default is not named.
    widths = (
        titles.extract(r"small_cnn width=(\d+)", expand=False).fillna(str(max(WIDTHS))).astype(int)
    )
    return of[titles.contains(timed, regex=False) & ((widths == width) | (workload != "mnist"))]


def at_equal_steps(frame: pd.DataFrame, column: str, workload: str) -> pd.DataFrame:
    """The rows of the block in which every method takes the steps of the reference."""
    task, steps = WORKLOADS[workload]
    titles = frame[column].str
    return frame[titles.match(rf"{task}, ([^,]*, )*{steps} steps(,|$)")]


def one(frame: pd.DataFrame) -> dict[str, Any]:
    (row,) = frame.to_dict("records")
    return {str(key): value for key, value in row.items()}


def signed(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def row_of(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def mean_cell(workload: str, method: str) -> str:
    of = at_equal_time(table("results"), "task", workload)
    cell = one(of[(of["optimizer"] == method) & (of["result"] == "final")])
    assert cell["expected_seeds"] == cell["n"] == 10
    assert cell["note"] == "n=10"  # none collapsed, none diverged
    return signed(cell["mean"], cell["ci_low"], cell["ci_high"])


def difference(workload: str, method: str, width: int = WIDTH) -> dict[str, Any]:
    of = at_equal_time(table("paired_difference"), "workload", workload, width)
    row = one(of[of["method"] == method])
    assert (row["against"], row["n"]) == (AGAINST, 10)
    return row


def difference_cell(workload: str, method: str, width: int = WIDTH) -> str:
    row = difference(workload, method, width)
    return signed(row["difference"], row["low"], row["high"])


def primary_row() -> str:
    corrected = [difference(workload, "adafisher")["p over workloads"] for workload in WORKLOADS]
    cells = (difference_cell(workload, "adafisher") for workload in WORKLOADS)
    return row_of(
        "adafisher less adamw",
        (f"{cell}, p {p:.0e}" for cell, p in zip(cells, corrected, strict=True)),
    )


def front_rows() -> list[str]:
    """The table of README and of the page."""
    rows = [
        row_of(method, (mean_cell(workload, method) for workload in WORKLOADS))
        for method in [*OURS, *OTHERS]
    ]
    return [*rows, primary_row()]


def steps_row(workload: str, method: str) -> dict[str, Any]:
    """The difference at equal steps, over the five seeds that AdamW has there."""
    of = at_equal_steps(table("paired_difference"), "workload", workload)
    row = one(of[of["method"] == method])
    assert (row["against"], row["n"]) == (AGAINST, 5)
    return row


def steps_cell(workload: str, method: str) -> str:
    row = steps_row(workload, method)
    return signed(row["difference"], row["low"], row["high"])


def timed(workload: str, tuned: str = "study") -> pd.DataFrame:
    """The runs at equal time with the hyperparameters of one tuning."""
    task, steps = WORKLOADS[workload]
    of = runs()[runs()["task"] == task]
    of = of[of["budget"].str.startswith(f"equal time ({steps} ")]
    return of[[tuned_setting(origin) == tuned for origin in of["origin"]]]


def smaller_cells(method: str) -> Iterable[str]:
    return (NOT_RUN if of == CUT else smaller_cell(of, method) for of in WORKLOADS)


def smaller_less_adamw_cells(method: str) -> Iterable[str]:
    name = f"{method} {SMALLER}"
    return (NOT_RUN if of == CUT else difference_cell(of, name) for of in WORKLOADS)


def smaller_cell(workload: str, method: str) -> str:
    """The rule with a smaller damping, and which that is, less the rule."""
    file = CONF / "tuned" / WORKLOADS[workload][0] / f"study_damping/{method}.yaml"
    damping = yaml.safe_load(file.read_text("utf-8"))["optimizer"]["damping"]
    return f"{damping:g}: {paired(*smaller(workload, method))}"


def smaller(workload: str, method: str) -> list[pd.Series]:
    """Final results of a rule by seed, with a smaller damping and with its own."""
    found = (timed(workload, tuned) for tuned in ("study_damping", "study"))
    return [of[of["optimizer"] == method].set_index("seed")["final"] for of in found]


def page_rows() -> list[str]:
    """The rows of the page's other tables."""
    others = [method for method in [*OURS, *OTHERS] if method != AGAINST]
    rows = [
        row_of(method, (cell(workload, method) for workload in WORKLOADS))
        for cell in (difference_cell, steps_cell)
        for method in others
    ]
    for method in OURS:
        rows.append(row_of(f"{method} less itself at 1e-3", smaller_cells(method)))
        rows.append(row_of(f"{method} less `adamw`", smaller_less_adamw_cells(method)))
    rows += [
        row_of(method, (difference_cell("mnist", method, width) for width in WIDTHS))
        for method in ("adafisher", "adafisher_released")
    ]
    return rows


def control(workload: str) -> str:
    """The released rule less its scalar control."""
    of = table("scalar_control")
    row = one(of[of["task"].str.startswith(f"{WORKLOADS[workload][0]},")])
    assert row["n"] == 10
    return paired(
        finals(workload, "adafisher_released"),
        finals(workload, "adafisher_released", control="scalar"),
        mean=row["difference"],
    )


def hundredfold(workload: str) -> str:
    """The released rule less momentum at a hundred times its rate."""
    ours = finals(workload, "adafisher_released")
    return paired(ours, finals(workload, "sgd", lr=hundredfold_rate(workload)))


def hundredfold_rate(workload: str) -> float:
    file = CONF / f"experiment/study_{workload}_hundredfold.yaml"
    (grid,) = yaml.safe_load(file.read_text("utf-8"))["grids"]
    return float(grid["optimizer.lr"])


def finals(workload: str, method: str, *, control: str = "", lr: float | None = None) -> pd.Series:
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
    return signed(differences.mean(), *paired_ends(ours, theirs))


def paired_ends(ours: pd.Series, theirs: pd.Series) -> tuple[float, float]:
    differences = (ours - theirs).astype(float)  # by seed
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


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


def last_factors(workload: str) -> dict[str, float]:
    """The factor on the rate of each method's last step, at equal time."""
    found = yaml.safe_load((CONF / "budget" / f"study_{workload}.yaml").read_text())
    epoch = found["measured"]["steps_per_epoch"]
    return {
        method: schedule.cosine(horizon=steps, epoch=epoch)(steps - 1)
        for method, steps in found["by_optimizer"].items()
    }


def of_the_rates() -> str:
    """How far the rates fall at equal time, which the page says."""
    ours, theirs = (
        {workload: f"{last_factors(workload)[method]:.3f}" for workload in WORKLOADS}
        for method in ("adafisher", "adamw")
    )
    return (
        f"it is {ours['cifar']} of the tuned one for `adafisher` and {theirs['cifar']} for `adamw` "
        f"on cifar, {ours['mnist']} and {theirs['mnist']} on mnist, at most 0.001 on the autoenc"
    )


def said() -> str:
    """All that the two pages take from the study."""
    parts = [*front_rows(), *page_rows(), *sentences(), *of_the_page(), *of_readme()]
    return "\n".join([*parts, of_the_rates()])


def text(page: str) -> str:
    return " ".join((ROOT / page).read_text("utf-8").split())


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_pages_say_what_the_tables_hold(page: str) -> None:
    lines = (ROOT / page).read_text("utf-8").splitlines()
    assert [row for row in front_rows() if row not in lines] == []
    assert [part for part in sentences() if part not in text(page)] == []


def test_the_page_has_every_method_against_adamw() -> None:
    lines = (ROOT / "docs/study.md").read_text("utf-8").splitlines()
    assert [row for row in page_rows() if row not in lines] == []
    parts = [*of_the_page(), of_the_rates()]
    assert [part for part in parts if part not in text("docs/study.md")] == []
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
    for workload in WORKLOADS:
        finals = timed(workload).pivot(index="seed", columns="optimizer", values="final")
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


def test_no_run_of_a_result_diverged_and_those_that_collapsed_are_counted() -> None:
    assert set(runs()["status"]) == {"done"}
    lost = runs()[runs()["collapsed"]]
    assert set(lost["task"]) == {WORKLOADS["autoencoder"][0]}
    assert set(lost["optimizer"]) == {"adafisher"}
    assert {tuned_setting(origin) for origin in lost["origin"]} == {"study_damping"}
    told = f"{len(lost)} of the ten runs of `adafisher` on the autoencoder have collapsed"
    assert told in text("docs/study.md")


def side(workload: str, low: float, high: float) -> str:
    """Tell which side of 0 an interval is on, in the direction of the workload."""
    if low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == (workload in ACCURACY) else "worse"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_no_change_of_steps_damping_or_width_turns_the_answer(workload: str) -> None:
    rows = [steps_row(workload, "adafisher")]
    if workload != CUT:
        rows.append(difference(workload, f"adafisher {SMALLER}"))
    if workload == "mnist":
        rows += [difference(workload, "adafisher", width) for width in WIDTHS]
    assert {side(workload, row["low"], row["high"]) for row in rows} == {"worse"}


def test_what_is_said_of_steps_widths_and_dampings_is_on_one_side() -> None:
    rows = {name: {of: steps_row(of, name) for of in WORKLOADS} for name in ("soap", "kfac")}
    better = {
        name: [of for of, row in found.items() if side(of, row["low"], row["high"]) == "better"]
        for name, found in rows.items()
    }
    assert better == {
        "soap": ["autoencoder", "cifar", "ptb"],
        "kfac": ["autoencoder", "mnist", "cifar"],
    }
    narrow, wide = (difference("mnist", "adafisher", width) for width in (4, 16))
    assert narrow["high"] < wide["low"] < 0
    narrow, wide = (difference("mnist", "adafisher_released", width) for width in (4, 16))
    assert narrow["low"] > 0 > wide["high"]
    changed = {
        method: {of: smaller(of, method) for of in WORKLOADS if of != CUT} for method in OURS
    }
    sides = {
        method: [side(of, *paired_ends(*pair)) for of, pair in found.items()]
        for method, found in changed.items()
    }
    assert sides["adafisher"] == ["worse"] * 3
    assert sides["adafisher_released"] == ["undecided", "undecided", "better"]


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
    sorted(CONF.glob("tuned/*/study*/*.yaml")),
    ids=lambda path: "-".join([*path.parts[-3:-1], path.stem]),
)
def test_no_chosen_rate_is_on_an_edge(path: Path) -> None:
    """Both smaller dampings are, and it is said so."""
    tuning = yaml.safe_load(path.read_text("utf-8"))["tuning"]
    is_smaller = path.parent.name == "study_damping"
    assert tuning["on_edge"] == (["damping"] if is_smaller else [])
    assert (tuning["trials"], tuning["seeds"]) == (24 if is_smaller else 12, [1000, 1001])


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


def test_what_is_said_of_how_far_rates_fall_is_so() -> None:
    assert f"{last_factors('cifar')['adafisher']:.3f}" != f"{last_factors('cifar')['adamw']:.3f}"
    for workload in ("autoencoder", "ptb"):
        assert max(last_factors(workload).values()) < 0.0015

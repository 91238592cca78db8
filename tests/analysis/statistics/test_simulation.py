from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import simulation
from analysis.statistics.leader import best
from analysis.statistics.simulation import DRAWN, IMAGES, ROUNDED, UNEQUAL, Setting, decide


def drawn(gain: float = 0.0, tables: int = 3, seed: int = 0, **given: Any) -> np.ndarray:
    setting = {"noise": ROUNDED, "accuracy": 0.98, "spread": 1.0, "shared": 0.8, **given}
    return Setting(**setting).draw(tables, np.random.default_rng(seed), gain=gain)


@pytest.mark.parametrize("noise", [ROUNDED, DRAWN, UNEQUAL])
@pytest.mark.parametrize("methods", [2, 3, 6])
@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_many_tables_are_decided_as_each_is_in_the_report(
    noise: str, methods: int, seeds: int
) -> None:
    for gain, spread in ((0.0, 0.5), (2.0, 0.5), (20.0, 2.0)):
        counts = drawn(gain, noise=noise, methods=methods, seeds=seeds, accuracy=0.9, spread=spread)
        leaders, better = decide(counts)
        for table, leader, found in zip(counts, leaders, better, strict=True):
            made = best({str(method): group(row) for method, row in enumerate(table)})
            assert made.leader == str(leader)
            called = {str(method) for method in np.flatnonzero(found)}
            assert called == {name for name, one in made.against.items() if one.outcome == "better"}


def group(counts: np.ndarray) -> pd.DataFrame:
    given = {"status": "done", "ruleset": "paper", "higher_is_better": True, "tuning": None}
    frame = pd.DataFrame({"seed": range(len(counts)), "final": 100.0 * counts / IMAGES})
    return frame.assign(**given)


def test_some_of_these_tables_are_decided_by_each_of_the_two_ways() -> None:
    _, better = decide(drawn(3.0, tables=400, methods=6, seeds=10, shared=0.0, spread=2.0))
    found = better.sum(axis=1)
    assert {0, 5} < set(found.tolist())  # none, all, and some between


def test_counts_have_the_moments_that_the_setting_says() -> None:
    counts = drawn(tables=20_000, methods=2, seeds=1, accuracy=0.9, spread=2.0)[:, :, 0]
    assert counts.mean() == pytest.approx(IMAGES * 0.9, abs=0.05)
    # Rounding adds the variance of a uniform part, 1/12, which is each run's own.
    assert counts.var(axis=0) == pytest.approx([4 + 1 / 12] * 2, rel=0.04)
    assert np.cov(counts.T)[0, 1] == pytest.approx(0.8 * 4, rel=0.04)
    counts = drawn(tables=20_000, methods=2, seeds=1, noise=DRAWN, spread=0.0)[:, :, 0]
    assert counts.var(axis=0) == pytest.approx([IMAGES * 0.98 * 0.02] * 2, rel=0.04)
    counts = drawn(tables=20_000, methods=2, seeds=1, noise=UNEQUAL, accuracy=0.5)[:, :, 0]
    assert counts.var(axis=0) == pytest.approx([1 + 1 / 12, 25 + 1 / 12], rel=0.04)


TABLES = 2_000
SETTINGS = [
    setting
    for setting in simulation.settings()
    if setting.spread in (1.0, 2.0) and setting.accuracy == 0.9 and setting.seeds in (3, 5)
]


def test_equal_methods_are_seldom_told_apart() -> None:
    """At most 5 %, and what chance adds to the largest of so many estimates (1 in 100)."""
    errors = [
        simulation.error(setting, TABLES, np.random.default_rng(index))
        for index, setting in enumerate(SETTINGS)
    ]
    assert max(errors) <= simulation.allowed(TABLES, len(SETTINGS))
    # Of two methods it is a plain t-test, which uses its 5 % up.
    assert max(errors) > 0.04


def test_a_method_that_is_better_is_found() -> None:
    setting = Setting(ROUNDED, 15, 5, 0.9, 1.0, 0.0)
    than_one, than_all = simulation.power(setting, 400, np.random.default_rng(0), gain=4)
    assert 0.8 < than_all <= than_one
    # Nothing is found where every seed gives one count: there is no spread to measure by.
    constant = Setting(ROUNDED, 15, 5, 0.9, 0.0, 0.0)
    assert simulation.power(constant, 400, np.random.default_rng(0), gain=4) == (0.0, 0.0)


def test_the_command_prints_a_line_a_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "METHODS", (2,))
    monkeypatch.setattr(simulation, "SEEDS", (2,))
    assert simulation.main(["--tables", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("seeds ", "seeds, ", "unequal")) for line in lines) == 24 + 24 + 6
    assert lines[-1].startswith("holds: largest error")
    with pytest.raises(SystemExit):
        simulation.main(["--tables", "0"])
    assert "Invalid tables: 0. Must be >= 1." in capsys.readouterr().err

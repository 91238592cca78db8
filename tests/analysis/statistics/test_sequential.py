"""The bounds of several looks, their p-values, and how often the rule errs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from analysis.statistics import sequential, sequential_simulation
from analysis.statistics.sequential import EXCESS, LOOKS, SIZE

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "tests" / "golden" / "bench" / "sequential.json"


@pytest.mark.parametrize(("looks", "constant"), [(2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040)])
def test_bounds_of_evenly_spaced_looks_are_those_of_the_book(looks, constant):
    """Jennison & Turnbull (2000), Group Sequential Methods, Table 2.3, C_B(K, 0.05)."""
    found = sequential.bounds(tuple(range(10, 10 * looks + 1, 10)), SIZE)
    assert found[-1] == pytest.approx(constant, abs=5e-4)
    assert found[0] == pytest.approx(found[-1] * math.sqrt(looks))


@pytest.mark.parametrize("size", [SIZE, 0.01, SIZE / EXCESS])
def test_the_chance_to_meet_one_is_that_of_the_multivariate_normal(size):
    correlation = np.array([[math.sqrt(min(a, b) / max(a, b)) for b in LOOKS] for a in LOOKS])
    bounds = sequential.bounds(LOOKS, size)
    below = scipy.stats.multivariate_normal.cdf(
        bounds, cov=correlation, maxpts=4_000_000, abseps=1e-8, releps=1e-8
    )
    assert 1 - below == pytest.approx(size, abs=1e-6)


def test_one_look_is_a_plain_test():
    assert sequential.crossing(1.5, (10,)) == pytest.approx(scipy.stats.norm.sf(1.5), abs=1e-10)


def test_z_has_the_p_value_of_the_paired_t_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0.3, 1, 10), generator.normal(0, 1, 10)
    z = sequential.z_scores(ours - theirs)
    for n, one in zip(LOOKS, z, strict=True):
        test = scipy.stats.ttest_rel(ours[:n], theirs[:n], alternative="greater")
        assert scipy.stats.norm.sf(one) == pytest.approx(test.pvalue, rel=1e-9)
    assert sequential.z_scores(theirs - ours) == pytest.approx(-z)
    assert sequential.z_scores(ours[:6] - theirs[:6]) == pytest.approx(z[:2])


def test_a_difference_beyond_all_doubt_has_a_p_value_of_zero():
    found = sequential.look(1e6 + np.random.default_rng(0).normal(size=10))
    assert 0 <= found.p < 1e-11
    assert found.looks[-1].z > 10


def test_equal_differences_tell_nothing():
    for value in (0.0, 0.3):
        found = sequential.look(np.full(5, value), margin=1.0)
        assert [one.z for one in found.looks] == [0.0, 0.0]
        assert [(one.low, one.high) for one in found.looks] == [(None, None)] * 2
        assert found.p == found.p_within == 1.0


@pytest.mark.parametrize("size", [SIZE, SIZE / 2, 0.001])
@pytest.mark.parametrize("at", range(len(LOOKS)))
def test_p_is_the_size_whose_bound_is_met(size, at):
    bounds = sequential.bounds(LOOKS, size / EXCESS)
    z = [*(0.9 * bound for bound in bounds[:at]), bounds[at]]
    assert sequential.p_value(z) == pytest.approx(size, rel=1e-6)
    assert sequential.p_value([*z, -5.0]) == pytest.approx(size, rel=1e-6)  # never takes it back


def test_the_repeated_interval_leaves_out_zero_exactly_where_a_bound_is_met():
    generator = np.random.default_rng(1)
    met = 0
    for _ in range(60):
        for one in sequential.look(generator.normal(1.0, 1.0, 10)).looks:
            is_met = abs(one.z) >= one.bound
            met += is_met
            assert (one.low > 0 or one.high < 0) == is_met
            assert (one.low + one.high) / 2 == pytest.approx(one.difference)
    assert 20 < met < 220


def test_a_difference_is_within_the_margin_where_both_its_ends_are_ruled_out():
    differences = np.random.default_rng(2).normal(0.1, 1.0, 10)
    for margin in (0.3, 1.0, 3.0):
        shifted = [differences + margin, margin - differences]
        ps = [sequential.p_value(sequential.z_scores(one)) for one in shifted]
        found = sequential.look(differences, margin=margin)
        assert found.p_within == pytest.approx(min(1.0, 2 * max(ps)))
    assert sequential.look(differences, margin=0.3).p_within > 0.05
    assert sequential.look(differences, margin=3.0).p_within < 0.05


def test_paired_t_meet_a_bound_no_oftener_than_is_made_up_for():
    """At every size that Holm's correction of a few tasks may ask for."""
    tables = 200_000
    z = sequential.z_scores(np.random.default_rng(3).standard_normal((tables, LOOKS[-1])))
    for size in (0.1, SIZE, SIZE / 2, SIZE / 5):
        bounds = np.array(sequential.bounds(LOOKS, size / EXCESS))
        share = float((np.abs(z) >= bounds).any(axis=1).mean()) / 2
        assert abs(share - size) < 3 * math.sqrt(size / 2 / tables) + 0.02 * size


def test_the_committed_table_is_that_of_todays_rule():
    """Its rows again, by fewer comparisons; and the errors that it shows are those allowed."""
    told = json.loads(TABLE.read_text())
    assert told["looks"] == list(LOOKS)
    assert told["bounds"]["z of t"] == pytest.approx(sequential.bounds())
    rule = next(iter(sequential_simulation.RULES))
    rows = [sequential_simulation.Row(**row) for row in told["rows"]]
    null = rows[0]
    assert (null.rule, null.difference, null.curvature) == (rule, 0.0, None)
    assert max(null.better, null.worse) <= sequential_simulation.allowed(told["tables"])
    tables = 20_000
    for number, row in enumerate(rows):
        if row.rule != rule:
            continue
        again = sequential_simulation.simulate(
            row.difference, tables, np.random.default_rng(number), curvature=row.curvature
        )
        for share, expected in [(again.better, row.better), (again.within, row.within)]:
            error = math.sqrt(max(expected * (1 - expected), 1e-4) / tables)
            assert abs(share - expected) < 4.5 * error
        if row.difference == sequential_simulation.MARGIN and row.curvature is None:
            assert row.within <= sequential_simulation.allowed(told["tables"])


def test_the_page_has_the_numbers_of_the_table():
    page = " ".join((ROOT / "docs" / "protocol.md").read_text("utf-8").split())
    rows = [sequential_simulation.Row(**row) for row in json.loads(TABLE.read_text())["rows"]]

    def percent(rule, difference, what="better", curvature=None):
        found = [
            100 * getattr(row, what)
            for row in rows
            if (row.rule, row.difference, row.curvature) == (rule, difference, curvature)
        ]
        return f"{found[0]:.1f} %"

    assert f"{percent('z of t', 0.0)} are called better and " in page
    assert f"and {percent('z of t', 0.0, 'worse')} worse" in page
    assert f"{percent('z of t', 1.0)} are found" in page
    assert f"{percent('z of t', 1.0, 'within')} are called smaller" in page
    assert f"than it should, {percent('z of t, normal bounds', 0.0)}" in page
    assert f"t itself would, {percent('t, normal bounds', 0.0)}" in page
    tuned = sorted(
        percent("z of t", 0.0, curvature=one) for one in sequential_simulation.CURVATURES
    )
    assert f"{tuned[0].removesuffix(' %')} to {tuned[-1]}, in a model" in page


def test_tuning_of_equal_methods_leaves_a_difference_of_either_sign():
    generator = np.random.default_rng(4)
    added = sequential_simulation.tuned(3.0, 20_000, generator)
    assert abs(added.mean()) < 4 * added.std() / math.sqrt(20_000)
    assert sequential_simulation.tuned(0.0, 100, generator).std() == 0  # nothing to be tuned

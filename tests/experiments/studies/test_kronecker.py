"""What the study of Kronecker factors keeps, and the diagonals of the other."""

import numpy as np
import pytest
import torch

from experiments.studies import fisher_histograms, kronecker, watched
from experiments.studies.kronecker import KroneckerOptions


def options(**changes):
    values = {
        "run": [],
        "layer": "0",
        "steps": [1],
        "gammas": [0.9, 0.9],
        "update_interval": 1,
        "normalization": "max",
        "noise_std": 0.0,
        "picture": 64,
    }
    return KroneckerOptions(**(values | changes))


def factor(n: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(3 * n, n))
    return rows.T @ rows


def test_a_factor_is_divided_by_its_largest_diagonal_entry():
    matrix = factor(6)
    kept = kronecker.looked_at(matrix, options(), np.random.default_rng(0))
    assert kept["scale"] == matrix.diagonal().max()
    assert kept["centers"].max() == 1.0
    np.testing.assert_allclose(kept["matrix"], np.abs(matrix) / kept["scale"], rtol=1e-6)
    assert (kept["eigenvalues"] > 0).all()
    for key in ("eigenvalues", "matrix", "fft"):  # without noise there is no difference
        np.testing.assert_array_equal(kept[key], kept[f"{key}_noisy"])
    assert kept["snr_db"][0] == kept["snr_db"][1]


def test_min_max_reaches_zero_and_one():
    found, scale = kronecker.normalized(factor(6), "minmax")
    assert (found.min(), found.max()) == (0.0, 1.0)
    assert scale > 0


def test_a_dead_layer_is_no_error():
    kept = kronecker.looked_at(np.zeros((3, 3)), options(), np.random.default_rng(0))
    assert kept["scale"] == 1.0
    assert not kept["eigenvalues"].any()


def test_noise_lowers_the_ratio_of_a_diagonal_factor():
    kept = kronecker.looked_at(np.eye(50), options(noise_std=0.1), np.random.default_rng(0))
    assert kept["snr_db"][0] == np.inf
    # 50 over 1,225 squares of 0.01 each.
    assert kept["snr_db"][1] == pytest.approx(10 * np.log10(50 / 12.25), abs=0.4)


def test_the_second_moment_is_without_its_bias():
    """After equal gradients g the corrected second moment is g * g, whatever the step."""
    param = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([param], lr=1e-3, betas=(0.9, 0.99))
    gradient = torch.tensor([1.0, -2.0, 0.5, 0.0])
    for _ in range(3):
        param.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(fisher_histograms.fisher_diag(optimizer, param), gradient.square())


def test_a_large_layer_is_thinned_evenly():
    found = fisher_histograms.thinned(torch.arange(250_000).view(500, 500))
    assert len(found) <= fisher_histograms.LARGEST
    assert set(np.diff(found)) == {3.0}


def test_training_ends_with_the_last_step_that_is_looked_at(make_config):
    built = watched.built_run(make_config("task=digits", "budget=steps", "budget.steps=50"))
    looked = []
    losses = watched.train(built, seed=0, steps=[1, 4], look=looked.append)
    assert looked == [1, 4]
    assert len(losses) == 4

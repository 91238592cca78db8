"""Properties of matrices that are known without computing them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.studies import matrices


def symmetric(n: int, seed: int) -> np.ndarray:
    half = np.random.default_rng(seed).normal(size=(n, n))
    return half + half.T


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_every_eigenvalue_lies_in_a_disc_and_their_sum_is_the_trace(n, seed):
    matrix = symmetric(n, seed)
    centers, radii = matrices.gershgorin(matrix)
    found = matrices.eigenvalues(matrix)
    distances = np.abs(found[:, None] - centers)
    assert (distances <= radii + 1e-9).any(1).all()
    assert found.sum() == pytest.approx(centers.sum(), abs=1e-9)
    assert (np.diff(found) <= 0).all()


def test_discs_of_a_matrix_by_hand():
    centers, radii = matrices.gershgorin(np.array([[3.0, -1.0, 2.0], [-1.0, -5.0, 0.0], [2, 0, 1]]))
    assert centers.tolist() == [3.0, -5.0, 1.0]
    assert radii.tolist() == [3.0, 1.0, 2.0]


def test_the_ratio_of_a_matrix_by_hand():
    """Squares: 100 on the diagonal, 10 above it, so 10 dB; the means are of 3 and 9 entries."""
    noisy = np.array([[99.0, 1.0, 0.0], [7.0, 99.0, 3.0], [7.0, 7.0, 99.0]])
    ratio = matrices.snr_db(np.array([6.0, 8.0, 0.0]), noisy)
    assert ratio.sums == pytest.approx(10.0)
    means = np.mean([36.0, 64.0, 0.0]) / np.mean(np.square(np.triu(noisy, 1)))
    assert ratio.means == pytest.approx(10 * np.log10(means))


def test_a_diagonal_matrix_has_no_noise():
    assert matrices.snr_db(np.ones(2), np.eye(2)).sums == np.inf


def test_the_transform_of_the_identity_is_a_line():
    """sum_j exp(-2 pi i (u + v) j / n) is n where u + v is a multiple of n, and else 0."""
    n = 8
    frequencies = np.arange(n) - n // 2
    wanted = np.where((frequencies[:, None] + frequencies) % n == 0, float(n), 0.0)
    np.testing.assert_allclose(matrices.fft_magnitude(np.eye(n)), wanted, atol=1e-12)


def test_the_transform_of_a_diagonal_repeats_that_of_its_entries():
    entries = np.array([1.0, 4.0, -2.0, 0.5])
    line = np.abs([sum(entries * np.exp(-2j * np.pi * k * np.arange(4) / 4)) for k in range(4)])
    found = np.fft.ifftshift(matrices.fft_magnitude(np.diag(entries)))
    for u in range(4):
        for v in range(4):
            assert found[u, v] == pytest.approx(line[(u + v) % 4])


def test_noise_is_symmetric_seeded_and_off_the_diagonal():
    matrix = symmetric(300, 0)
    noisy = matrices.with_noise(matrix, 0.5, np.random.default_rng(1))
    noise = noisy - matrix
    assert not noise.diagonal().any()
    np.testing.assert_array_equal(noisy, noisy.T)
    above = noise[np.triu_indices(300, 1)]
    assert above.std() == pytest.approx(0.5, rel=0.02)
    assert abs(above.mean()) < 0.02
    again = matrices.with_noise(matrix, 0.5, np.random.default_rng(1))
    np.testing.assert_array_equal(noisy, again)


def test_a_picture_holds_the_largest_entry_of_each_block():
    matrix = np.arange(25.0).reshape(5, 5)
    assert matrices.shrunk(matrix, 5).tolist() == matrix.tolist()
    assert matrices.shrunk(matrix, 3).tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]

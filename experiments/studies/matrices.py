r"""What a Kronecker factor looks like as a matrix: pure functions of symmetric float64 matrices.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, section 3.1 and Appendix A.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Ratio(NamedTuple):
    """A signal-to-noise ratio in decibel.

    Attributes:
        sums: By the formula of Appendix A.1.
        means: By the means that the released notebook takes, which is ``10 log10(n)`` more.
    """

    sums: float
    means: float


def gershgorin(matrix: Floats) -> tuple[Floats, Floats]:
    r"""Gershgorin's discs, whose union contains every eigenvalue.

    .. math:: |\lambda - M_{ii}| \le \sum_{j \ne i} |M_{ij}| \quad \text{for some } i

    Args:
        matrix: ``[n, n]``.

    Returns:
        Centres and radii, ``[n]`` each, in the order of the rows.
    """
    centers = matrix.diagonal().copy()
    return centers, np.abs(matrix).sum(1) - np.abs(centers)


def with_noise(matrix: Floats, std: float, generator: np.random.Generator) -> Floats:
    """Add Gaussian noise to the off-diagonal entries; the matrix stays symmetric.

    Args:
        matrix: ``[n, n]``, symmetric.
        std: Standard deviation of the noise.
        generator: Draws it.
    """
    upper = np.triu(generator.normal(0.0, std, matrix.shape), 1)
    return matrix + upper + upper.T


def snr_db(diagonal: Floats, noisy: Floats) -> Ratio:
    r"""Ratio of the diagonal to what is above it.

    .. math:: 10 \log_{10} \frac{\sum_i M_{ii}^2}{\sum_{i < j} \hat M_{ij}^2}

    Args:
        diagonal: Of the factor ``M``, ``[n]``.
        noisy: The factor with noise, ``[n, n]``.

    Returns:
        The ratio; infinite where nothing is above the diagonal, NaN for a matrix of zeros.
    """
    signal, noise = np.square(diagonal).sum(), np.square(np.triu(noisy, 1)).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = float(10.0 * np.log10(signal / noise))
    return Ratio(sums, sums + 10.0 * float(np.log10(len(diagonal))))


def fft_magnitude(matrix: Floats) -> Floats:
    """Magnitude of the two-dimensional Fourier transform, frequency zero in the middle.

    Args:
        matrix: ``[n, n]``.
    """
    return np.abs(np.fft.fftshift(np.fft.fft2(matrix)))


def eigenvalues(matrix: Floats) -> Floats:
    """Eigenvalues of a symmetric matrix in descending order, ``[n]``."""
    ascending: Floats = np.linalg.eigvalsh(matrix).astype(np.float64)
    return ascending[::-1].copy()


def shrunk(matrix: Floats, largest: int) -> npt.NDArray[np.float32]:
    """Picture a matrix: itself, or the largest entry of each block where it is too large.

    Args:
        matrix: ``[n, n]``, non-negative.
        largest: Most rows of the picture.
    """
    block = -(-len(matrix) // largest)
    if block > 1:
        padding = -len(matrix) % block
        matrix = np.pad(matrix, (0, padding))
        rows = len(matrix) // block
        matrix = matrix.reshape(rows, block, rows, block).max((1, 3))
    return matrix.astype(np.float32)

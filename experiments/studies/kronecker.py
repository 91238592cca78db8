r"""The Kronecker factors of a layer as full matrices: how much of them is on the diagonal?

While a run trains, the running averages of :math:`H` and :math:`S` are kept whole
(``full_factors``). After some of the steps, each factor is divided by its largest diagonal entry
(``normalization=max``; it stays positive semidefinite) or its entries are brought to [0, 1]
(``minmax``, as the released analysis does, which shifts what was zero). Of the result, and of a
copy with symmetric Gaussian noise off the diagonal, the study keeps: Gershgorin's discs, the
eigenvalues, the Fourier transform, and the signal-to-noise ratio of Appendix A.1.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, Figure 2 and Appendix A.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments import seeding
from experiments.config.run_config import RunConfig
from experiments.engine import divergence
from experiments.errors import UserError
from experiments.studies import matrices, watched
from experiments.studies.contract import (
    Arrays,
    Measured,
    StudyPlan,
    describe_run,
    run_config,
)
from experiments.studies.full_factors import FullFactors

NORMALIZATIONS = ("max", "minmax")
FACTORS = ("activation", "grad")  # H, S

Floats = npt.NDArray[np.float64]


@dataclass
class KroneckerOptions:
    """Keys of ``conf/study/kronecker.yaml``."""

    run: list[str]
    layer: str
    steps: list[int]
    gammas: list[float]
    update_interval: int
    normalization: str
    noise_std: float
    picture: int


def plan(
    options: KroneckerOptions, overrides: Sequence[str], folders: Mapping[str, str]
) -> StudyPlan:
    """Check the options and compose the run.

    Raises:
        UserError: If a value is out of range, or the run does not compose.
    """
    if options.normalization not in NORMALIZATIONS:
        known = " or ".join(NORMALIZATIONS)
        raise UserError(f"Invalid normalization: {options.normalization!r}. Must be {known}.")
    for name, low in (("update_interval", 1), ("noise_std", 0), ("picture", 1)):
        value = getattr(options, name)
        if value < low:
            raise UserError(f"Invalid {name}: {value}. Must be >= {low}.")
    if len(options.gammas) != 2:
        raise UserError(f"Invalid gammas: {options.gammas}. Must be two numbers.")
    config = run_config([*options.run, *overrides], folders)
    essence = {**vars(options), "run": describe_run(config)}
    return StudyPlan(essence, partial(measure, options, config))


def measure(options: KroneckerOptions, config: RunConfig) -> Measured:
    """Train the run and look at the factors after each of ``options.steps``.

    Raises:
        DivergedError: If the run diverges, or a factor is not finite.
    """
    built = watched.built_run(config)
    watched.check_steps(options.steps, built)
    if built.creates_graph or built.takes_closure:
        name = config.optimizer.name
        raise UserError(f"optimizer={name}: a study of factors needs one backward pass a step.")
    first, second = options.gammas
    factors = FullFactors(
        watched.layer_of(built.model, options.layer),
        gammas=(first, second),
        update_interval=options.update_interval,
    )
    seed = config.seed
    found: dict[str, list[Any]] = {}

    def look(step: int) -> None:
        for name in FACTORS:
            divergence.check_tensor(f"{name} factor", getattr(factors, name), step)
            matrix = getattr(factors, name).cpu().numpy()
            noise = np.random.default_rng(seeding.derive(seed, "noise", name, step))
            for key, value in looked_at(matrix, options, noise).items():
                found.setdefault(f"{name}_{key}", []).append(value)

    losses = watched.train(built, seed=seed, steps=options.steps, look=look)
    factors.close()
    arrays: Arrays = {key: np.stack(values) for key, values in found.items()}
    arrays |= {"steps": np.array(options.steps), "train_loss": np.array(losses)}
    facts = {
        "layer": options.layer,
        "normalization": options.normalization,
        "noise_std": options.noise_std,
        "task": config.task.name,
        "model": config.model.name,
        "optimizer": config.optimizer.name,
        "seed": seed,
        "device": built.device.type,
        "data_sha256": built.task.checksums,
    }
    return Measured(arrays, facts)


def looked_at(
    matrix: Floats, options: KroneckerOptions, noise: np.random.Generator
) -> dict[str, Any]:
    """All that is kept of one factor.

    Args:
        matrix: The factor, ``[n, n]``.
        options: Normalisation, noise and size of the pictures.
        noise: Draws the noise.

    Returns:
        ``scale`` what the factor was divided by; ``matrix`` and ``matrix_noisy`` pictures of its
        magnitudes; ``centers``, ``radii``, ``eigenvalues`` and ``eigenvalues_noisy``, ``[n]``;
        ``fft`` and ``fft_noisy`` pictures of the magnitudes; ``snr_db`` and ``snr_mean_db``,
        ``[2]``: without and with noise.
    """
    clean, scale = normalized(matrix, options.normalization)
    noisy = matrices.with_noise(clean, options.noise_std, noise)
    centers, radii = matrices.gershgorin(clean)
    ratios = [matrices.snr_db(centers, each) for each in (clean, noisy)]
    kept: dict[str, Any] = {
        "scale": scale,
        "centers": centers,
        "radii": radii,
        "snr_db": np.array([ratio.sums for ratio in ratios]),
        "snr_mean_db": np.array([ratio.means for ratio in ratios]),
    }
    for suffix, each in (("", clean), ("_noisy", noisy)):
        kept[f"eigenvalues{suffix}"] = matrices.eigenvalues(each)
        kept[f"matrix{suffix}"] = matrices.shrunk(np.abs(each), options.picture)
        kept[f"fft{suffix}"] = matrices.shrunk(matrices.fft_magnitude(each), options.picture)
    return kept


def normalized(matrix: Floats, normalization: str) -> tuple[Floats, float]:
    """Remove the scale of a factor, which Min-Max removes from its diagonal.

    Args:
        matrix: ``[n, n]``.
        normalization: ``max`` or ``minmax``.

    Returns:
        The matrix, and what it was divided by.
    """
    low = matrix.min() if normalization == "minmax" else 0.0
    high = matrix.max() if normalization == "minmax" else matrix.diagonal().max()
    scale = float(high - low)
    if scale <= 0.0:  # no row reached the layer: a dead unit has no gradient
        return matrix - low, 1.0
    return (matrix - low) / scale, scale

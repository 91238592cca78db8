"""Diabetes: how far the disease of 442 patients got in a year, from ten measurements.

The files are read from the installed package, as those of the task ``digits`` are.

Reference:
    Efron, Hastie, Johnstone and Tibshirani, 2004, Least Angle Regression, table 1.
"""

import math
from pathlib import Path

import numpy as np
import torch

from experiments.likelihood import GAUSSIAN, Likelihood
from experiments.tasks import digits
from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.objective import Metric, Objective
from experiments.tasks.source import Source
from experiments.tasks.task import VECTOR_ARGUMENTS, Task
from experiments.tasks.tensors import TensorSplit, cut, squared_errors

FILES = (
    DataFile(
        ("diabetes_data_raw.csv.gz",),
        "86badf50b4f9436ddd1e497dc0ae1b93166f8120221ee7dca4634fe849f3be7c",
    ),
    DataFile(
        ("diabetes_target.csv.gz",),
        "244713a551f62a291a354212d8a048adec6cb1244b2bc44e66a0698f5006d26d",
    ),
)
SOURCE = Source(
    "Diabetes: 442 patients, 10 measurements, the progression of the disease after a year",
    size="nothing to fetch: scikit-learn, which is installed, holds it",
    terms="public (Efron et al., 2004); scikit-learn is BSD-3-Clause",
)
GIVES = VECTOR_ARGUMENTS
LIKELIHOOD = Likelihood(GAUSSIAN, precision=2.0)
# Mean and standard deviation of the progression of all 442 patients: the network predicts it in
# these units, and its error is told in the original ones.
MEAN, DEVIATION = 152.1335, 77.0057
OBJECTIVE = Objective(
    squared_errors,
    [
        Metric(
            "root_mean_squared_error",
            higher_is_better=False,
            terms=squared_errors,
            of_mean=lambda mean: DEVIATION * math.sqrt(mean),
        )
    ],
    likelihood=LIKELIHOOD,
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    test_fraction: float,
    validation_fraction: float,
    split_seed: int,
) -> Task:
    """Build the task; inputs are standardised by what the training patients have.

    Args:
        data_dir: Not read: the data come with scikit-learn.
        cache_dir: Not used.
        test_fraction: Share of all patients that is the test split.
        validation_fraction: Share of the others that is the validation split; 0 for none.
        split_seed: Fixes both cuts; it is not the run's seed.

    Raises:
        UserError: If scikit-learn or a file is missing or another, or a fraction leaves nothing.
    """
    inputs, targets = (torch.from_numpy(_read(file)).float() for file in FILES)
    rest, test = cut(len(inputs), test_fraction, split_seed)
    train, validation = (rest[part] for part in cut(len(rest), validation_fraction, split_seed))
    inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
    targets = ((targets - MEAN) / DEVIATION).unsqueeze(1)
    return Task(
        name="diabetes",
        objective=OBJECTIVE,
        unit="samples",
        train=TensorSplit(inputs[train], targets[train]),
        validation=TensorSplit(inputs[validation], targets[validation])
        if len(validation)
        else None,
        test=TensorSplit(inputs[test], targets[test]) if len(test) else None,
        model_arguments={"features": inputs.shape[1], "outputs": 1},
        checksums={file.names[0]: file.sha256 for file in FILES},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
    for file in FILES:
        _read(file)


def _read(file: DataFile) -> np.ndarray:
    content = read_verified(digits.package_folder("diabetes"), file, hint=digits.HINT)
    return np.loadtxt(content.decode().splitlines())

"""Handwritten digits to be reconstructed: the deep autoencoder that K-FAC was shown on, in small.

References:
    Hinton and Salakhutdinov, 2006, Science 313: the network and the task.
    Martens and Grosse, 2015, arXiv 1503.05671, section 13: as a benchmark of optimizers.
"""

from dataclasses import replace
from pathlib import Path

from experiments.likelihood import GAUSSIAN, Likelihood
from experiments.tasks import digits
from experiments.tasks.images import ImageSplit
from experiments.tasks.objective import Metric, Objective
from experiments.tasks.source import Source
from experiments.tasks.task import VECTOR_ARGUMENTS, Split, Task
from experiments.tasks.tensors import TensorSplit, squared_errors

SOURCE: Source = digits.SOURCE
check = digits.check
GIVES = VECTOR_ARGUMENTS
LIKELIHOOD = Likelihood(GAUSSIAN, precision=2.0)
LARGEST = 16.0  # of a stored pixel
PIXELS = 64
OBJECTIVE = Objective(
    squared_errors,
    [Metric("squared_error", higher_is_better=False, terms=squared_errors)],
    likelihood=LIKELIHOOD,
)
"""Squared error of an image, pixels in [0, 1] summed up; the mean image of train has 4.78."""


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    test_fraction: float,
    validation_fraction: float,
    split_seed: int,
) -> Task:
    """Build the task: the splits of the task ``digits``, whose images are input and target.

    Args:
        data_dir: Not read: the data come with scikit-learn.
        cache_dir: Not used.
        test_fraction: Share of all images that is the test split.
        validation_fraction: Share of the others that is the validation split; 0 for none.
        split_seed: Fixes both stratified cuts; it is not the run's seed.

    Raises:
        UserError: If scikit-learn or its file is missing or another one.
    """
    labelled = digits.build(
        data_dir=data_dir,
        cache_dir=cache_dir,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
    )
    return replace(
        labelled,
        name="digits_autoencoder",
        objective=OBJECTIVE,
        unit="samples",
        train=_pixels(labelled.train),
        validation=None if labelled.validation is None else _pixels(labelled.validation),
        test=None if labelled.test is None else _pixels(labelled.test),
        model_arguments={"features": PIXELS, "outputs": PIXELS},
    )


def _pixels(split: Split) -> TensorSplit:
    assert isinstance(split, ImageSplit)
    pixels = split.images.flatten(1).float() / LARGEST
    return TensorSplit(pixels, pixels)

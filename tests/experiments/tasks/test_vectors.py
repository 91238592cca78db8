"""The tasks of vectors that scikit-learn ships, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.metrics import root_mean_squared_error

from experiments.errors import UserError
from experiments.tasks import diabetes, digits_autoencoder
from experiments.tasks.tensors import TensorSplit

KEYWORDS = {"test_fraction": 0.2, "validation_fraction": 0.2, "split_seed": 0}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return diabetes.build(data_dir=folder, cache_dir=folder, **KEYWORDS)


def test_diabetes_holds_every_patient_once(task):
    splits = (task.train, task.validation, task.test)
    assert [len(split) for split in splits] == [283, 71, 88]
    inputs = torch.cat([split.inputs for split in splits]).double().numpy()
    targets = torch.cat([split.targets for split in splits]).flatten().double().numpy()
    raw, progression = load_diabetes(return_X_y=True, scaled=False)
    # Standardising is undone up to a shift and a scale, which correlations do not see.
    targets = targets * diabetes.DEVIATION + diabetes.MEAN
    order, reference = np.lexsort((inputs[:, 2], targets)), np.lexsort((raw[:, 2], progression))
    assert targets[order] == pytest.approx(progression[reference], abs=1e-3)
    for column in range(10):
        assert np.corrcoef(inputs[order, column], raw[reference, column])[0, 1] > 1 - 1e-6
    assert task.train.inputs.mean(0) == pytest.approx(np.zeros(10), abs=1e-5)
    assert task.train.inputs.std(0) == pytest.approx(np.ones(10), abs=1e-5)
    assert pytest.approx(progression.mean(), abs=1e-3) == diabetes.MEAN
    assert pytest.approx(progression.std(), abs=1e-3) == diabetes.DEVIATION


def test_the_error_of_a_linear_fit_is_scikit_learns_in_the_original_unit(task):
    fit = LinearRegression().fit(task.train.inputs.numpy(), task.train.targets.numpy())
    predicted = torch.from_numpy(fit.predict(task.test.inputs.numpy()))
    objective = task.objective
    found = objective.measured(objective.sums(predicted, task.test.targets), {})
    truth = task.test.targets.numpy() * diabetes.DEVIATION + diabetes.MEAN
    expected = root_mean_squared_error(truth, predicted * diabetes.DEVIATION + diabetes.MEAN)
    assert found["root_mean_squared_error"] == pytest.approx(expected, rel=1e-5)
    assert (task.metric, task.higher_is_better) == ("root_mean_squared_error", False)


def test_the_autoencoder_has_the_images_of_digits_as_inputs_and_targets(tmp_path):
    task = digits_autoencoder.build(data_dir=tmp_path, cache_dir=tmp_path, **KEYWORDS)
    splits = (task.train, task.validation, task.test)
    assert [len(split) for split in splits] == [1150, 288, 359]
    assert all(torch.equal(split.inputs, split.targets) for split in splits)
    found = torch.cat([split.inputs for split in splits]).double().numpy()
    images = load_digits().data / 16
    np.testing.assert_array_equal(found[np.lexsort(found.T)], images[np.lexsort(images.T)])
    # What reconstructs nothing has the variance of the pixels as its error.
    mean = task.train.inputs.mean(0).expand(288, -1)
    objective = task.objective
    error = objective.measured(objective.sums(mean, task.validation.targets), {})["squared_error"]
    assert error == pytest.approx(4.776, abs=1e-3)


def test_a_split_of_tensors_reads_structures_shuffles_by_the_seed_and_starts_anywhere():
    split = TensorSplit({"a": torch.arange(7), "b": (torch.arange(7) * 2,)}, torch.arange(7) * 3)
    for seed in (None, 3):
        batches = list(split.batches(3, seed=seed))
        assert [len(targets) for _, targets in batches] == [3, 3, 1]
        order = torch.cat([inputs["a"] for inputs, _ in batches])
        assert torch.equal(order * 3, torch.cat([targets for _, targets in batches]))
        assert torch.equal(order * 2, torch.cat([inputs["b"][0] for inputs, _ in batches]))
        assert (order.tolist() == list(range(7))) is (seed is None)
        (rest, _), _ = split.batches(3, seed=seed, start=1)
        assert torch.equal(rest["a"], batches[1][0]["a"])
    assert math.ceil(len(split) / 3) == split.num_batches(3)


@pytest.mark.parametrize("targets", [torch.ones(3), torch.ones(0), ()])
def test_tensors_of_other_lengths_are_no_split(targets):
    inputs = () if isinstance(targets, tuple) else torch.ones(len(targets) and 2, 2)
    with pytest.raises(UserError, match=r"Invalid split: tensors of .* rows\. Must have equally"):
        TensorSplit(inputs, targets)

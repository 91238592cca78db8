import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments.errors import UserError
from experiments.tasks import digits

KEYWORDS = {"test_fraction": 0.2, "validation_fraction": 0.2, "split_seed": 0}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return digits.build(data_dir=folder, cache_dir=folder, **KEYWORDS)


def test_all_images_are_those_of_load_digits_and_no_split_shares_one(task):
    # A row of index, pixels and label for every sample of the splits, in scikit-learn's order.
    expected, labels = load_digits(return_X_y=True)
    rows = [
        np.concatenate([split.images.flatten(1).numpy(), split.labels.numpy()[:, None]], axis=1)
        for split in (task.train, task.validation, task.test)
    ]
    found = np.concatenate(rows)
    reference = np.concatenate([expected, labels[:, None]], axis=1)
    np.testing.assert_array_equal(
        found[np.lexsort(found.T)], reference[np.lexsort(reference.T)].astype(found.dtype)
    )
    assert [len(row) for row in rows] == [1150, 288, 359]


def test_splits_are_stratified(task):
    totals = torch.from_numpy(np.bincount(load_digits().target))
    for split, share in ((task.train, 0.64), (task.validation, 0.16), (task.test, 0.2)):
        assert (torch.bincount(split.labels) - share * totals).abs().max() < 2


def test_without_validation_the_test_split_is_the_same(task, tmp_path):
    keywords = KEYWORDS | {"validation_fraction": 0}
    other = digits.build(data_dir=tmp_path, cache_dir=tmp_path, **keywords)
    assert other.validation is None
    assert len(other.train) == 1438
    assert torch.equal(other.test.images, task.test.images)


def test_images_are_normalised_over_all_of_them(task):
    splits = (task.train, task.validation, task.test)
    images = torch.cat([next(split.batches(2000))[0] for split in splits])
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-3


def test_a_missing_or_other_package_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "package_folder", lambda task: tmp_path)
    with pytest.raises(UserError, match=r"digits\.csv\.gz is missing\. It comes with scikit-learn"):
        digits.check(tmp_path, **KEYWORDS)
    (tmp_path / "digits.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match=r"digits\.csv\.gz is truncated or corrupt"):
        digits.check(tmp_path, **KEYWORDS)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs scikit-learn"):
        digits.check(tmp_path, **KEYWORDS)

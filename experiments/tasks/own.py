"""What a task in a file of one's own is made of: ``TASK=./mine.py``.

The file has a function ``build(<arguments with defaults>)`` that returns ``task(...)``. Where it
has arguments ``data_dir`` and ``cache_dir`` it is given the folders of the run. ``SETTINGS`` of the
file, a mapping, says what a YAML would: ``batch_size``, ``epochs``, ``schedule`` and others
(``experiments/config/typed_task.py``).
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from experiments.errors import UserError
from experiments.likelihood import BERNOULLI, CATEGORICAL, GAUSSIAN, Likelihood
from experiments.tasks.batches import mapped, rows
from experiments.tasks.datasets import DatasetSplit, collate_of, pair
from experiments.tasks.objective import Metric, Objective, Terms
from experiments.tasks.task import Split, Task
from experiments.tasks.tensors import TensorSplit, cut, picked

__all__ = ["BERNOULLI", "CATEGORICAL", "GAUSSIAN", "Likelihood", "Metric", "Task", "task"]

SPLIT_SEED = 0


def task(
    *,
    model: Callable[[], nn.Module] | None,
    loss: Terms,
    metrics: Sequence[Metric],
    train: Any,
    validation: Any = 0.1,
    test: Any,
    count: Callable[[Any], int] = rows,
    likelihood: Likelihood | None = None,
    predicted: Callable[[Any, Any], Tensor] | None = None,
    loss_unit: str = "",
    model_arguments: dict[str, Any] | None = None,
) -> Task:
    """Make a task of tensors, datasets or loaders and of functions of a batch.

    Args:
        model: Makes the network, a new one each time; the run has seeded torch's generator. None:
            ``model=`` of the command chooses one of the suite's, which is told ``model_arguments``.
        loss: See ``Objective``, as the five that are named alike.
        metrics: What an evaluation measures; by the first the task is judged.
        train: Samples to train on: a pair ``(inputs, targets)`` of tensors or of structures of
            them, a ``Dataset`` of such pairs, a ``DataLoader``, or a ``Split``. What is no pair is
            input and target at once.
        validation: Likewise; or the share of ``train`` that is cut off for it, always alike; or 0
            for none.
        test: Likewise.
        count: How many terms the loss of a batch has.
        likelihood: What the loss is the negative log of.
        predicted: Rows that the likelihood is of.
        loss_unit: What the loss is counted in.
        model_arguments: What a model of the suite has to know of the data.

    Raises:
        UserError: If a part is none that a task can have.
    """
    if isinstance(validation, int | float):
        train, validation = _cut(train, float(validation))
    if (model is None) == (model_arguments is None):
        raise UserError("Invalid task: model and model_arguments. Must have one of them.")
    return Task(
        name="",  # that of the file
        objective=Objective(
            loss,
            metrics,
            count=count,
            likelihood=likelihood,
            predicted=predicted,
            loss_unit=loss_unit,
        ),
        unit="samples",
        train=_split(train),
        validation=None if validation is None else _split(validation),
        test=_split(test),
        model_arguments={"make": model} if model_arguments is None else model_arguments,
    )


def _split(given: Any) -> Split:
    if isinstance(given, Split):
        return given
    if isinstance(given, DataLoader):
        return DatasetSplit.of_loader(given)
    if isinstance(given, Dataset):
        return DatasetSplit(given)
    return TensorSplit(*pair(given))


def _cut(train: Any, share: float) -> tuple[Any, Any]:
    """Cut a fixed part off what is to be trained on; None where it is empty."""
    if isinstance(train, Split):
        raise UserError("Invalid validation: a share of a Split. Must be a split of its own, or 0.")
    if isinstance(train, DataLoader):
        DatasetSplit.of_loader(train)  # it refuses what is none
        parts = _cut(train.dataset, share)
        collate = collate_of(train)
        return tuple(part and DatasetSplit(part, collate) for part in parts)  # type: ignore[return-value]
    if not isinstance(train, Dataset):
        TensorSplit(*pair(train))  # likewise
    total = len(train) if isinstance(train, Dataset) else rows(train)  # type: ignore[arg-type]
    rest, part = cut(total, share, SPLIT_SEED)
    if not len(part):
        return train, None
    if isinstance(train, Dataset):
        return Subset(train, rest.tolist()), Subset(train, part.tolist())
    return _rows(train, rest), _rows(train, part)


def _rows(batch: Any, index: Tensor) -> Any:
    return mapped(lambda tensor: picked(tensor, index=index), batch)

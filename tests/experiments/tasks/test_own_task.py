"""A task in one Python file: the example of the documentation, and what can be wrong with one."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from experiments.config import commandline, compose, named
from experiments.config.run_config import RunConfig
from experiments.engine.build import build, build_task
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.tasks.datasets import DatasetSplit
from experiments.tasks.own import Metric, task
from experiments.timing import calibration_key
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    named.forget()


def example() -> str:
    """The file that the page on extending shows."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (found,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return found


def test_the_example_of_the_page_is_short_trains_and_is_replayed(tmp_path: Path):
    """In processes of their own, as a user has them: a sweep, replays without and with the file."""
    assert len(example().splitlines()) <= 40
    path = tmp_path / "three_questions.py"
    path.write_text(example())
    runs = tmp_path / "runs"

    def python(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "experiments", *words, f"runs_dir={runs}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    words = [f"task={path}", "optimizer=adam,kfac", "task.width=32", "tracking=none", "threads=1"]
    made = python("train", "-m", *words)
    assert made.returncode == 0, made.stderr
    statuses = [json.loads(path.read_text()) for path in runs.glob("*/status.json")]
    assert [status["status"] for status in statuses] == ["done", "done"]
    for status in statuses:
        identity = status["identity"]
        assert identity["task"] == "three_questions"
        assert identity["metric"] == "all_right_percent"
        assert identity["units"] == {"loss": "", "all_right_percent": "%"}
        # A guess answers all three right in an eighth of the cases; half would be nothing learnt.
        assert status["summary"]["final"] > 50
    assert not any(str(tmp_path) in path.read_text() for path in runs.glob("*/status.json"))
    run = f"run={statuses[0]['run_id']}"
    refused = python("replay", run)
    assert refused.returncode == 2
    assert "type task=./three_questions.py beside the command" in refused.stderr
    replayed = python("replay", run, f"task={path}")
    assert replayed.returncode == 0, replayed.stderr
    path.write_text(example() + "\n# changed\n")
    other = python("replay", run, f"task={path}")
    assert other.returncode == 2
    assert "is not the file that the run was made with" in other.stderr


NO_TASKS = {
    "no function": ("def make(): ...", "It has no function build, which makes the task."),
    "an argument without a default": (
        "def build(width): ...",
        "The argument width of build has no default. Must have a default, or be one of: data_dir",
    ),
    "a setting as an argument": (
        "def build(batch_size=3): ...",
        "The argument batch_size of build",
    ),
    "an unknown setting": (
        "SETTINGS = {'batchsize': 3}\ndef build(): ...",
        "SETTINGS has an unknown key: 'batchsize'. Did you mean: batch_size",
    ),
    "an error": ("1 / 0", "it cannot be run; ZeroDivisionError: division by zero."),
}


@pytest.mark.parametrize(("text", "message"), NO_TASKS.values(), ids=NO_TASKS.keys())
def test_a_file_that_is_no_task_is_refused_as_it_is_read(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / f"none_{list(NO_TASKS.values()).index((text, message))}.py"
    path.write_text(text)
    assert exit_code("plan", f"task={path}", "optimizer=adam") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told


def test_a_task_has_a_name_of_its_own(tmp_path: Path):
    paths = [tmp_path / "digits.py", tmp_path / "twice.py", tmp_path / "more" / "twice.py"]
    paths[2].parent.mkdir()
    for path in paths:
        path.write_text("def build(): ...")
    with pytest.raises(UserError, match="conf/task has 'digits' already"):
        commandline.normalise([f"task={paths[0]}"])
    with pytest.raises(UserError, match=r"twice\.py is called so already: give one of them anothe"):
        commandline.normalise([f"task={paths[1]},{paths[2]}"])


class Noisy(Dataset[Any]):
    """Samples that draw from every generator there is, as augmentations do."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(
            [index, random.random(), np.random.rand(), float(torch.rand(()))]
        ), index


def test_what_a_dataset_draws_is_fixed_by_seed_and_sample_and_leaves_no_trace():
    split = DatasetSplit(Noisy())
    before = torch.get_rng_state()
    first = list(split.batches(4, seed=1))
    assert torch.equal(before, torch.get_rng_state())
    assert [len(targets) for _, targets in first] == [4, 4, 3]
    by_sample = {int(row[0]): row for inputs, _ in first for row in inputs}
    again = {int(row[0]): row for inputs, _ in split.batches(3, seed=1, start=1) for row in inputs}
    other = {int(row[0]): row for inputs, _ in split.batches(4, seed=2) for row in inputs}
    assert len(by_sample) == 11
    assert all(torch.equal(by_sample[number], row) for number, row in again.items())
    assert not any(torch.equal(by_sample[number], row) for number, row in other.items())


def squares(outputs: Any, targets: Any) -> torch.Tensor:
    return (outputs - targets).square().flatten(1).sum(1)


def make(train: Any, **changes: Any) -> Any:
    keywords = {
        "model": lambda: torch.nn.Linear(3, 1),
        "loss": squares,
        "metrics": [Metric("mse", False, terms=squares)],
        "test": (torch.ones(2, 3), torch.ones(2, 1)),
    }
    return task(train=train, **keywords | changes)


def test_tensors_datasets_and_loaders_give_the_same_samples():
    inputs, targets = torch.randn(30, 3), torch.randn(30, 1)
    data = TensorDataset(inputs, targets)
    made = [
        make(train, validation=0.2)
        for train in ((inputs, targets), data, DataLoader(data, batch_size=7, shuffle=True))
    ]
    for part in ("train", "validation"):
        batches = [list(getattr(one, part).batches(5, seed=3)) for one in made]
        assert len(batches[0]) == {"train": 5, "validation": 2}[part]
        for batch in zip(*batches, strict=True):
            for tensors in zip(*batch, strict=True):
                assert all(torch.equal(tensors[0], tensor) for tensor in tensors)
    assert make((inputs, targets), validation=0).validation is None


def test_a_sample_that_is_no_pair_is_input_and_target():
    pixels = torch.randn(6, 3)
    for train in (pixels, TensorDataset(pixels)):
        (batch,) = make(train, validation=0).train.batches(6)
        assert torch.equal(batch[0], batch[1])
        assert torch.equal(batch[0], pixels)


def test_an_order_of_ones_own_is_refused():
    data = TensorDataset(torch.ones(4, 3), torch.ones(4, 1))
    loader = DataLoader(data, sampler=WeightedRandomSampler([1.0] * 4, 4))
    with pytest.raises(UserError, match="Invalid split: a loader with a WeightedRandomSampler"):
        make(loader)
    with pytest.raises(UserError, match="Invalid validation: a share of a Split"):
        make(DatasetSplit(data))


class ByLength(BatchSampler):
    """Batches of an order of their own."""


ORDERS = {
    "batches of one's own": ("ByLength", {"batch_sampler": ByLength(range(4), 2, False)}),
    "a sampler in batches": (
        "WeightedRandomSampler",
        {"batch_sampler": BatchSampler(WeightedRandomSampler([1.0] * 4, 4), 2, False)},
    ),
    "a part": ("SequentialSampler", {"sampler": SequentialSampler(range(3))}),
    "some twice": ("RandomSampler", {"sampler": RandomSampler(range(4), replacement=True)}),
}


@pytest.mark.parametrize(("name", "options"), ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("validation", [0.25, None])
def test_a_loader_whose_samples_are_not_each_taken_once_is_refused(
    name: str, options: dict[str, Any], validation: float | None
):
    data = TensorDataset(torch.ones(4, 3), torch.ones(4, 1))
    with pytest.raises(UserError, match=f"Invalid split: a loader with a {name} of its own"):
        make(DataLoader(data, **options), validation=validation)


LOADERS = {
    "a size": {"batch_size": 2, "collate_fn": lambda samples: tripled(default_collate(samples))},
    "batches": {
        "batch_sampler": BatchSampler(RandomSampler(range(4)), 2, False),
        "collate_fn": lambda samples: tripled(default_collate(samples)),
    },
    "no batches": {"batch_size": None, "collate_fn": lambda sample: tripled(sample)},
}


def tripled(batch: Any) -> Any:
    return 3 * batch[0], batch[1]


@pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS.keys())
@pytest.mark.parametrize("validation", [0.25, None])
def test_samples_become_a_batch_as_the_loader_says(
    options: dict[str, Any], validation: float | None
):
    data = TensorDataset(torch.ones(4, 3), torch.ones(4, 1))
    made = make(DataLoader(data, **options), validation=validation)
    ((inputs, targets),) = made.train.batches(4)
    assert inputs.flatten().tolist() == [3.0] * inputs.numel()
    assert targets.shape == (len(inputs), 1)


CONTRASTIVE = """
import torch
from torch import nn
from torch.nn import functional as F
from experiments.tasks.own import Metric, task

SETTINGS = {"batch_size": 16}

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)
    def forward(self, views):
        return {side: F.normalize(self.layer(views[side]), dim=1) for side in ("left", "right")}

def info_nce(embedded, views):
    similar = embedded["left"] @ embedded["right"].T / 0.1
    return F.cross_entropy(similar, torch.arange(len(similar)), reduction="none")

def agreement(embedded, views):
    return (embedded["left"] * embedded["right"]).sum(1)

def build():
    x = torch.randn(80, 5, generator=torch.Generator().manual_seed(0))
    views = {"left": x, "right": x + 0.1}
    return task(model=Two, loss=info_nce, metrics=[Metric("cosine", True, terms=agreement)],
                train=views, test=views)
"""


def test_two_views_in_a_dictionary_are_contrasted(tmp_path: Path):
    path = tmp_path / "two_views.py"
    path.write_text(CONTRASTIVE)
    words = [f"task={path}", "optimizer=adam", "budget=steps", "budget.steps=5", "tracking=none"]
    config = compose.composed(commandline.normalise(words))
    assert (config.task.batching.batch_size, config.model.name) == (16, "own")
    built = build(config)
    rows = list(Trainer(built, seed=0).run())
    assert rows[-1]["step"] == 5
    assert -1 <= rows[-1]["validation_cosine"] <= 1
    assert built.task.name == "two_views"


def test_the_process_of_a_run_knows_what_was_typed_by_the_files_of_its_config(tmp_path: Path):
    """Its budget may be a reference's time on that task, whose section it composes."""
    path = tmp_path / "typed_there.py"
    path.write_text(CONTRASTIVE)
    words = [f"task={path}", "optimizer=sgd", "budget=match_seconds", "tracking=none"]
    config = compose.composed(commandline.normalise(words))
    named.forget()  # as another process, which has the values alone
    assert calibration_key.reference_section(RunConfig.of(config.values)).name == "adafisher"


UNSEEDED = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset, random_split
from experiments.tasks.own import Metric, task

made_up = torch.randn(3)

def square(outputs, targets):
    return (outputs - targets).square().sum(1)

def build():
    order = np.random.permutation(40)
    x = torch.stack([torch.rand(40), torch.from_numpy(order), made_up[:1].expand(40)], 1).float()
    x[0, 0] = random.random()
    train, test = random_split(TensorDataset(x, x[:, :1]), [30, 10])
    return task(model=lambda: nn.Linear(3, 1), loss=square,
                metrics=[Metric("mse", False, terms=square)], train=train, test=test)
"""


def test_a_file_that_forgets_a_seed_has_the_same_data_in_every_run(tmp_path: Path):
    path = tmp_path / "unseeded.py"
    path.write_text(UNSEEDED)
    words = [f"task={path}", "optimizer=adam", "tracking=none"]
    config = compose.composed(commandline.normalise(words))
    made = []
    for seed in (1, 2):  # as two processes, whose streams differ
        sys.modules.pop("unseeded")
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        made.append(list(build_task(config).train.batches(5)))
        drawn = torch.rand(()), np.random.rand(), random.random()
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        assert drawn == (torch.rand(()), np.random.rand(), random.random())
    for one, other in zip(*made, strict=True):
        assert torch.equal(one[0], other[0])

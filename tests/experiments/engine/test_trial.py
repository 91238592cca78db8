"""The trial of a task in a file: what is wrong with one is a line, what is right is let pass."""

import re
from pathlib import Path

import pytest

from experiments.config import commandline, compose, named
from experiments.config.run_config import RunConfig
from experiments.engine import trial
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from tests.support.commands import exit_code


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    named.forget()


BAD = """
import torch
from torch import nn
from experiments.tasks.own import Metric, task

x, y = torch.randn(64, 3), torch.randn(64, 1)

def square(outputs, targets):
    return (outputs - targets).square().sum(1)

def none(outputs, targets):
    return square(outputs, targets) * float("nan")

def free(outputs, targets):
    return targets.square().sum(1)

def build():
    model, loss, metrics, train = lambda: nn.Linear(3, 1), square, [METRIC], (x, y)
    METRIC
    return task(model=model, loss=loss, metrics=metrics, train=train, test=(x, y))
"""
METRIC = 'Metric("mse", False, terms=square)'
CASES = {
    "no metric": ("metrics = []", "Invalid metrics: none. Must be one or more"),
    "a metric that is NaN": (
        'metrics = [Metric("mse", False, terms=none)]',
        "Invalid metric 'mse' of task 'CASE': it is nan on validation before the first step",
    ),
    "a metric of nothing": (
        'metrics = [Metric("mse", False)]',
        "Invalid metric: 'mse' of task 'CASE'. It has no terms.",
    ),
    "two metrics of one name": ("metrics = 2 * metrics", "Invalid metrics: mse, mse. Must have na"),
    "a metric that raises": (
        'metrics = [Metric("mse", False, terms=lambda *_: 1 / 0)]',
        "a metric raised ZeroDivisionError (line 19 of CASE.py): division by zero",
    ),
    "a loss of the data alone": (
        "loss = free",
        "Invalid task: 'CASE'. Its loss does not depend on the parameters of the model.",
    ),
    "a loss that is NaN": ("loss = none", "Invalid task: 'CASE'. Its loss is nan before the first"),
    "a model of another shape": (
        "model = lambda: nn.Linear(4, 1)",
        "task=CASE: the model raised RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "a model that raises": (
        "model = lambda: nn.Linear(3, 1).none",
        "task=CASE: making the model raised AttributeError (line 19 of CASE.py): 'Linear' object",
    ),
    "a build that raises": (
        'raise ValueError("no")',
        "build raised ValueError (line 19 of CASE.py): no",
    ),
    "a loss that is a mean": (
        "loss = lambda outputs, targets: square(outputs, targets).mean()",
        "for that batch twice: a mean. Must be a sum, which is divided by the count, or a term a",
    ),
    "a metric that is a mean": (
        'metrics.append(Metric("root", False, terms=lambda *pair: square(*pair).mean().sqrt()))',
        "Invalid metric 'root' of task 'CASE': ",
    ),
    "one model for all runs": (
        "net = nn.Linear(3, 1); model = lambda: net",
        "Invalid task: 'CASE'. Its model has the same weight each time, so that a run would go on",
    ),
    "a frozen part that keeps statistics, for all runs": (
        "part = nn.BatchNorm1d(3, affine=False)\n"
        "    model = lambda: nn.Sequential(part, nn.Linear(3, 1))",
        "Its model has the same 0.num_batches_tracked each time",
    ),
    "no model": ("model = None", "Invalid task: model and model_arguments. Must have one of them."),
    "no rows": ("train = (x, y[:3])", "Invalid split: tensors of "),
    "another thing": ("return 3", "Its function made a int; must be a Task, as experiments.tasks."),
}


def bad(folder: Path, name: str, line: str, *, before: str = "") -> RunConfig:
    """The config of the file of bad tasks, with a line of one's own in it."""
    path = folder / f"{name}.py"
    path.write_text(BAD.replace("[METRIC]", f"[{METRIC}]").replace("METRIC", line) + before)
    return compose.composed(commandline.normalise([f"task={path}", "optimizer=adam"]))


@pytest.mark.parametrize(("line", "message"), CASES.values(), ids=CASES.keys())
def test_what_is_wrong_with_a_file_is_one_line_and_no_record(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    name = f"case_{list(CASES.values()).index((line, message))}"
    path = tmp_path / f"{name}.py"
    path.write_text(BAD.replace("[METRIC]", f"[{METRIC}]").replace("METRIC", line))
    code = exit_code("train", f"task={path}", "optimizer=adam", f"runs_dir={tmp_path / 'runs'}")
    told = capsys.readouterr().err.splitlines()
    assert code == 2
    assert told[-1].startswith("error: ")
    assert message.replace("CASE", name) in told[-1]
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/status.json"))


CONSTANT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("scale", SCALE)

    def forward(self, x):
        return self.layer(x * self.scale)

SCALE = torch.ones(3)
"""


def test_a_constant_of_the_file_may_be_a_buffer_of_every_model(tmp_path: Path):
    trial.check(bad(tmp_path, "with_a_constant", "model = Net", before=CONSTANT))


SUMS = {
    "a sum": "loss = lambda *pair: square(*pair).sum()",
    "what draws": "loss = lambda *pair: torch.rand(()) * square(*pair).mean()",
    "a sum of what hangs together": "loss = lambda z, y: -torch.log_softmax(z @ y.T, 1).trace()",
    "a mean of one term a batch": (
        "return task(model=model, loss=lambda *pair: square(*pair).mean(), metrics=metrics,"
        " train=train, test=(x, y), count=lambda targets: 1)"
    ),
    "a metric of a pair": (
        'metrics.append(Metric("share", True, terms=lambda z, y: ((z > y).sum(), (y > 0).sum())))'
    ),
    "nothing yet": 'metrics.append(Metric("far", True, terms=lambda z, y: (z > 1e9).sum()))',
    "a batch with names": (
        "from torch.utils.data import StackDataset\n"
        "    train = test = StackDataset(x, StackDataset(y=y, name=['a'] * 64))\n"
        "    first = lambda z, one: square(z, one['y'])[: len(one['name'])].sum()\n"
        "    return task(model=model, loss=first, metrics=[Metric('first', False, terms=first)],"
        " train=train, test=test)"
    ),
}


@pytest.mark.parametrize("line", SUMS.values(), ids=SUMS.keys())
def test_what_is_no_mean_is_let_pass(line: str, tmp_path: Path):
    trial.check(bad(tmp_path, f"sums_{list(SUMS.values()).index(line)}", line))


STRUCTURED = """
from collections import OrderedDict, UserDict
from typing import Any, NamedTuple
import torch
from torch import nn
from torch.utils.data import TensorDataset
from experiments.tasks.own import Metric, task

class Answer(NamedTuple):
    number: torch.Tensor
    name: str

class Encoding(UserDict):
    # as that of transformers: its keywords are others
    def __init__(self, data=None, encoding=None):
        super().__init__(data)

class Output(OrderedDict):
    # as that of transformers: its entries are attributes
    def __init__(self, logits=None, state=None):
        super().__init__(logits=logits, state=state)
        self.logits = logits

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs):
        return Output(self.layer(inputs["x"]), (inputs["x"],))

def square(outputs, targets):
    return (outputs.logits - targets.number).square().sum(1)

def collate(samples):
    x, y = map(torch.stack, zip(*samples))
    return Encoding({"x": x}), Answer(y, "y")

def build():
    data = TensorDataset(torch.ones(40, 3), torch.ones(40, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=8, collate_fn=collate)
    return task(model=Net, loss=square, metrics=[Metric("mse", False, terms=square)],
                train=loader, test=loader)
"""


def test_named_tuples_and_mappings_of_libraries_keep_their_class(tmp_path: Path):
    path = tmp_path / "structured.py"
    path.write_text(STRUCTURED)
    words = [f"task={path}", "optimizer=adam", "budget=steps", "budget.steps=2", "tracking=none"]
    config = compose.composed(commandline.normalise([*words, f"runs_dir={tmp_path}"]))
    trial.check(config)
    assert list(Trainer(build(config), seed=0).run())[-1]["step"] == 2


CLASSES = "pair[0], (pair[1][:, 0] > 0).long(), reduction='none'"
ANSWERS = "pair[0], (pair[1] > 0).float().expand(-1, 2), reduction='none'"
CE, BCE = "nn.functional.cross_entropy", "nn.functional.binary_cross_entropy_with_logits"
LIKELIHOODS = {
    "half the squared error": ("square(*pair) / 2", "GAUSSIAN"),
    "the squared error": ("square(*pair)", "GAUSSIAN, precision=2.0"),
    "in place": ("square(pair[0].clamp_(-1e9, 1e9), pair[1]) / 2", "GAUSSIAN"),
    "answers": (f"{BCE}({ANSWERS})", "BERNOULLI"),
    "classes": (f"{CE}({CLASSES})", "CATEGORICAL"),
    "smoothed classes": (f"{CE}({CLASSES}, label_smoothing=0.1)", "CATEGORICAL"),
}
WRONG = {
    "the squared error as half of it": ("square(*pair)", "GAUSSIAN"),
    "the absolute error": ("(pair[0] - pair[1]).abs().sum(1)", "GAUSSIAN"),
    "weighted answers": (f"{BCE}({ANSWERS}, pos_weight=torch.tensor(3.0))", "BERNOULLI"),
    "weighted classes": (f"{CE}({CLASSES}, weight=torch.tensor([1.0, 5.0]))", "CATEGORICAL"),
    "classes as answers": (f"{CE}({CLASSES})", "BERNOULLI"),
}


def with_likelihood(folder: Path, name: str, loss: str, likelihood: str, model: str) -> RunConfig:
    line = (
        "from experiments.tasks.own import BERNOULLI, CATEGORICAL, GAUSSIAN, Likelihood\n"
        f"    return task(model=lambda: {model}, metrics=metrics, train=train, test=(x, y),"
        f" loss=lambda *pair: {loss}, likelihood=Likelihood({likelihood}))"
    )
    return bad(folder, name, line)


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_a_likelihood_of_the_loss_is_let_pass(case: str, tmp_path: Path):
    name = f"right_{list(LIKELIHOODS).index(case)}"
    trial.check(with_likelihood(tmp_path, name, *LIKELIHOODS[case], "nn.Linear(3, 2)"))


@pytest.mark.parametrize("case", WRONG)
def test_a_likelihood_of_another_loss_is_refused_with_both_numbers(case: str, tmp_path: Path):
    name = f"wrong_{list(WRONG).index(case)}"
    config = with_likelihood(tmp_path, name, *WRONG[case], "nn.Linear(3, 2)")
    with pytest.raises(UserError, match=f"Invalid likelihood of task '{name}'") as told:
        trial.check(config)
    (numbers,) = re.findall(r"loss moves by (\S+), and .* by (\S+)\. Must", str(told.value))
    if case == "the squared error as half of it":
        assert float(numbers[0]) == pytest.approx(2 * float(numbers[1]), rel=1e-3)


VARIATIONAL = """
class Net(nn.Linear):
    def forward(self, x):
        z = super().forward(x)
        return z[:, :1], z[:, 1:]

def bound(outputs, targets):
    return square(outputs[0], targets) / 2 + outputs[1].square().sum(1)
"""


@pytest.mark.parametrize(("precision", "is_right"), [(1.0, True), (2.0, False)])
def test_a_likelihood_is_of_the_outputs_that_are_predicted(
    precision: float, is_right: bool, tmp_path: Path
):
    line = (
        "from experiments.tasks.own import GAUSSIAN, Likelihood\n"
        "    return task(model=lambda: Net(3, 2), metrics=[Metric('bound', False, terms=bound)],"
        " loss=bound, train=train, test=(x, y), predicted=lambda outputs, targets: outputs[0],"
        f" likelihood=Likelihood(GAUSSIAN, precision={precision}))"
    )
    config = bad(tmp_path, f"variational_{is_right}", line, before=VARIATIONAL)
    if is_right:
        trial.check(config)
    else:
        with pytest.raises(UserError, match="Invalid likelihood"):
            trial.check(config)


def test_outputs_that_are_log_probabilities_are_categorical(tmp_path: Path):
    model = "nn.Sequential(nn.Linear(3, 2), nn.LogSoftmax(1))"
    loss = f"nn.functional.nll_loss({CLASSES})"
    trial.check(with_likelihood(tmp_path, "log_probabilities", loss, "CATEGORICAL", model))

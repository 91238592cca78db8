"""What an optimizer draws in its step is drawn from streams of its own."""

import importlib
import itertools
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from experiments.config import code_files, commandline, named
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.engine.step import take_step
from experiments.engine.step_stream import StepStream


class Drawing(torch.optim.SGD):
    """Draws from three generators; its module has ``random`` and ``numpy`` by name."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.drawn = []

    def step(self, closure=None):
        loss = None if closure is None else closure()
        self.drawn.append((torch.rand(()).item(), random.random(), np.random.random()))
        super().step()
        return loss


def draws(*, seed, takes_closure=False, stream=True):
    """Take steps of a model with dropout; gives what the step drew, and the masks."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    model = nn.Linear(3, 2)
    torch.manual_seed(2)
    optimizer = Drawing(model.parameters(), lr=0.1)
    own = StepStream(optimizer, seed=seed, device=torch.device("cpu")) if stream else None
    masks = []

    def loss():
        masks.append(nn.functional.dropout(torch.ones(8)))
        value = model(torch.ones(1, 3)).sum()
        value.backward()
        return value

    for _ in range(3):
        take_step(optimizer, loss, takes_closure=takes_closure, stream=own)
    return optimizer.drawn, torch.stack(masks), (random.random(), np.random.random())


@pytest.mark.parametrize("takes_closure", [False, True])
def test_the_masks_are_those_of_a_method_that_draws_nothing(takes_closure):
    torch.manual_seed(2)
    undisturbed = torch.stack([nn.functional.dropout(torch.ones(8)) for _ in range(3)])
    random.seed(1)
    np.random.seed(1)
    others = (random.random(), np.random.random())
    drawn, masks, after = draws(seed=5, takes_closure=takes_closure)
    assert torch.equal(masks, undisturbed)
    assert after == others
    assert len(set(drawn)) == 3
    _, disturbed, _ = draws(seed=5, takes_closure=takes_closure, stream=False)
    assert not torch.equal(disturbed, undisturbed)  # else this test shows nothing


def test_a_seed_has_draws_of_its_own():
    assert draws(seed=5)[0] == draws(seed=5)[0]
    assert set(draws(seed=5)[0]).isdisjoint(draws(seed=6)[0])


def test_a_state_goes_on_where_it_was():
    optimizer = Drawing([torch.zeros(1, requires_grad=True)], lr=0.1)

    def rest(stream, count):
        found = []
        for _ in range(count):
            with stream.inside():
                found.append((torch.rand(()).item(), random.random(), np.random.random()))
        return found

    stream = StepStream(optimizer, seed=0, device=torch.device("cpu"))
    rest(stream, 4)
    state = stream.state_dict()
    other = StepStream(optimizer, seed=1, device=torch.device("cpu"))
    other.load_state_dict(state)
    assert rest(other, 3) == rest(stream, 3)


def test_a_run_that_draws_sees_the_dropout_of_one_that_does_not(make_config):
    """Two methods at one seed: the loss of the first step is the same, and that of the second
    differs by the weights alone, which a rate of 0 leaves alike."""
    overrides = (
        *("task=generated_text", "model=gpt_tiny", "model.dropout=0.5", "task.context=8"),
        *("optimizer.lr=0.0", "optimizer.weight_decay=0", "budget.steps=6"),
    )
    losses = []
    for name in ("adamw", "pytorch_optimizer.AdaHessian"):
        trainer = Trainer(build(make_config(f"optimizer={name}", *overrides)), seed=0)
        losses.append(list(itertools.islice(trainer.steps(), 4)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def streams(optimizer):
    """Which streams are put in place for its step."""
    stream = StepStream(optimizer, seed=0, device=torch.device("cpu"))
    return set(stream.state_dict())


DRAWN = {
    "numpy by its part": "from numpy import random as npr",
    "a function of Python's": "from random import gauss",
    "a built-in of Python's": "from random import random as uniform",
    "a function of numpy's": "from numpy.random import rand",
    "a module beside it": "import helper_of_noise",
    "a function beside it": "from helper_of_noise import noise",
}
CLASS = """
import torch

class Mine(torch.optim.SGD):
    pass
"""


@pytest.mark.parametrize("line", DRAWN.values(), ids=DRAWN.keys())
def test_a_generator_is_seen_in_whatever_form_a_library_has_it(line, tmp_path, monkeypatch):
    name = f"library_{list(DRAWN.values()).index(line)}"
    (tmp_path / f"{name}.py").write_text(f"{line}\n{CLASS}")
    (tmp_path / "helper_of_noise.py").write_text("import numpy\ndef noise(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "helper_of_noise", raising=False)
    made = importlib.import_module(name).Mine([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert streams(made) == {"cpu", "python", "numpy"}


@pytest.mark.parametrize(
    ("line", "drawn"),
    [("    def noise(self): import numpy", {"cpu", "python", "numpy"}), ("", {"cpu"})],
    ids=["it steps", "never"],
)
def test_a_file_that_was_typed_may_import_a_generator_as(line, drawn, tmp_path):
    path = tmp_path / f"imports_later_{len(drawn)}.py"
    path.write_text(CLASS + line)
    code_files.load({path.stem: code_files.describe(path)})
    made = sys.modules[path.stem].Mine([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert streams(made) == drawn


@pytest.mark.parametrize("name", commandline.choices("optimizer"))
def test_no_method_of_ours_pays_for_streams_that_it_does_not_draw_from(make_config, name):
    assert streams(build(make_config(f"optimizer={name}")).optimizer) == {"cpu"}


def test_a_seed_that_numpy_takes_is_given_to_any_class_but_ours(make_config, tmp_path):
    path = tmp_path / "takes_a_seed.py"
    body = "class Seeded(torch.optim.SGD):\n    def __init__(self, params, lr=0.1, seed=0):\n"
    body += "        super().__init__(params, lr)\n        self.seed = seed\n"
    path.write_text(f"import torch\n{body}")
    seeds = set()
    for number in range(3):
        optimizer = build(make_config(f"optimizer={path}:Seeded", f"seed={number}")).optimizer
        np.random.default_rng(optimizer.seed)
        np.random.RandomState(optimizer.seed)
        seeds.add(optimizer.seed)
    named.forget()
    assert len(seeds) == 3

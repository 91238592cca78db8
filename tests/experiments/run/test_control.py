"""The scalar control: exact where the preconditioner has no shape, checked by hand where it has."""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from experiments.config import commandline, grids, identity, named
from experiments.config.compose import composed
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine.build import build
from experiments.engine.evaluation import evaluate
from experiments.engine.loop import Trainer
from experiments.engine.ranks import Ranks
from experiments.errors import UserError
from experiments.optimizers.scalar_control import ScalarControl
from experiments.records.schema import load_run
from experiments.run import control, execute
from tests.support.faulty import FaultyAdam

pytestmark = [
    pytest.mark.filterwarnings("ignore:AdaFisher.*in no supported layer"),
    pytest.mark.filterwarnings("ignore:AdaFisher. dropped an estimate"),
]


def config(tmp_path: Path, *overrides: str) -> RunConfig:
    has_budget = any(item.startswith("budget=") for item in overrides)
    return composed(
        [
            *("task=generated_images", "model=small_cnn", "task.batch_size=16"),
            *(() if has_budget else ("budget=steps", "budget.steps=6")),
            *("tracking=none", f"runs_dir={tmp_path}", f"cache_dir={tmp_path}", *overrides),
        ]
    )


def weights(built: Any) -> list[torch.Tensor]:
    return [param.detach().clone() for param in built.model.parameters()]


def test_momentum_is_that_of_adam_without_its_root() -> None:
    # Adam with beta_2 = 0 and a gradient of constant size divides by that size alone.
    grads = torch.tensor([3.0, -3.0, 3.0, 3.0])
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    adam = torch.optim.Adam([one], lr=0.1, betas=(0.9, 0.0), eps=0.0)
    ours = ScalarControl([other], 0.1, scales=torch.full((4,), 1 / 3.0, dtype=torch.float64))
    for grad in grads:
        one.grad, other.grad = grad.view(1).clone(), grad.view(1).clone()
        adam.step()
        ours.step()
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("decay", "expected"), [("coupled", 0.98), ("decoupled", 0.99)])
def test_decay_is_multiplied_by_the_scale_only_where_it_is_coupled(
    decay: str, expected: float
) -> None:
    param = nn.Parameter(torch.ones(1))
    param.grad = torch.zeros(1)
    scales = torch.tensor([2.0])
    ScalarControl([param], 0.1, scales=scales, weight_decay=0.1, decay=decay).step()
    assert param.item() == pytest.approx(expected)


def test_a_preconditioner_without_shape_is_its_own_control(tmp_path: Path) -> None:
    # With this damping 1 / F is 1 / damping everywhere to seven digits.
    damped = ["optimizer=adafisher", "optimizer.damping=1e7", "optimizer.lr=1e6"]
    source = config(tmp_path, *damped)
    measured = control.measure(source, Ranks())
    torch.testing.assert_close(
        measured, torch.full((6,), 1e-7, dtype=torch.float64), rtol=1e-5, atol=0
    )

    first, second = (
        execute(item) for item in (source, config(tmp_path, *damped, "control=scalar"))
    )

    rows = [load_run(tmp_path / outcome.run_id).rows for outcome in (first, second)]
    assert rows[0][-1]["train_loss"] == pytest.approx(rows[1][-1]["train_loss"], rel=1e-5)
    assert first.run_id != second.run_id


def test_the_scalar_is_the_mean_weighted_by_squared_momentum() -> None:
    # Adam, whose preconditioner can be written down from its state: 1 / (sqrt(v) + eps).
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    control_of = {"momentum": 0.9, "decay": "coupled"}
    section = MethodSection({"weight_decay": 0.0}, {"control": control_of})

    class Made:
        pass

    made = Made()
    made.model = model  # type: ignore[attr-defined]
    made.optimizer = optimizer  # type: ignore[attr-defined]
    recorder = control.Recorder(made, section)  # type: ignore[arg-type]
    expected = []
    for step in range(1, 6):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,))).backward()
        optimizer.step()
        above, below = 0.0, 0.0
        for param in model.parameters():
            state = optimizer.state[param]
            m = state["exp_avg"].double() / (1 - 0.9**step)
            v = state["exp_avg_sq"].double() / (1 - 0.999**step)
            above += (m.square() / (v.sqrt() + 1e-8)).sum().item()
            below += m.square().sum().item()
        expected.append(above / below)
    assert recorder.found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "decay"), [("AdamW", 0.01), ("Adam", 0.0)])
def test_what_a_yaml_leaves_out_is_that_of_the_class(
    name: str, decay: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"plain_{name.lower()}.yaml"
    control_of = "{momentum: 0.9, decay: decoupled}"
    path.write_text(f"_target_: torch.optim.{name}\nsuite:\n  control: {control_of}\n")
    words = commandline.normalise([f"optimizer={path}", "control=scalar"])
    wanted = config(tmp_path, *words)
    named.forget()
    built = build(control.source_of(wanted))
    assert control.Recorder(built, wanted.optimizer)._group["weight_decay"] == decay
    made = build(wanted, scales=torch.ones(6)).optimizer
    assert made.param_groups[0]["weight_decay"] == decay
    assert made.param_groups[0]["lr"] == built.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("everywhere", ["true", "false"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafisherw"])
def test_decoupled_decay_is_no_part_of_the_scalar(
    optimizer: str, everywhere: str, tmp_path: Path
) -> None:
    section = [f"optimizer={optimizer}", f"optimizer.decay_norms_and_biases={everywhere}"]
    plain, decayed = (
        control.measure(
            config(tmp_path, *section, f"optimizer.weight_decay={decay}", "budget.steps=1"),
            Ranks(),
        )
        for decay in (0.0, 0.5)
    )
    torch.testing.assert_close(plain, decayed, rtol=1e-5, atol=0)


def test_the_source_trains_as_if_nobody_measured(tmp_path: Path) -> None:
    source = config(tmp_path, "optimizer=adam")
    outcome = execute(source)
    seen: list[Any] = []
    original = control.Trainer

    class Kept(original):  # type: ignore[misc,valid-type]
        def __init__(self, built: Any, **options: Any) -> None:
            seen.append(built)
            super().__init__(built, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "Trainer", Kept)
        measured = control.measure(source, Ranks())
    assert len(measured) == 6
    final = load_run(tmp_path / outcome.run_id).rows[-1]
    (built,) = seen
    test = evaluate(built, built.task.test)
    assert test["loss"] == final["test_loss"]


def test_the_scales_are_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(tmp_path, "optimizer=adam", "control=scalar")
    folder = tmp_path / "run"
    first = control.scales(wanted, folder, Ranks())
    assert first is not None
    with np.load(folder / "arrays" / "preconditioner.npz") as file:
        assert file["step"].tolist() == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(control, "measure", None)
    again = control.scales(wanted, folder, Ranks())
    assert again is not None
    assert torch.equal(first, again)


def test_a_control_starts_from_the_weights_of_its_source(tmp_path: Path) -> None:
    source = build(config(tmp_path, "optimizer=adam"))
    made = build(config(tmp_path, "optimizer=adam", "control=scalar"), scales=torch.ones(6))
    assert all(map(torch.equal, weights(source), weights(made)))
    assert isinstance(made.optimizer, ScalarControl)


# Their step is no momentum of the gradient, divided; their YAMLs say what else it is.
WITHOUT_A_CONTROL = {
    "ademamix",
    "adopt",
    "lion",
    "normuon",
    "prodigy",
    "schedulefree_adamw",
    "schedulefree_sgd",
    "sgd",
}


@pytest.mark.parametrize("name", commandline.choices("optimizer"))
def test_every_method_says_what_its_control_takes_over(name: str) -> None:
    method = composed([f"optimizer={name}"]).optimizer
    if method.control is None:
        assert name in WITHOUT_A_CONTROL
        return
    own = method.arguments
    momentum = own.get("beta") or own.get("momentum") or own["betas"][0]
    assert method.control["momentum"] == momentum
    assert method.control["decay"] in ("coupled", "decoupled")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["control=vector"], "Invalid control: 'vector'. Must be scalar, or null"),
        (["optimizer=sgd", "control=scalar"], "needs a method with a preconditioner"),
        (
            ["control=scalar", "budget=train_seconds", "budget.train_seconds=9"],
            r"Invalid budget: .* seconds of training\. With control=scalar it must give a number",
        ),
        (["control=scalar", "budget=target", "budget.target=1"], "Invalid budget: until 1, at"),
        (["control=scalar", "precision=fp16"], "not with precision=fp16"),
        (
            ["control=scalar", "optimizer.suite.needs.keep_gradients=true"],
            "control=scalar: not with suite.needs.keep_gradients",
        ),
        (["control=scalar", "distributed=fsdp"], "not with distributed=fsdp"),
    ],
)
def test_what_cannot_be_controlled_is_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        control.check(config(tmp_path, *overrides))


FAULTY = ("optimizer=adam", "optimizer._target_=tests.support.faulty.FaultyAdam")


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (
            "raises",
            "failed",
            "control=scalar: the method itself fails: ArithmeticError: the fault of this test",
        ),
        ("takes_memory", "out_of_memory", "control=scalar: the method itself fails: "),
    ],
)
def test_a_control_whose_method_goes_wrong_is_a_row_and_tried_again_only_on_retry(
    tmp_path: Path, fault: str, status: str, reason: str
) -> None:
    wanted = config(tmp_path, *FAULTY, f"+optimizer.fault={fault}", "control=scalar")
    outcome = execute(wanted)
    assert outcome.status == status
    assert outcome.reason is not None
    assert outcome.reason.startswith(reason)
    assert "\n" not in outcome.reason
    record = load_run(tmp_path / outcome.run_id)
    assert (record.status, record.reason) == (status, outcome.reason)
    assert (record.identity["control"], record.rows) == ("scalar", [])
    assert record.progress["step"] == 0
    assert execute(wanted).skipped

    # It is tried again for what it is: here the cause is gone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyAdam, "goes_wrong", False)
        again = execute(wanted.having(retry=True))
    assert (again.status, again.skipped) == ("done", False)
    assert load_run(tmp_path / outcome.run_id).progress["step"] == 6


@pytest.mark.parametrize(
    ("step", "reason"), [(2, "loss is nan at step 3"), (6, r"weight \S+ is nan at step 6")]
)
def test_a_control_whose_method_diverges_has_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, reason: str
) -> None:
    """Also where the last update does it, which no evaluation follows; and it is not retried."""
    plain = Trainer._step

    def spoiled(trainer: Trainer, *batch: Any) -> Any:
        result = plain(trainer, *batch)
        if trainer.counters.step == step - 1:
            next(trainer.built.model.parameters()).data.fill_(math.nan)
        return result

    monkeypatch.setattr(Trainer, "_step", spoiled)
    wanted = config(tmp_path, "optimizer=adam", "control=scalar")
    outcome = execute(wanted)
    assert outcome.status == "diverged"
    assert outcome.reason is not None
    assert re.fullmatch(f"control=scalar: the method itself diverges: {reason}", outcome.reason)
    record = load_run(tmp_path / outcome.run_id)
    assert (record.status, record.rows) == ("diverged", [])
    assert not (tmp_path / outcome.run_id / control.TRACE).exists()
    assert execute(wanted.having(retry=True)).skipped


def test_step_sizes_of_an_older_version_that_are_not_finite_are_measured_again(
    tmp_path: Path,
) -> None:
    made = config(tmp_path, "optimizer=adam", "control=scalar")
    measured = control.scales(made, tmp_path / "run", Ranks())
    assert measured is not None
    path = tmp_path / "run" / control.TRACE
    np.savez(path, scale=[*measured[:-1].tolist(), math.nan], step=range(1, 7))
    again = control.scales(made, tmp_path / "run", Ranks())
    assert again is not None
    torch.testing.assert_close(again, measured, rtol=0, atol=0)


def test_the_scalar_of_a_momentum_that_is_not_finite_is_no_number() -> None:
    """It was 0, as if the method had not moved."""

    class Still(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            pass

    param = nn.Parameter(torch.ones(2))
    param.grad = torch.tensor([1.0, math.inf])
    still = Still([param], lr=0.1)
    group = {"momentum": 0.9, "decay": "coupled"}
    recorder = control.Recorder(
        SimpleNamespace(optimizer=still, model=nn.Module()),
        MethodSection({"weight_decay": 0.0}, {"control": group}),
    )
    still.step()
    assert math.isnan(recorder.found[0])


def test_a_control_is_a_run_of_its_own_that_names_its_source(tmp_path: Path) -> None:
    source, made = (
        config(tmp_path, "optimizer=adafisher_released", f"control={kind}")
        for kind in ("null", "scalar")
    )
    task = build(source).task
    told = identity.describe(made, task)
    assert told["control_of"] == identity.describe(source, task)["group_id"]
    assert told["group_id"] != told["control_of"]
    assert told["published_as"]["optimizer"] is None
    assert identity.describe(source, task)["control_of"] is None


def test_a_sweep_of_controls_runs_what_they_control() -> None:
    typed = ["optimizer=adam", "control=scalar", "seed=0,1"]
    (grid,) = grids.spelled_out(typed)
    jobs = commandline.jobs(grid)
    assert sum("control=null" in job for job in jobs) == 2
    assert sum("control=scalar" in job for job in jobs) == 2
    assert math.prod((2, 2)) == len(jobs)

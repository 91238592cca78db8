"""Precision, compiler and memory format: what they do, and what is refused by name."""

import functools

import pytest
import torch

from experiments.engine import compute
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.engine.precision import Precision
from experiments.errors import UserError
from experiments.records.schema import load_runs
from tests.support.configs import changed

# The compiler asks every tensor for its gradient, and hides the warning but not from "error".
COMPILING = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def rows_of(config):
    (found,), _ = load_runs(config.runs_dir)
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in found.rows]


def spied_dtypes(built):
    found = set()
    for module in built.model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda m, args, out: found.add(out.dtype))
    return found


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
@pytest.mark.parametrize("optimizer", ["adafisher", "sgd"])
def test_layers_compute_in_it_and_parameters_stay_in_float32(make_config, name, dtype, optimizer):
    built = build(make_config(f"precision={name}", f"optimizer={optimizer}", "budget.steps=9"))
    found = spied_dtypes(built)
    rows = list(Trainer(built, seed=0).run())
    assert found == {dtype}
    assert {param.dtype for param in built.model.parameters()} == {torch.float32}
    assert rows[-1]["train_loss"] < 2.3  # ln 10, that of a guess
    state = built.optimizer.state_dict()["state"].values()
    tensors = [v for entry in state for v in entry.values() if isinstance(v, torch.Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_half_precision_stays_near_single(make_config):
    """The first steps, before rounding has grown: a wrong loss scale would show at once."""
    losses = {}
    for name in ("fp32", "bf16", "fp16"):
        config = make_config(f"precision={name}", "optimizer=adafisher", "budget.steps=4")
        losses[name] = next(iter(Trainer(build(config), seed=0).run()))["train_loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=2e-3)


def test_fp32_is_without_tf32_whatever_came_before():
    Precision("tf32", torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    Precision("fp32", torch.device("cpu"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_step_that_overflows_is_skipped_and_counted(make_config):
    built = build(make_config("precision=fp16", "optimizer=adafisher"))
    scaler = built.precision._scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**60})
    before = [param.detach().clone() for param in built.model.parameters()]
    trainer = Trainer(built, seed=0)
    inputs, targets = next(built.task.train.batches(64, seed=0))
    trainer._step(inputs, targets)
    assert all(torch.equal(a, b) for a, b in zip(before, built.model.parameters(), strict=True))
    assert scaler.get_scale() == 2.0**59
    assert all(param.grad is None for param in built.model.parameters())


@COMPILING
def test_a_compiled_model_trains_the_same(make_config, monkeypatch):
    """With the compiler's plainest backend; the hooks of the optimizer see every step."""
    eager = functools.partial(torch.compile, backend="eager")
    rows = []
    for compiled in ("false", "true"):
        monkeypatch.setattr(torch, "compile", eager)
        config = make_config(f"compile={compiled}", "optimizer=adafisher", "budget.steps=3")
        built = build(config)
        assert hasattr(built.forward, "_orig_mod") is (compiled == "true")
        rows.append(list(Trainer(built, seed=0).run())[-1])
        assert not built.optimizer.coverage().identity_steps
    for key in ("train_loss", "test_loss", "curvature_median"):
        assert rows[1][key] == pytest.approx(rows[0][key], rel=1e-6)


@COMPILING
@pytest.mark.slow
def test_the_default_compiler_trains_the_same(make_config):
    arguments = ("optimizer=adafisher", "budget.steps=3", "model.width=2")
    rows = [
        list(Trainer(build(make_config(f"compile={compiled}", *arguments)), seed=0).run())[-1]
        for compiled in ("false", "true")
    ]
    assert rows[1]["test_loss"] == pytest.approx(rows[0]["test_loss"], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adafisher", "kfac", "sgd"])
def test_channels_last_is_a_layout_and_no_other_result(make_config, optimizer):
    ends = []
    for value in ("auto", "true"):
        built = build(make_config(f"channels_last={value}", f"optimizer={optimizer}"))
        weight = built.model.features[1][0].weight
        laid = weight.is_contiguous(memory_format=torch.channels_last)
        assert (built.channels_last, laid) == (value == "true", value == "true")
        ends.append(list(Trainer(built, seed=0).run())[-1]["train_loss"])
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["precision=fp8"], r"Invalid precision: 'fp8'\. Must be one of: fp32, tf32, bf16, fp16\."),
        (["precision=tf32", "device=cpu"], r"Invalid precision: tf32\. It needs device=cuda"),
        (["compile=maybe"], r"Invalid compile: 'maybe'\. Must be true or false"),
        (["channels_last=1"], r"Invalid channels_last: 1\. Must be one of: auto, true, false\."),
        (["distributed=dp"], r"Invalid distributed: 'dp'\. Must be one of: ddp, fsdp\."),
        (["optimizer=kfac", "precision=fp16"], r"optimizer=kfac: not with precision=fp16, as "),
        (["optimizer=kfac", "compile=true"], r"optimizer=kfac: not with compile=true, as "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused(make_config, overrides, message):
    with pytest.raises(UserError, match=message):
        compute.resolve(make_config(*overrides))


def test_channels_last_needs_images(make_config):
    with pytest.raises(UserError, match=r"Invalid channels_last: true\. The task has no images"):
        build(make_config("task=tinyshakespeare", "channels_last=true"))


@pytest.mark.parametrize(
    ("flag", "overrides", "launch", "message"),
    [
        ("create_graph", ["precision=fp16"], 1, "not with precision=fp16, as the loss scale"),
        ("create_graph", ["compile=true"], 1, "not with compile=true, as it differentiates twice"),
        ("create_graph", [], 2, "not with several processes, as only first gradients"),
        ("closure", ["precision=fp16"], 1, "not with precision=fp16, as its closure"),
        ("keep_gradients", ["precision=fp16"], 1, "needs.keep_gradients=true, as what is kept is"),
        (
            "keep_gradients",
            ["loss_scale=2"],
            1,
            "not with loss_scale and optimizer.suite.needs.keep_gradients=true",
        ),
        ("keep_gradients", ["distributed=fsdp"], 2, "needs.keep_gradients=true, as they are split"),
        ("keep_gradients", ["optimizer=adahessian"], 1, "keep_gradients=true, as its gradients"),
        (None, ["distributed=fsdp", "precision=fp16"], 2, "precision=fp16: not with distributed"),
        (None, ["distributed=fsdp", "compile=true"], 2, "compile=true: not with distributed"),
        (None, ["distributed=fsdp", "optimizer=shampoo"], 2, "needs whole parameters"),
    ],
)
def test_a_method_is_refused_by_its_flags(
    make_config, monkeypatch, flag, overrides, launch, message
):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(launch))
    config = make_config(*overrides)
    if flag is not None:
        config = changed(config, {f"optimizer.suite.needs.{flag}": True})
    with pytest.raises(UserError, match=message):
        compute.resolve(config)


def test_without_such_a_flag_nothing_is_refused(make_config):
    for overrides in (["precision=bf16"], ["precision=fp16"], ["compile=true"]):
        compute.resolve(make_config(*overrides))


def test_the_id_is_of_what_is_computed_and_not_of_who_computes_it(make_config):
    plain = make_config().run_id
    changed = {make_config(f"precision={name}").run_id for name in ("bf16", "fp16")}
    changed |= {make_config("compile=true").run_id}
    assert len(changed | {plain}) == 4
    assert make_config("distributed=fsdp").run_id == plain

"""Ways of training: compiled models, memory formats, copies, graphs, schedulers, frameworks."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential
from torch.utils.data import DataLoader, TensorDataset

from adafisher import AdaFisher, AdaFisherW
from adafisher.capture.calls import refuse_capture
from tests.support.cases import BY_ID, loss_of
from tests.support.side_by_side import SideBySide

CNN = BY_ID["cnn_inplace"]
MLP = BY_ID["mlp_inplace_relu"]
TOKENS = BY_ID["mixed_tokens"]


# Dynamo looks at the .grad of whatever it is handed between two graphs.
COMPILES = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def assert_equal(ours: nn.Module, theirs: nn.Module, tolerance: float = 0.0) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def train(run: Callable[[Tensor], Tensor], optimizer: AdaFisher, indices: range) -> None:
    for index in indices:
        loss_of(run(CNN.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()


@COMPILES
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("when", ["compiled_before", "compiled_after", "in_place"])
def test_compiled_models_are_watched(backend: str, when: str) -> None:
    torch._dynamo.reset()
    side = SideBySide(MLP)
    run: Any = side.model
    if when == "compiled_before":
        side.optimizer.close()
        run = torch.compile(side.model, backend=backend)
        side.optimizer = AdaFisher(side.model)
    elif when == "compiled_after":
        run = torch.compile(side.model, backend=backend)
    else:
        side.model.compile(backend=backend)
    for index in range(4):
        loss_of(run(MLP.batch(index)), index).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


def test_an_export_is_not_told_by_what_torch_2_11_says_in_any_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    side = SideBySide(MLP)
    for index in range(2):
        loss_of(side.model(MLP.batch(index)), index).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


@COMPILES
@pytest.mark.parametrize("case_id", ["attention_self", "subclass_conv_that_pads", "embedding"])
def test_compiled_layers_that_are_read_by_call(case_id: str) -> None:
    torch._dynamo.reset()
    case = BY_ID[case_id]
    side = SideBySide(case)
    run = torch.compile(side.model, backend="aot_eager")
    for index in range(3):
        loss_of(run(case.batch(index)), index).backward()
        loss_of(side.reference_model(case.batch(index)), index).backward()
        side.step()
        side.compare()


def test_model_compiled_and_run_before_the_optimizer_was_built_is_reported() -> None:
    torch._dynamo.reset()
    model = MLP.model()
    compiled = torch.compile(model, backend="eager")
    loss_of(compiled(MLP.batch(0)), 0).backward()
    optimizer = AdaFisher(model)
    loss_of(compiled(MLP.batch(1)), 1).backward()
    with pytest.warns(UserWarning, match="of '0', '2', so .* compiled and run before the optim"):
        optimizer.step()


def test_channels_last_model_and_input() -> None:
    plain, last = CNN.model(), CNN.model().to(memory_format=torch.channels_last)
    optimizers = AdaFisher(plain), AdaFisher(last)
    for index in range(4):
        for model, optimizer, layout in zip(
            (plain, last), optimizers, (torch.contiguous_format, torch.channels_last), strict=True
        ):
            loss_of(model(CNN.batch(index).to(memory_format=layout)), index).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert last[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert_equal(plain, last, tolerance=1e-9)


def test_checkpointed_segments() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        x = MLP.batch(index).requires_grad_()
        loss_of(checkpoint_sequential(side.model, 1, x, use_reentrant=False), index).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


def test_cuda_graph_capture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph: a replay runs no"):
        refuse_capture(SimpleNamespace(is_cuda=True))  # type: ignore[arg-type]
    refuse_capture(torch.ones(1))


@pytest.mark.gpu
def test_cuda_graph_capture_is_refused_on_the_device() -> None:
    model = nn.Linear(4, 3).cuda()
    optimizer = AdaFisher(model)
    x = torch.randn(5, 4, device="cuda")
    with (
        pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        model(x)
    with (
        pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()


@pytest.mark.parametrize("case", [MLP, BY_ID["attention_self"]], ids=lambda case: case.id)
def test_torch_func_is_refused_by_the_name_of_the_layer(case: Any) -> None:
    model = case.model()
    optimizer = AdaFisher(model)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).sum()

    def of_input(x: Tensor) -> Tensor:
        output: Tensor = model(x).sum()
        return output

    with pytest.raises(RuntimeError, match=r"cannot follow torch\.func through layer '.+', as it"):
        torch.func.grad(of_input)(case.batch(0))
    with torch.no_grad():  # without a graph there is nothing to follow
        torch.func.vmap(of_input)(case.batch(0)[None])
    optimizer.close()
    torch.func.grad(loss)(parameters, case.batch(0))


COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]


@pytest.mark.parametrize("clone", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("case_id", ["cnn_inplace", "mixed_tokens"])
@pytest.mark.parametrize("steps", [0, 3])
def test_copies_of_model_and_optimizer_train_on_alone(
    clone: Callable[[Any], Any], case_id: str, steps: int
) -> None:
    case = BY_ID[case_id]
    side = SideBySide(case, update_interval=2, weight_decay=0.1)
    side.train(range(steps))
    side.backward(90)  # rows are waiting
    model, optimizer = clone((side.model, side.optimizer))
    assert optimizer.param_groups[0]["params"][0] is next(model.parameters())
    for mine, theirs in zip(model.parameters(), side.model.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    side.step()
    side.train(range(steps, steps + 3))
    kept = [p.clone() for p in side.model.parameters()]
    optimizer.step()
    optimizer.zero_grad()
    for index in range(steps, steps + 3):
        loss_of(model(case.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_equal(model, side.model)
    for a, b in zip(side.model.parameters(), kept, strict=True):
        assert torch.equal(a, b)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    theirs_ = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in side.model.modules()]
    assert hooks == theirs_  # those of the original, which came along, are gone


def test_copy_of_a_closed_optimizer_stays_closed() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    train(model, optimizer, range(2))
    optimizer.close()
    other, copied = copy.deepcopy((model, optimizer))
    assert not any(module._forward_hooks for module in other.modules())
    train(other, copied, range(2, 4))
    train(model, optimizer, range(2, 4))
    assert_equal(other, model)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 4),
    "one_cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 1e-3, total_steps=6, cycle_momentum=False
    ),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.5**step),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2),
            torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        ],
        [2],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name: str) -> None:
    side = SideBySide(MLP)
    scheduler = SCHEDULERS[name](side.optimizer)
    seen = []
    for index in range(5):
        side.reference.options["lr"] = side.optimizer.param_groups[0]["lr"]
        seen.append(side.reference.options["lr"])
        side.train([index])
        scheduler.step(*([1.0] if name == "plateau" else []))
    assert len(set(seen)) > 1


def regression() -> tuple[nn.Module, TensorDataset]:
    torch.manual_seed(0)
    x = torch.randn(48, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    return model, TensorDataset(x, x.sum(1, keepdim=True))


def by_hand(model: nn.Module, data: TensorDataset, accumulate: int) -> nn.Module:
    """What the frameworks should come to."""
    model = copy.deepcopy(model)
    optimizer = AdaFisherW(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for i, (x, y) in enumerate(DataLoader(data, batch_size=8), start=1):
        ((model(x) - y).square().mean() / accumulate).backward()
        if i % accumulate == 0:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate(accumulate: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, data = regression()
    expected = by_hand(model, data, accumulate)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    optimizer = AdaFisherW(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    prepared, wrapped, loader, scheduler = accelerator.prepare(
        model, optimizer, DataLoader(data, batch_size=8), scheduler
    )
    for x, y in loader:
        with accelerator.accumulate(prepared):
            accelerator.backward((prepared(x) - y).square().mean())
            wrapped.step()
            scheduler.step()
            wrapped.zero_grad()
    assert_equal(model, expected, tolerance=1e-6)
    restored = AdaFisherW(model)
    restored.load_state_dict(wrapped.state_dict())
    assert restored.state_dict()["curvature"]["step"] == 6 // accumulate


@pytest.mark.filterwarnings("ignore::Warning")  # of the framework itself
@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(accumulate: int, tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch")
    model, data = regression()
    expected = by_hand(model, data, accumulate)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def training_step(self, batch: Any, _index: int) -> Tensor:
            x, y = batch
            loss: Tensor = (self.inner(x) - y).square().mean()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = AdaFisherW(self)
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def trainer(epochs: int) -> Any:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accumulate_grad_batches=accumulate,
            default_root_dir=tmp_path,
        )

    module, run = Module(), trainer(1)
    run.fit(module, DataLoader(data, batch_size=8))
    assert_equal(module.inner, expected, tolerance=1e-6)
    run.save_checkpoint(tmp_path / "last.ckpt")
    run = trainer(2)
    run.fit(module, DataLoader(data, batch_size=8), ckpt_path=tmp_path / "last.ckpt")
    assert run.optimizers[0].state_dict()["curvature"]["step"] == 12 // accumulate


def test_nothing_is_warned_of_in_an_ordinary_loop() -> None:
    model = TOKENS.model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = AdaFisher(model, embeddings=True, update_interval=2)
        for index in range(5):
            loss_of(model(TOKENS.batch(index)), index).backward()
            optimizer.step()
            optimizer.zero_grad()

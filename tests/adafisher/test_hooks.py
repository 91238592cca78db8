"""Which output counts beside other hooks, threads, and models that are exported or traced."""

import copy
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from adafisher import AdaFisher
from tests.support.cases import BY_ID, Case, Function, loss_of
from tests.support.side_by_side import SideBySide, estimate

MLP = BY_ID["mlp_inplace_relu"]


def folded(x: Tensor) -> Tensor:
    """What a hook makes of an output: an activation, fake quantisation, steering."""
    return torch.tanh(3.0 * x)


def in_place(x: Tensor) -> Tensor:
    return x.mul_(3.0).tanh_()


def two_layers(between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), between, nn.Linear(6, 3))


FOLDED = Case(
    "folded",
    lambda: two_layers(nn.Identity()),
    (5, 4),
    reference=lambda: two_layers(Function(folded)),
)


def own(module: nn.Module, change: Callable[[Tensor], Tensor], **options: Any) -> RemovableHandle:
    return module.register_forward_hook(lambda m, args, output: change(output), **options)


def of_all(module: nn.Module, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    return register_module_forward_hook(
        lambda m, args, output: change(output) if m is module else None
    )


HOOKS: dict[str, Callable[..., RemovableHandle]] = {
    "own": own,
    "own_prepended": lambda module, change: own(module, change, prepend=True),
    "global": of_all,
}


@pytest.mark.parametrize("change", [folded, in_place], ids=lambda f: f.__name__)
@pytest.mark.parametrize("when", ["before", "after", "between"])
@pytest.mark.parametrize("kind", HOOKS)
def test_output_that_a_hook_changes_is_not_the_layers(
    kind: str, when: str, change: Callable[[Tensor], Tensor]
) -> None:
    side = SideBySide(FOLDED)
    side.optimizer.close()
    handles = []
    if when == "before":
        handles.append(HOOKS[kind](side.model[0], change))
    side.optimizer = AdaFisher(side.model)
    if when == "between":  # a call without it first: the changes cancel out
        first = own(side.model[0], folded)
        side.train(range(1))
        first.remove()
    if when != "before":
        handles.append(HOOKS[kind](side.model[0], change))
    side.train(range(1, 5))
    for handle in handles:
        handle.remove()
    side.optimizer.close()
    side.model(FOLDED.batch(0))
    assert not _global_forward_hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in side.model.modules())


def test_two_optimizers_see_the_same_output_beside_a_hook() -> None:
    side = SideBySide(FOLDED)
    side.optimizer.close()
    model = side.model
    optimizers = [AdaFisher(model, params=model[i].parameters()) for i in (0, 2)]
    own(model[0], folded, prepend=True)
    for index in range(4):
        side.backward(index)
        for optimizer in optimizers:
            optimizer.step()
        side.reference.step()
        side.both(lambda each: each.zero_grad())
        side.compare()


@pytest.mark.parametrize("others", [[], ["own"], ["own_prepended"], ["global"]], ids=str)
def test_a_hook_that_computes_the_output_in_the_layers_place_gives_the_layers_output(
    others: list[str],
) -> None:
    """As torch's own pass, which it does over again: what is dropped would bring no rows."""

    def again(layer: nn.Linear, args: tuple[Tensor], _output: Tensor) -> Tensor:
        return nn.functional.linear(args[0], layer.weight, layer.bias)

    torch.manual_seed(0)
    model = two_layers(nn.Identity())
    plain = copy.deepcopy(model)
    again.computes_output = True  # type: ignore[attr-defined]
    handles = [model[0].register_forward_hook(again)]
    ours, theirs = AdaFisher(model), AdaFisher(plain)
    for kind in others:  # what a global hook changes is dropped with the pass that is done over
        change = torch.clone if kind == "global" else folded
        handles += [HOOKS[kind](each[0], change) for each in (model, plain)]
    for index in range(3):
        x = FOLDED.batch(index)
        for each, optimizer in ((model, ours), (plain, theirs)):
            each.zero_grad()
            each(x.float()).square().mean().backward()
            optimizer.step()
    assert ours.state_dict()["curvature"]["layers"]["0"]["grad_diag"].count_nonzero()
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-7)
    for handle in handles:
        handle.remove()


ENCODER = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "dropout": 0.0, "batch_first": True}


def encoder() -> nn.Module:
    """Its attention and its feed-forward network are read by call and by hook."""
    return nn.TransformerEncoderLayer(**ENCODER)


def pooled(optimizer: AdaFisher) -> set[int]:
    layers = optimizer.state_dict()["curvature"]["layers"].values()
    return {layer["rows"] for layer in layers}


@pytest.mark.parametrize("goes", [0, 1])
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside_a_global_hook"])
def test_an_optimizer_may_go_while_a_layer_is_called(goes: int, others: int) -> None:
    """As when the last reference to it goes in a collection of garbage, at whatever line."""
    model = nn.Linear(4, 3)
    optimizers = [AdaFisher(model), AdaFisher(model)]
    seen: list[int] = []
    captures = [optimizer._curvature.capture for optimizer in optimizers]
    captures[1 - goes].watch = lambda *_, **__: (  # type: ignore[method-assign]
        seen.append(1),
        optimizers[goes].close(),
    )
    handles = [register_module_forward_hook(lambda *_: None) for _ in range(others)]
    try:
        model(torch.randn(2, 4))
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [1]


def test_inference_in_another_thread_disturbs_nothing() -> None:
    model, x = encoder(), torch.randn(2, 5, 8)
    optimizer = AdaFisher(model)
    errors: list[BaseException] = []
    stop, started = threading.Event(), threading.Event()

    def infer() -> None:
        try:
            with torch.no_grad():
                while not stop.is_set():
                    model(x)
                    started.set()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=infer)
    thread.start()
    started.wait(30)
    for _ in range(20):
        model(x).square().mean().backward()
    stop.set()
    thread.join()
    assert not errors
    assert pooled(optimizer) == {20 * 10}


def test_threads_that_train_together_pool_all_rows() -> None:
    model, x = encoder(), torch.randn(2, 5, 8)
    optimizer = AdaFisher(model)
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def train() -> None:
        barrier.wait()
        try:
            for _ in range(10):
                model(x).square().mean().backward()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert pooled(optimizer) == {4 * 10 * 10}
    # The same rows forty times over: their means are those of one call.
    other = copy.deepcopy(model)
    alone = AdaFisher(other)
    other(x).square().mean().backward()
    layers = optimizer._curvature.capture.layers
    for name, layer in alone._curvature.capture.layers.items():
        for ours, theirs in zip(estimate(layers[name]), estimate(layer), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


RECORDED = {
    "conv_net": (conv_net, (2, 1, 8, 8)),
    "encoder": (encoder, (2, 5, 8)),
    "subclass": (BY_ID["subclass_conv_that_pads"].model, (3, 4, 6, 5)),
}


def exported(model: nn.Module, x: Tensor) -> str:
    return str(torch.export.export(model, (x,)).graph)


def exported_strictly(model: nn.Module, x: Tensor) -> str:
    # Sorted, as the encoder's own look for hooks changes the order of its parameters.
    graph = str(torch.export.export(model, (x,), strict=True).graph)
    return "\n".join(sorted(graph.splitlines()))


def traced(model: nn.Module, x: Tensor) -> str:
    graph = str(torch.jit.trace(model, x, check_trace=False).inlined_graph)
    return re.sub(r"\.___torch_mangle_\d+", "", graph)  # it counts the classes of the process


def traced_by_fx(model: nn.Module, x: Tensor) -> str:
    return str(torch.fx.symbolic_trace(model).graph)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its older ways
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("record", [exported, exported_strictly, traced, traced_by_fx])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_model_has_nothing_of_the_optimizer(
    name: str, record: Callable[[nn.Module, Tensor], str], training: bool
) -> None:
    if record is traced_by_fx and name == "encoder":
        pytest.skip("torch.fx cannot trace the layer's control flow by itself")
    build, shape = RECORDED[name]
    torch.manual_seed(0)
    model = build()
    x = torch.randn(shape, dtype=next(model.parameters()).dtype)
    model.train(training)
    torch._dynamo.reset()
    alone = record(copy.deepcopy(model), x)
    optimizer = AdaFisher(model)
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    torch._dynamo.reset()
    assert record(model, x) == alone
    assert pooled(optimizer) == {0}
    model(x).square().mean().backward()  # and it is watched as before
    assert min(pooled(optimizer)) > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("build", [conv_net, encoder])
def test_script_says_what_to_do(build: Callable[[], nn.Module]) -> None:
    model = build()
    optimizer = AdaFisher(model)
    with pytest.raises(
        RuntimeError, match=r"^torch.jit.script would compile .*: close\(\) the opt"
    ):
        torch.jit.script(model)
    optimizer.close()
    torch.jit.script(model)


def test_names_of_hooks_can_be_read() -> None:
    model = conv_net()
    AdaFisher(model)  # gone at once; its hooks stay in the list below
    optimizer = AdaFisher(model)
    names = {hook.__name__ for m in model.modules() for hook in m._forward_hooks.values()}
    assert names == {"ForwardHook", "ModelForwardHook"}
    optimizer.close()


class Reused(nn.Module):
    """An embedding whose weight is the output layer too, read by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.linear(self.mix(self.embedding(tokens)), self.embedding.weight)


class Autoencoder(nn.Module):
    """The decoder is the transposed encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mix = nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"output": self.mix(self.encoder(x)) @ self.encoder.weight}


@pytest.mark.parametrize(
    ("build", "x", "layer", "options"),
    [
        (Reused, torch.tensor([[1, 2]]), "embedding", {"embeddings": True}),
        (Autoencoder, torch.ones(2, 4), "encoder", {}),
    ],
    ids=["embedding", "autoencoder"],
)
def test_weight_that_is_also_read_elsewhere_is_said_once(
    build: Callable[[], nn.Module], x: Tensor, layer: str, options: dict[str, Any]
) -> None:
    model = build()
    optimizer = AdaFisher(model, **options)
    for step in range(2):
        output = model(x)
        (output["output"] if isinstance(output, dict) else output).square().mean().backward()
        if step == 0:
            with pytest.warns(UserWarning, match=f"weights of '{layer}' are also read outside"):
                optimizer.step()
        else:
            optimizer.step()
    assert optimizer.coverage().partial == (f"{layer}.weight",)


@pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning")
@pytest.mark.filterwarnings("ignore:.*no rows came with the gradients of 'read':UserWarning")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_reads_by_the_layers_themselves_are_not_reads_elsewhere() -> None:
    from tests.support.cases import CASES

    for case in CASES:
        model = case.model()
        optimizer = AdaFisher(model, embeddings=case.embeddings)
        loss_of(model(case.batch(0)), 0).backward()
        optimizer.step()
        assert optimizer.coverage().partial == (), case.id
        assert optimizer._curvature.capture.first.partial == [], case.id


class Experts(nn.Module):
    """Each row of the input goes to one of three experts."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        output = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero()[:, 0]
            output = output.index_add(0, rows, expert(x[rows]))
        return output


class Skipping(nn.Module):
    """The second layer may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, takes: bool) -> Tensor:
        return self.second(self.first(x)) if takes else self.first(x)


class Twins(nn.Module):
    """As in T5: ``shared`` is never called, a layer with the same Parameter is."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.embed = nn.Embedding(7, 4), nn.Embedding(7, 4)
        self.head = nn.Linear(4, 2)
        self.embed.weight = self.shared.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens))


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
ALL, SOME = torch.tensor([0, 1, 2] * 2), torch.tensor([0, 1] * 3)
TOKENS = (torch.tensor([1, 2]),)
WITH_ESTIMATE: dict[str, tuple[Callable[[], nn.Module], list[tuple[Any, ...]]]] = {
    # model, inputs of the steps
    "expert_without_a_token": (Experts, [(X, ALL), (X, SOME)]),
    "expert_without_a_token_at_first": (Experts, [(X, SOME), (X, ALL)]),
    "skipped_layer": (Skipping, [(X, True), (X, False)]),
    "twins_of_one_parameter": (Twins, [TOKENS, TOKENS]),
    "empty_batch": (lambda: nn.Sequential(nn.Linear(4, 3)), [(X,), (X[:0],)]),
}


@pytest.mark.parametrize("name", WITH_ESTIMATE)
def test_no_warning_where_there_is_an_estimate(name: str) -> None:
    build, steps = WITH_ESTIMATE[name]
    model = build()
    optimizer = AdaFisher(model, embeddings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for inputs in steps:
            model(*inputs).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)  # leaves a gradient that no rows belong to
    for param in model.parameters():
        assert optimizer.fisher_diag(param) is not None

"""Which parameters Muon takes, and its steps against torch's own Muon and AdamW."""

import inspect

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from experiments.config import commandline
from experiments.config.compose import composed
from experiments.engine.build import _construct
from experiments.errors import UserError
from experiments.models.gpt import GPT
from experiments.optimizers.muon import Muon, hidden_matrices


def gpt(*, tied: bool) -> GPT:
    sizes = {"layers": 2, "heads": 2, "width": 8, "mlp_width": 16}
    return GPT(vocab_size=11, context=5, norm="pre", dropout=0.0, tied_head=tied, **sizes)


@pytest.mark.parametrize("tied", [False, True])
def test_a_gpt_gives_the_matrices_of_its_blocks(tied: bool) -> None:
    layers = ("attention.query", "attention.key", "attention.value", "attention.output")
    expected = {
        f"blocks.{block}.{layer}.weight"
        for block in (0, 1)
        for layer in (*layers, "mlp.0", "mlp.2")
    }
    assert hidden_matrices(gpt(tied=tied)) == expected


def test_a_resnet_gives_every_kernel_and_not_its_classifier() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    found = hidden_matrices(model)
    assert len(found) == 20  # 17 of 3x3 and 3 shortcuts of 1x1
    assert "conv1.weight" in found
    assert {p.ndim for name, p in model.named_parameters() if name in found} == {4}


def test_a_vision_transformer_gives_no_positions_no_token_and_not_its_head() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=10)
    assert hidden_matrices(model) == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
    }


def test_attention_of_torch_and_a_head_that_is_a_convolution() -> None:
    attention = nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 3))
    assert hidden_matrices(attention) == {"0.in_proj_weight", "0.out_proj.weight"}
    assert hidden_matrices(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1))) == {"0.weight"}
    assert hidden_matrices(nn.Linear(2, 2)) == set()


# The model of a task of one's own has whatever layers that gives it.
@pytest.mark.parametrize("name", [name for name in commandline.choices("model") if name != "own"])
def test_the_head_is_the_last_layer_that_runs(name: str) -> None:
    """What is registered last may not be what makes the logits; in our models it is."""
    make = _construct("model", composed([f"model={name}"]).model.arguments)
    arguments = {"in_channels": 3, "num_classes": 10, "image_size": 32}
    inputs = torch.empty(2, 3, 32, 32, device="meta")
    taken = inspect.signature(make).parameters
    if "vocab_size" in taken:
        arguments = {"vocab_size": 11, "context": 8}
        inputs = torch.empty(2, 8, dtype=torch.long, device="meta")
    if "features" in taken:
        arguments = {"features": 7, "outputs": 3}
        inputs = torch.empty(2, 7, device="meta")
    try:
        with torch.device("meta"):
            model = make(**arguments)
    except UserError as error:  # it reads a file that need not be there
        pytest.skip(str(error))
    names = {id(p): key for key, p in model.named_parameters(remove_duplicate=False)}
    ran: list[str] = []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda layer, *_: ran.append(names[id(layer.weight)]))
    model.eval()(inputs)
    assert {layer for layer in ran if layer not in hidden_matrices(model)} == {ran[-1]}


class Net(nn.Module):
    """A tall and a wide matrix, a kernel, and what AdamW takes."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(2, 6, 3)
        self.wide = nn.Linear(12, 5)
        self.tall = nn.Linear(5, 12)
        self.head = nn.Linear(12, 3)


def test_every_step_is_that_of_torch_bit_by_bit() -> None:
    torch.manual_seed(0)
    model = Net()
    ours = Muon(model, lr=0.02, weight_decay=0.1, adamw_weight_decay=0.05)
    taken = hidden_matrices(model)
    assert taken == {"kernel.weight", "wide.weight", "tall.weight"}
    matrices, rest = {}, {}
    for name, param in model.named_parameters():
        copied = param.detach().clone()
        if name in taken:
            matrices[name] = nn.Parameter(copied.flatten(1))
        else:
            rest[name] = nn.Parameter(copied)
    muon = torch.optim.Muon(matrices.values(), lr=0.02, weight_decay=0.1, momentum=0.95)
    adamw = torch.optim.AdamW(
        rest.values(), lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.05
    )
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for name, param in model.named_parameters():
            param.grad = torch.randn(param.shape, generator=generator)
            twin = matrices.get(name, rest.get(name))
            twin.grad = param.grad.clone().view_as(twin)
        for optimizer in (ours, muon, adamw):
            optimizer.step()
        for name, param in model.named_parameters():
            if name in matrices:
                assert torch.equal(param.flatten(1), matrices[name]), name
            else:
                torch.testing.assert_close(param, rest[name], rtol=1e-6, atol=1e-7)


def orthogonalised(grad: Tensor) -> Tensor:
    """Five quintic Newton-Schulz steps in bfloat16, as the reference implementation prints them."""
    x = grad.bfloat16()
    x = x.T if len(grad) > len(grad.T) else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if len(grad) > len(grad.T) else x).float()


@pytest.mark.parametrize(
    ("shape", "factor"),
    [((64, 16, 1, 1), 2.0), ((6, 2, 3, 3), 1.0), ((64, 2, 3, 2), (64 / 12) ** 0.5)],
    ids=str,
)
@pytest.mark.parametrize("scale", ["matrix", "last_axes"])
def test_a_kernel_moves_as_far_as_the_choice_says(
    shape: tuple[int, ...], factor: float, scale: str
) -> None:
    """The reference takes sqrt(max(1, size(-2) / size(-1))) of the gradient of four axes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(*shape[1::-1], shape[2:], bias=False), nn.Linear(1, 1))
    kernel = model[0].weight
    start, grad = kernel.detach().clone(), torch.randn(shape)
    kernel.grad = grad.clone()
    optimizer = Muon(model, lr=0.02, weight_decay=0.5, kernel_scale=scale)
    optimizer.step()
    if scale == "last_axes":
        factor = max(1.0, grad.size(-2) / grad.size(-1)) ** 0.5
    # Of the first gradient Nesterov's mix is a multiple, which the iteration divides out.
    expected = factor * orthogonalised(grad.flatten(1)).view(shape)
    moved = ((1 - 0.02 * 0.5) * start - kernel.detach()) / 0.02
    assert (moved - expected).norm() < 0.1 * expected.norm()  # bfloat16


def test_the_two_scales_of_a_kernel_differ_by_a_factor_alone() -> None:
    kernels = []
    for scale in ("matrix", "last_axes"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.Linear(3, 3), nn.Linear(1, 1))
        start = model[0].weight.detach().clone()
        optimizer = Muon(model, lr=0.02, kernel_scale=scale)
        assert optimizer.param_groups[0]["lr"] == 0.02
        model[0].weight.grad, model[1].weight.grad = torch.randn(64, 16, 1, 1), torch.randn(3, 3)
        optimizer.step()
        kernels.append((model[0].weight.detach() - start, model[1].weight.detach()))
    torch.testing.assert_close(kernels[0][0], 2 * kernels[1][0], rtol=1e-4, atol=1e-6)
    assert torch.equal(kernels[0][1], kernels[1][1])


def test_one_rate_scales_both_groups() -> None:
    muon, adamw = Muon(Net(), lr=0.4).param_groups
    assert (muon["lr"], adamw["lr"]) == (0.4, pytest.approx(0.006))
    assert [len(group["params"]) for group in (muon, adamw)] == [3, 5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1.0}, "Invalid lr: -1.0"),
        ({"momentum": 1.0}, "Invalid momentum: 1.0"),
        ({"ns_steps": 0}, "Invalid ns_steps: 0"),
        ({"kernel_scale": "x"}, "Invalid kernel_scale: 'x'. Must be one of matrix, last_axes"),
        ({"adamw_lr_ratio": -0.1}, "Invalid adamw_lr_ratio"),
        ({"adamw_betas": (0.9, 1.0)}, "beta"),
    ],
)
def test_values_out_of_range_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon(Net(), **{"lr": 0.02, **values})

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.errors import UserError
from experiments.models.gpt import GPT, CausalSelfAttention

TINY = {
    "vocab_size": 11,
    "context": 8,
    "layers": 2,
    "heads": 2,
    "width": 12,
    "mlp_width": 20,
    "norm": "pre",
    "dropout": 0.0,
    "tied_head": False,
}
MINI = TINY | {
    "context": 256,
    "layers": 4,
    "heads": 12,
    "width": 768,
    "mlp_width": 3072,
    "norm": "post",
    "tied_head": True,
}


def make(**changes: object) -> GPT:
    torch.manual_seed(0)
    return GPT(**(TINY | changes))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("tied_head", [False, True])
def test_parameter_count_by_formula(norm, tied_head):
    vocab, context, layers, width, mlp = 11, 8, 2, 12, 20
    block = 4 * (width**2 + width) + (width * mlp + mlp) + (mlp * width + width) + 2 * 2 * width
    expected = (vocab + context) * width + layers * block
    expected += 2 * width if norm == "pre" else 0
    expected += 0 if tied_head else vocab * width
    assert count(make(norm=norm, tied_head=tied_head)) == expected


@pytest.mark.parametrize(
    ("vocab_size", "parameters"),
    [
        (40_479, 59_635_968),  # the paper's vocabulary and count (its released MiniGPT1)
        (33_278, 54_105_600),  # WikiText-2
    ],
)
def test_gpt1_mini_has_the_published_size(vocab_size, parameters):
    with torch.device("meta"):
        model = GPT(**(MINI | {"vocab_size": vocab_size}))
    assert count(model) == parameters
    embeddings = (model.token_embedding, model.position_embedding)
    if vocab_size == 40_479:  # trainable in that code: all but the embeddings
        assert parameters - sum(count(embedding) for embedding in embeddings) == 28_351_488


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("changed", range(8))
def test_a_token_changes_no_logits_before_it(norm, changed):
    model = make(norm=norm)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    other = tokens.clone()
    other[0, changed] = 10
    difference = (model(tokens) - model(other)).abs().amax(-1)[0]
    assert torch.equal(difference[:changed], torch.zeros(changed))
    assert (difference[changed:] > 1e-6).all()


def test_logits_depend_on_the_position():
    logits = make()(torch.full((1, 8), 3))[0]
    assert all((logits[0] - logits[t]).abs().max() > 1e-6 for t in range(1, 8))


def test_a_shorter_sequence_gives_the_same_logits():
    model = make()
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    torch.testing.assert_close(model(tokens[:, :5]), model(tokens)[:, :5])


def test_a_sequence_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="Sequence of 9 tokens, the context is 8"):
        make()(torch.zeros(1, 9, dtype=torch.int64))


def test_attention_follows_the_equation():
    torch.manual_seed(0)
    layer = CausalSelfAttention(heads=3, width=12, dropout=0.0).double()
    hidden = torch.randn(2, 5, 12, dtype=torch.float64)
    mixed = torch.zeros(2, 5, 12, dtype=torch.float64)
    query, key, value = layer.query(hidden), layer.key(hidden), layer.value(hidden)
    for head in (slice(0, 4), slice(4, 8), slice(8, 12)):
        for time in range(5):
            past = slice(0, time + 1)
            scores = torch.einsum("bd,bsd->bs", query[:, time, head], key[:, past, head])
            weights = (scores / math.sqrt(4)).softmax(-1)
            mixed[:, time, head] = torch.einsum("bs,bsd->bd", weights, value[:, past, head])
    torch.testing.assert_close(layer(hidden), layer.output(mixed), rtol=1e-12, atol=1e-12)


def layer_norm(hidden: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    centred = hidden - hidden.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_forward_pass_follows_the_equations(norm):
    model = make(norm=norm).double()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases away from ones and zeros
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    hidden = model.token_embedding.weight[tokens] + model.position_embedding.weight[:3]
    for block in model.blocks:
        attend = block.attention
        first, _, second = block.mlp

        def mlp(x, first=first, second=second):
            return F.gelu(x @ first.weight.T + first.bias) @ second.weight.T + second.bias

        if norm == "pre":
            hidden = hidden + attend(layer_norm(hidden, block.attention_norm))
            hidden = hidden + mlp(layer_norm(hidden, block.mlp_norm))
        else:
            hidden = layer_norm(hidden + attend(hidden), block.attention_norm)
            hidden = layer_norm(hidden + mlp(hidden), block.mlp_norm)
    if norm == "pre":
        hidden = layer_norm(hidden, model.final_norm)
    expected = hidden @ model.head.weight.T
    torch.testing.assert_close(model(tokens), expected, rtol=1e-10, atol=1e-10)


def test_a_tied_head_is_the_embedding():
    tied, free = make(tied_head=True), make(tied_head=False)
    assert tied.head.weight is tied.token_embedding.weight
    assert tied.head.weight.data_ptr() == tied.token_embedding.weight.data_ptr()
    assert free.head.weight.data_ptr() != free.token_embedding.weight.data_ptr()


def test_dropout_acts_in_training_only():
    model = make(dropout=0.5)
    tokens = torch.arange(8)[None]
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    still = make(dropout=0.0)
    assert torch.equal(still(tokens), still(tokens))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_initial_weights(norm):
    model = make(norm=norm, width=96, mlp_width=384, layers=8, vocab_size=500)
    residual = 0.02 / math.sqrt(2 * 8) if norm == "pre" else 0.02
    for block in model.blocks:
        for layer, std in (
            (block.attention.query, 0.02),
            (block.mlp[0], 0.02),
            (block.attention.output, residual),
            (block.mlp[2], residual),
        ):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
            assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    assert model.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_first_loss_is_that_of_a_uniform_guess():
    model = make(vocab_size=65, width=64, mlp_width=128)
    tokens = torch.randint(65, (16, 8), generator=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(math.log(65), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, r"Invalid heads: 5\. Must divide width 12"),
        ({"heads": 0}, "Invalid heads: 0"),
        ({"layers": -1}, "Invalid layers: -1"),
        ({"width": 1.5}, "Invalid width: 1.5"),
        ({"mlp_width": 0}, "Invalid mlp_width: 0"),
        ({"norm": "rms"}, r"Invalid norm: rms\. Must be one of pre, post"),
        ({"dropout": 1.0}, "Invalid dropout: 1.0"),
        ({"dropout": -0.1}, "Invalid dropout: -0.1"),
    ],
)
def test_an_impossible_size_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_second_derivative_exists_without_the_fused_attention(norm):
    """What AdaHessian needs; the caller chooses the plain kernel."""
    model = make(norm=norm, tied_head=True).double()
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    vectors = [torch.randn(p.shape, generator=generator).double() for p in parameters]

    def gradients(create_graph: bool) -> list[torch.Tensor]:
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[0, 1:])
        return list(torch.autograd.grad(loss, parameters, create_graph=create_graph))

    with sdpa_kernel(SDPBackend.MATH):
        first = gradients(create_graph=True)
        dot = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
        products = torch.autograd.grad(dot, parameters)
    sides = []
    for sign in (1, -1):  # central differences of the gradient
        with torch.no_grad():
            for parameter, vector in zip(parameters, vectors, strict=True):
                parameter.add_(vector, alpha=sign * 1e-5)
        sides.append(gradients(create_graph=False))
        with torch.no_grad():
            for parameter, vector in zip(parameters, vectors, strict=True):
                parameter.sub_(vector, alpha=sign * 1e-5)
    for product, above, below in zip(products, *sides, strict=True):
        torch.testing.assert_close(product, (above - below) / 2e-5, rtol=1e-4, atol=1e-6)

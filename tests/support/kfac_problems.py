"""Models, batches and the dense reference that the tests of K-FAC share."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.optimizers import kfac_preconditioner
from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner

DAMPING = 1e-3


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 4)
    ).double()


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, (3, 2), stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4),
    ).double()


def norm_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(100, 4),
    ).double()


class PatchNet(nn.Module):
    """A vision transformer in small: patches, linear layers on tokens and on a grid, a mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(2, 6, 1)
        self.on_grid = nn.Linear(6, 8)
        self.on_tokens = nn.Linear(8, 7, bias=False)
        self.head = nn.Linear(7, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        grid = self.on_grid(self.patches(x).movedim(1, -1)).relu()
        return self.head(self.on_tokens(grid.flatten(1, 2)).relu().mean(1))


class TiedGPT(nn.Module):
    """Embedding, one linear layer on every token, head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(6, 5)
        self.norm = nn.LayerNorm(5)
        self.mixer = nn.Linear(5, 5)
        self.head = nn.Linear(5, 6)
        self.head.weight = self.embedding.weight
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.mixer(self.embedding(tokens)).tanh()))


def images(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 2, 5, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(4, (size,), generator=generator)


def vectors(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(4, (size,), generator=generator)


def tokens(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(6, (2, size, 3), generator=generator)
    return drawn[0], drawn[1]


CASES = {"mlp": (mlp, vectors), "conv": (conv_net, images), "norm": (norm_net, images)}
WITH_TIED = CASES | {"tied_gpt": (TiedGPT, tokens)}


def backward(
    model: nn.Module, transform: KFACPreconditioner | KFAC, batch: tuple[Tensor, Tensor], parts=1
) -> Tensor:
    logits = model(batch[0]).flatten(0, -2)
    transform.observe(logits)
    loss = F.cross_entropy(logits, batch[1].flatten())
    (loss / parts).backward()
    return loss


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def train(model: nn.Module, optimizer: KFAC, batches: list[tuple[Tensor, Tensor]]) -> None:
    for batch in batches:
        backward(model, optimizer, batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def true_labels(monkeypatch: pytest.MonkeyPatch, labels: Tensor) -> None:
    """Makes the sampled labels those of the data."""
    monkeypatch.setattr(
        kfac_preconditioner,
        "sampled_gradient",
        lambda logits, *_: logits.softmax(-1) - F.one_hot(labels.flatten(), logits.shape[-1]),
    )


def dense_reference(model: nn.Module, layer: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """One layer's preconditioned weight gradient, group by group, by autograd alone."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(
        lambda module, args, out: kept.extend([args[0].detach(), out])
    )
    logits = model(batch[0]).flatten(0, -2)
    hook.remove()
    layer_input, output = kept
    rows = len(logits)
    summed = F.cross_entropy(logits, batch[1].flatten(), reduction="sum")
    weight_grad, out_grad = torch.autograd.grad(summed, [layer.weight, output])
    groups = getattr(layer, "groups", 1)
    probe = layer(layer_input)
    spatial = isinstance(layer, nn.Conv2d)
    per_group = layer.weight.shape[0] // groups
    result = []
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        first = probe[:, channels.start] if spatial else probe[..., 0]
        seen = [
            torch.autograd.grad(value, layer.weight, retain_graph=True)[0][channels.start].flatten()
            for value in first.flatten()
        ]
        inputs = torch.stack(seen)
        outs = out_grad[:, channels].movedim(1, -1) if spatial else out_grad
        outs = outs.reshape(-1, per_group)
        a, b = inputs.T @ inputs / len(inputs), outs.T @ outs / rows
        pi = (a.trace() / len(a) / (b.trace() / len(b))).sqrt()
        a = a + pi * DAMPING**0.5 * torch.eye(len(a), dtype=a.dtype)
        b = b + DAMPING**0.5 / pi * torch.eye(len(b), dtype=b.dtype)
        grad = weight_grad[channels].reshape(per_group, -1) / rows
        result.append(torch.linalg.solve(torch.kron(b, a), grad.flatten()))
    return torch.cat(result).reshape(layer.weight.shape)

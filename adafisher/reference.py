"""The method on one page: AdaFisherW as printed, for Linear and Conv2d, slow and without options.

Nothing of the package is used here, and nothing of this is used in the package; a test holds them
to one another after every step. ``h`` are the rows of a layer's input (of a convolution: its
patches) with a 1 for the bias, ``s`` those of the gradient at its output; ``g`` is the gradient.

Reference: Martins Gomes et al., ICLR 2025, arXiv 2405.16397, the rule with two decay factors.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

ETA, BETA, LAMBDA, KAPPA, GAMMA_1, GAMMA_2 = 1e-3, 0.9, 1e-3, 1e-2, 0.92, 0.008


class Reference:
    """Trains the Linear and Conv2d layers of a model, which it hooks; call ``step`` as of torch."""

    def __init__(self, model: nn.Module) -> None:
        kinds = (nn.Linear, nn.Conv2d)
        self.layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, kinds)]
        self.t, zeros = 0, dict.fromkeys(self.layers, torch.zeros(()))
        self.H, self.S, self.m, self.h, self.s = (zeros.copy() for _ in range(5))
        for layer in self.layers:
            layer.register_forward_hook(self.see)

    def see(self, layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep the rows of a call, and of its gradient when it comes."""
        x, is_conv = inputs[0].detach(), isinstance(layer, nn.Conv2d)
        if is_conv:
            x = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT
        self.h[layer] = pad(x.flatten(0, -2), (0, 1), value=1.0)
        axis, kept = 1 if is_conv else -1, self.s
        output.register_hook(lambda s: kept.update({layer: s.movedim(axis, -1).flatten(0, -2)}))

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradients that are there."""
        self.t += 1
        for layer in self.layers:
            theta = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1)
            g = torch.cat([layer.weight.grad.flatten(1), layer.bias.grad[:, None]], 1)
            h, s, H, S, m = (of[layer] for of in (self.h, self.s, self.H, self.S, self.m))
            self.H[layer] = H = GAMMA_1 * H + (1 - GAMMA_2) * (h**2).mean(0)  # (1)
            self.S[layer] = S = GAMMA_1 * S + (1 - GAMMA_2) * (s**2).mean(0)  # (2)
            F = torch.outer(min_max(S), min_max(H)) + LAMBDA  # (3)
            self.m[layer] = m = BETA * m + (1 - BETA) * g  # (4)
            theta -= ETA * (m / (1 - BETA**self.t) / F + KAPPA * theta)  # (5)
            layer.weight.copy_(theta[:, :-1].reshape(layer.weight.shape))
            layer.bias.copy_(theta[:, -1])


def min_max(x: Tensor) -> Tensor:
    """Give ``x' = (x - min x) / (max x - min x)``."""
    return (x - x.min()) / (x.max() - x.min())

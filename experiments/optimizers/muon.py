"""Muon for the hidden matrices of a model, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pytorch_optimizer
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from experiments.optimizers.transform import check_choice, check_count, check_number

KERNEL_SCALES = ("matrix", "last_axes")


class Muon(pytorch_optimizer.Muon):
    r"""Muon and AdamW as one optimizer of two parameter groups.

    A hidden matrix moves by the orthogonalised momentum: with the Newton-Schulz iteration
    :math:`\mathrm{NS}`, for a matrix of a rows and b columns,

    .. math::
        m \leftarrow \mu m + (1 - \mu) g, \quad
        \theta \leftarrow (1 - \alpha \kappa) \theta
            - \alpha \sqrt{\max(1, a / b)} \, \mathrm{NS}((1 - \mu) g + \mu m),

    and a convolution kernel is the matrix ``[out, in * positions]``. The reference implementation
    takes a / b of a kernel ``[out, in, height, width]`` from its last two axes instead, which is 1
    where they are equal: ``kernel_scale="last_axes"``. All else takes AdamW with the rate
    ``adamw_lr_ratio * lr``, so that one rate scales the whole step.

    Args:
        model: Model to train; ``hidden_matrices`` says which parameters Muon takes.
        lr: Learning rate of Muon; alpha.
        momentum: Decay of the momentum; mu.
        nesterov: Whether the gradient is mixed into the momentum once more, as above.
        ns_steps: Newton-Schulz iterations, in bfloat16.
        weight_decay: Decoupled weight decay of Muon; kappa.
        kernel_scale: Where a / b of a two-dimensional convolution's kernel comes from: the
            ``"matrix"`` that it is seen as, or its ``"last_axes"``.
        adamw_lr_ratio: Learning rate of AdamW over that of Muon.
        adamw_betas: Decay rates of AdamW.
        adamw_eps: Added to AdamW's denominator.
        adamw_weight_decay: Decoupled weight decay of AdamW.
        foreach: Whether matrices of a shape are orthogonalised in one call, and all else is done by
            calls for many parameters; ``None``, the library's default, as True.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Reference:
        Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float = 0.0,
        kernel_scale: str = "matrix",
        adamw_lr_ratio: float = 0.015,
        adamw_betas: Sequence[float] = (0.9, 0.95),
        adamw_eps: float = 1e-10,
        adamw_weight_decay: float = 0.0,
        foreach: bool | None = None,
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("momentum", momentum, at_least=0, below=1)
        check_count("ns_steps", ns_steps)
        check_number("weight_decay", weight_decay, at_least=0)
        check_number("adamw_lr_ratio", adamw_lr_ratio, at_least=0)
        check_number("adamw_eps", adamw_eps, at_least=0)
        check_number("adamw_weight_decay", adamw_weight_decay, at_least=0)
        check_choice("kernel_scale", kernel_scale, KERNEL_SCALES)
        beta1, beta2 = adamw_betas
        hidden, rest = hidden_and_rest(model)
        super().__init__(
            [
                *_hidden_groups(hidden, lr, weight_decay, kernel_scale),
                {"params": rest, "use_muon": False, "lr": adamw_lr_ratio * lr},
            ],
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            weight_decay=weight_decay,
            adamw_betas=(beta1, beta2),
            adamw_eps=adamw_eps,
            adamw_wd=adamw_weight_decay,
            foreach=foreach,
        )


def hidden_and_rest(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Part the parameters into those of ``hidden_matrices`` and all others, in their order."""
    names = hidden_matrices(model)
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    for name, param in model.named_parameters():
        parts[name not in names].append(param)
    return parts


def _hidden_groups(
    params: Iterable[Tensor], lr: float, weight_decay: float, kernel_scale: str
) -> list[dict[str, Any]]:
    """Group Muon's parameters, the first group with the rate itself.

    The library scales by the matrix. What is to be scaled otherwise has a rate of its own, and a
    decay that makes up for it.
    """
    groups: dict[float, list[Tensor]] = defaultdict(list, {1.0: []})
    for param in params:
        correction = 1.0
        if kernel_scale == "last_axes" and param.ndim == 4:
            wanted = max(1.0, param.shape[2] / param.shape[3]) ** 0.5
            correction = wanted / max(1.0, len(param) / param[0].numel()) ** 0.5
        groups[correction].append(param)
    return [
        {
            "params": members,
            "use_muon": True,
            "lr": correction * lr,
            "weight_decay": weight_decay / correction,
        }
        for correction, members in groups.items()
    ]


def hidden_matrices(model: nn.Module) -> set[str]:
    """Names of the parameters that map hidden states to hidden states.

    These are the weights of linear layers and convolutions, and the projections of torch's
    attention; not an embedding, nor the head, nor what is tied to either, nor free parameters
    such as positions. The head is the last linear layer that the model registers, or its last
    convolution if there is no linear layer: the order in which every model of the suite registers
    its layers ends with the head, which a test holds by running them.

    Args:
        model: Model to train.

    Returns:
        Names as in ``model.named_parameters()``.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    convolutions = [module for module in model.modules() if isinstance(module, _ConvNd)]
    outer = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    outer |= {id(module.weight) for module in (linear or convolutions)[-1:]}
    matrices = {id(module.weight) for module in [*linear, *convolutions]}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            matrices |= {
                id(param)
                for name, param in module.named_parameters(recurse=False)
                if name.endswith("proj_weight")
            }
    return {name for name, p in model.named_parameters() if id(p) in matrices - outer}

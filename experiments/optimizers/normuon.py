"""NorMuon for the hidden matrices of a model, AdamW for everything else."""

from collections.abc import Sequence

import pytorch_optimizer
from torch import nn

from experiments.optimizers.muon import hidden_and_rest
from experiments.optimizers.transform import check_count, check_number


class NorMuon(pytorch_optimizer.NorMuon):
    r"""NorMuon and AdamW as one optimizer of two parameter groups.

    A hidden matrix moves as Muon's does, by the orthogonalised momentum :math:`O`, each row
    of which is divided by the root of its mean square over the steps:

    .. math::
        v_i \leftarrow \beta_2 v_i + (1 - \beta_2) \, \mathrm{mean}_j \, O_{ij}^2, \quad
        \hat{O}_{ij} = O_{ij} / (\sqrt{v_i} + \epsilon),

    scaled to the norm of :math:`O`. A convolution kernel is the matrix ``[out, in * positions]``:
    the rows are output channels (the authors' code takes the rows of the last axis). All else takes
    AdamW with the rate ``adamw_lr_ratio * lr``, so that one rate scales the whole step.

    Args:
        model: Model to train; ``muon.hidden_and_rest`` says which parameters NorMuon takes.
        lr: Learning rate of NorMuon.
        momentum: Decay of the momentum.
        beta2: Decay of the second moment of the rows; beta_2.
        nesterov: Whether the gradient is mixed into the momentum once more.
        ns_steps: Newton-Schulz iterations, in bfloat16.
        weight_decay: Decoupled weight decay of NorMuon.
        eps: Added to the denominator; epsilon.
        adamw_lr_ratio: Learning rate of AdamW over that of NorMuon.
        adamw_betas: Decay rates of AdamW.
        adamw_eps: Added to AdamW's denominator.
        adamw_weight_decay: Decoupled weight decay of AdamW.
        foreach: Whether matrices of a shape are orthogonalised in one call, and all else is done by
            calls for many parameters; ``None``, the library's default, as True.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Reference:
        Li et al., "NorMuon: making Muon more efficient and scalable", 2025, arXiv 2510.05491,
        Algorithm 1.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        momentum: float = 0.95,
        beta2: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        adamw_lr_ratio: float = 0.015,
        adamw_betas: Sequence[float] = (0.9, 0.95),
        adamw_eps: float = 1e-10,
        adamw_weight_decay: float = 0.0,
        foreach: bool | None = None,
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("momentum", momentum, at_least=0, below=1)
        check_number("beta2", beta2, at_least=0, below=1)
        check_count("ns_steps", ns_steps)
        check_number("weight_decay", weight_decay, at_least=0)
        check_number("eps", eps, at_least=0)
        check_number("adamw_lr_ratio", adamw_lr_ratio, at_least=0)
        check_number("adamw_eps", adamw_eps, at_least=0)
        check_number("adamw_weight_decay", adamw_weight_decay, at_least=0)
        beta1_adamw, beta2_adamw = adamw_betas
        hidden, rest = hidden_and_rest(model)
        super().__init__(
            [
                {"params": hidden, "use_muon": True},
                {"params": rest, "use_muon": False, "lr": adamw_lr_ratio * lr},
            ],
            lr=lr,
            momentum=momentum,
            beta2=beta2,
            nesterov=nesterov,
            ns_steps=ns_steps,
            weight_decay=weight_decay,
            eps=eps,
            adamw_lr=adamw_lr_ratio * lr,
            adamw_betas=(beta1_adamw, beta2_adamw),
            adamw_eps=adamw_eps,
            adamw_wd=adamw_weight_decay,
            foreach=foreach,
        )

"""K-FAC as an optimizer: the transform, then clipping, then SGD."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from experiments.optimizers.transform import PreconditionedSGD


class KFAC(PreconditionedSGD):
    """K-FAC, then clipping, then SGD.

    Args:
        model: Model to train.
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: Coupled weight decay.
        fisher: Labels of the Fisher matrix: ``"mc"`` (sampled) or ``"empirical"``.
        damping: Damping of the product of the factors.
        interval: Steps between two refreshes of the factors.
        ema_decay: Weight of the old factors in a running average; ``None`` for none.
        max_dimension: Layers with a larger factor keep their raw gradient; ``None`` for no limit.
        positions: Whether A of a Linear layer is the ``"mean"`` or the ``"sum"`` over the positions
            of a loss row, such as the tokens of an image.
        max_norm: Clipping threshold of the preconditioned gradient; ``None`` for off.
        fused: Whether SGD's step is torch's fused one; ``None`` leaves it to torch.
        seed: Seed of the sampled labels.
        params: Torch-style parameter groups; all parameters of ``model`` by default.

    Example:
        >>> import torch
        >>> model = nn.Linear(3, 2)
        >>> optimizer = KFAC(model, lr=0.1)
        >>> logits = model(torch.ones(4, 3))
        >>> optimizer.observe(logits)
        >>> nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0])).backward()
        >>> optimizer.step()
        >>> optimizer.close()
    """

    transform: KFACPreconditioner
    transform_class: type[KFACPreconditioner] = KFACPreconditioner

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        fisher: str = "mc",
        damping: float = 1e-3,
        interval: int = 10,
        ema_decay: float | None = None,
        max_dimension: int | None = 8192,
        positions: str = "mean",
        max_norm: float | None = None,
        fused: bool | None = None,
        seed: int = 0,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | None = None,
    ) -> None:
        transform = self.transform_class(
            model,
            fisher=fisher,
            damping=damping,
            interval=interval,
            ema_decay=ema_decay,
            max_dimension=max_dimension,
            positions=positions,
            seed=seed,
        )
        super().__init__(
            model.parameters() if params is None else params,
            transform,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            max_norm=max_norm,
            fused=fused,
        )

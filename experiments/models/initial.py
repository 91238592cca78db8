"""Initial weights: those of a library's definition, or torch's own defaults."""

import torch
from torch import nn

from experiments.errors import UserError

TORCH = "torch"


def check_init(init: str, own: str) -> None:
    """Refuse an unknown choice of the initial weights.

    Args:
        init: What was given.
        own: What the definition draws by itself.

    Raises:
        UserError: If it is neither that nor ``torch``.
    """
    if init not in (own, TORCH):
        raise UserError(f"Invalid init: {init!r}. Must be one of: {own}, {TORCH}.")


def draw_as_torch(model: nn.Module) -> None:
    r"""Draw every layer anew as torch does where nobody says otherwise.

    Convolutions and linear layers have weights and biases uniform in
    :math:`\pm 1 / \sqrt{\mathrm{fan\_in}}`, so of standard deviation
    :math:`1 / \sqrt{3\,\mathrm{fan\_in}}` (``kaiming_uniform_`` with ``a = sqrt(5)``);
    embeddings are standard normal, norms ones and zeros.

    Args:
        model: Changed in place. A parameter that belongs to no layer stays as it is.
    """
    with torch.no_grad():
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()

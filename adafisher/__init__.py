"""AdaFisher: momentum preconditioned by a diagonal block-Kronecker Fisher, for ``torch.optim``."""

from adafisher.by_name import get_optimizer_state_dict, set_optimizer_state_dict
from adafisher.decoupled import AdaFisherW
from adafisher.layers.registry import register_layer
from adafisher.optimizer import AdaFisher

__all__ = [
    "AdaFisher",
    "AdaFisherW",
    "get_optimizer_state_dict",
    "register_layer",
    "set_optimizer_state_dict",
]
__version__ = "0.1.0"

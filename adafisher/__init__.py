"""AdaFisher: momentum preconditioned by a diagonal block-Kronecker Fisher, for ``torch.optim``."""

from adafisher.decoupled import AdaFisherW
from adafisher.layers import register_layer
from adafisher.optimizer import AdaFisher

__all__ = ["AdaFisher", "AdaFisherW", "register_layer"]
__version__ = "0.1.0"

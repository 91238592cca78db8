"""AdaFisher: momentum preconditioned by a diagonal block-Kronecker Fisher, for ``torch.optim``."""

from adafisher.layers import register_layer
from adafisher.optimizer import AdaFisher, AdaFisherW

__all__ = ["AdaFisher", "AdaFisherW", "register_layer"]
__version__ = "0.1.0"

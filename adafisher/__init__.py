"""AdaFisher: momentum preconditioned by a diagonal block-Kronecker Fisher, for ``torch.optim``."""

from adafisher.optimizer import AdaFisher, AdaFisherW

__all__ = ["AdaFisher", "AdaFisherW"]
__version__ = "0.1.0"

"""Who sees the inputs of layers and the gradients at their outputs, and when these count."""

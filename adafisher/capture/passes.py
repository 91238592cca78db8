"""A backward pass, and the rows that it carries until their gradient reaches a parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from adafisher.layers.layer import Call, Layer


class Pass:
    """A backward pass: the rows in it whose gradients have not reached a parameter yet.

    Attributes:
        keeps_graph: Whether another pass through the same graph may follow.
        waiting: Calls and their output gradients, or the statistic of these (then True), by layer.
        sharded: Sharded layers whose rows were pooled.
    """

    def __init__(self) -> None:
        """Begin the pass that autograd is in; it is forgotten when autograd has ended it."""
        self.keeps_graph: bool = torch._C._autograd._get_current_graph_task_keep_graph()
        self.waiting: dict[Layer, list[tuple[Call, Tensor, bool]]] = {}
        self.sharded: set[Layer] = set()
        # The callback is what keeps this object alive, also where a pass ends by an exception.
        torch.autograd.Variable._execution_engine.queue_callback(self.end)

    def end(self) -> None:
        """Look at sharded gradients after fully_shard's own callback, which may come behind it."""
        if self.sharded:
            torch.autograd.Variable._execution_engine.queue_callback(self.see_reduced)

    def see_reduced(self) -> None:
        """See which gradients fully_shard has reduced."""
        for layer in self.sharded:
            if any(param.grad is not None for _, param in layer.roles()):
                layer.pool.accumulated = True

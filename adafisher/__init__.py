"""AdaFisher: momentum preconditioned by a diagonal block-Kronecker Fisher, for ``torch.optim``.

Map. ``reference`` prints the method on one page, for reading; ``optimizer`` has the two classes. A
step goes down from there: ``curvature`` keeps the running averages of the factors, ``capture`` sees
the rows that they are made of, ``layers`` says what each kind of layer makes of these, by the pure
functions of ``factors`` (whose sums are those of ``squares``) and ``fisher``, and ``execution``
carries the step out; ``native`` is the C library that makes both fast on the CPU. ``arguments``,
``groups`` and ``scalars`` check what is given; ``checkpoint`` and ``by_name`` hold the state;
``coverage``, ``reasons`` and ``stats`` tell what has curvature, and how much.

Rows count exactly when the gradient that they belong to has reached the parameter, and until it is
cleared, by whomever. ``torch.autograd.grad`` brings none; nor do gradients that are set by hand
from it, whose layers keep their last estimate: ``loss.backward(inputs=params)`` does. A gradient
penalty is a part of the loss that it is trained with. Passes through one graph count as one of the
sum. ``capture.capture`` has the details.

Refused, with the reason in the message: ``differentiable=True`` and sparse gradients; passes under
``torch.func`` transforms, and ``torch.jit.script``, before ``close()`` (to export or trace the
model is fine); capture in a CUDA graph; a ``GradScaler`` after ``unscale_`` without ``loss_scale``;
a wrapped or compiled model (pass the one inside; to compile that, before or after, is fine, and its
graph breaks at each layer).

Identity (``F = 1``), and listed by ``coverage()``: parameters in no supported layer; the
projections of ``nn.MultiheadAttention`` with a ``kdim`` or ``vdim`` of its own; parametrized
weights; layers whose weight is changed before it is used, or read without calling them, but for
functional calls (``F.linear(x, self.qkv.weight)``) in the forward pass of a module around them. The
latter are warned of once, and counted in ``coverage().identity_steps``.

Distributed: the optimizer is built on the model itself, which is then wrapped in
``DistributedDataParallel``; ``fully_shard`` comes before the optimizer. Rows are pooled at
``step``, so that ``no_sync`` needs nothing more. Gradients have to be averaged, not summed, for the
numbers of one process. ``execution.distributed`` says why they are the same. For
``torch.distributed.checkpoint`` there are ``get_`` and ``set_optimizer_state_dict`` here, as
torch's own drop the curvature (``by_name``).
"""

from adafisher.by_name import get_optimizer_state_dict, set_optimizer_state_dict
from adafisher.layers.registry import register_layer
from adafisher.optimizer import AdaFisher, AdaFisherW

__all__ = [
    "AdaFisher",
    "AdaFisherW",
    "get_optimizer_state_dict",
    "register_layer",
    "set_optimizer_state_dict",
]
__version__ = "0.1.0"

"""What a method asks of a training step beside the gradient: graph, plain attention, closure.

The loop, the benchmarks and the conformance tests take the same step through these functions.
"""

import contextlib
import warnings
from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from experiments.engine.step_stream import StepStream


def differentiable_forward(create_graph: bool) -> contextlib.AbstractContextManager[None]:
    """Context of a forward pass that can be differentiated twice.

    The fused attention kernels have no second derivative; the plain one consists of parts that do.
    """
    return sdpa_kernel(SDPBackend.MATH) if create_graph else contextlib.nullcontext()


def backward(loss: Tensor, *, create_graph: bool) -> None:
    """Compute the gradients of ``loss``, with a graph of their own where it is asked for.

    Whoever asks must set the gradients to ``None`` after the step: parameter and gradient hold each
    other, and the whole graph with them.
    """
    if not create_graph:
        loss.backward()
        return
    with warnings.catch_warnings():
        # torch warns of that cycle; `take_step` breaks it.
        warnings.filterwarnings("ignore", "Using backward.. with create_graph=True", UserWarning)
        loss.backward(create_graph=True)


def take_step(
    optimizer: Optimizer,
    compute_loss: Callable[[], Tensor],
    *,
    takes_closure: bool,
    step: Callable[[Optimizer], object] = lambda optimizer: optimizer.step(),
    keeps_gradients: bool = False,
    stream: StepStream | None = None,
) -> Tensor:
    """Step once and clear the gradients.

    Args:
        optimizer: Whose parameters ``compute_loss`` gives gradients to.
        compute_loss: Forward and backward pass; returns the loss.
        takes_closure: Whether the method evaluates the loss itself, as often as it likes.
        step: Takes the step where no closure does; a loss scale takes it in the method's place.
        keeps_gradients: Whether they stay instead, as the method leaves them, so that the next
            ones are added to them.
        stream: Random streams that the step draws from, and the loss does not; None: the same.

    Returns:
        The loss, without its graph; for a closure what ``step`` returns, by torch's convention the
        loss of the first evaluation, which it is also where ``step`` returns no tensor.

    Raises:
        ValueError: If the method returns no loss and has evaluated none.
    """
    inside, outside = (stream.inside, stream.outside) if stream else 2 * [contextlib.nullcontext]

    evaluated: list[Tensor] = []

    def closure() -> Tensor:
        with outside():
            optimizer.zero_grad(set_to_none=True)
            loss = compute_loss()
        evaluated.append(loss.detach())
        return loss

    if takes_closure:
        with inside():
            returned: object = optimizer.step(closure)  # type: ignore[arg-type]
        if not isinstance(returned, Tensor) and not evaluated:
            raise ValueError(f"Invalid step: {returned!r}. Must return the loss of its closure.")
        loss = returned if isinstance(returned, Tensor) else evaluated[0]
    else:
        loss = compute_loss()
        with inside():
            step(optimizer)
    if not keeps_gradients:
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()

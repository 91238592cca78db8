"""Language data: token streams cut into windows, and the task made of them.

A stream is int64 ``[T]``; batches are int64 ``[B, context]``, inputs and targets.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.tasks.task import IGNORE, Split, Task


class TokenSplit(Split):
    """Windows that follow one another without overlap, each token predicting the next.

    Every token but the first is a target exactly once. The last window is padded: its inputs with
    token 0, its targets with ``IGNORE``.

    Args:
        tokens: The stream, int64 ``[T]``.
        context: Tokens a window.

    Raises:
        UserError: If ``context`` is not positive or there are fewer than two tokens.
    """

    def __init__(self, tokens: Tensor, *, context: int) -> None:
        if not isinstance(context, int) or context < 1:
            raise UserError(f"Invalid context: {context}. Must be an integer >= 1.")
        if len(tokens) < 2:
            raise UserError(f"A split has {len(tokens)} tokens. Must have at least 2.")
        padding = -(len(tokens) - 1) % context
        self.inputs = F.pad(tokens[:-1], (0, padding)).view(-1, context)
        self.targets = F.pad(tokens[1:], (0, padding), value=IGNORE).view(-1, context)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.inputs)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(inputs, targets)``, both int64 ``[B, context]``. See ``Split``."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for index in self._index_batches(batch_size, start, generator):
            yield self.inputs[index], self.targets[index]


def language_task(
    name: str,
    *,
    train: Tensor,
    validation: Tensor | None,
    test: Tensor,
    vocab_size: int,
    context: int,
    checksums: dict[str, str],
) -> Task:
    """Make a task of next-token prediction, measured by perplexity.

    Args:
        name: Name of the task.
        train: Stream to train on.
        validation: Stream to choose by, or None.
        test: Stream to report.
        vocab_size: Different tokens.
        context: Tokens a window.
        checksums: sha256 of what was read, by file.
    """
    return Task(
        name=name,
        metric="perplexity",
        higher_is_better=False,
        unit="tokens",
        train=TokenSplit(train, context=context),
        validation=None if validation is None else TokenSplit(validation, context=context),
        test=TokenSplit(test, context=context),
        model_arguments={"vocab_size": vocab_size, "context": context},
        checksums=checksums,
    )

"""Language data: token streams cut into windows, and the task made of them.

A stream is int64 ``[T]``; batches are int64 ``[B, context]``, inputs and targets.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.tasks.objective import IGNORE, LOSS, CrossEntropy, Metric, Sums
from experiments.tasks.task import Split, Task
from experiments.tokenizations.encoding import Encoding, predicted_units

PAPER_BATCH_WINDOWS = 32  # AdaFisher (ICLR 2025, arXiv 2405.16397), section 4.3's released code


class TokenSplit(Split):
    """Windows that follow one another without overlap, each token predicting the next.

    Every token but the first is a target exactly once. The last window is padded: its inputs with
    token 0, its targets with ``IGNORE``.

    Args:
        tokens: The stream, int64 ``[T]``.
        context: Tokens a window.
        words: Words that the targets spell, ends of lines included.
        characters: Characters that the targets spell.

    Raises:
        UserError: If an argument is not positive or there are fewer than two tokens.
    """

    def __init__(self, tokens: Tensor, *, context: int, words: int, characters: int) -> None:
        if not isinstance(context, int) or context < 1:
            raise UserError(f"Invalid context: {context}. Must be an integer >= 1.")
        if len(tokens) < 2:
            raise UserError(f"A split has {len(tokens)} tokens. Must have at least 2.")
        if words < 1 or characters < 1:
            raise UserError(
                f"A split has {words} words of {characters} characters after its first token. "
                "Must have at least 1."
            )
        self.words: float = words
        self.characters: float = characters
        padding = -(len(tokens) - 1) % context
        self.inputs = F.pad(tokens[:-1], (0, padding)).view(-1, context)
        self.targets = F.pad(tokens[1:], (0, padding), value=IGNORE).view(-1, context)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.inputs)

    @property
    def known_targets(self) -> Tensor:
        """The tokens to predict, ``[windows, context]``."""
        return self.targets

    def part(self, index: Tensor) -> "TokenSplit":
        """Return some of the windows; words and characters are counted as if all were alike."""
        made = copy.copy(self)
        made.inputs, made.targets = self.inputs[index], self.targets[index]
        share = len(index) / len(self)
        made.words, made.characters = share * self.words, share * self.characters
        return made

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(inputs, targets)``, both int64 ``[B, context]``. See ``Split``."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for index in self._index_batches(batch_size, start, generator):
            yield self.inputs[index], self.targets[index]

    @property
    def facts(self) -> Mapping[str, float]:
        """Words and characters that the targets spell, and tokens as the paper's loop counts."""
        full_batch = PAPER_BATCH_WINDOWS * self.inputs.shape[1]
        return {
            "words": self.words,
            "characters": self.characters,
            "paper_tokens": self.num_batches(PAPER_BATCH_WINDOWS) * full_batch,
        }


class NextToken(CrossEntropy):
    """Cross-entropy of the next token, measured by perplexities and bits."""

    def __init__(self) -> None:
        plain = ("perplexity", "perplexity_word", "perplexity_paper")
        metrics = [Metric(name, higher_is_better=False) for name in plain]
        super().__init__([*metrics, Metric("bits_per_character", higher_is_better=False)])

    def measured(self, sums: Sums, facts: Mapping[str, float]) -> dict[str, float]:
        r"""Turn the sum over all targets into perplexities and bits.

        With ``L`` the nats of the whole text, ``T`` its tokens, ``W`` its words and ends of lines,
        and ``C`` its characters, the first token left out of each:

            perplexity = exp(L / T)                 exact; only one tokenisation's can be compared
            perplexity_word = exp(L / W)            the same text for every tokenisation
            bits_per_character = L / (C ln 2)       likewise
            perplexity_paper = exp(L / (N 32 context))

        ``N`` is the number of batches of 32 windows, the last one counted as full. That is what the
        paper's code reports: the mean over batches of the loss summed over a batch's tokens and
        divided by the size of a full batch. It is lower than the exact perplexity wherever padding
        or a partial last batch takes part.

        Args:
            sums: ``L`` and ``T`` of the loss.
            facts: Those of ``TokenSplit``.

        Returns:
            ``loss``, which is ``L / T``, and the four above.

        Reference:
            Martins Gomes et al. (2025), AdaFisher, arXiv 2405.16397, the released script.
        """
        loss_sum, count = sums[LOSS]
        return {
            LOSS: loss_sum / count,
            "perplexity": _exp(loss_sum / count),
            "perplexity_word": _exp(loss_sum / facts["words"]),
            "bits_per_character": loss_sum / (facts["characters"] * math.log(2)),
            "perplexity_paper": _exp(loss_sum / facts["paper_tokens"]),
        }


NEXT_TOKEN = NextToken()


def language_task(
    name: str,
    *,
    train: str,
    validation: str | None,
    test: str,
    context: int,
    encode: Callable[[list[str]], Encoding],
    checksums: dict[str, str],
) -> Task:
    """Make a task of next-token prediction, measured by perplexity.

    Args:
        name: Name of the task.
        train: Text to train on.
        validation: Text to choose by, or None.
        test: Text to report.
        context: Tokens a window.
        encode: Encodes the texts, the training text first.
        checksums: sha256 of what was read, by file.
    """
    texts = [text for text in (train, validation, test) if text is not None]
    encoding = encode(texts)
    splits = []
    for text, tokens, given in zip(texts, encoding.streams, encoding.given_characters, strict=True):
        words, characters = predicted_units(text, given)
        splits.append(TokenSplit(tokens, context=context, words=words, characters=characters))
    return Task(
        name=name,
        objective=NEXT_TOKEN,
        unit="tokens",
        train=splits[0],
        validation=None if validation is None else splits[1],
        test=splits[-1],
        model_arguments={"vocab_size": encoding.vocab_size, "context": context},
        checksums=checksums | encoding.checksums,
    )


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf

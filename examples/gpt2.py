"""A GPT-2 of Hugging Face's transformers, small and from scratch, on the plays of Shakespeare.

    pip install transformers
    python examples/gpt2.py

Its ``Conv1D`` layers and norms get curvature as they are. ``embeddings=True`` adds the embeddings;
the output layer shares the weight of one of them. The text is the file that is shipped here.
"""

import lzma
import sys
from pathlib import Path

import torch

from adafisher import AdaFisherW

try:
    from transformers import GPT2Config, GPT2LMHeadModel
except ImportError:
    sys.exit("error: this example needs transformers: pip install transformers")

TEXT = Path(__file__).parents[1] / "experiments" / "tasks" / "data" / "tinyshakespeare.txt.xz"
STEPS, BATCH, LENGTH = 60, 8, 64


def main() -> None:
    """Predict the next byte."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens = torch.frombuffer(bytearray(lzma.decompress(TEXT.read_bytes())), dtype=torch.uint8)
    size = {"vocab_size": 256, "n_positions": LENGTH, "n_embd": 64, "n_layer": 2, "n_head": 4}
    config = GPT2Config(**size, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).to(device)
    optimizer = AdaFisherW(model, lr=1e-3, weight_decay=1e-2, embeddings=True)
    print(optimizer.coverage().summary())

    losses = []
    for _ in range(STEPS):
        starts = torch.randint(len(tokens) - LENGTH, (BATCH, 1))
        batch = tokens[starts + torch.arange(LENGTH)].long().to(device)  # [BATCH, LENGTH]
        optimizer.zero_grad()
        loss = model(batch, labels=batch).loss  # the model shifts the labels itself
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        losses.append(loss.item())
    print(f"loss: first {losses[0]:.3f}, last {losses[-1]:.3f}")


if __name__ == "__main__":
    main()

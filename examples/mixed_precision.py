"""Mixed precision with clipped gradients: autocast, a GradScaler, and AdaFisherW between them.

    python examples/mixed_precision.py

float16 on an accelerator and on the CPU alike. Clipping needs the gradients without the scale of
the loss, hence ``unscale_``. After that the scaler hands the scale to nobody, and the curvature,
which grows with its square, has to be told: ``loss_scale=scaler``. Without ``unscale_`` leave it
out. With bfloat16 leave out the scaler altogether.
"""

import torch
from torch import nn
from torch.nn import functional as F

from adafisher import AdaFisherW

STEPS, BATCH, CLASSES = 40, 64, 4


def main() -> None:
    """Train a small network on points around four centres."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    centres = 2 * torch.randn(CLASSES, 16, device=device)

    model = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, CLASSES))
    model.to(device)
    scaler = torch.amp.GradScaler(device)
    optimizer = AdaFisherW(model, lr=1e-3, weight_decay=1e-2, loss_scale=scaler)

    losses, skipped = [], 0
    for _ in range(STEPS):
        labels = torch.randint(CLASSES, (BATCH,), device=device)
        inputs = centres[labels] + torch.randn(BATCH, 16, device=device)
        with torch.autocast(device, dtype=torch.float16):
            loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        scale = scaler.get_scale()
        scaler.step(optimizer)  # leaves out a step whose gradients overflowed
        scaler.update()
        skipped += scaler.get_scale() < scale
        losses.append(loss.item())
    print(f"loss: first {losses[0]:.3f}, last {losses[-1]:.3f}")
    print(f"steps left out: {skipped} of {STEPS}, loss scale at the end: {scaler.get_scale():g}")


if __name__ == "__main__":
    main()

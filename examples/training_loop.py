"""A training loop of one's own: AdaFisherW with a schedule, on the digits of scikit-learn.

    python examples/training_loop.py

The optimizer takes the model, not its parameters, as it reads the inputs of the layers. All else
is as with any optimizer of torch: the loop, the schedule, ``zero_grad``, ``state_dict``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from adafisher import AdaFisherW

EPOCHS, BATCH = 10, 64


def main() -> None:
    """Train on 1,437 digits in ten epochs, and test on the other 360."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # [n, 1, 8, 8]
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    test, train = order[:360], order[360:]

    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 4 * 4, 10)),
    )
    optimizer = AdaFisherW(model, lr=1e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    print(optimizer.coverage().summary())

    losses = []
    for _ in range(EPOCHS):
        for rows in train[torch.randperm(len(train))].split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    print(f"loss: first {losses[0]:.3f}, last {losses[-1]:.3f}")

    model.eval()
    with torch.no_grad():
        correct = (model(images[test]).argmax(dim=1) == labels[test]).float().mean()
    print(f"test accuracy: {100 * correct:.1f} %")


if __name__ == "__main__":
    main()

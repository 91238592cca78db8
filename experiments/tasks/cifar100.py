"""CIFAR-100 (Krizhevsky, 2009) from the official files, by torchvision; official test split."""

from torchvision.datasets import CIFAR100

from experiments.tasks.cifar import OfficialTask
from experiments.tasks.images import Normalization

TASK = OfficialTask(
    "cifar100",
    CIFAR100,
    title="CIFAR-100: 60,000 colour images 32x32, 100 classes",
    size="169 MB to fetch, 186 MB unpacked",
    num_classes=100,
    # Grey levels, of 255.
    normalization=Normalization(
        (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)
    ),
)
SOURCE, build, check = TASK.source, TASK.build, TASK.check

"""CIFAR-10 (Krizhevsky, 2009) from the official files, through torchvision; official test split."""

from torchvision.datasets import CIFAR10

from experiments.tasks.cifar import OfficialTask
from experiments.tasks.images import Normalization

TASK = OfficialTask(
    "cifar10",
    CIFAR10,
    title="CIFAR-10: 60,000 colour images 32x32, 10 classes",
    size="170 MB to fetch, 186 MB unpacked",
    num_classes=10,
    normalization=Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
)
SOURCE, build, check = TASK.source, TASK.build, TASK.check

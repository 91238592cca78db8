#!/bin/sh
# Prodigy of pytorch-optimizer 4.1.0 with two parameter groups of different rates.
#
# Torch gives each parameter group its own `lr`, and Prodigy of pytorch-optimizer takes such groups without a word; it reads the rate of
# the first group and steps all of them by it. A group with `lr=0.0`, the usual way to hold weights still, moves like the others. The
# authors' package, prodigyopt 1.1.2, raises a RuntimeError where rates differ, and holds a group with rate 0 still.
# Guess before it was run: the groups move in the ratio of their rates.
#
# Seen with pytorch-optimizer 4.1.0, prodigyopt 1.1.2 and torch 2.14.1 (Python 3.11): "moved at rates 1.0 and 0.0: pytorch-optimizer
# 9.98e-05 and 9.98e-05, prodigyopt 9.98e-05 and 0.00e+00; rates 1.0 and 0.1: pytorch-optimizer 9.98e-05 and 9.98e-05, prodigyopt
# RuntimeError"
#
# Usage: findings/pytorch_optimizer_prodigy_takes_one_rate_for_all_groups.sh   (installs all three in a temporary folder: some 5 GB)
#    or: PYTHON=/path/to/python findings/pytorch_optimizer_prodigy_takes_one_rate_for_all_groups.sh   (which has them)
# Exits 0 while it is so, 1 when it has changed. No network is used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet torch==2.14.1 pytorch-optimizer==4.1.0 prodigyopt==1.1.2
fi
case "$PYTHON" in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$folder"
"$PYTHON" - <<'PYTHON_CODE'
import importlib.metadata as metadata
import sys

import prodigyopt
import pytorch_optimizer
import torch


def moved(package, second_rate: float) -> str:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    rates = (1.0, second_rate)
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates)]
    try:
        optimizer = package.Prodigy(groups)
        for _ in range(5):
            optimizer.zero_grad()
            sum((w - 3).square().sum() for w in weights).backward()
            optimizer.step()
    except RuntimeError as error:
        return type(error).__name__
    return " and ".join(f"{(w - 1)[0].item():.2e}" for w in weights)


ours, theirs = (
    [moved(package, rate) for rate in (0.0, 0.1)] for package in (pytorch_optimizer, prodigyopt)
)
names = ("pytorch-optimizer", "prodigyopt", "torch")
print(", ".join(f"{name} {metadata.version(name)}" for name in names))
print(
    f"moved at rates 1.0 and 0.0: pytorch-optimizer {ours[0]}, prodigyopt {theirs[0]}; "
    f"rates 1.0 and 0.1: pytorch-optimizer {ours[1]}, prodigyopt {theirs[1]}"
)
first, still = ours[0].split(" and ")
is_so = first == still and ours[1] == ours[0] and theirs[0].endswith(" 0.00e+00")
sys.exit(0 if is_so and theirs[1] == "RuntimeError" else 1)
PYTHON_CODE

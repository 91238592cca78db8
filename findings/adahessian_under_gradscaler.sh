#!/bin/sh
# AdaHessian of pytorch-optimizer 4.1.0 under torch's GradScaler, used as torch's documentation says.
#
# GradScaler.unscale_ divides the gradients in place, but not the graph that they were made by. AdaHessian differentiates
# them once more, so its Hessian-vector product stays multiplied by the loss scale: a step is about scale times too small, and its
# size depends on the scaler's history. Nothing warns. Guess before it was run: a step under the
# scaler equals one without, as it does for Adam and SGD, since unscaled gradients are what the method is given.
#
# Seen with torch 2.14.1 and pytorch-optimizer 4.1.0 (Python 3.11, CPU): "first step: 0.135 without, 2.05e-06 with a scale of
# 65536: ratio 65673; adam: ratio 1.000"
#
# Usage: findings/adahessian_under_gradscaler.sh   (installs both in a temporary folder)
#    or: PYTHON=/path/to/python findings/adahessian_under_gradscaler.sh   (which has both)
# Exits 0 while it is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet torch==2.14.1 pytorch-optimizer==4.1.0
fi
cd "$folder"
"$PYTHON" - <<'PYTHON_CODE'
import sys
from importlib.metadata import version

import torch
from pytorch_optimizer import AdaHessian

SCALE = 65536.0


def step_norm(make, scaled):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    inputs, targets = torch.randn(32, 6), torch.randn(32, 1)
    before = [param.detach().clone() for param in model.parameters()]
    optimizer = make(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, enabled=scaled)
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    scaler.scale(loss).backward(create_graph=True)
    scaler.step(optimizer)  # unscales the gradients first
    scaler.update()
    moved = [param.detach() - old for param, old in zip(model.parameters(), before)]
    return torch.cat([part.flatten() for part in moved]).norm().item()


def adahessian(params):
    return AdaHessian(params, lr=0.1)


def adam(params):
    return torch.optim.Adam(params, lr=0.1)


plain, scaled = step_norm(adahessian, False), step_norm(adahessian, True)
ratio = step_norm(adam, False) / step_norm(adam, True)
print(f"torch {version('torch')}, pytorch-optimizer {version('pytorch-optimizer')}")
print(
    f"first step: {plain:.3g} without, {scaled:.3g} with a scale of {SCALE:.0f}: "
    f"ratio {plain / scaled:.0f}; adam: ratio {ratio:.3f}"
)
sys.exit(0 if plain / scaled > 100 and abs(ratio - 1) < 0.01 else 1)
PYTHON_CODE

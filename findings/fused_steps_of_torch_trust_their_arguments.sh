#!/bin/sh
# torch.optim.SGD(fused=True) and AdamW(fused=True) of torch 2.14.1 on the CPU, where the plain form is right.
#
# 1. A gradient of another memory layout than its parameter's: the kernel goes through raw memory, so that the step is that of another
#    gradient. Nothing warns.
# 2. SGD, a parameter whose first gradient comes after those of others: a TypeError, as it has no momentum yet.
# 3. SGD, a first step that GradScaler skips: the momentum is then whatever lay in memory.
# Guesses before it was run: 1. as it is, 2. as it is, 3. that it starts from the first gradient that is stepped on, as in the plain form.
#
# Seen with torch 2.14.1 (Python 3.11, CPU): "1. wrong by 0.9 (SGD), 2.0 of a rate of 1 (AdamW); 2.
# TypeError; 3. momentum nan"
#
# Usage: findings/fused_steps_of_torch_trust_their_arguments.sh   (installs torch in a temporary folder)
#    or: PYTHON=/path/to/python findings/fused_steps_of_torch_trust_their_arguments.sh   (which has it)
# Exits 0 while it is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet torch==2.14.1
fi
cd "$folder"
"$PYTHON" - <<'PYTHON_CODE'
import sys
from importlib.metadata import version

import torch
from torch import nn
from torch.optim import SGD, AdamW


def stepped(make, **form):
    """A square matrix after one step on a gradient that lies in memory as its transpose."""
    param = nn.Parameter(torch.zeros(3, 3))
    param.grad = (torch.arange(9.0) - 4.0).reshape(3, 3).t()
    make([param], lr=1.0, weight_decay=0.0, **form).step()
    return param.detach()


plain, fused = (stepped(SGD, **form) for form in ({"foreach": False}, {"fused": True}))
adamw = [stepped(AdamW, **form) for form in ({"foreach": False}, {"fused": True})]
wrong = ((fused - plain).norm() / plain.norm()).item()
wrong_adamw = (adamw[1] - adamw[0]).abs().max().item()

first, late = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
optimizer = SGD([first, late], lr=1.0, momentum=0.9, fused=True)
first.grad = torch.ones(2)
optimizer.step()
late.grad = torch.ones(2)
try:
    optimizer.step()
    raised = "nothing"
except TypeError:
    raised = "TypeError"

torch.use_deterministic_algorithms(True)  # what nobody has written to is nan
param = nn.Parameter(torch.ones(2))
optimizer = SGD([param], lr=1.0, momentum=0.9, fused=True)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
scaler.scale((param * torch.inf).sum()).backward()
scaler.step(optimizer)
momentum = optimizer.state[param]["momentum_buffer"][0].item()

print(f"torch {version('torch')}")
print(
    f"1. wrong by {wrong:.1f} (SGD), {wrong_adamw:.1f} of a rate of 1 (AdamW); 2. {raised}; "
    f"3. momentum {momentum}"
)
if not (wrong > 0.1 and wrong_adamw > 0.1 and raised == "TypeError" and momentum != momentum):
    sys.exit(1)
PYTHON_CODE

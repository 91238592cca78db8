#!/bin/sh
# Muon of torch 2.14.1 and of pytorch-optimizer 4.1.0 on float64 weights.
#
# Both round the momentum to bfloat16 before the Newton-Schulz iteration, whatever the weights are, and iterate in it. So the step of
# float64 weights is a matrix of eight-bit numbers, 1.6 % off what the same five iterations give in float64. An entry that another order
# of summation puts on the other side of a rounding sets all later steps apart: of NorMuon of pytorch-optimizer, which has the same
# iteration, twelve steps in float32 and in float64 stayed within 1e-4 of each other on one processor and were 1.5e-2 apart on another.
# A test in double precision sees per cents, not rounding. Neither library has an argument for it.
# Guess before it was run: in float64 the step agrees with the iteration in float64 to about 1e-12.
#
# Seen with torch 2.14.1 and pytorch-optimizer 4.1.0 (Python 3.11): "torch: float64 step is bfloat16 to the bit: True, off by 0.0156;
# pytorch-optimizer: float64 step is bfloat16 to the bit: True, off by 0.0156"
#
# Usage: findings/muon_steps_float64_weights_to_eight_bits.sh   (installs both in a temporary folder: some 5 GB)
#    or: PYTHON=/path/to/python findings/muon_steps_float64_weights_to_eight_bits.sh   (which has them)
# Exits 0 while it is so, 1 when it has changed. No network is used but for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet torch==2.14.1 pytorch-optimizer==4.1.0
fi
case "$PYTHON" in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$folder"
"$PYTHON" - <<'PYTHON_CODE'
import importlib.metadata as metadata
import sys

import pytorch_optimizer
import torch

gradient = torch.randn(
    32, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)


def step_of(make) -> torch.Tensor:
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    optimizer = make(weight)
    weight.grad = gradient.clone()
    optimizer.step()
    return -weight.detach()


def in_float64() -> torch.Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315  # of both libraries
    x = gradient / gradient.norm()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


steps = {
    "torch": step_of(lambda weight: torch.optim.Muon([weight], lr=1.0, weight_decay=0.0)),
    "pytorch-optimizer": step_of(
        lambda weight: pytorch_optimizer.Muon(
            [{"params": [weight], "use_muon": True}], lr=1.0, weight_decay=0.0
        )
    ),
}
wanted, seen, is_so = in_float64(), [], True
for name, step in steps.items():
    to_the_bit = torch.equal(step.to(torch.bfloat16).double(), step)
    scale = (step * wanted).sum() / wanted.square().sum()  # each library has a scale of its own
    off = float((step - scale * wanted).norm() / step.norm())
    seen.append(f"{name}: float64 step is bfloat16 to the bit: {to_the_bit}, off by {off:.4f}")
    is_so = is_so and step.dtype is torch.float64 and to_the_bit and 1e-3 < off < 0.1
print(", ".join(f"{name} {metadata.version(name)}" for name in steps))
print("; ".join(seen))
sys.exit(0 if is_so else 1)
PYTHON_CODE

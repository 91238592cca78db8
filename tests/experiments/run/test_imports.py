"""What a run loads before it trains: each of these modules takes a second or more."""

import subprocess
import sys

import pytest

SLOW = {"torch._dynamo", "torch._inductor", "sympy", "torchvision", "timm", "pandas", "sklearn"}
SLOW |= {"scipy", "matplotlib", "wandb", "pytorch_optimizer", "ray", "joblib"}


@pytest.mark.parametrize(
    "loaded",
    [
        "experiments.run.run",
        "experiments.sweep.child",
        "experiments.tasks.digits",
        "experiments.models.small_cnn",
        "experiments.tracking.wandb",
        "adafisher",
    ],
)
def test_nothing_slow_is_loaded_that_a_run_may_not_need(loaded):
    program = f"import sys, {loaded}; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert SLOW & set(told.stdout.split()) == set()

"""Show that a refactoring changed no number: ``python tests/same_numbers.py [COMMIT]``.

Trains a fixed list of short runs with the code of ``COMMIT`` (default: ``HEAD``) and with the
working tree, on this machine, and compares every measurement but those of a clock, bit for bit.
Exits 1 where one differs, and names the first of each run.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS = (
    "optimizer=adafisher task=digits",
    "optimizer=adafisher_v3 task=digits budget.steps=12 optimizer.weight_decay=0.01 loss_scale=2",
    "optimizer=adafisher_released task=generated_images optimizer.update_interval=5",
    "optimizer=adafisherw task=generated_text precision=bf16",
    "optimizer=adam task=digits control=scalar",
    "optimizer=adamw task=generated_text schedule=cosine ruleset=tuned untuned=default",
    "optimizer=sgd task=generated_images channels_last=true deterministic=true",
    "optimizer=kfac task=digits",
    "optimizer=ekfac task=generated_text",
    "optimizer=shampoo task=digits optimizer.interval=3",
    "optimizer=adahessian task=generated_text",
    "optimizer=muon task=digits ruleset=paper model=small_cnn",
)
COMMON = ("seed=3", "budget=steps", "budget.steps=20", "threads=1", "tracking=none")
AT_ONCE = 2
CLOCKS = ("seconds", "_per_second", "memory_bytes")  # endings of what a clock or a process decides


def main() -> int:
    """Compare; returns the exit code."""
    commit = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        _git("worktree", "add", "--quiet", "--detach", str(before), commit)
        try:
            jobs = [
                (tree, run, Path(folder) / f"{number}-{name}")
                for number, run in enumerate(RUNS)
                for name, tree in (("before", before), ("now", ROOT))
            ]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                rows = list(pool.map(lambda job: _rows(*job), jobs))
        finally:
            _git("worktree", "remove", "--force", str(before))
    values = 0
    differing = 0
    for run, old, new in zip(RUNS, rows[::2], rows[1::2], strict=True):
        values += sum(map(len, old))
        difference = _first_difference(old, new)
        differing += bool(difference)
        print(f"{'DIFFERS' if difference else 'equal'}: {run}{difference and f': {difference}'}")
    print(f"{len(RUNS)} runs, {values} values, {differing} of the runs differ from {commit}")
    return 1 if differing or not values else 0


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _rows(tree: Path, run: str, runs_dir: Path) -> list[dict[str, Any]]:
    """Train a run with the code of a tree; returns its measurements."""
    words = [*COMMON, *run.split(), f"runs_dir={runs_dir}"]
    # The working directory goes first on the path: the packages of the tree, whatever is installed.
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *words],
        cwd=tree,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {run}: exit {done.returncode} in {tree}\n{done.stderr[-2000:]}")
    (metrics,) = runs_dir.glob("*/metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    return [{key: row[key] for key in row if not key.endswith(CLOCKS)} for row in rows]


def _first_difference(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    for one, other in zip(old, new, strict=False):
        for key in {**one, **other}:
            if one.get(key) != other.get(key):
                return f"step {one.get('step')}, {key}: {one.get(key)!r}, now {other.get(key)!r}"
    return "" if len(old) == len(new) else f"{len(old)} rows, now {len(new)}"


if __name__ == "__main__":
    sys.exit(main())

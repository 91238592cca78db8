"""Do 10,000 runs of 200 epochs load and aggregate in bounds? ``python -m analysis.report.bench``.

Makes such records in a temporary folder, reads them without and with the cache, each in a process
of its own, and prints one line. Exits 0 only within both bounds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from analysis.report.options import OneLineParser
from experiments.records.schema import SCHEMA
from experiments.system.memory import Peak

SECONDS, GIGABYTES = 20.0, 2.0
OPTIMIZERS, TASKS = 10, 20
_CHILD = "--measure"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(Path(options.measure))))
        return 0
    for name in ("runs", "epochs"):
        if getattr(options, name) < 1:
            value = getattr(options, name)
            print(f"error: Invalid --{name}: {value}. Must be >= 1.", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), runs=options.runs, epochs=options.epochs)
        found = [_in_child(folder) for _ in ("without the cache", "with it")]
    (cold, peak), (warm, warm_peak) = found
    within = max(cold, warm) < SECONDS and max(peak, warm_peak) < GIGABYTES
    print(
        f"{options.runs:,} runs of {options.epochs} epochs loaded and aggregated in {cold:.1f} s, "
        f"from the cache in {warm:.1f} s, peak memory {max(peak, warm_peak):.2f} GB; bounds "
        f"{SECONDS:g} s and {GIGABYTES:g} GB: {'within' if within else 'exceeded'}"
    )
    return 0 if within else 1


def measure(runs_dir: Path) -> tuple[float, float]:
    """Load and aggregate every table and every averaged curve of ``runs_dir``.

    Returns:
        Seconds of wall time, and the gigabytes of memory that this adds to the process at most.
    """
    from analysis.results.load import load_results
    from analysis.statistics.summary import curve
    from analysis.tables import results as table

    peak = Peak()
    began = time.perf_counter()
    results = load_results(runs_dir)
    table.build(results)
    for _, group in results.groups.iterrows():
        for metric in ("train_loss", f"test_{group['metric']}"):
            curve(results.series(str(group["run_ids"]).split(), metric, "epoch"))
    seconds = time.perf_counter() - began
    return seconds, peak.added_bytes() / 1e9


def make_runs(folder: Path, *, runs: int, epochs: int) -> None:
    """Write made-up records: methods by tasks by seeds, as a sweep leaves them."""
    generator = random.Random(0)
    rows = "".join(json.dumps(_row(epoch, generator)) + "\n" for epoch in range(1, epochs + 1))
    for number in range(runs):
        seed, cell = divmod(number, OPTIMIZERS * TASKS)
        task, optimizer = divmod(cell, OPTIMIZERS)
        identity = {
            "task": f"task{task}",
            "model": "model",
            "setting": "scratch",
            "optimizer": f"method{optimizer}",
            "ruleset": "tuned",
            "budget": f"{epochs} epochs",
            "seed": seed,
            "group_id": f"{task}-{optimizer}",
            "metric": "accuracy_percent",
            "higher_is_better": True,
            "hyperparameters": {"lr": 0.1, "beta": 0.9, "weight_decay": 0.0},
            "protocol": {"task": {"name": f"task{task}"}, "budget": {"epochs": epochs}},
        }
        run = folder / f"{number:012x}"
        run.mkdir()
        status = {"schema": SCHEMA, "run_id": run.name, "status": "done", "identity": identity}
        (run / "status.json").write_text(json.dumps(status))
        (run / "metrics.jsonl").write_text(rows)


def _row(epoch: int, generator: random.Random) -> dict[str, float]:
    names = ["train_seconds", "lr", "train_loss", "validation_loss", "test_loss"]
    names += ["validation_accuracy_percent", "test_accuracy_percent"]
    names += [f"curvature_{name}" for name in ("low", "median", "high")]
    return {"step": epoch, "epoch": float(epoch)} | {name: generator.random() for name in names}


def _in_child(folder: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "analysis.report.bench", _CHILD, folder]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    seconds, gigabytes = json.loads(result.stdout)
    return seconds, gigabytes


def _parser() -> OneLineParser:
    line = (__doc__ or "").splitlines()[0]
    parser = OneLineParser(prog="python -m analysis.report.bench", description=line)
    parser.add_argument("--runs", type=int, default=10_000, help="[10000]")
    parser.add_argument("--epochs", type=int, default=200, help="of each run [200]")
    parser.add_argument(_CHILD, metavar="FOLDER", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

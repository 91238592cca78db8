"""The trials of a study as runs: one Hydra sweep over points and seeds, and what it left."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from experiments.config import compose, named
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import BrokenRecordError, Run, is_to_run
from experiments.records.store import RunFolder
from experiments.tuning.space import Point
from experiments.tuning.trial_scores import Trial, of_runs

GROUP = "point"


class TrialSweep:
    """Evaluates points by training them, all that are asked for in one sweep."""

    def __init__(
        self,
        config: RunConfig,
        overrides: Sequence[str],
        seeds: Sequence[int],
        *,
        about: Any,
        judge: Callable[[Point, Sequence[Run | None]], Trial] = of_runs,
    ) -> None:
        """Name the study.

        Args:
            config: The resolved config that all trials share.
            overrides: As typed, with Hydra's own.
            seeds: Seeds of each trial.
            about: What else makes one study differ from another; it must go into JSON.
            judge: Makes a trial of its runs.
        """
        self.config, self.overrides, self.seeds = config, overrides, seeds
        self.judge = judge
        essence = json.dumps([config.group_id, list(seeds), about])
        digest = hashlib.sha256(essence.encode()).hexdigest()[:8]
        name = f"{config.task.name}-{config.optimizer.name}-{digest}"
        self.folder = config.runs_dir / name

    def evaluate(self, points: Sequence[Point], rung: str = "") -> list[Trial]:
        """Train every point with every seed, unless it is done, and read the trials off the runs.

        Args:
            points: Hyperparameters, by their names below ``optimizer``.
            rung: Override of the budget; empty for the whole one.

        Raises:
            UserError: If the sweep refuses its input, or was killed.
            KeyboardInterrupt: If it was interrupted.
        """
        config = self._config(rung)
        if self._is_to_run(config, points):
            self._train(points, rung)
        return [
            self.judge(point, [self._read(config, point, seed) for seed in self.seeds])
            for point in points
        ]

    def _train(self, points: Sequence[Point], rung: str) -> None:
        names = [self._write(point) for point in points]
        # One choice of a config group a trial: a sweep over several keys would be their product.
        sweep = [
            *named.spelled(self.overrides),
            *([rung] if rung else []),
            f'hydra.searchpath=["file://{self.folder}"]',
            f"+{GROUP}={','.join(dict.fromkeys(names))}",
            f"seed={','.join(map(str, self.seeds))}",
            f'runs_dir="{self.config.runs_dir}"',
        ]
        train(sweep, f"The trials of {self.config.label.rpartition(' seed ')[0]}")

    def _is_to_run(self, config: RunConfig, points: Sequence[Point]) -> bool:
        """Tell whether any run is not over: a sweep that has nothing to do takes seconds too."""
        found = (self._read(config, point, seed) for point in points for seed in self.seeds)
        return any(run is None or is_to_run(run.status, retry=config.retry) for run in found)

    def _write(self, point: Point) -> str:
        content = "# @package _global_\n" + yaml.safe_dump({"optimizer": dict(point)})
        name = f"p{hashlib.sha256(content.encode()).hexdigest()[:10]}"
        path = self.folder / GROUP / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return name

    def _config(self, rung: str) -> RunConfig:
        if not rung:
            return self.config
        single = [item for item in self.overrides if not item.startswith("hydra")]
        typed = [item for item in single if item.partition("=")[0] != rung.partition("=")[0]]
        return compose.composed([*typed, rung]).having(runs_dir=str(self.config.runs_dir))

    def _read(self, config: RunConfig, point: Point, seed: int) -> Run | None:
        trial = config.having(seed=seed, optimizer=config.optimizer.having(**point).values)
        try:
            return RunFolder(config.runs_dir, trial.run_id).read()
        except BrokenRecordError:
            return None


def train(overrides: Sequence[str], what: str) -> None:
    """Run a sweep, whatever becomes of its runs.

    Args:
        overrides: Those of the sweep.
        what: Its runs, in words.

    Raises:
        UserError: If the sweep refuses its input, or was killed.
        KeyboardInterrupt: If it was interrupted.
    """
    code = _run([sys.executable, "-m", "experiments.train", "--multirun", *overrides])
    if code == 130:
        raise KeyboardInterrupt
    if code == 2:
        raise UserError(f"{what} cannot run; the line above says why.")
    if code not in (0, 1):
        raise UserError(f"{what} ended with code {code}. The same command goes on.")


def _run(command: Sequence[str]) -> int:
    """Run a sweep; Ctrl-C reaches all its processes once, and it has the time to save."""
    with subprocess.Popen(command, process_group=0) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            child.wait()
            raise

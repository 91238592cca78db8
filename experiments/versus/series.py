"""The runs of one frozen configuration, seed by seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config import commandline, compose, named
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import (
    FINAL_STATUSES,
    BrokenRecordError,
    NewerRecordError,
    Run,
)
from experiments.records.store import RunFolder
from experiments.tuning.trial_sweep import train

GROUP = "frozen"


class Series:
    """Trains a method with the hyperparameters that were chosen for it."""

    def __init__(
        self, optimizer: str, task: str, overrides: Sequence[str], frozen: Any, folder: Path
    ) -> None:
        """Name the runs.

        Args:
            optimizer: As it is typed.
            task: Likewise.
            overrides: Further ones, of all runs.
            frozen: ``hyperparameters``, and the ``effort`` behind them.
            folder: Where the choice is kept, as a config group.
        """
        self.overrides = commandline.normalise(
            [
                "tracking=none",  # unless somebody asks for it
                *overrides,
                *("ruleset=default", "fail_fast=false", "evaluate_test=true"),
                *(f"optimizer={optimizer}", f"task={task}"),
            ]
        )
        plain = compose.composed(self.overrides)
        chosen = plain.optimizer.having(**frozen["hyperparameters"])
        self.config: RunConfig = plain.having(optimizer=chosen.values)
        self.folder = folder
        content = {"optimizer": frozen["hyperparameters"], "tuning": frozen["effort"]}
        (folder / GROUP).mkdir(parents=True, exist_ok=True)
        text = "# @package _global_\n" + yaml.safe_dump(content, sort_keys=False)
        (folder / GROUP / "choice.yaml").write_text(text, encoding="utf-8")

    def ids(self, seeds: Sequence[int]) -> list[str]:
        """Give the id of the run of each seed."""
        return [self.config.having(seed=seed).run_id for seed in seeds]

    def train(self, seeds: Sequence[int]) -> list[str]:
        """Train what is not over.

        Args:
            seeds: Of the runs.

        Returns:
            The ids of the runs, in this order.

        Raises:
            UserError: If a run is left without a result.
            KeyboardInterrupt: If it was interrupted.
        """
        ids = self.ids(seeds)
        what = self.config.label.rpartition(" seed ")[0]
        left = [seed for seed, one in zip(seeds, ids, strict=True) if not self._is_over(one)]
        if left:
            words = [
                *named.spelled(self.overrides),
                f'hydra.searchpath=["file://{self.folder}"]',
                f"+{GROUP}=choice",
                f"seed={','.join(map(str, left))}",
                f'runs_dir="{self.config.runs_dir}"',
            ]
            train(words, f"The runs of {what}")
        failed = [one for one in ids if not self._is_over(one)]
        if failed:
            raise UserError(
                f"{len(failed)} of {len(ids)} runs of {what} ended without a result (run "
                f"{failed[0]}); nothing is decided by the others. With retry=true they run again."
            )
        return ids

    def _is_over(self, run_id: str) -> bool:
        run = self._read(run_id)
        return run is not None and run.status in FINAL_STATUSES

    def _read(self, run_id: str) -> Run | None:
        try:
            return RunFolder(self.config.runs_dir, run_id).read()
        except NewerRecordError:
            raise
        except BrokenRecordError:
            return None

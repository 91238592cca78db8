"""The command line: ``python -m experiments VERB key=value ...``.

A verb is a module with ``main``, which takes the words behind the verb and gives the exit code.
"""

import importlib
from collections.abc import Sequence

from experiments.config import arguments
from experiments.config.nearest import nearest
from experiments.errors import UserError
from experiments.system.output import say

VERBS = {
    "archive": "experiments.replay.archiving",
    "bench": "experiments.bench.bench",
    "bench_sweep": "experiments.bench.sweeps",
    "calibration": "experiments.timing.calibration",
    "data": "experiments.tasks.fetch",
    "golden": "experiments.replay.golden",
    "migrate": "experiments.replay.migrate",
    "plan": "experiments.sweep.plan",
    "publish": "experiments.tracking.publish",
    "recipes": "experiments.config.recipes",
    "replay": "experiments.replay.compare",
    "status": "experiments.sweep.status",
    "steps": "experiments.timing.listed_steps",
    "study": "experiments.studies.study",
    "train": "experiments.train",
    "tune": "experiments.tuning.tune",
    "versus": "experiments.versus.versus",
    "wandb_sync": "experiments.tracking.sync",
}

_HELP = {"-h", "--help"}


def main(words: Sequence[str]) -> int:
    """Run a command.

    Args:
        words: The verb, and what its module takes.

    Returns:
        The exit code.

    Raises:
        UserError: If there is no such verb, or it refuses what it was given.
    """
    if not words:
        raise UserError(f"Missing command. Must be one of: {', '.join(VERBS)}.")
    verb, *rest = words
    if verb in _HELP:
        say("python -m experiments VERB key=value ...; VERB --help tells of one of these:", *VERBS)
        return 0
    if verb not in VERBS:
        raise UserError(f"Unknown command: {verb!r}. {nearest(verb, VERBS)}")
    module = importlib.import_module(VERBS[verb])
    if verb != "train" and not _HELP.isdisjoint(rest):  # that one composes, and shows its config
        say(*str(module.__doc__).splitlines())
        return 0
    code: int = module.main(rest)
    return code


if __name__ == "__main__":
    arguments.command(main)

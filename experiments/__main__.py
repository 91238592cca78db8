"""Every command of the suite but the training: ``python -m experiments VERB [key=value ...]``."""

import runpy
import sys

VERBS = {
    "calibration": "experiments.timing.calibration",
    "data": "experiments.tasks.fetch",
    "golden": "experiments.replay.golden",
    "migrate": "experiments.replay.migrate",
    "plan": "experiments.sweep.plan",
    "publish": "experiments.tracking.publish",
    "recipes": "experiments.config.recipes",
    "replay": "experiments.replay.compare",
    "status": "experiments.sweep.status",
    "study": "experiments.studies.study",
    "train": "experiments.train",
    "tune": "experiments.tuning.tune",
    "wandb_sync": "experiments.tracking.sync",
}


def main() -> None:
    """Run the command's module as Python would, with the arguments that are left."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS:
        known = ", ".join(VERBS)
        print(f"error: Unknown command: {verb!r}. Must be one of: {known}.", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(VERBS[verb], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

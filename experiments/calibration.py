"""What a step of each method costs on this machine, for a budget that gives all the same time.

The methods of a setting are measured together, interleaved, in a process of their own, and the
result is kept under ``<runs_dir>/.calibration/``, one file for each method and reference: a rerun
or another seed reads it. A run keeps a copy in its folder and goes by that one for ever.

`python -m experiments.calibration runs_dir=runs` checks finished runs: the time that each was
given, and the time that it took.
"""

import functools
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from experiments import arguments, budget, commandline, identity, processes
from experiments.calibration_record import Calibration, read
from experiments.errors import UserError, report_user_errors
from experiments.sharing import side_by_side, threads_of
from experiments.store import RunFolder

CACHE_DIR = ".calibration"
RUN_FILE = "calibration.json"
REFERENCE = "adafisher"
"""What a method is measured against where its budget names nothing."""

Config = Mapping[str, Any]
_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Not `control`: it takes the steps of the method that it controls, or the two would not pair.
_SETTING = ("tokenization", "model", "precision", "compile", "channels_last")
# What leaves the cost of a step as it is.
_FREE = ("epochs", "eval_batch_size", "evaluations_per_epoch", "lr", "seed", *identity.NOTES)


def known(config: Config, runs_dir: Path) -> Calibration | None:
    """What was measured for a config, with any budget, on a machine like this; None if nothing was.

    Args:
        config: The resolved config; ``threads`` null stands for all cores.
        runs_dir: Where the runs and the cache are.
    """
    reference = reference_section(config)
    return read(runs_dir / CACHE_DIR / f"{key(config, reference, machine(config))}.json")


def measure(configs: Sequence[Config], runs_dir: Path) -> list[Calibration]:
    """Measure what is not known yet, all methods of a setting in one process.

    Args:
        configs: Resolved configs.
        runs_dir: Where the cache is.

    Returns:
        The calibration of each config.

    Raises:
        UserError: If a method could not be measured.
    """
    settings: dict[str, list[Config]] = {}
    for config in configs:
        if known(config, runs_dir) is not None:
            continue
        settings.setdefault(
            _digest([_essence(config), config["device"], threads_of(config, 1)]), []
        ).append(config)
    for alike in settings.values():
        _measure_setting(alike, runs_dir)
    found = [known(config, runs_dir) for config in configs]
    return [calibration for calibration in found if calibration is not None]


def prepare(grids: Sequence[Sequence[str]], firsts: Sequence[Config]) -> None:
    """Measure what the runs of a sweep need, before the first of them starts.

    Args:
        grids: The overrides of each grid of the sweep.
        firsts: The config of one job of each.

    Raises:
        UserError: If a method could not be measured.
    """
    typed = any("match_seconds" in item for grid in grids for item in grid)
    if not typed and not any(budget.reference(config["budget"]) for config in firsts):
        return
    # The seeds of a method cost the same, and composing takes its time.
    jobs = {
        tuple(item for item in job if not item.startswith("seed="))
        for grid in grids
        for job in commandline.jobs(list(grid))
    }
    configs = [config for config in _composed(sorted(jobs)) if budget.reference(config["budget"])]
    wanted: dict[str, list[Config]] = {}
    for config in configs:
        if not (
            RunFolder(Path(config["runs_dir"]), identity.run_id(config)).path / RUN_FILE
        ).exists():
            wanted.setdefault(config["runs_dir"], []).append(config)
    for runs_dir, alike in wanted.items():
        measure(alike, Path(runs_dir))


def of_run(config: Config, folder: RunFolder, notify: Callable[[str], None]) -> Calibration | None:
    """The calibration that a run goes by: its own, else the cache's, else it is measured.

    Args:
        config: The resolved config.
        folder: The run's folder, whose lock is held.
        notify: Receives one line if something has to be measured.

    Returns:
        None for a budget that matches no time.

    Raises:
        UserError: If it cannot be measured, or that of a run already begun cannot be read.
    """
    if budget.reference(config["budget"]) is None:
        return None
    path = folder.path / RUN_FILE
    if path.exists():
        own = read(path)
        if own is None:
            raise UserError(f"{path}: not readable. Delete {folder.path} to start the run anew.")
        return own
    if config["threads"] is None:
        import torch

        config = {**config, "threads": torch.get_num_threads()}
    found = known(config, folder.runs_dir)
    if found is None:
        notify("measuring the seconds of a step")
        (found,) = measure([config], folder.runs_dir)
    return found


def check(config: Config) -> None:
    """Refuse a budget that no calibration can serve.

    Raises:
        UserError: If the reference is unknown, or a run has several processes.
    """
    if budget.reference(config["budget"]) is None:
        return
    reference_section(config)
    if processes.count() > 1 or config["processes"] > 1:
        raise UserError("budget=match_seconds: not with several processes; one is measured.")


def setting(config: Config) -> dict[str, Any]:
    """What a record tells of the setting that was measured."""
    return {
        "task": config["task"]["name"],
        "model": config["model"]["name"],
        "batch_size": config["task"]["batch_size"],
        "precision": config["precision"],
        "hyperparameters": identity.hyperparameters(config["optimizer"]),
    }


def machine(config: Config) -> dict[str, Any]:
    """The facts of this machine that decide how long a step takes."""
    import torch  # a sweep's parent, which measures in another process, can do without

    from experiments import environment, execution

    device = execution.pick_device(config["device"])
    facts = environment.machine(device)
    return {
        "device": facts["device"],
        "processor": _processor(),
        "cpu_count": facts["cpu_count"],
        "threads": threads_of(config, 1),
        "torch": torch.__version__,
    }


def key(config: Config, reference: Config, facts: Config) -> str:
    """Name of a cached calibration: a hash of setting, method, reference and machine.

    Args:
        config: The resolved config.
        reference: The optimizer's section of the reference.
        facts: ``machine(config)``.
    """
    sections = (_costly(config["optimizer"]), _costly(reference))
    return _digest([_essence(config), *sections, facts])


def reference_section(config: Config) -> dict[str, Any]:
    """The optimizer's section of the method that a config is measured against.

    Raises:
        UserError: If there is no such method.
    """
    name = budget.reference(config["budget"]) or REFERENCE
    if name not in commandline.choices("optimizer"):
        known_names = ", ".join(commandline.choices("optimizer"))
        raise UserError(f"Invalid budget.match_seconds: {name!r}. Must be one of: {known_names}.")
    choices = (config["task"]["name"], config["model"]["name"], config["ruleset"], name)
    section: dict[str, Any] = json.loads(_composed_section(*choices))
    return section


@functools.cache
def _composed_section(task: str, model: str, ruleset: str, name: str) -> str:
    from experiments import preflight

    chosen = [f"task={task}", f"model={model}", f"ruleset={ruleset}", f"optimizer={name}"]
    if GlobalHydra.instance().is_initialized():  # by whoever composed the run itself
        return json.dumps(preflight.resolve(preflight.compose_job(chosen))["optimizer"])
    return json.dumps(preflight.composed(chosen)["optimizer"])


def _measure_setting(configs: Sequence[Config], runs_dir: Path) -> None:
    """Measure in a child process, which reads the cache first and waits for its turn."""
    count = threads_of(configs[0], 1)
    request = {
        "runs_dir": str(runs_dir),
        "jobs": [[{**config, "threads": count}, reference_section(config)] for config in configs],
    }
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    environment["OMP_NUM_THREADS"] = str(count)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    child = subprocess.run(
        [sys.executable, "-m", "experiments.calibration_child"],
        cwd=Path(__file__).parent.parent,
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        check=False,
    )
    if child.returncode:
        code = child.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        said = (child.stdout.splitlines() or [""])[-1]
        raise UserError(f"calibration: {said or f'its process {how}'}.")


def _composed(jobs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The resolved configs of jobs, with the threads that a sweep gives them."""
    from experiments import preflight

    configs = []
    with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
        for job in jobs:
            whole = preflight.compose_job(list(job), hydra=True)
            # By hand it may be given to the launcher alone.
            parallel = whole.hydra.launcher.get("n_jobs", whole.jobs)
            own = OmegaConf.masked_copy(whole, [str(name) for name in whole if name != "hydra"])
            config = preflight.resolve(own)
            configs.append({**config, "threads": threads_of(config, side_by_side(parallel))})
    return configs


def _essence(config: Config) -> dict[str, Any]:
    chosen = {name: config.get(name) for name in _SETTING}
    return {"task": _costly(config["task"]), **chosen}


def _costly(section: Config) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in _FREE}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _processor() -> str:
    """Name of the processor; ``platform`` has only its architecture on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    """Check the finished runs of a matched training time; returns the exit code."""
    from experiments import calibration_report

    with report_user_errors():
        runs_dir = arguments.parse(sys.argv[1:], {"runs_dir": "runs"})["runs_dir"]
        return calibration_report.main(Path(runs_dir).expanduser())


if __name__ == "__main__":
    sys.exit(main())

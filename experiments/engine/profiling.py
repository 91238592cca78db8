"""Where the time of a run's steps goes, by torch's profiler, into two files of its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.profiler import ProfilerActivity, profile

from experiments.engine.built import Built
from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer

TABLE_FILE, TRACE_FILE = "profile.txt", "profile.json.gz"
ROWS = 20

OnStep = Callable[["Trainer", float], None]


def watch(
    debug: Mapping[str, Any] | None,
    built: Built,
    *,
    folder: Path,
    on_step: OnStep,
    tell: Callable[[str], None],
) -> OnStep:
    """Give what the trainer is to call after each step: a profiler too where one is asked for.

    The first ``profile_steps`` steps warm up, and as many are profiled. The profiler is off
    afterwards, so the evaluation at the end of the run is not in it.

    Args:
        debug: The section of the config, with ``profile_steps``; None or a null there: no profiler.
        built: The run.
        folder: Where the table and the trace go.
        on_step: What is called after each step anyway.
        tell: Shows a text about the run.

    Raises:
        UserError: If ``profile_steps`` is no number of steps, or the run ends before them.
    """
    steps = None if debug is None else debug["profile_steps"]
    if steps is None:
        return on_step
    if type(steps) is not int or steps < 1:
        raise UserError(
            f"Invalid debug.profile_steps: {steps}. Must be a whole number >= 1, or null."
        )
    if built.total_steps is not None and built.total_steps <= 2 * steps:
        raise UserError(
            f"Invalid budget: {built.total_steps} steps. Must be more than {2 * steps}, twice "
            "debug.profile_steps: as many warm up, and the last step is followed by an evaluation."
        )
    activities = [ProfilerActivity.CPU]
    if built.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, record_shapes=True)

    def step_and_profile(trainer: "Trainer", loss: float) -> None:
        on_step(trainer, loss)
        if trainer.counters.step == steps:
            profiler.start()
        elif trainer.counters.step == 2 * steps:
            profiler.stop()
            if built.world.leads:
                tell(_store(profiler, folder, by_device=built.device.type == "cuda"))

    return step_and_profile


def _store(profiler: profile, folder: Path, *, by_device: bool) -> str:
    """Write the trace and the table; returns the table and where it lies."""
    order = "self_device_time_total" if by_device else "self_cpu_time_total"
    table = profiler.key_averages().table(
        sort_by=order, row_limit=ROWS, max_name_column_width=50, max_src_column_width=0
    )
    (folder / TABLE_FILE).write_text(table, encoding="utf-8")
    profiler.export_chrome_trace(str(folder / TRACE_FILE))
    return f"profile in {folder / TABLE_FILE}\n{table}"

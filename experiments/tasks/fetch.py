"""Data sets, shown and fetched: `python -m experiments data task=cifar10,mnist data_dir=data`."""

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from experiments.config import commandline
from experiments.errors import UserError, first_line, refusal, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.system.log import show_log

KEYS = ("task", "data_dir")


def main() -> None:
    """Provide every data set that was asked for; one that cannot be had does not stop the others.

    The exit code is 2 if one is not there in the end.
    """
    show_log()
    with report_user_errors():
        tasks, data_dir = _parse(sys.argv[1:])
        modules = {name: _module(name) for name in tasks}
    failed = False
    for name, module in modules.items():
        try:
            provide(name, module, data_dir)
        except (UserError, OSError) as error:
            line = refusal(error)
            if line is None:
                raise
            print(f"error: {name}: {line}", file=sys.stderr, flush=True)
            failed = True
    sys.exit(2 if failed else 0)


def provide(name: str, module: Any, data_dir: Path) -> None:
    """Say what the data set of a task is, then fetch it unless it is there and whole.

    Args:
        name: Name of the task.
        module: Its module, with ``SOURCE`` and ``check``.
        data_dir: The data folder.

    Raises:
        UserError: If it is not there and cannot be fetched.
    """
    from experiments.tasks.download import fetch

    source = module.SOURCE
    print(f"{name}: {source.title}")
    print(f"  size   {source.size}")
    print(f"  terms  {source.terms}")
    for remote in source.files:
        print(f"  from   {remote.url} ({remote.checksum})")
    if source.place:
        print(f"  to     {data_dir / source.place}", flush=True)
    try:
        module.check(data_dir)
    except UserError as error:
        if not source.files:
            raise UserError(f"{error} {source.manual}") from None
    else:
        print("  present and verified", flush=True)
        return
    fetch(source, data_dir, notify=lambda line: print(f"  {line}", flush=True))
    module.check(data_dir)
    print("  fetched and verified", flush=True)


def _parse(arguments: list[str]) -> tuple[list[str], Path]:
    """Names of the tasks and the data folder."""
    given: dict[str, Any] = {"data_dir": "data"}
    try:
        overrides = OverridesParser.create().parse_overrides(commandline.normalise(arguments))
    except HydraException as error:
        raise UserError(first_line(error)) from None
    for override in overrides:
        key = override.get_key_element()
        if key not in KEYS:
            raise UserError(f"Unknown key: {key!r}. Must be of: {', '.join(KEYS)}.")
        sweep = override.is_sweep_override()
        given[key] = list(override.sweep_string_iterator()) if sweep else override.value()
    names = given.get("task")
    if not names:
        raise UserError("Missing argument: task. Give it as task=<names>.")
    tasks = [str(name) for name in (names if isinstance(names, list) else [names])]
    return tasks, Path(str(given["data_dir"])).expanduser().absolute()


def _module(name: str) -> Any:
    known = commandline.choices("task")
    if name not in known:
        near = difflib.get_close_matches(name, known, cutoff=0.5)
        tail = f"Did you mean: {', '.join(near)}?" if near else f"Known: {', '.join(known)}."
        raise UserError(f"Unknown task: {name!r}. {tail}")
    section = yaml.safe_load((commandline.CONF / "task" / f"{name}.yaml").read_text("utf-8"))
    return importlib.import_module(section["_target_"].rpartition(".")[0])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODES["interrupted"])

"""One run of a sweep in its own process: `python -m experiments.sweep.child REQUEST`, a JSON file.

A sweep starts it so that the death of a run is a row in its record and nothing more. A run of
several processes starts them from here, through torchrun, and each of them comes here again. Before
the first run, one of these processes tries out the configs of all.
"""

import signal

if __name__ == "__main__":
    # Until the run listens to signals itself, Ctrl-C ends the process, without a traceback; from
    # before the imports, which take their time on a busy machine.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import json
import os
import sys
from pathlib import Path

from experiments.config.run_config import RunConfig
from experiments.errors import UserError, refusal, report_user_errors
from experiments.records.outcome import EXIT_CODES, Outcome
from experiments.records.schema import FAULTS
from experiments.records.store import write_atomic
from experiments.sweep import inspection
from experiments.sweep.shared_folder import ANSWER_SUFFIX
from experiments.system import exits, memory, output, ranks
from experiments.system.log import show_log


def main(path: Path, *, parent: int | None = None) -> int:
    """Execute the config that the file at ``path`` has; the outcome goes into a file beside it.

    If the file has configs to ``inspect``, these are tried out, and none is run.

    Args:
        path: The request.
        parent: The process with which this one ends; None: the one that the request names.
    """
    request = json.loads(path.read_text(encoding="utf-8"))
    is_inspection = "inspect" in request
    config = RunConfig.of(request["inspect"][0] if is_inspection else request["config"])
    several = config.processes > 1 and not is_inspection
    inside = several and "RANK" in os.environ
    exits.end_with_parent(os.getppid() if inside else parent or request["parent"])
    output.prepare()
    show_log()
    if is_inspection:
        return inspection.answer(path, request["inspect"])
    if several and not inside:
        return _torchrun(config.processes, path)
    memory.limit(config.memory_limit_gb)
    outcome, code = _execute(config, request["position"])
    if ranks.rank() == 0:
        write_atomic(path.with_suffix(ANSWER_SUFFIX), outcome.to_line().encode())
    # torchrun takes every code but 0 for a fault, and stops the others: right after a fault only.
    faulty = outcome.status in FAULTS
    return code if faulty or not inside else 0


def _execute(config: RunConfig, position: str) -> tuple[Outcome, int]:
    run_id, label = config.run_id, config.label
    try:
        from experiments.run import execute  # loads torch, which takes seconds

        outcome = execute(config, position=position)
        return outcome, EXIT_CODES[outcome.status]
    except (UserError, OSError) as error:
        line = refusal(error)
        if line is None:
            raise
        return Outcome(run_id, label, "failed", line), EXIT_CODES["refused"]
    except MemoryError as error:  # before the training, which has an end of its own for it
        reason = f"before the training: {error}".rstrip(": ")
        return Outcome(run_id, label, "out_of_memory", reason), EXIT_CODES["out_of_memory"]


def _torchrun(count: int, path: Path) -> int:
    """Run this module in ``count`` processes; returns the code of the one that failed first."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    options = ["--standalone", f"--nproc-per-node={count}", "--local-addr=127.0.0.1"]
    try:
        torchrun([*options, "-m", "experiments.sweep.child", str(path)])
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code < 0:  # it was killed, and whoever waits for this process is to see the same
            os.kill(os.getpid(), -code)
        return code
    except SignalException:
        return EXIT_CODES["interrupted"]
    return 0


if __name__ == "__main__":
    with report_user_errors():  # of the sweep's own folder: there is nowhere to answer
        sys.exit(main(Path(sys.argv[1])))

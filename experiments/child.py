"""One run of a sweep in a process of its own: `python -m experiments.child`, the config on stdin.

A sweep starts it so that the death of a run is a row in its record and nothing more.
"""

import json
import signal
import sys

from experiments import identity
from experiments.display import show_log
from experiments.errors import UserError, refusal
from experiments.outcome import EXIT_CODES, Outcome


def main() -> int:
    """Execute the config on standard input; the last line of standard output is the outcome."""
    # Until the run listens to signals itself, Ctrl-C ends the process, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    show_log()
    request = json.load(sys.stdin)
    config = request["config"]
    from experiments.run import execute  # loads torch, which takes seconds

    try:
        outcome = execute(config, position=request["position"])
        code = EXIT_CODES[outcome.status]
    except (UserError, OSError) as error:
        line = refusal(error)
        if line is None:
            raise
        outcome = Outcome(identity.run_id(config), identity.label(config), "failed", line)
        code = EXIT_CODES["refused"]
    print(outcome.to_line(), end="", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

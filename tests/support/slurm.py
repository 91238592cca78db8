"""A stand-in for SLURM on one machine: `slurm.py NAME ...` is `sbatch`, `srun` and so on.

Jobs of an array run side by side. ``scontrol requeue`` lets an element run again when it has ended,
as SLURM does. Every call is written down in ``$STAND_IN/calls``.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

JOB = "4242"


def main(name: str, arguments: list[str]) -> None:
    home = Path(os.environ["STAND_IN"])
    with (home / "calls").open("a") as calls:
        calls.write(json.dumps([name, *arguments]) + "\n")
    if name == "sbatch":
        script = Path(arguments[-1])
        (home / "job.sh").write_text(script.read_text())
        last = re.search(r"--array=0-(\d+)", script.read_text())
        elements = range(int(last[1]) + 1) if last else [None]
        for element in elements:
            command = [sys.executable, __file__, "element", str(element)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.Popen(command, start_new_session=True, **quiet)
        print(f"Submitted batch job {JOB}")
    elif name == "element":
        element = arguments[0]
        environment = os.environ | {"SLURM_JOB_ID": JOB, "SLURM_PROCID": "0"}
        if element != "None":
            environment |= {"SLURM_ARRAY_JOB_ID": JOB, "SLURM_ARRAY_TASK_ID": element}
        requeued = home / f"requeued-{element}"
        while True:
            subprocess.run(["bash", str(home / "job.sh")], env=environment, check=False)
            if not requeued.exists():
                return
            requeued.unlink()
    elif name == "srun":
        program = 0
        while arguments[program].startswith("--"):
            program += 2 if arguments[program] in ("--output", "--error") else 1
        log = home / f"srun-{os.environ.get('SLURM_ARRAY_TASK_ID')}.log"
        with log.open("a") as output:
            command = arguments[program:]
            sys.exit(subprocess.run(command, stdout=output, stderr=output, check=False).returncode)
    elif name == "scontrol":
        (home / f"requeued-{arguments[1].rpartition('_')[2]}").touch()
    elif name == "sacct":
        print("JobID|State|NodeList\n" + f"{JOB}|RUNNING|here")


if __name__ == "__main__":
    if sys.argv[1] == "element":
        time.sleep(0.1)  # sbatch answers first
    main(sys.argv[1], sys.argv[2:])

#!/bin/sh
# What the first wandb.init of a process waits for, in W&B 0.31.0.
#
# `wandb.init` starts a service process and looks for the file with its address; between two looks it sleeps 0.2 seconds. The first look
# comes at once, before the service can have written the file, so that every process pays the 0.2 seconds however fast the service is.
# In a sweep of runs of half a second that is a third of each. The sleep cannot be set; a service that is shared by WANDB_SERVICE
# avoids it.
# Guess before it was run: the time goes to the start of the service.
#
# Seen with wandb 0.31.0 (Python 3.11): "wandb.init offline: 0.30 s; 0.10 s when it looks every 5 ms; longest sleep it asked for: 0.2 s"
#
# Usage: findings/wandb_init_sleeps_while_its_service_is_there.sh   (installs wandb in a temporary folder)
#    or: PYTHON=/path/to/python findings/wandb_init_sleeps_while_its_service_is_there.sh   (which has it)
# Exits 0 while it is so, 1 when it has changed. No network is used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet wandb==0.31.0
fi
case "$PYTHON" in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$folder"
export HOME="$folder" WANDB_CONFIG_DIR="$folder/settings" WANDB_SILENT=true WANDB_MODE=offline
cat > init.py <<'PYTHON_CODE'
import sys
import time

import wandb
import wandb.sdk.launch  # what the first init would load
from wandb.sdk.lib.service import service_port_file

real, longest = time.sleep, float(sys.argv[1])
asked = []


def sleep(seconds):
    asked.append(seconds)
    real(min(seconds, longest))


service_port_file._SLEEP = sleep
started = time.perf_counter()
run = wandb.init(project="p", settings=wandb.Settings(console="off", x_disable_stats=True, disable_git=True))
print(f"\n{time.perf_counter() - started} {max(asked)}")
run.finish()
PYTHON_CODE
best() {
  for _ in 1 2 3; do "$PYTHON" init.py "$1" | tail -n 1; done | sort -n | head -n 1
}
as_it_is=$(best 1)
often=$(best 0.005)
"$PYTHON" - $as_it_is $often <<'PYTHON_CODE'
import importlib.metadata as metadata
import sys

plain, asked, often, _ = map(float, sys.argv[1:])
print(f"wandb {metadata.version('wandb')}")
print(
    f"wandb.init offline: {plain:.2f} s; {often:.2f} s when it looks every 5 ms; "
    f"longest sleep it asked for: {asked} s"
)
sys.exit(0 if asked == 0.2 and plain - often > 0.05 else 1)
PYTHON_CODE

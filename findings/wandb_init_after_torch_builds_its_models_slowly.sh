#!/bin/sh
# wandb.init of W&B 0.31.0 in a process that has imported torch.
#
# `import wandb` does not load all that the first `wandb.init` needs: that loads wandb.sdk.launch and with it wandb.apis.public, whose
# pydantic models take their docstrings from the source. For each class `inspect` looks through every module that is loaded, so the same
# call costs more than twice the processor time once torch is there, and each forked child of a process that has both imported pays
# anew. Importing wandb.sdk.launch before torch, or before the fork, avoids it.
# Guess before it was run: what `wandb.init` costs does not depend on other modules, and after `import wandb` nothing large is loaded.
#
# Seen with wandb 0.31.0 and torch 2.14.1 (Python 3.11): "processor seconds of import wandb.sdk.launch after import wandb: 0.30 alone,
# 0.71 with torch; wandb.init loads it: True"
#
# Usage: findings/wandb_init_after_torch_builds_its_models_slowly.sh   (installs both in a temporary folder: some 5 GB)
#    or: PYTHON=/path/to/python findings/wandb_init_after_torch_builds_its_models_slowly.sh   (which has them)
# Exits 0 while it is so, 1 when it has changed. No network is used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet wandb==0.31.0 torch==2.14.1
fi
case "$PYTHON" in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$folder"
export HOME="$folder" WANDB_CONFIG_DIR="$folder/settings" WANDB_SILENT=true WANDB_MODE=offline
cat > one.py <<'PYTHON_CODE'
import sys
import time

for name in sys.argv[1:]:
    __import__(name)
started = time.process_time()
import wandb.sdk.launch

print(time.process_time() - started)
PYTHON_CODE
cat > init.py <<'PYTHON_CODE'
import sys

import wandb

before = "wandb.sdk.launch" in sys.modules
wandb.init(project="p").finish()
print(not before and "wandb.sdk.launch" in sys.modules)
PYTHON_CODE
alone=$("$PYTHON" one.py wandb)
with_torch=$("$PYTHON" one.py torch torch._dynamo wandb)
loads=$("$PYTHON" init.py | tail -n 1)
"$PYTHON" - "$alone" "$with_torch" "$loads" <<'PYTHON_CODE'
import importlib.metadata as metadata
import sys

alone, with_torch, loads = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
print(f"wandb {metadata.version('wandb')}, torch {metadata.version('torch')}")
print(
    f"processor seconds of import wandb.sdk.launch after import wandb: {alone:.2f} alone, {with_torch:.2f} with torch; "
    f"wandb.init loads it: {loads}"
)
sys.exit(0 if with_torch > 1.5 * alone and loads == "True" else 1)
PYTHON_CODE

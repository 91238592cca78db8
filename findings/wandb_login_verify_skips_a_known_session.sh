#!/bin/sh
# wandb.login(verify=True) of W&B 0.31.0, after the process has the key already.
#
# Its documentation says: "If no key is provided, but the session is already authenticated, then the session key is used for
# verification (if verify is True)". It is not: the call returns True at once and asks nobody, whereas the same call first in a process raises
# AuthenticationError. A script that logs in early (or calls wandb.login(verify=False)) and verifies before a long run is told that all is
# well by a server that is not there. Guess before it was run: both calls ask the server, and raise.
#
# Seen with wandb 0.31.0 (Python 3.11): "first call: AuthenticationError; after login(verify=False): True"
#
# Usage: findings/wandb_login_verify_skips_a_known_session.sh   (installs W&B in a temporary folder)
#    or: PYTHON=/path/to/python findings/wandb_login_verify_skips_a_known_session.sh   (which has it)
# Exits 0 while it is so, 1 when it has changed. No network is used but the loopback interface.
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
export HOME="$folder" NETRC="$folder/netrc" WANDB_CONFIG_DIR="$folder/settings" WANDB_SILENT=true WANDB_HTTP_TIMEOUT=2
export WANDB_API_KEY=0123456789012345678901234567890123456789
"$PYTHON" - <<'PYTHON_CODE'
import os
import socket
import sys

taken = socket.socket()  # bound and not listening: every connection is refused
taken.bind(("127.0.0.1", 0))
os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{taken.getsockname()[1]}"
import wandb


def verified():
    try:
        return wandb.login(verify=True)
    except wandb.errors.AuthenticationError as error:
        return type(error).__name__


first = verified()
wandb.teardown()
wandb.login(verify=False)
second = verified()
print(f"wandb {wandb.__version__}")
print(f"first call: {first}; after login(verify=False): {second}")
sys.exit(0 if (first, second) == ("AuthenticationError", True) else 1)
PYTHON_CODE

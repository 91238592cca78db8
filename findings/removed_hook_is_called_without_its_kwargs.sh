#!/bin/sh
# A forward hook that torch 2.14.1 calls after it has been removed.
#
# `nn.Module.__call__` takes the list of its hooks first, and asks for each, when its turn comes, whether it was registered with
# `with_kwargs=True`. A hook that an earlier one removes during the same call is therefore still called, but as one without kwargs:
# it gets (module, args, output) where it was registered for (module, args, kwargs, output), and a hook with that signature raises a
# TypeError out of the model's forward pass. Whatever owns hooks meets it when its last reference goes during a call, as in a
# collection of garbage. A forward pre-hook fares alike.
# Guess before it was run: a hook that is removed is not called, or is called as it was registered.
#
# Seen with torch 2.14.1 (Python 3.11): "arguments of a forward hook: 4 before, 3 in the call that removes it, then none; of a
# forward pre-hook: 3 before, 2 in the call that removes it, then none"
#
# Usage: findings/removed_hook_is_called_without_its_kwargs.sh   (installs torch in a temporary folder: some 5 GB)
#    or: PYTHON=/path/to/python findings/removed_hook_is_called_without_its_kwargs.sh   (which has it)
# Exits 0 while it is so, 1 when it has changed. No network is used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet torch==2.14.1
fi
case "$PYTHON" in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$folder"
"$PYTHON" - <<'PYTHON_CODE'
import sys

import torch
from torch import nn


def counts(register: str) -> list[int]:
    layer, counted, removes = nn.Linear(2, 2), [], False

    def first(*_):
        if removes:
            handle.remove()

    getattr(layer, register)(first)
    handle = getattr(layer, register)(lambda *given: counted.append(len(given)), with_kwargs=True)
    for removes in (False, True, True):
        layer(torch.zeros(1, 2))
    return counted


forward, pre = counts("register_forward_hook"), counts("register_forward_pre_hook")
print(f"torch {torch.__version__}")
print(
    f"arguments of a forward hook: {forward[0]} before, {forward[1]} in the call that removes it, then none; "
    f"of a forward pre-hook: {pre[0]} before, {pre[1]} in the call that removes it, then none"
)
sys.exit(0 if (forward, pre) == ([4, 3], [3, 2]) else 1)
PYTHON_CODE

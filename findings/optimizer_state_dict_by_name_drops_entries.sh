#!/usr/bin/env bash
# torch.distributed.checkpoint.state_dict.get_optimizer_state_dict drops what an optimizer keeps in
# its state_dict beside `state` and `param_groups`, without a warning; loading cannot bring it back.
# Expected: that it is kept, or that its loss is said. Exits 1 once that changes.
# With PYTHON=/path/to/python that interpreter's torch is used; else torch 2.14.1 is installed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    PYTHON="$folder/venv/bin/python"
    "$PYTHON" -m pip install --quiet "torch==2.14.1" "numpy"
fi
cd "$folder"
"$PYTHON" - <<'PY'
import warnings

import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict


class Counting(torch.optim.SGD):
    def state_dict(self):
        return super().state_dict() | {"seen": torch.ones(3)}


model = torch.nn.Linear(2, 2)
optimizer = Counting(model.parameters(), lr=0.1, momentum=0.9)
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = get_optimizer_state_dict(model, optimizer)
print("torch", torch.__version__)
print("state_dict:              ", sorted(optimizer.state_dict()))
print("get_optimizer_state_dict:", sorted(found))
print("warnings of it:          ", [str(w.message) for w in caught if "seen" in str(w.message)])
raise SystemExit("seen" in found or bool([w for w in caught if "seen" in str(w.message)]))
PY

#!/usr/bin/env bash
# torch.kron refuses operands by their strides, and `contiguous()`, the usual way around that, does not
# help where an axis has one entry: a column that was cut out of a matrix says that it is contiguous,
# stays as it is, and is refused. So Kronecker products of factors fail for layers of one row or column.
# Expected: the product, as of the same numbers in a fresh tensor. Exits 1 once that changes.
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
import torch

print("torch", torch.__version__)
other = torch.ones(3, 2)
column = torch.ones(1, 4)[:, 1:].T.contiguous()
print("contiguous:", column.is_contiguous(), "shape:", tuple(column.shape), "strides:", column.stride())
fresh = torch.kron(column.clone(memory_format=torch.contiguous_format), other)
try:
    torch.kron(column, other)
    refused = "no"
except RuntimeError as error:
    refused = str(error).partition("(")[0].strip()
print("product of a fresh tensor:", tuple(fresh.shape))
print("refused:", refused)
raise SystemExit(refused == "no" or not column.is_contiguous())
PY

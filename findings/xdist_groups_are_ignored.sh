#!/bin/sh
# Groups of pytest-xdist 3.8.0 under pytest 9.2.0, used as xdist's documentation says: --dist loadgroup and the marker xdist_group.
#
# xdist tells its scheduler of a group by a suffix of Item._nodeid, which pytest 9.2 does not read any more (Node.nodeid comes from
# Node._id). So each test is by itself: those of one group run on any worker, side by side, and fixtures of a module are made by
# each. Nothing warns (open there as pytest-dev/pytest-xdist issue 1386). Guess before it was run: the tests of one group run in one worker, as the documentation promises.
#
# Seen with pytest 9.2.0 and pytest-xdist 3.8.0 (Python 3.11): "8 tests of one group ran on gw0 gw1"
#
# Usage: findings/xdist_groups_are_ignored.sh   (installs both in a temporary folder)
#    or: PYTHON=/path/to/python findings/xdist_groups_are_ignored.sh   (which has both)
# Exits 0 while it is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  PYTHON="$folder/venv/bin/python"
  "$PYTHON" -m pip install --quiet pytest==9.2.0 pytest-xdist==3.8.0
fi
cd "$folder"
cat > test_group.py <<'PYTHON_CODE'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_of_the_group(number):
    time.sleep(0.2)
    with open("workers", "a") as workers:
        workers.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PYTHON_CODE
"$PYTHON" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup test_group.py >output || { cat output; exit 2; }
"$PYTHON" -c 'from importlib.metadata import version as v; print("pytest", v("pytest"), "and pytest-xdist", v("pytest-xdist"))'
workers=$(sort -u workers | tr '\n' ' ')
echo "$(wc -l <workers | tr -d ' ') tests of one group ran on $workers"
test "$workers" = "gw0 gw1 "

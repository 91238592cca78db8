"""Fixtures of more than one test file."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support import costs
from tests.support.checkout import Checkout

# Workers of pytest-xdist share the cores: with all of them in each, threads wait for one another.
# Before torch is imported, and for the runs that tests start, too.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    threads = (
        max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

# A shell starts what it runs in the background with Ctrl-C ignored, and that is inherited: the
# tests that interrupt a run would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    costs.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    file = Path(costs.__file__).with_suffix(".txt")
    config.pluginmanager.register(costs.Costs(config, file), "costs")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    checkout.add_python("python3.12", (3, 12))
    assert checkout.make("setup").returncode == 0
    return checkout


@pytest.fixture(scope="session")
def loopback() -> None:
    """Skip where a machine cannot reach even itself, as with its network cut by a namespace."""
    with socket.socket() as server, socket.socket() as client:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen()
            client.settimeout(5)
            client.connect(server.getsockname())
        except OSError as error:
            pytest.skip(f"the loopback interface is down: {error}")

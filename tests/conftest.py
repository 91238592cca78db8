"""Fixtures of more than one test file."""

from pathlib import Path

import pytest

from tests.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    checkout.add_python("python3.12", (3, 12))
    assert checkout.make("setup").returncode == 0
    return checkout

"""These tests are for the machine that `make test-usb` boots: they plug USB devices, and own the whole system."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.monitor import PORT
from lab.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if Path(PORT).exists() else ["test_*.py"]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def _controllers() -> None:
    """Have the controllers for devices that are programs, two of those for gadgets."""
    for words in (["vhci_hcd"], ["dummy_hcd", "num=2"], ["usb_f_acm"]):
        subprocess.run(["modprobe", *words], check=True)

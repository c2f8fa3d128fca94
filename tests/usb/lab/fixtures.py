"""What every test in the machine shares; the conftest beside the tests takes it from here."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def service() -> Iterator[Service]:
    """One life of the service, from nothing known to its end."""
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def controllers() -> None:
    """Have controllers for devices that are programs, two for gadgets, and ears."""
    for words in (["vhci_hcd"], ["dummy_hcd", "num=2"], ["usb_f_acm"], ["usbmon"]):
        subprocess.run(["modprobe", *words], check=True)

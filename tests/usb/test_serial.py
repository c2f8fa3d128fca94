"""Serial devices on a real USB: plugged, pulled out in the middle, plugged in again, here and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.adapters import Gadget, UsbSerial
from lab.wire import Panel
from support.gateway import NEW, OLD, USUAL, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.service import Service

Adapter = UsbSerial | Gadget


@pytest.fixture(params=["usb-serial", "cdc-acm"])
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    number = request.node.name.partition("[")[0].removeprefix("test_")[:20].upper()
    made: Adapter = UsbSerial(number) if request.param == "usb-serial" else Gadget(number)
    yield made
    made.close()


@pytest.fixture
def panel(tmp_path: Path, adapter: Adapter) -> Iterator[Panel]:
    made = Panel(tmp_path, adapter.far_end, "--version", OLD)
    yield made
    made.close()


def matching(adapter: Adapter) -> str:
    return f'usb = "{adapter.IDS}", serial = "{adapter.serial}"'


def test_plugged_in(service: Service, adapter: Adapter, panel: Panel) -> None:
    service.configure(device_class("panel", matching(adapter), *USUAL))
    service.start()
    service.drop("panel", NEW, image())
    assert service.devices() == []
    adapter.plug(1)
    service.runs(NEW)
    panel.wait_for("end")
    assert len(service.said("update-succeeded")) == 1

"""Devices are listed as a person looks for them."""

from __future__ import annotations

from firmwarden.model import ClassName, Device, DeviceId
from firmwarden.service.naming import in_order


def labelled(label: str, *, device_class: str = "panel", port: str = "") -> Device:
    return Device(id=DeviceId("k3f9q2"), device_class=ClassName(device_class), key="", label=label, port=port)


def test_by_class_and_then_by_label_with_its_numbers_as_numbers() -> None:
    rack = [
        labelled("slot-1"),
        labelled("slot-2"),
        labelled("slot-10"),
        labelled("slot-10b"),
        labelled("", port="usb-1.2"),
        labelled("", port="usb-1.11"),
        labelled("slot-0", device_class="pump"),
    ]
    mixed = [rack[place] for place in (3, 6, 0, 5, 2, 4, 1)]
    assert sorted(mixed, key=in_order) == rack

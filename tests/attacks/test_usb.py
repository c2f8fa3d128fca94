"""USB devices that were made to harm, all on one bus with an honest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.protocol.dfu.descriptors import MalformedDescriptor, find_dfu
from firmwarden.protocol.dfu.memory_map import MalformedMap, MemoryMap
from firmwarden.transport.usb_sysfs import SysfsLister
from support.hostile_usb import DEVICES, MAPS, HostileMap
from support.sysfs import machine

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_CONFIGURATION = 0xFFFF
"""Its length has two bytes: USB 2.0 Specification, 9.6.3."""


def test_inv6_inv8_no_device_harms_who_looks_at_it_or_hides_another(tmp_path: Path) -> None:
    with machine(tmp_path) as here:
        here.usb_device("1-9")
        for number, hostile in enumerate(DEVICES, start=1):
            here.usb_device(f"1-{number}", attributes=hostile.attributes)

        seen = {each.facts.topology: each for each in SysfsLister(sys_root=here.sys_root).list()}

        assert seen["1-9"].facts.serial == "357A36583530"
        assert len(seen) == len(DEVICES) + 1
        for number, hostile in enumerate(DEVICES, start=1):
            found = seen[f"1-{number}"]
            shown = (found.facts.serial or "", found.facts.product, found.facts.manufacturer)
            assert all(text.isprintable() for text in shown), hostile.name
            assert len(found.configuration) <= _LARGEST_CONFIGURATION
            if hostile.refused:
                with pytest.raises(MalformedDescriptor, match=hostile.refused):
                    find_dfu(found.configuration)
            else:
                assert len(find_dfu(found.configuration)) <= 1


@pytest.mark.parametrize("hostile", MAPS, ids=lambda hostile: hostile.name)
def test_inv8_a_memory_map_that_is_none_is_refused(hostile: HostileMap) -> None:
    with pytest.raises(MalformedMap, match=hostile.refused):
        MemoryMap.parse(hostile.text)

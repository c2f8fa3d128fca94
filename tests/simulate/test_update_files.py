"""Update files are those of Microchip's formats: their builder's work here, ours pass the strict reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.images.mdfu_image import BlockLayout, check_fits, describe
from firmwarden.simulate.firmware import make_application
from firmwarden.simulate.profile import PROFILES
from support.hand import hand, update_file
from support.microchip import build_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [4096, 4000])
def test_pic8_takes_what_microchips_builder_makes(tmp_path: Path, size: int) -> None:
    profile = PROFILES["pic8"]
    application = make_application("2.0.0", size=size, device_id=profile.device_id)
    image = build_image(tmp_path, application, write_size=profile.flash.write_size)
    person = hand("pic8")
    person.update(image)
    assert person.client.running is not None
    assert person.client.running.version == "2.0.0"
    if size % profile.flash.write_size == 0:
        # The builder leaves a last block short, we fill it up.
        assert image == update_file("pic8", size=size)


@pytest.mark.parametrize(("name", "layout"), [("pic8", BlockLayout.MCU8), ("pic32", BlockLayout.MCU32)])
def test_our_block_files_are_well_formed(name: str, layout: BlockLayout) -> None:
    profile = PROFILES[name]
    file = update_file(name, size=4000)
    image = describe(file, layout)
    assert (image.device_id, image.start_address) == (profile.device_id, profile.flash.start)
    assert (image.block_size, image.write_size) == (profile.buffer_size, profile.flash.write_size)
    assert 4000 <= image.data_size < 4000 + profile.flash.write_size
    check_fits(file, profile.info)

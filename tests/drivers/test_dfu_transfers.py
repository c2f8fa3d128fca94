"""How many control transfers an update takes, beside what dfu-util takes for the same work.

What dfu-util 0.11 says (dfuse.c, dfuse_do_download and what it calls; main.c), in transfers:

* a page is erased by a DNLOAD, the GETSTATUS that carries it out, and one that tells the result;
* for each block the address is set, which are as many, and the block is written, which are as many again;
* it leaves by setting the address, an empty DNLOAD and a GETSTATUS;
* before all that it reads the string of each alternate setting, selects one, and asks for the status.

It erases every page that the image touches, writes every block, and reads nothing back.  What the commit-last order and
the read-back add is listed below, and nothing else may be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from firmwarden.simulate.dfu.parts import PARTS
from support.dfu_bench import backend, content, usb_bench
from support.dfu_simulated import image
from support.dfu_simulated import settings as simulated

pytestmark = pytest.mark.anyio

PART: Final = PARTS["stm32l476"]
PAGE: Final = 2048
BLOCK: Final = 2048

COMMAND: Final = 3
"""DNLOAD, and GETSTATUS twice."""
READ: Final = COMMAND + 2 + 2
"""Around the uploads of a read: the address, then ABORT and a look that the device is idle, and both again."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return backend("trio")


def of_dfu_util(pages: int, blocks: int, memories: int) -> int:
    """Return the transfers of dfu-util for a whole update."""
    begin = memories + 1 + 1  # strings, SET_INTERFACE, GETSTATUS
    leave = COMMAND + 2
    return begin + pages * COMMAND + blocks * 2 * COMMAND + leave


def of_our_order(uploads: int) -> int:
    """Return what is added, so that an interruption leaves a device that goes on, and nothing starts that is not whole.

    Args:
        uploads: that an image takes.
    """
    state = 1  # GETSTATE comes first: what another host left must not be carried out
    facts = 2 * (READ + 1)  # the option bytes, and the first word of bank 2
    compare = READ + uploads  # what is there: pages that are right are kept
    erased = READ + 1  # the granule that decides, when its page was erased
    verify = READ + uploads  # everything, with that granule still erased
    commit = 2 * COMMAND  # it is a block of its own
    check = READ + 1  # and is read back
    return state + facts + compare + erased + verify + commit + check


@pytest.mark.parametrize("size", [9000, 48 << 10, 200_000])
async def test_an_update_takes_no_more_than_dfu_util_and_what_makes_it_safe(size: int) -> None:
    old, new = image("old", PART, size), image("new", PART, size)
    async with usb_bench(simulated(PART, old, new, factory={"BFB2": 1}, boot0=True)) as at:
        at.device.chip.boot0 = 0
        driver = at.driver(new)
        assert (await driver.update(content(new))).confirmed
        pages = blocks = -(-size // PAGE)
        assert at.erases == pages
        theirs = of_dfu_util(pages, blocks, memories=3)
        assert driver.stats.commands == at.usb.transfers == theirs + of_our_order(uploads=blocks)


async def test_an_update_that_changes_one_page_takes_far_less() -> None:
    """For dfu-util it is the same work as any other."""
    size = 200_000
    old = image("old", PART, size)
    new = replace(old, name="new", segments=(replace(old.segments[0], data=content(old)[:-1] + b"\x00"),))
    async with usb_bench(simulated(PART, old, new, factory={"BFB2": 1})) as at:
        driver = at.driver(new)
        assert (await driver.update(content(new))).confirmed
        assert at.erases == 2
        blocks = -(-size // BLOCK)
        assert driver.stats.commands < of_dfu_util(blocks, blocks, memories=3) / 3

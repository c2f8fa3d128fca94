"""One copy of an image for all attempts that run at the same time, and no longer."""

import anyio
import anyio.lowlevel
import pytest

from firmwarden.errors import BadImage
from firmwarden.model import ImageHash
from firmwarden.service.lending import Lending

pytestmark = pytest.mark.anyio

IMAGE = ImageHash("aa")
OTHER = ImageHash("bb")


class Disk:
    """Counts how often it was read; a read ends when it is let."""

    def __init__(self) -> None:
        self.reads: list[ImageHash] = []
        self.damaged = False
        self.spins = anyio.Event()
        self.spins.set()

    async def load(self, image: ImageHash) -> bytes:
        self.reads.append(image)
        await self.spins.wait()
        if self.damaged:
            raise BadImage("the stored image has another hash")
        return f"content of {image}".encode()


async def test_those_who_come_while_it_is_lent_get_the_same_copy() -> None:
    disk = Disk()
    lending = Lending(disk)
    async with lending.lend(IMAGE) as one, lending.lend(IMAGE) as two, lending.lend(OTHER) as other:
        assert one is two
        assert (one, other) == (b"content of aa", b"content of bb")
    assert disk.reads == [IMAGE, OTHER]


async def test_it_is_read_and_checked_again_once_nobody_has_it() -> None:
    disk = Disk()
    lending = Lending(disk)
    async with lending.lend(IMAGE):
        async with lending.lend(IMAGE):
            pass
        assert disk.reads == [IMAGE]
    async with lending.lend(IMAGE):
        assert disk.reads == [IMAGE, IMAGE]


async def test_those_who_come_while_it_is_read_wait_for_the_same_read() -> None:
    disk = Disk()
    disk.spins = anyio.Event()
    lending = Lending(disk)
    contents = []

    async def borrow() -> None:
        async with lending.lend(IMAGE) as content:
            contents.append(content)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(borrow)
        await anyio.wait_all_tasks_blocked()
        disk.spins.set()
    assert disk.reads == [IMAGE]
    assert contents == [b"content of aa"] * 3


async def test_a_read_that_failed_or_was_cancelled_is_nobody_elses() -> None:
    disk = Disk()
    disk.damaged = True
    lending = Lending(disk)
    with pytest.raises(BadImage):
        async with lending.lend(IMAGE):
            pass
    disk.damaged = False
    disk.spins = anyio.Event()
    contents = []

    async def borrow() -> None:
        async with lending.lend(IMAGE) as content:
            contents.append(content)

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as doomed:
        doomed.start_soon(borrow)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(borrow)
        await anyio.wait_all_tasks_blocked()
        doomed.cancel_scope.cancel()
        disk.spins.set()
    assert contents == [b"content of aa"]
    assert disk.reads == [IMAGE] * 3

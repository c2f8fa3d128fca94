"""Conditions: what a program's answer means, and for how long."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.model import ClassName, Device, DeviceId, Job, JobId, JobState, Wait, WaitKind
from firmwarden.programs import Heard, hear_program
from firmwarden.service.conditions import Condition, Conditions
from support.house import NOON, VirtualClock, release, virtual_time

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from typing import Any

    from firmwarden.service.conditions import Ask

CLASS: Final = ClassName("panel")
DEVICE: Final = Device(id=DeviceId("one"), device_class=CLASS, key="serial:1", label="slot-1")
CONDITION: Final = Condition(("/bin/may-update",), timeout_s=5.0, again_s=60.0)
YES: Final = Heard("", "go ahead", "go ahead", 0)
BATTERY: Final = Heard("exit status 1: the battery is at 12 %", "", "the battery is at 12 %", 1)
SILENT: Final = Heard("exit status 3", "", "", 3)
GONE: Final = Heard("cannot be run: No such file or directory", "")

pytestmark = pytest.mark.anyio
really = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Programs do not wait for virtual time."""


@pytest.fixture
def anyio_backend() -> object:
    return virtual_time()


def job(number: int = 1) -> Job:
    image = release("2.0.0")
    return Job(
        id=JobId(number),
        device=DEVICE.id,
        device_class=CLASS,
        image=image.image,
        version=image.version,
        sequence=None,
        size=image.size,
        state=JobState.QUEUED,
        created_at=NOON,
        updated_at=NOON,
    )


class Bench:
    """Conditions whose program answers as it is told to."""

    def __init__(self, ask: Ask | None = None) -> None:
        self.clock = VirtualClock()
        self.answer = YES
        self.takes_s = 0.0
        self.asked: list[Mapping[str, str]] = []
        self.answered = 0
        self.conditions = Conditions(self.clock, self._count, ask=ask or self._ask)

    def _count(self) -> None:
        self.answered += 1

    async def _ask(self, argv: Sequence[str], *, timeout_s: float, extra_env: Mapping[str, str]) -> Heard:
        assert (argv, timeout_s) == (CONDITION.argv, CONDITION.timeout_s)
        self.asked.append(extra_env)
        await anyio.sleep(self.takes_s)
        return self.answer

    async def hear(self, answer: Heard, number: int = 1, condition: Condition = CONDITION) -> None:
        """Ask, and wait for the answer."""
        self.answer = answer
        async with anyio.create_task_group() as tasks:
            self.conditions.start(tasks, condition, job(number), DEVICE, "/dev/ttyUSB0")
            assert JobId(number) in self.conditions.asked
        assert JobId(number) not in self.conditions.asked

    def reason(self, number: int = 1) -> str:
        wait = self.conditions.take()[JobId(number)]
        assert wait is not None
        assert wait.kind is WaitKind.CONDITION
        return wait.detail


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_yes_counts_for_one_planning(bench: Bench) -> None:
    await bench.hear(YES)
    assert bench.answered == 1
    assert bench.conditions.take() == {JobId(1): None}
    assert bench.conditions.take() == {}


async def test_the_program_learns_which_device_is_meant(bench: Bench) -> None:
    await bench.hear(YES)
    assert bench.asked == [
        {
            "FIRMWARDEN_DEVICE": "one",
            "FIRMWARDEN_LABEL": "slot-1",
            "FIRMWARDEN_PORT": "/dev/ttyUSB0",
            "FIRMWARDEN_CLASS": "panel",
            "FIRMWARDEN_VERSION": "2.0.0",
        }
    ]


async def test_a_no_counts_until_it_is_time_to_ask_again(bench: Bench) -> None:
    await bench.hear(BATTERY)
    expected = Wait(
        kind=WaitKind.CONDITION,
        detail="the condition of its class says no: the battery is at 12 %",
        until=bench.clock.wall() + 60.0,
    )
    await anyio.sleep(59.0)
    assert bench.conditions.take() == {JobId(1): expected}
    assert bench.conditions.unmet == {DEVICE.id}
    await anyio.sleep(1.0)
    assert bench.conditions.take() == {}
    assert bench.conditions.unmet == frozenset()
    assert bench.conditions.said == {JobId(1): replace(expected, until=None)}, "it is told on"


async def test_a_clock_that_is_set_makes_no_no_longer(bench: Bench) -> None:
    await bench.hear(BATTERY)
    bench.clock.set(-86_400.0)
    wait = bench.conditions.take()[JobId(1)]
    assert wait is not None
    assert wait.until == bench.clock.wall() + 60.0
    await anyio.sleep(60.0)
    assert bench.conditions.take() == {}


async def test_a_program_that_says_nothing_is_told_by_its_exit_status(bench: Bench) -> None:
    await bench.hear(SILENT)
    assert bench.reason() == "the condition of its class says no: exit status 3"


async def test_what_a_program_says_is_short_and_acts_on_no_terminal(bench: Bench) -> None:
    await bench.hear(Heard("exit status 1", "", "\x1b[2J" + "x" * 1000, 1))
    assert bench.reason() == "the condition of its class says no: \\x1b[2J" + "x" * 193


async def test_the_same_no_is_logged_once_and_trouble_as_a_warning(
    bench: Bench, logs: list[MutableMapping[str, Any]]
) -> None:
    for answer in (BATTERY, BATTERY, GONE, GONE, BATTERY):
        await bench.hear(answer)
        await anyio.sleep(60.0)
        assert bench.conditions.take() == {}
    assert [(entry["log_level"], entry["event"], entry["detail"]) for entry in logs] == [
        ("info", "condition-unmet", "the condition of its class says no: the battery is at 12 %"),
        (
            "warning",
            "condition-failed",
            "the condition of its class cannot be run: No such file or directory",
        ),
        ("info", "condition-unmet", "the condition of its class says no: the battery is at 12 %"),
    ]


async def test_a_no_of_long_ago_is_news_again(bench: Bench, logs: list[MutableMapping[str, Any]]) -> None:
    for _ in range(2):
        await bench.hear(BATTERY)
        await anyio.sleep(3661.0)
        assert bench.conditions.take() == {}
    assert len(logs) == 2


async def test_a_yes_takes_back_a_no(bench: Bench, logs: list[MutableMapping[str, Any]]) -> None:
    await bench.hear(BATTERY)
    await bench.hear(YES)
    assert bench.conditions.take() == {JobId(1): None}
    assert bench.conditions.take() == {}
    await bench.hear(BATTERY)
    assert len(logs) == 2, "it says no anew"


async def test_a_person_may_have_it_asked_at_once(bench: Bench) -> None:
    await bench.hear(BATTERY)
    bench.conditions.ask_again(DeviceId("another"))
    assert JobId(1) in bench.conditions.take()
    bench.conditions.ask_again(DEVICE.id)
    assert bench.conditions.take() == {}


async def test_an_answer_to_what_is_no_longer_asked_is_none(bench: Bench) -> None:
    bench.takes_s = 3.0
    async with anyio.create_task_group() as tasks:
        bench.conditions.start(tasks, CONDITION, job(), DEVICE, "/dev/ttyUSB0")
        await anyio.sleep(1.0)
        bench.conditions.forget()
        assert bench.conditions.asked == frozenset()
        bench.conditions.start(
            tasks, Condition(CONDITION.argv, CONDITION.timeout_s), job(), DEVICE, "/dev/ttyUSB0"
        )
        await anyio.sleep(2.5)
        assert bench.conditions.take() == {}, "what was asked by the former configuration says nothing"
        assert bench.conditions.asked == {JobId(1)}
    assert bench.conditions.take() == {JobId(1): None}


async def test_another_configuration_forgets_what_was_said(bench: Bench) -> None:
    await bench.hear(BATTERY, 1)
    await bench.hear(YES, 2)
    bench.conditions.forget()
    assert bench.conditions.take() == {}


# --- a real program ---------------------------------------------------------------------------------------------


@really
@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (DEVICE, "the condition of its class says no: one slot-1 is busy"),
        # A unit tells its serial number, and a label may show it.
        (replace(DEVICE, label="a\0b"), "the condition of its class cannot be run: embedded null byte"),
        (replace(DEVICE, label="\ud800"), "the condition of its class cannot be run: 'utf-8' codec can't"),
    ],
)
async def test_inv6_a_program_is_run_whatever_a_unit_calls_itself(device: Device, reason: str) -> None:
    bench = Bench(hear_program)
    program = (
        "import os, sys; print(os.environ['FIRMWARDEN_DEVICE'], os.environ['FIRMWARDEN_LABEL'], 'is busy');"
        "print('and more'); sys.exit(1)"
    )
    async with anyio.create_task_group() as tasks:
        bench.conditions.start(tasks, Condition((sys.executable, "-c", program)), job(), device, "usb-1")
    assert bench.reason().startswith(reason)


@really
async def test_inv6_a_program_that_hangs_says_no() -> None:
    bench = Bench(hear_program)
    hangs = Condition((sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.2)
    async with anyio.create_task_group() as tasks:
        bench.conditions.start(tasks, hangs, job(), DEVICE, "usb-1")
    assert bench.reason() == "the condition of its class took longer than 0.2 s and was ended"

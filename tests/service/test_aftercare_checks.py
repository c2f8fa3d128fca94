"""Probation: units that are asked how they are, and commands that look after them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import CannotTell, LinkLost, PortHeld
from firmwarden.model import CauseCode, ClassName, TcpAddress, Wait, WaitKind
from firmwarden.service.aftercare import ASK_AGAIN_S, CHECKS_AT_ONCE
from support.house import PANEL, content, living, virtual_time
from support.probation import ILL, RULE, SOAK_S, Examined, asking, examining, probation
from support.scripted import Play, Unit

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from firmwarden.model import Address, Device, DeviceId
    from support.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def test_a_command_that_fails_once_is_no_verdict() -> None:
    examined = Examined(ran=["exit status 1"])
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(runs=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        assert len(examined.done) == 2
        assert await house.latches() == []
        assert (await house.device("panel-1")).good is not None


async def test_a_unit_is_asked_once_and_only_when_the_soak_is_over() -> None:
    examined = Examined(asked=["it says that it is 1.0.0, not 2.0.0"])
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(asks=True, runs=True, roll_back=False)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S - 10.0)
        assert examined.done == []
        await anyio.sleep(86_400.0)
        assert examined.done == [("ask", "2.0.0")], "nor is there need for the command"
        assert [latch.cause.code for latch in await house.latches()] == [CauseCode.UNHEALTHY]


@pytest.mark.parametrize("lost", [2, 3])
async def test_a_link_that_fails_is_tried_again_before_the_unit_is_blamed(lost: int) -> None:
    examined = Examined(asked=[LinkLost("the cable was pulled")] * lost)
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(asks=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        assert len(examined.done) == 3
        assert [latch.cause.detail for latch in await house.latches()] == (
            ["it cannot be asked: the cable was pulled"] if lost == 3 else []
        )


async def test_inv2_a_command_that_cannot_be_run_says_nothing_of_the_unit(
    logs: list[MutableMapping[str, Any]],
) -> None:
    examined = Examined(ran=[CannotTell("/bin/is-well: cannot be run: No such file or directory")] * 5)
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(runs=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S + 2 * ASK_AGAIN_S)
        why = await house.desk.why((await house.device("panel-1")).id)
        assert "it is to be checked, and cannot be yet: /bin/is-well: cannot be run" in why["next"]
        await anyio.sleep(5 * ASK_AGAIN_S)
        assert (await house.device("panel-1")).good is not None
    assert [entry["event"] for entry in logs].count("probation-held-up") == 1, "it is told once"


async def test_inv4_a_unit_that_somebody_holds_is_not_asked(logs: list[MutableMapping[str, Any]]) -> None:
    examined = Examined()
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(asks=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        await house.desk.hold(id_, reason="calibration", who="ann")
        await anyio.sleep(SOAK_S + 3_600.0)
        assert examined.done == []
        why = await house.desk.why(id_)
        assert (
            "it is to be checked when nobody holds it: the device is held by ann: calibration" in why["next"]
        )
        await house.desk.unhold(id_, who="ann")
        await anyio.sleep(2.0)
        assert examined.done == [("ask", "2.0.0")]
        assert (await house.device("panel-1")).good is not None
    assert "probation-held-up" not in [entry["event"] for entry in logs]


class Leaving:
    """Has the port, and leaves it in its own time."""

    key = title = "guard.service"

    def __init__(self) -> None:
        self.takes_s = 0.0
        self.leaves = anyio.Event()

    async def runs(self) -> bool:
        return True

    async def stop(self) -> None:
        self.leaves.set()
        await anyio.sleep(self.takes_s)

    async def start(self) -> None:
        pass


@pytest.mark.parametrize("by_file", [False, True])
async def test_inv4_a_unit_that_is_held_while_the_owner_of_its_port_leaves_is_not_asked(
    by_file: bool,
) -> None:
    examined, owner = Examined(), Leaving()
    policy = replace(asking(asks=True), hand_over=owner)
    waits: dict[ClassName, Wait] = {}
    async with living({"panel-1": Unit()}, "2.0.0", policies=[policy], change=examining(examined)) as house:
        # In the place of a look at the file, which takes a thread.
        house.warden.timekeeper.inhibitors.waits = lambda: dict(waits)  # type: ignore[method-assign]
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        owner.takes_s, owner.leaves = 20.0, anyio.Event()
        await owner.leaves.wait()
        if by_file:
            waits[PANEL] = Wait(kind=WaitKind.HOLD, detail="its class is held by ann with /run/busy: a show")
        else:
            await house.desk.hold(id_, reason="calibration", who="ann")
        await anyio.sleep(3_600.0)
        assert examined.done == []
        assert "it is to be checked when nobody holds it" in (await house.desk.why(id_))["next"]
        waits.clear()
        if not by_file:
            await house.desk.unhold(id_, who="ann")
        await anyio.sleep(60.0)
        assert examined.done == [("ask", "2.0.0")]
        assert (await house.device("panel-1")).good is not None


@pytest.mark.parametrize("runs", [False, True])
async def test_inv2_a_unit_that_is_gone_by_the_next_try_is_not_blamed_for_that(runs: bool) -> None:
    examined = Examined(asked=[LinkLost("the cable was pulled")] * 3, ran=ILL)
    policy = asking(asks=not runs, runs=runs)
    async with living({"panel-1": Unit()}, "2.0.0", policies=[policy], change=examining(examined)) as house:
        await house.quiet()
        with anyio.fail_after(SOAK_S + 60.0):
            while not examined.done:  # noqa: ASYNC110  nobody tells
                await anyio.sleep(0.5)
        await house.unplug("panel-1")
        await anyio.sleep(50.0)
        assert len(examined.done) == 1
        assert await house.latches() == []
        examined.answers = {"ask": [], "run": []}
        await house.plug("panel-1")
        await anyio.sleep(60.0)
        assert len(examined.done) == 2
        assert (await house.device("panel-1")).good is not None


async def test_a_unit_that_has_another_port_by_the_next_try_is_asked_there() -> None:
    asked: list[Address] = []

    class Moving(Examined):
        async def ask(self, device: Device, address: Address, expected_version: str) -> str:
            asked.append(address)
            return await super().ask(device, address, expected_version)

    moving = Moving(asked=[LinkLost("the cable was pulled")])
    elsewhere = TcpAddress(host="panel-1", port=4001)
    async with living(
        {"panel-1": Unit()}, "2.0.0", policies=[asking(asks=True)], change=examining(moving)
    ) as house:
        await house.quiet()
        with anyio.fail_after(SOAK_S + 60.0):
            while not asked:  # noqa: ASYNC110  nobody tells
                await anyio.sleep(0.5)
        house.registry.address = lambda _device: elsewhere  # type: ignore[method-assign, assignment]
        await anyio.sleep(20.0)
        assert asked == [TcpAddress(host="panel-1", port=4000), elsewhere]
        assert await house.latches() == []
        assert (await house.device("panel-1")).good is not None


async def test_a_unit_whose_port_is_held_is_asked_later() -> None:
    examined = Examined(asked=[PortHeld("/dev/ttyACM0", "minicom (process 7)")] * 3)
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(asks=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S + ASK_AGAIN_S)
        standing = await probation(house)
        assert standing is not None
        assert "minicom" in house.warden.aftercare.standing(standing, asking(asks=True).health or RULE).detail
        await anyio.sleep(3 * ASK_AGAIN_S)
        assert len(examined.done) == 4
        assert (await house.device("panel-1")).good is not None


async def test_inv6_a_command_that_hangs_holds_up_nobody() -> None:
    """And a unit that is looked after is not written to meanwhile."""
    hanging = _Hanging()
    units = {f"panel-{number}": Unit() for number in range(3)}
    async with living(units, "1.0.0", policies=[asking(runs=True)], change=examining(hanging)) as house:
        hanging.device = (await house.device("panel-1")).id
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        good = {name: (await house.device(name)).good for name in units}
        assert [name for name, image in good.items() if image is None] == ["panel-1"]
        house.drop("1.0.0", "2.0.0")
        await anyio.sleep(60.0)
        assert [units[name].runs == content("2.0.0") for name in sorted(units)] == [True, False, True]
        hanging.released.set()
        await house.quiet()
        assert units["panel-1"].runs == content("2.0.0")


class _Hanging(Examined):
    def __init__(self) -> None:
        super().__init__()
        self.device: DeviceId | None = None
        self.released = anyio.Event()

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        if device.id == self.device:
            await self.released.wait()
        return await super().run(device, address, expected_version)


async def test_inv2_a_unit_that_is_being_updated_by_its_turn_is_not_checked() -> None:
    """More units are to be checked than may be at once, and those that wait are given a newer release."""
    units = {f"panel-{number:02}": Unit() for number in range(CHECKS_AT_ONCE + 8)}
    for unit in units.values():
        unit.detaches = True
    checked_in_loader = []

    class Slow(Examined):
        async def run(self, device: Device, address: Address, expected_version: str) -> str:
            del expected_version
            await anyio.sleep(30.0)
            assert isinstance(address, TcpAddress)
            if units[address.host].runs is not None:
                return ""
            checked_in_loader.append(device.id)
            return "no heartbeat"

    async with living(units, "2.0.0", policies=[asking(runs=True)], change=examining(Slow())) as house:
        house.warden.configure({PANEL: asking(runs=True)}, len(units), {})
        await house.quiet()
        for unit in units.values():
            unit.script.append(Play(seconds=150.0))
        await anyio.sleep(SOAK_S + 10.0)
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(3_600.0)
        assert checked_in_loader == []
        assert await house.latches() == []
        assert {unit.runs for unit in units.values()} == {content("3.0.0")}


async def test_inv6_units_that_cannot_be_asked_keep_no_other_from_being_asked() -> None:
    """More of them than may be asked at once, and each time it takes longer than the pause after it."""
    motors = {f"motor-{number:02}": Unit() for number in range(2 * CHECKS_AT_ONCE + 1)}

    class Held(Examined):
        async def ask(self, device: Device, address: Address, expected_version: str) -> str:
            if device.device_class == PANEL:
                return await super().ask(device, address, expected_version)
            await anyio.sleep(ASK_AGAIN_S + 1.0)
            raise PortHeld("its port", "guard.service, which cannot be made to leave")

    policies = [asking(asks=True), replace(asking(asks=True), name=ClassName("motor"))]
    units = {"panel-1": Unit(), **motors}
    async with living(units, policies=policies, change=examining(Held())) as house:
        house.drop("2.0.0", device_class=ClassName("motor"))
        await house.quiet(600.0)
        house.drop("2.0.0")
        await house.quiet(600.0)
        await anyio.sleep(SOAK_S + 5 * ASK_AGAIN_S)
        assert (await house.device("panel-1")).good is not None


async def test_inv4_a_unit_that_is_looked_after_since_it_was_planned_is_not_written_to() -> None:
    unit = Unit()
    armed: list[tuple[House, DeviceId]] = []

    def before_commit() -> None:
        if armed:
            house, device = armed.pop()
            house.warden.look_at(device, TcpAddress(host="panel-1", port=4000))

    async with living({"panel-1": unit}, before_commit=before_commit) as house:
        await house.quiet()
        device = (await house.device("panel-1")).id
        armed.append((house, device))
        house.drop("2.0.0")
        await anyio.sleep(3_600.0)
        assert not armed
        assert unit.attempts == 0
        house.warden.let_go(device)
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_inv6_a_defect_in_asking_ends_nothing_else(logs: list[MutableMapping[str, Any]]) -> None:
    examined = Examined(asked=[ZeroDivisionError()])
    async with living(
        {"panel-1": Unit()},
        "2.0.0",
        policies=[asking(asks=True)],
        change=examining(examined),
    ) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S + 2 * ASK_AGAIN_S)
        assert (await house.device("panel-1")).good is not None
    assert [entry["event"] for entry in logs].count("worker-crashed") == 1

"""Probation: what a unit has to show after its update, and what follows when it does not."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import CannotTell, LinkLost, PortHeld, StoreError
from firmwarden.model import Cause, CauseCode, ClassName, JobState, LatchScope, TcpAddress, Wait, WaitKind
from firmwarden.service.aftercare import ASK_AGAIN_S, CHECKS_AT_ONCE
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import VANISHES_AT_MOST, HealthRule
from firmwarden.service.policy import Budgets
from firmwarden.service.shelf import Shelf
from support.house import PANEL, VirtualClock, content, living, release, states, virtual_time
from support.scripted import Play, Unit, fails

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from firmwarden.model import Address, Device, DeviceId, Probation
    from support.house import House

pytestmark = pytest.mark.anyio

SOAK_S: Final = 600.0
RULE: Final = HealthRule(soak_s=SOAK_S, return_within_s=60.0)
POLICY: Final = ClassPolicy(name=PANEL, health=RULE, roll_back=True)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def probation(house: House, name: str = "panel-1") -> Probation | None:
    id_ = (await house.device(name)).id
    return await house.store.run(lambda ledger: ledger.probation(id_))


async def good_with(house: House, version: str = "1.0.0", *names: str) -> None:
    """Let units be given a version and keep well with it."""
    house.drop(version)
    await house.quiet()
    await anyio.sleep(SOAK_S + 60.0)
    for name in names or ("panel-1",):
        device = await house.device(name)
        assert device.good is not None
        assert (device.running_version, device.good.version) == (version, version)
        assert await probation(house, name) is None


async def on_probation(house: House, version: str = "2.0.0") -> None:
    """Let a unit be given one more, of which nobody knows yet."""
    house.drop("1.0.0", version)
    await house.quiet()
    assert (await house.device("panel-1")).running_version == version
    assert await probation(house) is not None


async def test_a_unit_is_good_when_it_has_been_here_and_well_for_long_enough() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED, "the update itself is over"
        await anyio.sleep(SOAK_S - 60.0)
        device = await house.device("panel-1")
        assert (device.good, await probation(house) is not None) == (None, True)
        await anyio.sleep(61.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert device.good.image == release("2.0.0").image
        assert await probation(house) is None


async def test_the_floor_is_raised_when_it_kept_well_and_not_before() -> None:
    async with living({"panel-1": Unit()}, policies=[POLICY]) as house:
        house.shelf = Shelf(releases=(release("2.0.0", sequence=7),))
        house.warden.shelve(house.shelf.releases)
        await house.quiet()
        assert (await house.device("panel-1")).floor is None
        await anyio.sleep(SOAK_S + 60.0)
        assert (await house.device("panel-1")).floor == 7


async def test_without_a_rule_the_confirmation_is_enough() -> None:
    async with living({"panel-1": Unit()}) as house:
        house.shelf = Shelf(releases=(release("2.0.0", sequence=7),))
        house.warden.shelve(house.shelf.releases)
        await house.quiet()
        device = await house.device("panel-1")
        assert device.good is not None
        assert (device.good.version, device.floor, await probation(house)) == ("2.0.0", 7, None)


async def test_a_rule_that_a_reload_takes_away_ends_what_it_began() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        house.warden.poke()
        await anyio.sleep(1.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert await probation(house) is None


async def test_time_away_is_no_time_of_being_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2)
        await house.unplug("panel-1")
        await anyio.sleep(50.0)
        await house.plug("panel-1")
        await anyio.sleep(SOAK_S / 2 - 20.0)
        assert await probation(house) is not None
        await anyio.sleep(30.0)
        assert await probation(house) is None


async def test_a_unit_that_does_not_come_back_is_latched_and_goes_back_once_it_is_here(
    logs: list[MutableMapping[str, Any]],
) -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(55.0)
        assert await house.latches() == []
        await anyio.sleep(10.0)
        (latch,) = await house.latches()
        assert (latch.scope, latch.image, latch.cause.code) == (
            LatchScope.PAIR,
            release("2.0.0").image,
            CauseCode.UNHEALTHY,
        )
        assert latch.cause.detail == "it is not here, and has been so for 60 s"
        assert latch.attempt is not None
        assert [wait.kind for wait in house.warden.agenda.waits.values()] == [WaitKind.ABSENT]
        await anyio.sleep(3_600.0)
        assert unit.runs == content("2.0.0")
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("1.0.0")
        failed = [entry for entry in logs if entry["event"] == "probation-failed"]
        assert [entry["release"] for entry in failed] == ["2.0.0"]
        # It is on record for good: a latch goes when somebody lifts it, and the attempt was a success.
        id_ = (await house.device("panel-1")).id
        (act,) = await house.store.run(lambda ledger: ledger.actions(10, id_))
        assert (act.who, act.what) == ("the daemon", "probation-failed")
        assert act.detail == "2.0.0: it is not here, and has been so for 60 s"


async def test_a_unit_that_comes_and_goes_is_not_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(10.0)
        for _ in range(VANISHES_AT_MOST):
            await house.unplug("panel-1")
            await anyio.sleep(10.0)
            await house.plug("panel-1")
            await anyio.sleep(10.0)
        assert await house.latches() == []
        await house.unplug("panel-1")
        await anyio.sleep(1.0)
        (latch,) = await house.latches()
        assert latch.cause.detail == "it came and went 4 times; it is not here"


class Examined:
    """Answers for units that are asked how they are, and for the operator's command."""

    def __init__(
        self, *, asked: list[str | Exception] | None = None, ran: Sequence[str | Exception] = ()
    ) -> None:
        self.answers = {"ask": asked or [], "run": list(ran)}
        self.done: list[tuple[str, str]] = []

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address
        return await self._answer("ask", expected_version)

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address
        return await self._answer("run", expected_version)

    async def _answer(self, what: str, expected_version: str) -> str:
        self.done.append((what, expected_version))
        await anyio.sleep(1.0)
        answer = self.answers[what].pop(0) if self.answers[what] else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


def asking(*, asks: bool = False, runs: bool = False, roll_back: bool = True) -> ClassPolicy:
    rule = HealthRule(soak_s=SOAK_S, return_within_s=60.0, asks=asks, runs=runs)
    return ClassPolicy(name=PANEL, health=rule, roll_back=roll_back)


def examining(examined: Examined) -> Callable[[House], None]:
    def change(house: House) -> None:
        house.warden.aftercare.examine = examined

    return change


ILL: Final = ["a", "b", "exit status 1: no heartbeat"]
"""A command that fails however often it is run."""


async def test_it_goes_back_once_and_is_not_given_the_other_again() -> None:
    unit, examined = Unit(), Examined(ran=["", *ILL])
    async with living({"panel-1": unit}, policies=[asking(runs=True)], change=examining(examined)) as house:
        await good_with(house)
        await on_probation(house)
        await anyio.sleep(SOAK_S + 60.0)
        await house.quiet()
        assert unit.runs == content("1.0.0")
        device = await house.device("panel-1")
        assert device.good is not None
        assert device.good.version == "1.0.0"
        assert examined.done == [("run", "1.0.0"), *[("run", "2.0.0")] * 3]
        assert await probation(house) is not None, "what ails it may be the unit"
        await anyio.sleep(3 * 86_400.0)
        assert examined.done[4:] == [("run", "1.0.0")]
        assert await probation(house) is None
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * 3
        assert unit.attempts == 3
        (latch,) = await house.latches()
        assert (latch.cause.code, latch.cause.detail) == (CauseCode.UNHEALTHY, ILL[-1])


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


async def test_without_roll_back_it_stays_with_its_latch_until_there_is_a_newer_one() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[replace(POLICY, roll_back=False)]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await anyio.sleep(3_600.0)
        assert unit.runs == content("2.0.0")
        house.drop("1.0.0", "2.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")


async def test_where_nothing_good_is_known_it_stays_and_why_says_so() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        why = await house.desk.why(id_)
        assert "nothing is known to which it could go back" in why["should_run"]
        assert why["next"].startswith("Nothing, until a person lifts the latch or another image is released.")
        assert f"firmwarden clear {id_}" in why["commands"]


async def test_a_unit_that_is_ill_with_its_good_image_too_is_left_alone_until_there_is_a_newer_one() -> None:
    unit, examined = Unit(), Examined(ran=["", "", *ILL, *ILL])
    policy = replace(asking(runs=True), allow_downgrade=True)
    async with living({"panel-1": unit}, policies=[policy], change=examining(examined)) as house:
        await good_with(house)
        house.drop("1.0.0", "2.0.0")
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        house.drop("1.0.0", "2.0.0", "3.0.0")
        await house.quiet()
        await anyio.sleep(3 * SOAK_S)
        assert unit.runs == content("2.0.0")
        assert [latch.image for latch in await house.latches()] == [
            release("3.0.0").image,
            release("2.0.0").image,
        ]
        await anyio.sleep(3 * 86_400.0)
        assert (unit.runs, unit.attempts) == (content("2.0.0"), 4), (
            "no further back, though that may be given"
        )
        why = await house.desk.why((await house.device("panel-1")).id)
        assert (
            "2.0.0 did not keep well on it, with which it did before: it is left alone" in why["should_run"]
        )
        house.drop("1.0.0", "2.0.0", "3.0.0", "4.0.0")
        await house.quiet()
        assert unit.runs == content("4.0.0")


async def test_inv3_who_lifts_the_latch_has_to_say_that_it_is_to_be_tried_again() -> None:
    unit, examined = Unit(), Examined(ran=["", *ILL])
    async with living({"panel-1": unit}, policies=[asking(runs=True)], change=examining(examined)) as house:
        await good_with(house)
        await on_probation(house)
        await anyio.sleep(3 * SOAK_S)
        id_ = (await house.device("panel-1")).id
        await house.desk.clear(id_, who="ann")
        await anyio.sleep(86_400.0)
        assert unit.runs == content("1.0.0")
        why = await house.desk.why(id_)
        assert why["next"] == (
            "Nothing by itself: it was given 2.0.0 before, and that did not go well. "
            "A new release or a retry starts another job."
        )
        assert why["commands"] == [f"firmwarden retry {id_}"]
        await house.desk.retry(id_, who="ann")
        await house.quiet()
        assert unit.runs == content("2.0.0")
        await anyio.sleep(SOAK_S + 60.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert good.version == "2.0.0", "whatever ailed it is mended"


async def test_whoever_pinned_it_has_chosen() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await house.desk.pin((await house.device("panel-1")).id, "2.0.0", who="ann")
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_wear_keeps_it_from_going_back_today() -> None:
    unit = Unit()
    policy = replace(POLICY, budgets=Budgets(erases_a_day=2))
    async with living({"panel-1": unit}, policies=[policy]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await anyio.sleep(60.0)
        assert [wait.kind for wait in house.warden.agenda.waits.values()] == [WaitKind.WEAR]
        await anyio.sleep(86_400.0)
        assert unit.runs == content("1.0.0")


async def test_a_way_back_that_fails_waits_for_a_person_or_something_newer() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        unit.script.append(fails(CauseCode.NOT_AUTHORIZED, Step.PROBE))
        await house.plug("panel-1")
        await anyio.sleep(86_400.0)
        assert unit.runs == content("2.0.0")
        assert [latch.cause.code for latch in await house.latches()] == [
            CauseCode.UNHEALTHY,
            CauseCode.NOT_AUTHORIZED,
        ]
        why = await house.desk.why((await house.device("panel-1")).id)
        assert "nothing is known to which it could go back" in why["should_run"]
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")


async def test_a_way_back_that_was_cut_goes_on_without_its_release() -> None:
    """Also when what it ran is erased by then, and nobody has the release any more."""
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        house.drop("2.0.0")
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        unit.script.extend([fails(CauseCode.LINK_LOST)] * 2)
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("1.0.0")
        assert [attempt.version for attempt in await house.attempts("panel-1")][-3:] == ["1.0.0"] * 3


async def test_a_person_s_recall_takes_back_also_who_kept_well_and_where_the_class_does_not() -> None:
    units = {"panel-1": Unit(), "panel-2": Unit()}
    async with living(units, policies=[ClassPolicy(name=PANEL)]) as house:
        house.drop("1.0.0")
        await house.quiet()
        house.drop("1.0.0", "2.0.0")
        await house.quiet()
        cause = Cause(code=CauseCode.RECALLED, detail="ann: it forgets its calibration")
        image, now = release("2.0.0").image, house.clock.wall()
        await house.store.run(
            lambda ledger: ledger.latch(
                LatchScope.IMAGE, device=None, image=image, cause=cause, attempt=None, now=now
            )
        )
        await house.quiet()
        assert [unit.runs for unit in units.values()] == [content("1.0.0")] * 2
        await anyio.sleep(86_400.0)
        assert [unit.attempts for unit in units.values()] == [3, 3]


async def test_another_update_overtakes_a_probation() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "1.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2)
        await on_probation(house)
        await anyio.sleep(SOAK_S - 60.0)
        standing = await probation(house)
        assert standing is not None
        assert standing.version == "2.0.0"
        await anyio.sleep(120.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert (device.good.version, device.good_before) == ("2.0.0", None)
        counted = (await house.store.run(lambda ledger: ledger.counted(0.0))).probations
        assert {row.outcome: row.probations for row in counted} == {"overtaken": 1, "passed": 1}


async def test_a_person_s_word_overtakes_a_probation() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        await house.desk.adopt(id_, old=None, running="9.0.0", who="ann")
        await anyio.sleep(60.0)
        assert await probation(house) is None
        assert (await house.device("panel-1")).good is None


async def test_inv5_a_soak_goes_on_after_a_restart(tmp_path: Path) -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY], path=tmp_path / "db") as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2 + 60.0)
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY], path=tmp_path / "db") as house:
        await anyio.sleep(SOAK_S / 2 - 60.0)
        assert await probation(house) is not None
        await anyio.sleep(120.0)
        assert await probation(house) is None


@pytest.mark.parametrize("looked_s", range(0, 30, 7))
async def test_inv2_time_in_which_no_scan_can_be_recorded_is_not_held_against_a_unit(looked_s: int) -> None:
    full = False

    def before_commit() -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")

    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY], before_commit=before_commit) as house:
        await house.quiet()
        await anyio.sleep(60.0 + looked_s)
        await house.unplug("panel-1")
        await anyio.sleep(5.0)
        full = True
        with pytest.raises(StoreError):
            await house.plug("panel-1")
        await anyio.sleep(SOAK_S)
        full = False
        await anyio.sleep(30.0)
        await house.scan()
        await anyio.sleep(60.0)
        assert await house.latches() == []
        standing = await probation(house)
        assert standing is not None, "nor is it time of being well"
        await anyio.sleep(SOAK_S)
        assert await probation(house) is None


async def test_suspend_and_set_clocks_are_no_time_of_being_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        assert isinstance(house.clock, VirtualClock)
        house.clock.suspend(86_400.0)
        house.clock.set(7 * 86_400.0)
        await anyio.sleep(SOAK_S - 120.0)
        assert await probation(house) is not None
        house.clock.set(-14 * 86_400.0)
        await anyio.sleep(180.0)
        assert await probation(house) is None

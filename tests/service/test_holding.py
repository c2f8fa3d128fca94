"""Holds in the whole service: of several owners, for a time, across clocks that are set and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import Refused
from firmwarden.model import THE_DAEMON, DeviceId, Hold, JobState, Wait, WaitKind
from firmwarden.service.holding import in_words, to_take_back, wait_for
from support.house import NOON, living, virtual_time
from support.scripted import Unit

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any

    from support.house import House

ONE = DeviceId("one")
FAIR = Hold(device=None, reason="fair", owner="ann", at=NOON)
LUNCH = Hold(device=ONE, reason="lunch", owner="bob", at=NOON, expires_at=NOON + 60.0)
BENCH = Hold(device=ONE, reason="on the bench", owner="ann", at=NOON, expires_at=NOON + 90.0)


# --- in words -------------------------------------------------------------------------------------------------


def test_holds_are_told_with_owner_reason_and_end() -> None:
    assert in_words([]) is None
    assert in_words([FAIR, LUNCH]) == "ann: fair; bob: lunch (until 2024-10-04T12:01:00.000Z)"


def test_a_wait_ends_when_the_last_hold_does() -> None:
    assert wait_for([]) is None
    assert wait_for([LUNCH, BENCH]) == Wait(
        kind=WaitKind.HOLD,
        detail="the device is held by bob: lunch; the device is held by ann: on the bench",
        until=NOON + 90.0,
    )
    assert wait_for([FAIR, LUNCH]) == Wait(
        kind=WaitKind.HOLD, detail="everything is held by ann: fair; the device is held by bob: lunch"
    )


@pytest.mark.parametrize(
    ("holds", "device", "owner", "who", "found"),
    [
        ([FAIR], None, None, "bob", FAIR),  # the only one, whosever it is
        ([FAIR, LUNCH, BENCH], ONE, None, "bob", LUNCH),
        ([FAIR, LUNCH, BENCH], ONE, "ann", "bob", BENCH),
        ([FAIR, LUNCH, BENCH], None, None, "root", FAIR),
        ([FAIR, LUNCH, BENCH], ONE, None, "root", "one is held by bob, ann, and not by root; --owner NAME"),
        ([FAIR], None, "bob", "ann", "everything is held by ann, and not by bob"),
        ([FAIR], ONE, None, "ann", "one is not held"),
        ([LUNCH, BENCH], None, None, "ann", "there is no hold on everything, only on one$"),
        ([], None, None, "ann", "there is no hold on everything$"),
    ],
)
def test_whose_hold_is_taken_back(
    holds: list[Hold], device: DeviceId | None, owner: str | None, who: str, found: Hold | str
) -> None:
    if isinstance(found, Hold):
        assert to_take_back(holds, device, owner=owner, who=who) == found
        return
    with pytest.raises(Refused, match=found):
        to_take_back(holds, device, owner=owner, who=who)


# --- on virtual time -------------------------------------------------------------------------------------------

virtual = pytest.mark.parametrize("anyio_backend", [virtual_time()])


async def state(house: House) -> JobState:
    await house.planned()
    return (await house.job("panel-1")).state


async def waits_until(house: House) -> float | None:
    """When the hold that the only job waits for ends by itself."""
    (wait,) = house.warden.agenda.waits.values()
    assert wait.kind is WaitKind.HOLD
    return wait.until


async def held_house(house: House, *, for_s: float | None = None, owner: str | None = None) -> None:
    """Hold a unit before there is anything for it, then release something."""
    device = (await house.device("panel-1")).id
    await house.desk.hold(device, reason="on loan", for_s=for_s, owner=owner, who="ann")
    house.drop("2.0.0")
    assert await state(house) is JobState.QUEUED


@pytest.mark.anyio
@virtual
async def test_a_hold_ends_at_its_instant_and_history_says_so(logs: list[MutableMapping[str, Any]]) -> None:
    async with living({"panel-1": Unit()}) as house:
        await held_house(house, for_s=7200.0)
        ends = await waits_until(house)
        assert ends is not None
        assert house.warden.agenda.wake_at == ends
        await anyio.sleep(ends - house.clock.wall() - 0.1)
        assert await state(house) is JobState.QUEUED
        await anyio.sleep(0.15)
        assert (await house.job("panel-1")).state is not JobState.QUEUED, "not at the next look, but at once"
        await house.quiet()
        device = (await house.device("panel-1")).id
        (ended,) = [entry for entry in logs if entry["event"] == "hold-ended"]
        assert (ended["device"], ended["owner"], ended["reason"]) == (device, "ann", "on loan")
        newest, first = (await house.desk.history(device, 9))["actions"]
        assert (newest["who"], newest["what"], newest["target"]) == (THE_DAEMON, "hold-ended", device)
        assert newest["detail"] == "that of ann: on loan"
        assert (first["who"], first["what"]) == ("ann", "hold")
        assert first["detail"] == "on loan until 2024-10-04T14:00:00.000Z"
        (view,) = await house.desk.devices()
        assert (view["held"], view["holds"]) == (None, [])


@pytest.mark.anyio
@virtual
async def test_nobody_is_said_to_have_ended_a_hold_in_whose_name_it_was_set() -> None:
    async with living({"panel-1": Unit()}) as house:
        await house.desk.hold(None, reason="lunch", for_s=1.0, owner="root", who="ann")
        await anyio.sleep(1.1)
        actions = (await house.desk.history(None, 9))["actions"]
        assert [(act["who"], act["what"]) for act in actions] == [(THE_DAEMON, "hold-ended"), ("ann", "hold")]
        assert actions[0]["detail"] == "that of root: lunch"


@pytest.mark.anyio
@virtual
async def test_a_hold_ends_in_time_where_nothing_waits_for_it() -> None:
    async with living({"panel-1": Unit()}) as house:
        await house.desk.hold(None, reason="lunch", for_s=10.0, who="ann")
        assert (await house.desk.status())["holds"][0]["owner"] == "ann"
        await anyio.sleep(10.1)
        assert (await house.desk.status())["held"] is None


@pytest.mark.anyio
@virtual
async def test_what_several_hold_waits_for_the_last_of_them() -> None:
    async with living({"panel-1": Unit()}) as house:
        device = (await house.device("panel-1")).id
        await held_house(house, for_s=60.0, owner="bench")
        await house.desk.hold(device, reason="mine", who="bob")
        with pytest.raises(Refused, match="is held by bench, bob, and not by eve"):
            await house.desk.unhold(device, who="eve")
        why = await house.desk.why(device)
        assert why["commands"][:2] == [
            f"firmwarden unhold {device} --owner bench",
            f"firmwarden unhold {device} --owner bob",
        ]
        assert [hold["owner"] for hold in why["device"]["holds"]] == ["bench", "bob"]
        await anyio.sleep(61.0)
        assert await state(house) is JobState.QUEUED
        await house.desk.unhold(device, who="bob")
        await house.quiet()
        assert await state(house) is JobState.SUCCEEDED


@pytest.mark.anyio
@virtual
@pytest.mark.parametrize("set_by_s", [5_000 * 86_400.0, -5_000 * 86_400.0, 3600.0, -3600.0])
async def test_a_hold_lasts_its_time_whatever_the_clock_is_set_to(set_by_s: float) -> None:
    async with living({"panel-1": Unit()}) as house:
        await held_house(house, for_s=7200.0)
        await anyio.sleep(1800.0)
        house.set_clock(set_by_s)
        assert await state(house) is JobState.QUEUED
        ends = await waits_until(house)
        assert ends == pytest.approx(house.clock.wall() + 5400.0, abs=1.0), (
            "what is told is true of the new clock"
        )
        await anyio.sleep(5390.0)
        assert await state(house) is JobState.QUEUED
        await anyio.sleep(15.0)
        assert await state(house) is JobState.SUCCEEDED


@pytest.mark.anyio
@virtual
@pytest.mark.parametrize("set_by_s", [7200.0, -7200.0])
async def test_a_hold_set_just_after_the_clock_lasts_its_time_too(set_by_s: float) -> None:
    async with living({"panel-1": Unit()}) as house:
        house.set_clock(set_by_s)  # nobody has noticed yet
        await held_house(house, for_s=60.0)
        assert await waits_until(house) == pytest.approx(house.clock.wall() + 60.0, abs=1.0)
        await anyio.sleep(50.0)
        assert await state(house) is JobState.QUEUED
        await anyio.sleep(15.0)
        assert await state(house) is JobState.SUCCEEDED


@pytest.mark.anyio
@virtual
async def test_inv5_a_hold_survives_a_restart_and_a_clock_that_starts_in_the_past(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with living({"panel-1": Unit()}, path=path) as house:
        await held_house(house, for_s=7200.0)
    async with living(
        {"panel-1": Unit()}, "2.0.0", path=path, change=lambda house: house.set_clock(-NOON + 60.0)
    ) as house:
        assert await state(house) is JobState.QUEUED
        assert (await waits_until(house)) == pytest.approx(7260.0, abs=5.0), "its whole time, and no longer"
        house.set_clock(NOON)  # the network told the time
        assert await state(house) is JobState.QUEUED
        await anyio.sleep(7210.0)
        assert await state(house) is JobState.SUCCEEDED

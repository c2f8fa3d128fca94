"""Rollouts in the living service: what is begun when, what stops it, and who is outside of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import NotFound, Refused
from firmwarden.model import Cause, CauseCode, JobState, LatchScope, RolloutState, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from firmwarden.service.rollout import Rule, Stage
from firmwarden.service.staging import LOST_AFTER_S
from support.house import NOON, PANEL, content, living, release, virtual_time
from support.scripted import Play, Unit, fails, held

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from firmwarden.model import Rollout, Wait
    from firmwarden.service.rollout import Progress
    from support.house import House

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
SOAK_S = HOUR_S / 2
RULE = Rule(first=2, soak_s=SOAK_S, waves=(25, 100), stop_at=10)
REFUSES = fails(CauseCode.CLIENT_ERROR)
REFUSES_AT_ONCE = fails(CauseCode.CLIENT_ERROR, at=Step.PROBE)
"""Before anything was erased."""
SETTLED_S = 60.0
"""Enough for everything that can happen at once."""


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def with_rule(rule: Rule = RULE) -> list[ClassPolicy]:
    return [ClassPolicy(name=PANEL, rollout=rule)]


def rack(number: int = 24) -> dict[str, Unit]:
    return {f"panel-{each:02}": Unit() for each in range(number)}


async def in_turn(house: House, units: dict[str, Unit]) -> list[str]:
    """The names of the units, in the order in which they are given something."""
    known = [((await house.device(name)).id, name) for name in units]
    return [name for _, name in sorted(known)]


def running(units: dict[str, Unit], version: str = "2.0.0") -> int:
    return sum(unit.runs == content(version) for unit in units.values())


def tried(units: dict[str, Unit]) -> int:
    return sum(unit.attempts > 0 for unit in units.values())


def progress(house: House) -> Progress:
    (found,) = house.warden.agenda.rollouts
    return found


async def stored(house: House) -> list[Rollout]:
    return await house.store.run(lambda ledger: ledger.rollouts())


async def wait_of(house: House, name: str) -> Wait:
    await house.planned()
    return house.warden.agenda.waits[(await house.job(name)).id]


def events(entries: Sequence[MutableMapping[str, Any]]) -> list[str]:
    return [each["event"] for each in entries if each["event"].startswith(("rollout", "wave"))]


async def test_a_release_goes_to_two_then_to_a_quarter_then_to_all(
    logs: list[MutableMapping[str, Any]],
) -> None:
    units = rack()
    async with living(units, "2.0.0", policies=with_rule()) as house:
        await anyio.sleep(SETTLED_S)
        order = await in_turn(house, units)
        assert [name for name in order if units[name].attempts] == order[:2]
        waits = await wait_of(house, order[2])
        assert waits.kind is WaitKind.CANARY
        assert waits.detail == (
            "2.0.0 soaks on 2 canaries; this one has its turn in wave 1 of 2 (6 of 24 devices)"
        )
        assert waits.until == pytest.approx(NOON + SOAK_S, abs=5.0)
        await anyio.sleep(SOAK_S - 2 * SETTLED_S)
        assert running(units) == tried(units) == 2
        await anyio.sleep(2 * SETTLED_S)
        assert [name for name in order if units[name].attempts] == order[:6]
        await anyio.sleep(SOAK_S - 2 * SETTLED_S)
        assert running(units) == 6
        await anyio.sleep(2 * SETTLED_S)
        assert running(units) == 24
        assert progress(house).rollout.state is RolloutState.DONE
    assert events(logs) == ["rollout-started", "wave-started", "wave-started", "rollout-done"]


async def test_what_was_just_begun_is_told_at_once() -> None:
    units = rack(4)
    async with living(units, policies=with_rule()) as house:
        for unit in units.values():
            unit.script.append(Play(seconds=HOUR_S))
        house.drop("2.0.0")
        await anyio.sleep(1.0)
        assert progress(house).count(Stage.UNDER_WAY) == 2


async def test_a_class_without_a_rule_has_everything_at_once() -> None:
    units = rack(5)
    async with living(units, "2.0.0") as house:
        await house.quiet()
        assert running(units) == 5
        assert (house.warden.agenda.rollouts, await stored(house)) == ([], [])


async def test_it_stops_at_a_canary_that_refuses_and_goes_on_when_a_person_says_so(
    logs: list[MutableMapping[str, Any]],
) -> None:
    units = rack()
    for unit in units.values():
        unit.script.append(REFUSES)
    async with living(units, "2.0.0", policies=with_rule(replace(RULE, first=1))) as house:
        await anyio.sleep(6 * HOUR_S)
        assert tried(units) == 1
        assert "rollout-stopped" in events(logs)
        order = await in_turn(house, units)
        waits = await wait_of(house, order[1])
        assert waits.until is None
        assert waits.detail == (
            "the rollout of 2.0.0 stopped at 1 canary: 1 of 1 device failed; `firmwarden resume panel` lets it go on, "
            "`firmwarden recall panel --reason TEXT` takes it back where it runs"
        )
        for name in order[2:]:
            units[name].script.clear()
        assert await house.desk.resume(PANEL, who="ann") == (
            "the rollout of panel 2.0.0 goes on where it stopped"
        )
        await anyio.sleep(2 * HOUR_S)
        assert tried(units) < 24, "the second one refuses too"
        assert progress(house).rollout.state is RolloutState.STOPPED
        await house.desk.resume(PANEL, who="ann")
        await anyio.sleep(2 * HOUR_S)
        assert running(units) == 22
        (latest, *_) = await house.store.run(lambda ledger: ledger.actions(1))
        assert (latest.who, latest.what, latest.target, latest.detail) == ("ann", "resume", "panel", "2.0.0")
        with pytest.raises(Refused, match="no rollout of panel has stopped"):
            await house.desk.resume(PANEL, who="ann")
        with pytest.raises(NotFound, match="there is no class 'pannel', only panel"):
            await house.desk.resume("pannel", who="ann")


async def test_it_stops_when_its_image_is_latched_and_cannot_be_resumed_before_that_is_lifted() -> None:
    units = rack()
    for unit in units.values():
        unit.script.append(fails(CauseCode.INVALID_FILE))
    async with living(units, "2.0.0", policies=with_rule(replace(RULE, stop_at=100))) as house:
        await anyio.sleep(6 * HOUR_S)
        assert tried(units) == 2
        assert progress(house).rollout.reason == "its image is latched (invalid-file)"
        image = release("2.0.0").image[:12]
        with pytest.raises(Refused, match=f"the image of 2.0.0 is latched; `firmwarden clear {image}` first"):
            await house.desk.resume(PANEL, who="ann")
        await house.desk.clear(image, who="ann")
        await house.desk.resume(PANEL, who="ann")
        await anyio.sleep(2 * HOUR_S)
        assert tried(units) > 2


async def test_inv5_a_restart_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    units, path = rack(), tmp_path / "state.db"
    async with living(units, "2.0.0", policies=with_rule(), path=path) as house:
        await anyio.sleep(SOAK_S + SETTLED_S)
        assert running(units) == 6
        (before,) = await stored(house)
    async with living(units, "2.0.0", policies=with_rule(), path=path) as house:
        await anyio.sleep(SETTLED_S)
        assert (tried(units), progress(house).rollout.wave) == (6, before.wave)
        await anyio.sleep(SOAK_S + SETTLED_S)
        assert running(units) == 24


@pytest.mark.parametrize("jump_s", [-5_000 * 24 * HOUR_S, -HOUR_S, HOUR_S, 30 * 24 * HOUR_S])
async def test_a_clock_that_is_set_neither_shortens_nor_lengthens_a_soak(jump_s: float) -> None:
    units = rack()
    async with living(units, "2.0.0", policies=with_rule()) as house:
        await anyio.sleep(SOAK_S / 2)
        house.set_clock(jump_s)
        await anyio.sleep(SOAK_S / 2 - 2 * SETTLED_S)
        assert running(units) == 2
        await anyio.sleep(4 * SETTLED_S)
        assert running(units) == 6


async def test_a_newer_release_begins_anew_and_the_old_one_goes_no_further() -> None:
    units = rack()
    async with living(units, "2.0.0", policies=with_rule()) as house:
        await anyio.sleep(SETTLED_S)
        order = await in_turn(house, units)
        units[order[0]].script.append(Play(seconds=HOUR_S / 4))
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(SETTLED_S)
        assert progress(house).rollout.version == "3.0.0"
        await anyio.sleep(3 * HOUR_S)
        assert running(units, "3.0.0") == 24
        assert [each.state for each in await stored(house)] == [RolloutState.CANARY, RolloutState.DONE]


@pytest.mark.parametrize("begun", [True, False], ids=["stopped", "never begun"])
async def test_who_refuses_what_is_newer_is_not_given_what_went_no_further(begun: bool) -> None:
    units = rack(8)
    async with living(units, "1.0.0") as house:
        await house.quiet()
        house.warden.configure({PANEL: with_rule()[0]}, 16, {})
        for unit in units.values():
            unit.script.append(REFUSES_AT_ONCE)
        if begun:
            house.drop("1.0.0", "2.0.0")
            await anyio.sleep(HOUR_S)
            assert progress(house).rollout.state is RolloutState.STOPPED
            for name in [name for name, unit in units.items() if unit.attempts == 2]:
                await house.unplug(name)  # else they are the first to be tried with the newer one, too
        house.drop("1.0.0", "2.0.0", "3.0.0")
        await anyio.sleep(6 * HOUR_S)
        assert progress(house).rollout.version == "3.0.0"
        assert progress(house).rollout.state is RolloutState.STOPPED
        assert running(units, "1.0.0") == 8
        (name, *others) = [name for name in units if (await house.job(name)).version == "2.0.0"]
        device = (await house.device(name)).id
        wait = await wait_of(house, name)
        assert (wait.kind, wait.until) == (WaitKind.PASSED_OVER, None)
        assert (await house.desk.status())["waiting_for_you"] == 1 + len(others)
        assert wait.detail == (
            "3.0.0 is latched for it, and 2.0.0 had not gone to all when that came; "
            f"`firmwarden pin {device} 2.0.0` gives it all the same"
        )
        await house.desk.pin(device, "2.0.0", who="ann")
        await anyio.sleep(SETTLED_S)
        assert (units[name].runs, running(units, "1.0.0")) == (content("2.0.0"), 7)


@pytest.mark.parametrize("ruled", [True, False], ids=["went to all", "before there was a rule"])
async def test_who_refuses_what_is_newer_is_given_what_went_out(ruled: bool) -> None:
    units = rack(5)
    late = units["panel-04"]
    async with living(units, policies=with_rule() if ruled else [ClassPolicy(name=PANEL)]) as house:
        await house.unplug("panel-04")
        house.drop("2.0.0")
        await anyio.sleep(2 * HOUR_S)
        house.warden.configure({PANEL: with_rule()[0]}, 16, {})
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(2 * HOUR_S)
        assert progress(house).rollout.state is RolloutState.DONE
        late.script.append(REFUSES_AT_ONCE)
        await house.plug("panel-04")
        await anyio.sleep(SETTLED_S)
        assert (running(units, "3.0.0"), late.runs) == (4, content("2.0.0"))


async def test_a_release_that_is_dropped_again_goes_on_where_it_was() -> None:
    units = rack()
    async with living(units, "2.0.0", policies=with_rule()) as house:
        await anyio.sleep(SOAK_S + SETTLED_S)
        house.drop()
        await anyio.sleep(HOUR_S)
        assert (running(units), house.warden.agenda.rollouts) == (6, [])
        house.drop("2.0.0")
        await anyio.sleep(SETTLED_S)
        assert (progress(house).rollout.wave >= 1, len(await stored(house))) == (True, 1)
        await anyio.sleep(SOAK_S + SETTLED_S)
        assert running(units) == 24


async def test_a_pinned_unit_is_outside() -> None:
    units = rack(6)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        await house.desk.pin((await house.device(order[-1])).id, "2.0.0", who="ann")
        house.drop("2.0.0")
        await anyio.sleep(SETTLED_S)
        assert units[order[-1]].runs == content("2.0.0")
        assert running(units) == 3
        assert len(progress(house).members) == 5


async def test_a_unit_without_a_complete_image_is_rescued_also_when_it_stopped() -> None:
    units = rack(6)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        units[order[0]].script.append(REFUSES)
        broken = (await house.device(order[-1])).id
        house.drop("2.0.0")
        await anyio.sleep(SETTLED_S)
        assert progress(house).rollout.state is RolloutState.STOPPED
        before = tried(units)
        await house.store.run(lambda ledger: ledger.set_complete(broken, complete=False))
        await anyio.sleep(SETTLED_S)
        assert (tried(units), units[order[-1]].runs) == (before + 1, content("2.0.0"))


async def test_who_is_away_is_replaced_and_waits_for_the_wave_when_it_comes() -> None:
    units = rack(12)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        await house.unplug(order[0])
        house.drop("2.0.0")
        await anyio.sleep(SETTLED_S)
        assert [name for name in order if units[name].attempts] == order[1:3]
        await house.plug(order[0])
        await anyio.sleep(SETTLED_S)
        assert (await wait_of(house, order[0])).kind is WaitKind.CANARY
        await anyio.sleep(SOAK_S)
        assert units[order[0]].runs == content("2.0.0")


async def test_a_unit_that_went_away_in_the_middle_counts_as_failed_after_a_day() -> None:
    units = rack(12)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        units[order[0]].script.extend([fails(CauseCode.LINK_LOST)] * 3)
        house.drop("2.0.0")
        await anyio.sleep(1.0)
        await house.unplug(order[0])
        await anyio.sleep(LOST_AFTER_S - HOUR_S)
        assert (tried(units), progress(house).rollout.state) == (2, RolloutState.CANARY)
        await anyio.sleep(2 * HOUR_S)
        assert (tried(units), progress(house).rollout.state) == (2, RolloutState.STOPPED)


async def test_who_is_away_for_a_moment_in_the_last_wave_gets_it_no_less_carefully() -> None:
    units = rack()
    async with living(units, "2.0.0", policies=with_rule()) as house:
        await anyio.sleep(SOAK_S + SETTLED_S)
        await house.desk.hold(None, reason="the shop is open", who="ann")
        await anyio.sleep(HOUR_S)
        assert (running(units), progress(house).rollout.wave) == (6, 2)
        left = [unit for unit in units.values() if not unit.attempts]
        await house.plug_only(*(name for name, unit in units.items() if unit.attempts))
        await house.planned()
        await house.plug_only(*units)
        for unit in left:
            unit.script.append(REFUSES)
        house.warden.configure({PANEL: ClassPolicy(name=PANEL, rollout=RULE, parallel=1)}, 16, {})
        await house.desk.unhold(None, who="ann")
        await anyio.sleep(2 * HOUR_S)
        assert progress(house).rollout.state is RolloutState.STOPPED
        assert tried(units) == 7, "the first failure of seven is more than a tenth"


async def test_a_port_that_somebody_has_keeps_no_place() -> None:
    units = rack(12)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        units[order[0]].script.extend([held()] * 1_000)
        house.drop("2.0.0")
        await anyio.sleep(3 * HOUR_S)
        assert running(units) == 11
        assert progress(house).rollout.state is RolloutState.WAVES, "not all that are here have it"


async def test_an_unknown_outcome_is_waited_for_and_counts_as_failed_when_it_stays_so() -> None:
    units = rack(12)
    async with living(units, policies=with_rule(replace(RULE, first=1))) as house:
        order = await in_turn(house, units)
        lost = Play(at=Step.LEAVE, end="answer-lost")
        units[order[0]].script.append(lost)
        units[order[0]].answers.extend([fails(CauseCode.NO_ANSWER)] * 100)
        house.drop("2.0.0")
        await anyio.sleep(5.0)
        assert (await house.job(order[0])).state is JobState.UNKNOWN
        assert progress(house).count(Stage.UNDER_WAY) == 1
        await anyio.sleep(2 * HOUR_S)
        assert (tried(units), progress(house).rollout.state) == (1, RolloutState.STOPPED)


async def test_who_is_asked_what_became_of_an_update_has_its_turn_with_the_next_one_afterwards() -> None:
    units = rack(6)
    rule = replace(RULE, first=1)
    async with living(units, policies=[ClassPolicy(name=PANEL)]) as house:
        for unit in units.values():
            unit.script.append(Play(at=Step.LEAVE, end="lost"))
            unit.answers.append(Play(end="lost"))
        house.drop("2.0.0")
        await anyio.sleep(1.0)
        assert [(await house.job(name)).state for name in units] == [JobState.UNKNOWN] * 6
        assert running(units) == 0, "each is in its loader, with an image that is whole"
        for unit in units.values():
            unit.script.append(REFUSES_AT_ONCE)
        house.warden.configure({PANEL: ClassPolicy(name=PANEL, rollout=rule)}, 16, {})
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(HOUR_S)
        assert running(units) == 6, "a question has started each"
        assert progress(house).rollout.state is RolloutState.STOPPED
        assert progress(house).count(Stage.FAILED) == 1
        assert progress(house).count(Stage.WAITING) == 5


async def test_on_probation_is_not_well_yet_and_who_goes_back_has_failed() -> None:
    units = rack(12)
    policy = ClassPolicy(name=PANEL, health=HealthRule(soak_s=600.0, return_within_s=60.0), roll_back=True)
    async with living(units, "1.0.0", policies=[policy]) as house:
        await anyio.sleep(HOUR_S)
        house.warden.configure({PANEL: replace(policy, rollout=RULE)}, 16, {})
        house.drop("1.0.0", "2.0.0")
        await anyio.sleep(SETTLED_S)
        assert (running(units), progress(house).count(Stage.PROVING)) == (2, 2)
        assert progress(house).until is None, "nothing soaks before they have shown that they keep well"
        order = await in_turn(house, units)
        await house.unplug(order[0])
        await anyio.sleep(2 * SETTLED_S)
        assert progress(house).rollout.reason == "1 of 2 devices failed"
        await house.plug(order[0])
        await anyio.sleep(HOUR_S)
        assert units[order[0]].runs == content("1.0.0"), "no rollout keeps it from going back"
        assert (running(units), progress(house).count(Stage.GOOD, Stage.FAILED)) == (1, 2)
        await house.desk.resume(PANEL, who="ann")
        await anyio.sleep(4 * HOUR_S)
        assert running(units) == 11
        assert progress(house).rollout.state is RolloutState.DONE


async def test_a_release_is_called_back_and_those_that_run_it_go_back() -> None:
    units = rack()
    async with living(units, "1.0.0") as house:
        await house.quiet()
        rule = {PANEL: ClassPolicy(name=PANEL, rollout=RULE)}
        house.warden.configure(rule, 16, {})
        house.drop("1.0.0", "2.0.0")
        await anyio.sleep(SOAK_S + SETTLED_S)
        assert running(units) == 6
        said = await house.desk.recall(PANEL, reason="it hums", who="ann")
        assert said == (
            "2.0.0 of panel is called back: no device is given it any more; 6 run it, and what kept well before "
            "goes back to that"
        )
        await anyio.sleep(SETTLED_S)
        assert running(units, "1.0.0") == 24, "going back is no experiment: all at once"
        (latch,) = await house.latches()
        assert (latch.scope, latch.cause.code) == (LatchScope.IMAGE, CauseCode.RECALLED)
        assert latch.cause.detail == "called back by ann: it hums"
        (rollout,) = (each for each in await stored(house) if each.version == "2.0.0")
        assert (rollout.state, rollout.changed_by, rollout.reason) == (
            RolloutState.RECALLED,
            "ann",
            "it hums",
        )
        (act,) = await house.store.run(lambda ledger: ledger.actions(1))
        assert (act.what, act.target, act.detail) == ("recall", "panel", "2.0.0: it hums")
        with pytest.raises(Refused, match=r"2\.0\.0 was called back already"):
            await house.desk.recall(PANEL, reason="it hums", who="ann")
        await house.desk.clear(release("2.0.0").image, who="ann")
        await anyio.sleep(HOUR_S)
        assert running(units) == 0, "that alone does not let it go on"
        await house.desk.resume(PANEL, who="ann")
        await anyio.sleep(2 * HOUR_S)
        assert running(units) == 24


async def test_what_was_called_back_and_taken_away_stops_nobody_any_more() -> None:
    async with living(rack(), "1.0.0") as house:
        await house.quiet()
        house.warden.configure({PANEL: ClassPolicy(name=PANEL, rollout=RULE)}, 16, {})
        house.drop("1.0.0", "2.0.0")
        await anyio.sleep(SETTLED_S)
        await house.desk.recall(PANEL, reason="it hums", who="ann")
        await anyio.sleep(SETTLED_S)
        assert all(view["latched"] for view in await house.desk.devices())
        assert (await house.desk.status())["latches"] == 1
        house.drop("1.0.0")
        await house.planned()
        assert not any(view["latched"] for view in await house.desk.devices()), "to most it was never given"
        assert (await house.desk.status())["latches"] == 0
        assert len(await house.latches()) == 1, "it would be in force again"


async def test_a_release_is_called_back_that_a_device_latched_before() -> None:
    units = rack(4)
    async with living(units, "2.0.0") as house:
        await house.quiet()
        image = release("2.0.0").image
        cause = Cause(code=CauseCode.INVALID_FILE)
        await house.store.run(
            lambda ledger: ledger.latch(
                LatchScope.IMAGE, device=None, image=image, cause=cause, attempt=None, now=NOON
            )
        )
        await house.desk.recall(PANEL, reason="it hums", who="ann")
        (latch,) = await house.latches()
        assert latch.cause.code is CauseCode.RECALLED


async def test_without_a_release_there_is_nothing_to_call_back() -> None:
    async with living(rack(1), policies=with_rule()) as house:
        with pytest.raises(Refused, match="no release of panel is in the firmware directory"):
            await house.desk.recall(PANEL, reason="it hums", who="ann")


async def test_units_that_had_it_before_there_was_a_rule_make_no_rollout() -> None:
    units = rack(4)
    async with living(units, "2.0.0") as house:
        await house.quiet()
        house.warden.configure({PANEL: ClassPolicy(name=PANEL, rollout=RULE)}, 16, {})
        await house.planned()
        assert (house.warden.agenda.rollouts, await stored(house)) == ([], [])


async def test_adopting_and_forgetting_do_not_disturb_it() -> None:
    units = rack(12)
    async with living(units, policies=with_rule()) as house:
        order = await in_turn(house, units)
        units[order[0]].script.append(REFUSES)
        house.drop("2.0.0")
        await anyio.sleep(SETTLED_S)
        assert progress(house).rollout.state is RolloutState.STOPPED
        await house.unplug(order[0])
        await house.desk.forget((await house.device(order[0])).id, who="ann")
        await anyio.sleep(HOUR_S)
        assert progress(house).rollout.state is RolloutState.STOPPED, "who stopped it is a person's to judge"
        await house.desk.resume(PANEL, who="ann")
        await anyio.sleep(2 * HOUR_S)
        assert running(units) == 11

"""How a release goes out: to a few first, then in waves, and no further when too many fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import DeviceId, Rollout, RolloutState, WaitKind
from firmwarden.service.rollout import Member, Rule, Stage, look, resumed, standing, wait_of
from support.house import NOON, PANEL, release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.service.rollout import Progress

SOAK_S = 1800.0
RULE = Rule(first=2, soak_s=SOAK_S, waves=(25, 100), stop_at=10)
BEGUN = Rollout(
    device_class=PANEL,
    image=release("2.0.0").image,
    version="2.0.0",
    state=RolloutState.CANARY,
    began_at=NOON,
    wave_at=NOON,
)
GOING = {RolloutState.CANARY, RolloutState.WAVES}


def members(*stages: Stage) -> list[Member]:
    """Units named a, b, c..., of which the first has been here longest."""
    return [
        Member(device=DeviceId(chr(ord("a") + number)), stage=stage, since=float(number))
        for number, stage in enumerate(stages)
    ]


def waiting(number: int) -> list[Stage]:
    return [Stage.WAITING] * number


def names(progress: Progress) -> str:
    return "".join(sorted(progress.admitted))


# --- how many, and who ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "places"),
    [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [2, 2, 2]), (9, [2, 3, 9]), (24, [2, 6, 24]), (25, [2, 7, 25])],
)
def test_a_wave_has_its_share_of_the_units_but_never_fewer_than_the_canaries(
    units: int, places: list[int]
) -> None:
    assert [RULE.places(wave, units) for wave in range(3)] == places


def test_the_canaries_are_those_that_have_been_here_longest() -> None:
    progress = look(RULE, BEGUN, members(*waiting(24)), now=NOON)
    assert (progress.rollout, names(progress)) == (BEGUN, "ab")
    wait = wait_of(progress, 1)
    assert (wait.kind, wait.until) == (WaitKind.CANARY, None)
    assert wait.detail == (
        "2.0.0 goes to 2 canaries, of which 0 run it well so far; "
        "this one has its turn in wave 1 of 2 (6 of 24 devices)"
    )
    assert progress.turns() == {
        member.device: 0 if number < 2 else 1 if number < 6 else 2
        for number, member in enumerate(progress.members)
    }


def test_who_cannot_be_tried_keeps_no_place_from_who_can() -> None:
    first, second, third, *others = members(*waiting(6))
    away = [replace(first, here=False, ready=False), replace(second, ready=False), third, *others]
    assert names(look(RULE, BEGUN, away, now=NOON)) == "cd"


def test_what_is_begun_now_is_told_as_under_way() -> None:
    progress = look(RULE, BEGUN, members(Stage.FAILED, *waiting(3)), now=NOON)
    begun = progress.with_begun({DeviceId("a"), DeviceId("b")})
    assert [member.stage for member in begun.members] == [Stage.FAILED, Stage.UNDER_WAY, *waiting(2)]


def test_who_was_tried_keeps_the_place_whatever_became_of_it() -> None:
    rule = replace(RULE, stop_at=100)
    for stage in (Stage.UNDER_WAY, Stage.PROVING, Stage.GOOD, Stage.FAILED):
        _, *others = members(*waiting(6))
        tried = Member(device=DeviceId("a"), stage=stage, here=False, ready=False)
        assert names(look(rule, BEGUN, [tried, *others], now=NOON)) == "ab"


def test_who_runs_it_already_counts() -> None:
    progress = look(RULE, BEGUN, members(Stage.GOOD, Stage.GOOD, *waiting(4)), now=NOON)
    assert (progress.until, names(progress)) == (NOON + SOAK_S, "ab")


# --- when it goes on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [Stage.UNDER_WAY, Stage.PROVING, Stage.WAITING])
def test_nothing_soaks_before_all_of_the_wave_keep_well(second: Stage) -> None:
    soaking = replace(BEGUN, soaks_since=NOON)
    progress = look(RULE, soaking, members(Stage.GOOD, second, *waiting(4)), now=NOON + 2 * SOAK_S)
    assert (progress.rollout, progress.until) == (BEGUN, None)


def test_a_wave_soaks_for_its_time() -> None:
    units = members(Stage.GOOD, Stage.GOOD, *waiting(22))
    progress = look(RULE, BEGUN, units, now=NOON)
    assert progress.rollout == replace(BEGUN, soaks_since=NOON)
    wait = wait_of(progress, 1)
    assert (wait.detail, wait.until) == (
        "2.0.0 soaks on 2 canaries; this one has its turn in wave 1 of 2 (6 of 24 devices)",
        NOON + SOAK_S,
    )
    assert wait_of(progress, 2).until is None, "there is another soak before it"
    few = look(RULE, BEGUN, members(Stage.GOOD, Stage.GOOD, *waiting(4)), now=NOON)
    assert wait_of(few, 2).until == NOON + SOAK_S, "a quarter of six are the canaries themselves"
    again = look(RULE, progress.rollout, units, now=NOON + SOAK_S - 1.0)
    assert (again.rollout, names(again)) == (progress.rollout, "ab")
    over = look(RULE, progress.rollout, units, now=NOON + SOAK_S)
    assert over.rollout == replace(BEGUN, state=RolloutState.WAVES, wave=1, wave_at=NOON + SOAK_S)
    assert names(over) == "abcdef"
    assert standing(over) == "goes to wave 1 of 2 (6 of 24 devices), of which 2 run it well so far"


def test_a_soak_that_a_clock_ahead_dated_begins_anew() -> None:
    units = members(Stage.GOOD, Stage.GOOD, *waiting(2))
    ahead = replace(BEGUN, soaks_since=NOON + 5_000 * 86_400.0)
    progress = look(RULE, ahead, units, now=NOON)
    assert (progress.rollout.soaks_since, progress.until) == (NOON, NOON + SOAK_S)


def test_after_the_last_wave_there_is_no_limit() -> None:
    last = replace(BEGUN, state=RolloutState.WAVES, wave=2)
    for stage in (Stage.WAITING, Stage.UNDER_WAY, Stage.PROVING):
        progress = look(RULE, last, members(Stage.GOOD, Stage.GOOD, stage), now=NOON)
        assert (progress.rollout, names(progress)) == (last, "abc")
    away = replace(members(*waiting(3))[2], here=False, ready=False)
    done = look(RULE, last, [*members(Stage.GOOD, Stage.GOOD), away], now=NOON)
    assert (done.rollout.state, names(done)) == (RolloutState.DONE, "abc")
    later = look(RULE, done.rollout, members(Stage.GOOD, *waiting(20)), now=NOON)
    assert (later.rollout, len(later.admitted)) == (done.rollout, 21)


def test_waves_that_have_no_place_more_are_left_out() -> None:
    """Two units and two canaries: after the soak there is nobody left to go to."""
    soaked = replace(BEGUN, soaks_since=NOON)
    progress = look(RULE, soaked, members(Stage.GOOD, Stage.GOOD), now=NOON + SOAK_S)
    assert (progress.rollout.state, progress.rollout.wave) == (RolloutState.DONE, 2)


def test_a_class_without_any_unit_left_is_not_done() -> None:
    assert look(RULE, BEGUN, [], now=NOON).rollout == BEGUN


# --- when it stops -------------------------------------------------------------------------------------------


def test_it_stops_when_failures_pass_their_share() -> None:
    wave = replace(BEGUN, state=RolloutState.WAVES, wave=2, soaks_since=NOON)
    nine = [Stage.GOOD] * 9
    at_the_share = look(RULE, wave, members(*nine, Stage.FAILED, *waiting(4)), now=NOON)
    assert at_the_share.rollout.state is RolloutState.WAVES, "a tenth is not more than a tenth"
    beyond = look(RULE, wave, members(*nine[1:], Stage.FAILED, *waiting(4)), now=NOON)
    assert beyond.rollout == replace(
        wave, state=RolloutState.STOPPED, soaks_since=None, reason="1 of 9 devices failed"
    )
    assert beyond.admitted == frozenset()
    assert wait_of(beyond, 2).detail == (
        "the rollout of 2.0.0 stopped at wave 2 of 2 (13 of 13 devices): 1 of 9 devices failed; "
        "`firmwarden resume panel` lets it go on, `firmwarden recall panel --reason TEXT` takes it back where it runs"
    )


def test_failures_of_those_that_come_after_the_last_wave_stop_it_too() -> None:
    done = replace(BEGUN, state=RolloutState.DONE, wave=2)
    at_the_share = look(RULE, done, members(*[Stage.GOOD] * 9, Stage.FAILED, *waiting(4)), now=NOON)
    assert (at_the_share.rollout, len(at_the_share.admitted)) == (done, 14)
    beyond = look(RULE, done, members(*[Stage.GOOD] * 8, Stage.FAILED, *waiting(4)), now=NOON)
    assert beyond.rollout == replace(done, state=RolloutState.STOPPED, reason="1 of 9 devices failed")
    assert beyond.admitted == frozenset()
    resumed_ = resumed(beyond.rollout, failed=1, tried=9, who="ann", now=NOON)
    assert look(RULE, resumed_, beyond.members, now=NOON).rollout.state is RolloutState.WAVES


def test_what_stopped_stays_so_whatever_becomes_of_its_units() -> None:
    for state in (RolloutState.STOPPED, RolloutState.RECALLED):
        halted = replace(BEGUN, state=state, reason="so")
        progress = look(RULE, halted, members(Stage.GOOD, Stage.GOOD, *waiting(3)), now=NOON + 9 * SOAK_S)
        assert (progress.rollout, names(progress)) == (halted, "")


def test_a_person_lets_it_go_on_and_the_next_failure_stops_it_again() -> None:
    units = members(Stage.GOOD, Stage.FAILED, *waiting(22))
    halted = look(RULE, BEGUN, units, now=NOON).rollout
    assert halted.state is RolloutState.STOPPED
    resumed_ = resumed(halted, failed=1, tried=2, who="ann", now=NOON + 60.0)
    assert (resumed_.state, resumed_.changed_by, resumed_.forgiven) == (RolloutState.CANARY, "ann", 1)
    going = look(RULE, resumed_, units, now=NOON + 60.0)
    assert (going.rollout.state, going.rollout.soaks_since) == (RolloutState.CANARY, NOON + 60.0)
    another = look(RULE, resumed_, members(Stage.FAILED, Stage.FAILED, *waiting(22)), now=NOON + 60.0)
    assert another.rollout.reason == "1 of 1 device failed, besides 1 from before"


def test_what_goes_on_by_a_persons_order_says_so_and_how_many_failed_by_then() -> None:
    failed = members(Stage.FAILED, Stage.FAILED, *waiting(22))
    halted = look(RULE, BEGUN, failed, now=NOON).rollout
    going = resumed(halted, failed=2, tried=2, who="ann", now=NOON + 60.0)
    order = "goes on by order of ann since 2024-10-04T12:01:00.000Z although 2 of 2 devices had failed"
    soaking = look(RULE, going, failed, now=NOON + 60.0)
    assert soaking.until is not None
    assert standing(soaking) == f"{order}, and soaks, with 2 failed, on 2 canaries"
    later = look(RULE, soaking.rollout, failed, now=soaking.until)
    assert standing(later) == (
        f"{order}, and goes to wave 1 of 2 (6 of 24 devices), of which 0 run it well so far, 2 failed"
    )
    recovered = look(RULE, later.rollout, members(*[Stage.GOOD] * 3, *waiting(21)), now=soaking.until)
    assert standing(recovered).startswith("goes to wave 1"), "no failure is left that anybody was to overlook"
    again = look(RULE, later.rollout, members(*[Stage.FAILED] * 3, *waiting(21)), now=soaking.until)
    assert standing(again).startswith("stopped at wave 1"), "of this stop nobody has said anything yet"


def test_what_soaks_with_failures_below_the_share_names_them() -> None:
    rule = replace(RULE, stop_at=50)
    progress = look(rule, BEGUN, members(Stage.GOOD, Stage.FAILED, *waiting(4)), now=NOON)
    assert standing(progress) == "soaks, with 1 failed, on 2 canaries"


def test_who_waits_for_what_a_latch_stopped_is_told_to_clear_that_first() -> None:
    halted = replace(BEGUN, state=RolloutState.STOPPED, reason="its image is latched (invalid-file)")
    progress = look(RULE, halted, members(Stage.FAILED, *waiting(3)), now=NOON, latched=True)
    assert "`firmwarden clear" in wait_of(progress, 1).detail


def test_a_unit_that_recovers_does_not_hide_the_next_one_that_fails() -> None:
    wave = replace(BEGUN, state=RolloutState.WAVES, wave=1, forgiven=1)
    recovered = look(RULE, wave, members(*[Stage.GOOD] * 3, *waiting(9)), now=NOON)
    assert recovered.rollout.forgiven == 0
    failing = look(RULE, recovered.rollout, members(Stage.FAILED, Stage.GOOD, *waiting(9)), now=NOON)
    assert failing.rollout.state is RolloutState.STOPPED


def test_resumed_after_the_canaries_it_goes_on_with_its_wave() -> None:
    halted = replace(BEGUN, state=RolloutState.STOPPED, wave=1, soaks_since=NOON, reason="so")
    assert resumed(halted, failed=0, tried=3, who="ann", now=NOON) == replace(
        BEGUN, state=RolloutState.WAVES, wave=1, changed_by="ann"
    )


# --- whatever happens ----------------------------------------------------------------------------------------

RULES = st.builds(
    Rule,
    first=st.integers(1, 5),
    soak_s=st.sampled_from([0.0, SOAK_S]),
    waves=st.lists(st.integers(1, 99), unique=True, max_size=3).map(lambda waves: (*sorted(waves), 100)),
    stop_at=st.integers(0, 100),
)
AFTER = {
    Stage.UNDER_WAY: [Stage.PROVING, Stage.GOOD, Stage.FAILED, Stage.UNDER_WAY],
    Stage.PROVING: [Stage.GOOD, Stage.FAILED, Stage.PROVING],
    Stage.FAILED: [Stage.FAILED, Stage.UNDER_WAY],
    Stage.GOOD: [Stage.GOOD],
    Stage.WAITING: [Stage.WAITING],
}


@given(rule=RULES, size=st.integers(1, 30), data=st.data())
def test_never_are_more_tried_than_have_a_place_and_none_once_it_stopped(
    rule: Rule, size: int, data: st.DataObject
) -> None:
    units = {member.device: member for member in members(*waiting(size))}
    rollout, now = BEGUN, NOON
    for _ in range(12):
        units = {
            device: replace(
                unit,
                stage=data.draw(st.sampled_from(AFTER[unit.stage])),
                here=(here := data.draw(st.booleans())),
                ready=here,
            )
            for device, unit in units.items()
        }
        now += data.draw(st.sampled_from([0.0, 60.0, SOAK_S, -3600.0]))
        progress = look(rule, rollout, list(units.values()), now=now)
        assert progress.rollout.wave >= rollout.wave
        assert progress == look(rule, progress.rollout, list(units.values()), now=now), "once is enough"
        if rollout.state is RolloutState.STOPPED:
            assert progress.rollout == rollout
        if rollout.state is RolloutState.DONE:
            assert progress.rollout.state not in GOING
        begun = begin(units, progress)
        if progress.rollout.state in GOING:
            tried = sum(unit.stage is not Stage.WAITING for unit in (units | begun).values())
            assert tried <= progress.places
        if progress.rollout.state is RolloutState.STOPPED:
            assert not begun
        units |= begun
        rollout = progress.rollout


def begin(units: Mapping[DeviceId, Member], progress: Progress) -> dict[DeviceId, Member]:
    """Whoever may be tried now, is."""
    return {
        device: replace(unit, stage=Stage.UNDER_WAY)
        for device, unit in units.items()
        if unit.stage is Stage.WAITING and unit.ready and device in progress.admitted
    }


@given(rule=RULES, size=st.integers(1, 30), away=st.sets(st.integers(0, 29)))
def test_where_all_goes_well_it_comes_to_its_end_whoever_is_away(
    rule: Rule, size: int, away: set[int]
) -> None:
    """Those that are away take no place, and come by and by when the others have had theirs."""
    units = {
        member.device: replace(member, here=number not in away, ready=number not in away)
        for number, member in enumerate(members(*waiting(size)))
    }
    now, come = NOON, sorted(away & set(range(size)))
    progress = look(rule, BEGUN, list(units.values()), now=now)
    for _ in range(8 * size + 8):
        if progress.rollout.state is RolloutState.DONE:
            break
        ready = [unit for unit in units.values() if unit.stage is Stage.WAITING and unit.ready]
        begun = begin(units, progress)
        if come and not begun and progress.until is None:
            assert not ready, "nobody who is here waits for one who is not"
            back = DeviceId(chr(ord("a") + come.pop()))
            units[back] = replace(units[back], here=True, ready=True)
        units |= {device: replace(unit, stage=Stage.GOOD) for device, unit in begun.items()}
        now = progress.until or now
        progress = look(rule, progress.rollout, list(units.values()), now=now)
    assert progress.rollout.state is RolloutState.DONE
    assert all(unit.stage is Stage.GOOD for unit in units.values() if unit.here)

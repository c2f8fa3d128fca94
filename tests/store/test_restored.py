"""What still counts after a restore: worn flash and verdicts do, guesses about devices do not."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmwarden.model import (
    Action,
    CauseCode,
    Device,
    DeviceId,
    GoodImage,
    JobState,
    LatchScope,
    Outcome,
    Rollout,
    RolloutState,
)
from firmwarden.store.examine import examined
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import migrate, steps
from firmwarden.store.probations import ProbationEnd
from firmwarden.store.restored import Settled, settle
from firmwarden.store.snapshot import snapshot
from support.stored import CAUSE, DAY_S, NOON, PANEL, enroll, image, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

ACT = Action(at=NOON + 9, who="ann", what="restore", target="all", detail="a backup")
MADE = "a backup of noon from gateway"


def change(path: Path, *works: Callable[[Ledger], object]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
        migrate(connection, None, steps())
        connection.row_factory = sqlite3.Row
        for work in works:
            work(Ledger(connection))


class Gateway:
    """A state, and a backup of it."""

    def __init__(self, place: Path, closing_up: ExitStack) -> None:
        self.state, self.copy = place / "state.db", place / "copy.db"
        self._closing_up = closing_up

    def do(self, *works: Callable[[Ledger], object]) -> None:
        change(self.state, *works)

    def back_up(self) -> None:
        snapshot(self.state, self.copy)

    def lose(self) -> None:
        self.state.unlink()

    def restore(self) -> Settled:
        with closing(examined(self.copy)) as connection:
            return settle(connection, self.state if self.state.exists() else None, ACT, MADE)

    def ledger(self) -> Ledger:
        return Ledger(self._closing_up.enter_context(closing(examined(self.copy))))

    def device(self, number: int) -> Device:
        return next(each for each in self.ledger().devices() if each.key == f"serial:{number}")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with ExitStack() as closing_up:
        yield Gateway(tmp_path, closing_up)


def new(number: int, now: float = NOON) -> Callable[[Ledger], DeviceId]:
    return lambda ledger: enroll(ledger, number, now)


def id_of(ledger: Ledger, number: int) -> DeviceId:
    return next(each.id for each in ledger.devices() if each.key == f"serial:{number}")


def runs(number: int, version: str) -> Callable[[Ledger], object]:
    return lambda ledger: ledger.set_running(
        id_of(ledger, number), version=version, sequence=None, image=image(1), evidence="it said so", now=NOON
    )


def erased(number: int, times: int = 1, now: float = NOON) -> Callable[[Ledger], object]:
    def work(ledger: Ledger) -> None:
        device = id_of(ledger, number)
        attempt = ledger.claim(ledger.create_job(device, release(5), now).id, now)
        for _ in range(times):
            ledger.erase_starting(attempt.id, now)
        ledger.finish(attempt.id, Outcome.FAILED, now=now, cause=CAUSE)
        ledger.move(attempt.job, JobState.FAILED, now=now, cause=CAUSE)

    return work


def latched(number: int) -> Callable[[Ledger], object]:
    return lambda ledger: ledger.latch(
        LatchScope.DEVICE, device=id_of(ledger, number), image=None, cause=CAUSE, attempt=None, now=NOON
    )


# --- who is who


def adopted(number: int, old: int) -> Callable[[Ledger], object]:
    """What is seen as one unit is the one that was seen as another before."""
    return lambda ledger: ledger.adopt(id_of(ledger, number), id_of(ledger, old))


def test_inv3_a_unit_that_was_moved_since_keeps_what_it_earned(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 2))
    gateway.back_up()
    gateway.do(new(2), adopted(2, 1), erased(2, 9), latched(2))
    gateway.do(lambda ledger: ledger.raise_floor(id_of(ledger, 2), 7))
    gateway.restore()
    (device,) = gateway.ledger().devices()
    assert (device.key, device.floor) == ("serial:2", 7)
    assert gateway.ledger().wear(device.id, NOON).life == 11
    assert [latch.device for latch in gateway.ledger().latches()] == [device.id]


def test_inv3_another_unit_in_the_place_of_one_that_was_moved_is_not_taken_for_it(gateway: Gateway) -> None:
    gateway.do(new(1))
    gateway.back_up()
    gateway.do(new(2), adopted(2, 1), erased(2, 9), new(1), erased(1), latched(1))
    gateway.restore()
    ledger = gateway.ledger()
    wear = {device.key: ledger.wear(device.id, NOON).life for device in ledger.devices()}
    assert wear == {"serial:1": 1, "serial:2": 9}
    assert [latch.device for latch in ledger.latches()] == [gateway.device(1).id]


def test_inv3_units_that_changed_places_since_are_told_apart(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 1), new(2), erased(2, 5))
    gateway.back_up()

    with closing(sqlite3.connect(gateway.state)) as connection, connection:
        for number, other in ((1, 3), (2, 1), (3, 2)):
            connection.execute(
                "UPDATE devices SET key = ? WHERE key = ?", (f"serial:{other}", f"serial:{number}")
            )
    gateway.restore()
    ledger = gateway.ledger()
    wear = {device.key: ledger.wear(device.id, NOON).life for device in ledger.devices()}
    assert wear == {"serial:1": 5, "serial:2": 1}


def test_inv3_what_was_adopted_since_is_one_record_again(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 3), new(2), erased(2, 4), latched(2))
    gateway.back_up()
    gateway.do(adopted(2, 1))
    gateway.restore()
    (device,) = gateway.ledger().devices()
    assert device.key == "serial:2"
    assert gateway.ledger().wear(device.id, NOON).life == 7
    assert [latch.device for latch in gateway.ledger().latches()] == [device.id]


def test_inv3_a_state_that_began_anew_makes_no_unit_another_one(gateway: Gateway) -> None:
    # The first was moved to the second's place before the backup was made, and another came to its own.
    gateway.do(new(1), new(2), adopted(2, 1), erased(2, 7), latched(2), new(1), erased(1))
    gateway.back_up()
    gateway.lose()
    # The id that the first has had since then follows from the place at which another is seen now.
    gateway.do(new(1, NOON + 100), new(2, NOON + 100))
    gateway.restore()
    ledger = gateway.ledger()
    wear = {device.key: ledger.wear(device.id, NOON).life for device in ledger.devices()}
    assert wear == {"serial:1": 1, "serial:2": 7}
    assert [latch.device for latch in ledger.latches()] == [gateway.device(2).id]


# --- what devices run


def test_inv2_what_a_device_runs_is_not_known_any_more(gateway: Gateway) -> None:
    gateway.do(new(1), runs(1, "1.0.0"), new(2))
    gateway.back_up()
    gateway.lose()
    assert gateway.restore().not_known == 2
    device = gateway.device(1)
    assert (device.running_version, device.running_image, device.complete) == (None, None, None)
    assert device.running_evidence == f"the state was restored from {MADE}, and it ran 1.0.0 then"
    assert gateway.device(2).running_evidence == f"the state was restored from {MADE}"


def test_the_present_state_is_the_later_word(gateway: Gateway) -> None:
    gateway.do(new(1), runs(1, "1.0.0"))
    gateway.back_up()
    gateway.do(runs(1, "2.0.0"))
    assert gateway.restore().not_known == 0
    device = gateway.device(1)
    assert (device.running_version, device.complete, device.running_evidence) == ("2.0.0", True, "it said so")


def test_a_device_that_was_erased_since_is_known_to_hold_nothing(gateway: Gateway) -> None:
    gateway.do(new(1), runs(1, "1.0.0"))
    gateway.back_up()
    gateway.do(erased(1))
    gateway.restore()
    assert gateway.device(1).complete is False


def test_a_present_state_that_knows_nothing_is_no_word(gateway: Gateway) -> None:
    gateway.do(new(1), runs(1, "1.0.0"))
    gateway.back_up()
    gateway.lose()
    gateway.do(new(1, NOON + 5))
    gateway.restore()
    assert gateway.device(1).running_version is None


def test_what_a_unit_runs_that_was_adopted_since_is_the_later_word(gateway: Gateway) -> None:
    gateway.do(new(1), runs(1, "1.0.0"), new(2))
    gateway.back_up()
    # The record of the second was made part of the first: it is at the second's place now.
    gateway.do(adopted(2, 1), runs(2, "2.0.0"))
    assert gateway.restore().not_known == 0
    assert gateway.device(2).running_version == "2.0.0"


# --- jobs


def test_inv5_open_jobs_are_closed_as_what_they_were(gateway: Gateway) -> None:
    def work(ledger: Ledger) -> None:
        for number in (1, 2, 3, 4):
            enroll(ledger, number)
        queued, probing, writing, ending = (
            ledger.create_job(id_of(ledger, number), release(1), NOON) for number in (1, 2, 3, 4)
        )
        del queued
        ledger.claim(probing.id, NOON)
        ledger.erase_starting(ledger.claim(writing.id, NOON).id, NOON)
        ledger.ending(ledger.claim(ending.id, NOON).id, NOON)

    gateway.do(work)
    gateway.back_up()
    gateway.lose()
    assert gateway.restore().closed == 4
    ledger = gateway.ledger()
    assert ledger.open_jobs() == []
    assert ledger.running_attempts() == []
    for job in ledger.jobs(limit=10):
        assert job.state is JobState.CANCELLED
        assert job.cause is not None
        assert (job.cause.code, job.cause.detail) == (
            CauseCode.WITHDRAWN,
            f"the state was restored from {MADE}",
        )
    assert [attempt.outcome for attempt in ledger.attempts(None, 10)] == [
        Outcome.UNKNOWN,
        Outcome.INTERRUPTED,
        Outcome.INTERRUPTED,
    ]


def test_inv2_no_device_is_asked_about_an_attempt_of_before(gateway: Gateway) -> None:
    def work(ledger: Ledger) -> None:
        attempt = ledger.claim(ledger.create_job(enroll(ledger, 1), release(1), NOON).id, NOON)
        ledger.ending(attempt.id, NOON)
        ledger.finish(attempt.id, Outcome.UNKNOWN, now=NOON, cause=CAUSE)
        ledger.move(attempt.job, JobState.UNKNOWN, now=NOON, cause=CAUSE)

    gateway.do(work)
    gateway.back_up()
    gateway.restore()
    ledger = gateway.ledger()
    assert ledger.open_jobs() == []
    assert [attempt.outcome for attempt in ledger.attempts(None, 10)] == [Outcome.UNKNOWN]


def test_numbers_that_were_given_away_since_are_not_given_again(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1))
    gateway.back_up()
    gateway.do(erased(1), erased(1))
    gateway.restore()
    ledger = gateway.ledger()
    assert len(ledger.jobs(limit=10)) == 1
    assert ledger.create_job(id_of(ledger, 1), release(1), NOON).id == 4


# --- wear


def test_inv3_wear_counted_since_is_kept(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 3))
    gateway.back_up()
    gateway.do(erased(1, 2), erased(1, 1, NOON + DAY_S))
    assert gateway.restore().erases == 3
    wear = gateway.ledger().wear(gateway.device(1).id, NOON + DAY_S)
    assert (wear.today, wear.life) == (1, 6)


def test_inv3_wear_of_a_state_that_began_anew_is_added(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 3))
    gateway.back_up()
    gateway.lose()
    gateway.do(new(1, NOON + 100), erased(1, 2))
    assert gateway.restore().erases == 2
    assert gateway.ledger().wear(gateway.device(1).id, NOON).today == 5


def test_inv3_wear_of_the_backup_is_not_lowered(gateway: Gateway) -> None:
    gateway.do(new(1))
    with_less = gateway.state.read_bytes()
    gateway.do(erased(1, 4))
    gateway.back_up()
    gateway.state.write_bytes(with_less)
    gateway.restore()
    assert gateway.ledger().wear(gateway.device(1).id, NOON).life == 4


@settings(max_examples=40)
@given(
    common=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=5),
    since=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), max_size=5),
)
def test_inv3_wear_after_a_restore_is_what_was_counted(
    tmp_path_factory: pytest.TempPathFactory, common: list[tuple[int, int]], since: list[tuple[int, int]]
) -> None:
    starts = dict.fromkeys(range(1, 6), 0)

    def erase(number: int, day: int) -> Callable[[Ledger], object]:
        def work(ledger: Ledger) -> None:
            if all(each.key != f"serial:{number}" for each in ledger.devices()):
                enroll(ledger, number)
            erased(number, 1, NOON + day * DAY_S)(ledger)
            starts[number] += 1

        return work

    with ExitStack() as closing_up:
        gateway = Gateway(tmp_path_factory.mktemp("gateway"), closing_up)
        gateway.do(*(erase(*each) for each in common))
        gateway.back_up()
        gateway.do(*(erase(*each) for each in since))
        gateway.restore()
        ledger = gateway.ledger()
        assert {
            number: ledger.wear(id_of(ledger, number), NOON).life for number, count in starts.items() if count
        } == {number: count for number, count in starts.items() if count}


# --- latches


def test_inv3_a_latch_set_since_is_kept(gateway: Gateway) -> None:
    gateway.do(new(1))
    gateway.back_up()
    gateway.do(latched(1))
    assert gateway.restore().latches == 1
    (latch,) = gateway.ledger().latches()
    assert (latch.scope, latch.device, latch.cause) == (LatchScope.DEVICE, gateway.device(1).id, CAUSE)


def test_inv3_a_latch_that_was_lifted_since_stands_again(gateway: Gateway) -> None:
    gateway.do(new(1), latched(1))
    gateway.back_up()
    gateway.do(lambda ledger: ledger.lift(ledger.latches()[0].id, "ann", NOON))
    assert gateway.restore().latches == 0
    assert len(gateway.ledger().latches()) == 1


def test_a_latch_that_both_have_is_one(gateway: Gateway) -> None:
    gateway.do(new(1), latched(1))
    gateway.do(
        lambda ledger: ledger.latch(
            LatchScope.IMAGE, device=None, image=image(3), cause=CAUSE, attempt=None, now=NOON
        )
    )
    gateway.back_up()
    assert gateway.restore().latches == 0
    assert len(gateway.ledger().latches()) == 2


def test_inv3_a_device_that_came_since_keeps_its_wear_and_latches(gateway: Gateway) -> None:
    gateway.do(new(1))
    gateway.back_up()
    gateway.do(new(2), erased(2, 2), latched(2))
    gateway.restore()
    ledger = gateway.ledger()
    device = gateway.device(2)
    assert ledger.wear(device.id, NOON).life == 2
    assert [latch.device for latch in ledger.latches()] == [device.id]
    assert ledger.jobs(limit=10) == []


# --- what people did


def confirmed(number: int, sequence: int | None) -> Callable[[Ledger], object]:
    def work(ledger: Ledger) -> None:
        device = id_of(ledger, number)
        ledger.keeps_well(
            device, GoodImage(version=f"{sequence}", sequence=sequence, image=image(sequence or 99), size=7)
        )
        ledger.raise_floor(device, sequence)

    return work


def test_inv8_a_backup_brings_no_old_release_back(gateway: Gateway) -> None:
    gateway.do(new(1), confirmed(1, 3), new(2), confirmed(2, 5), new(3))
    gateway.back_up()
    gateway.do(confirmed(1, 6), confirmed(2, 4), confirmed(3, None), new(4), confirmed(4, 2))
    gateway.restore()
    devices = [gateway.device(number) for number in (1, 2, 3, 4)]
    assert [device.floor for device in devices] == [6, 5, None, 2]
    assert [device.good and device.good.sequence for device in devices] == [6, 4, None, 2]
    assert [device.good_before and device.good_before.sequence for device in devices] == [3, 5, None, None]
    gateway.lose()
    gateway.restore()
    assert gateway.device(1).floor == 6, "what the copy says counts, where nothing else is known"


def test_inv8_leave_to_go_back_counts_no_more_than_once_after_a_restore_either(gateway: Gateway) -> None:
    def let(number: int) -> Callable[[Ledger], object]:
        return lambda ledger: ledger.pin(id_of(ledger, number), "1.0.0", may_go_back=True)

    gateway.do(new(1), let(1), new(2), let(2), new(3))
    gateway.back_up()
    gateway.do(runs(1, "1.0.0"), lambda ledger: ledger.raise_floor(id_of(ledger, 1), None), let(3))
    gateway.restore()
    assert [gateway.device(number).may_go_back_to for number in (1, 2, 3)] == [None, "1.0.0", "1.0.0"]
    assert [gateway.device(number).pinned for number in (1, 2, 3)] == ["1.0.0"] * 3
    gateway.lose()
    gateway.restore()
    assert [gateway.device(number).may_go_back_to for number in (1, 2, 3)] == [None] * 3


def test_holds_and_pins_since_are_kept(gateway: Gateway) -> None:
    gateway.do(
        new(1),
        new(2),
        lambda ledger: ledger.pin(id_of(ledger, 2), "1.0.0"),
        lambda ledger: ledger.hold(None, "fair", "bob", NOON),
        lambda ledger: ledger.hold(None, "about to move", "ann", NOON),
    )
    gateway.back_up()
    gateway.do(
        lambda ledger: ledger.hold(None, "moving house", "ann", NOON, NOON + 60),
        lambda ledger: ledger.hold(id_of(ledger, 1), "bench", "bob", NOON),
        lambda ledger: ledger.pin(id_of(ledger, 1), "1.2.0"),
        lambda ledger: ledger.pin(id_of(ledger, 2), None),
    )
    gateway.restore()
    assert [(hold.device, hold.reason, hold.expires_at) for hold in gateway.ledger().holds()] == [
        (None, "moving house", NOON + 60),
        (None, "fair", None),
        (gateway.device(1).id, "bench", None),
    ]
    assert (gateway.device(1).pinned, gateway.device(2).pinned) == ("1.2.0", "1.0.0")


def test_history_tells_who_restored_and_what_people_did_since(gateway: Gateway) -> None:
    early = Action(at=NOON, who="ann", what="hold", target="all", detail="")
    late = Action(at=NOON + 1, who="bob", what="unhold", target="all", detail="")
    gateway.do(lambda ledger: ledger.record(early))
    gateway.back_up()
    gateway.do(lambda ledger: ledger.record(late))
    gateway.restore()
    assert gateway.ledger().actions(10) == [ACT, late, early]


def test_a_forgotten_device_comes_back_as_the_backup_has_it(gateway: Gateway) -> None:
    gateway.do(new(1), erased(1, 2))
    gateway.back_up()
    gateway.do(lambda ledger: ledger.forget(id_of(ledger, 1)))
    gateway.restore()
    assert gateway.ledger().wear(gateway.device(1).id, NOON).life == 2


def test_another_id_for_the_same_identity_is_the_same_device(gateway: Gateway) -> None:
    gateway.do(new(1))
    gateway.back_up()
    gateway.do(erased(1, 2), latched(1))
    with closing(sqlite3.connect(gateway.state)) as connection, connection:
        for table, column in (
            ("devices", "id"),
            ("wear", "device"),
            ("latches", "device"),
            ("jobs", "device"),
        ):
            connection.execute(f"UPDATE {table} SET {column} = 'other'")
    gateway.restore()
    ledger = gateway.ledger()
    (device,) = ledger.devices()
    assert (device.device_class, device.key) == (PANEL, "serial:1")
    assert ledger.wear(device.id, NOON).life == 2
    assert [latch.device for latch in ledger.latches()] == [device.id]


# --- care


def rollout(
    version: int,
    state: RolloutState,
    *,
    later_s: float = 0.0,
    **more: Any,  # noqa: ANN401  any field
) -> Callable[[Ledger], object]:
    found = Rollout(
        device_class=PANEL,
        image=image(version),
        version=f"{version}.0.0",
        state=state,
        began_at=NOON + later_s,
        wave_at=NOON + later_s,
        **more,
    )
    return lambda ledger: ledger.keep_rollout(found)


def test_a_rollout_that_was_overtaken_is_none_to_resume(gateway: Gateway) -> None:
    gateway.do(rollout(1, RolloutState.WAVES))
    gateway.do(rollout(2, RolloutState.DONE, later_s=60.0))
    gateway.back_up()
    assert gateway.restore().stopped == ()


def test_a_rollout_that_stopped_since_stays_stopped(gateway: Gateway) -> None:
    gateway.do(rollout(1, RolloutState.CANARY, soaks_since=NOON), rollout(2, RolloutState.WAVES))
    gateway.back_up()
    recalled: dict[str, Any] = {"wave": 1, "changed_by": "ann", "reason": "it hums"}
    gateway.do(
        rollout(1, RolloutState.STOPPED, reason="1 of 3 devices failed"),
        rollout(2, RolloutState.RECALLED, **recalled),
    )
    gateway.restore()
    assert [(each.state, each.changed_by, each.reason) for each in gateway.ledger().rollouts()] == [
        (RolloutState.STOPPED, "", "1 of 3 devices failed"),
        (RolloutState.RECALLED, "ann", "it hums"),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_no_rollout_goes_on_by_itself(gateway: Gateway, lost: bool) -> None:
    gateway.do(
        rollout(1, RolloutState.CANARY, soaks_since=NOON),
        rollout(2, RolloutState.WAVES, wave=1, forgiven=1, changed_by="ann", reason="by order of ann"),
        rollout(3, RolloutState.DONE, wave=2),
    )
    gateway.back_up()
    gateway.do(rollout(4, RolloutState.CANARY))
    if lost:
        gateway.lose()
    assert gateway.restore().stopped == (PANEL,)
    reason = f"the state was restored from {MADE}"
    assert [
        (each.version, each.state, each.wave, each.soaks_since, each.forgiven, each.changed_by, each.reason)
        for each in gateway.ledger().rollouts()
    ] == [
        ("1.0.0", RolloutState.STOPPED, 0, None, 0, "", reason),
        ("2.0.0", RolloutState.STOPPED, 1, None, 1, "", reason),
        ("3.0.0", RolloutState.DONE, 2, None, 0, "", ""),
        ("4.0.0", RolloutState.STOPPED, 0, None, 0, "", reason),
    ][: 3 if lost else 4]


def on_probation(number: int, version: int) -> Callable[[Ledger], object]:
    def work(ledger: Ledger) -> None:
        device = id_of(ledger, number)
        job = ledger.create_job(device, release(version), NOON)
        attempt = ledger.claim(job.id, NOON)
        ledger.finish(attempt.id, Outcome.SUCCEEDED, now=NOON, evidence="it said so")
        ledger.set_running(
            device,
            version=job.version,
            sequence=job.sequence,
            image=job.image,
            evidence="it said so",
            now=NOON,
        )
        ledger.start_probation(job, NOON)
        ledger.move(job.id, JobState.SUCCEEDED, now=NOON)

    return work


def test_inv2_who_has_yet_to_show_that_it_keeps_well_has_to_after_a_restore_too(gateway: Gateway) -> None:
    gateway.do(*(new(number) for number in (1, 2, 3)), on_probation(1, 1), on_probation(2, 1))
    gateway.back_up()
    gateway.do(
        lambda ledger: ledger.soak(id_of(ledger, 1), 600.0),
        lambda ledger: ledger.end_probation(id_of(ledger, 2), ProbationEnd.PASSED),
        on_probation(3, 2),
        new(4),
        on_probation(4, 2),
    )
    gateway.restore()
    ledger = gateway.ledger()
    assert {each.device: (each.image, each.soaked_s) for each in ledger.probations()} == {
        id_of(ledger, 1): (image(1), 600.0),
        id_of(ledger, 3): (image(2), 0.0),
        id_of(ledger, 4): (image(2), 0.0),
    }


def test_what_nobody_knows_to_run_is_on_no_probation(gateway: Gateway) -> None:
    gateway.do(new(1), on_probation(1, 1))
    gateway.back_up()
    gateway.lose()
    gateway.restore()
    assert gateway.ledger().probations() == []


# --- ports


def test_inv5_who_was_stopped_to_leave_a_port_is_who_is_noted_now(gateway: Gateway) -> None:
    gateway.do(lambda ledger: ledger.hand_over("long-started.service", NOON))
    gateway.back_up()
    gateway.do(
        lambda ledger: ledger.handed_back("long-started.service"),
        lambda ledger: ledger.hand_over("gpsd.service", NOON + DAY_S),
    )
    gateway.restore()
    assert gateway.ledger().handed_over() == {"gpsd.service": NOON + DAY_S}


def test_nobody_is_started_for_what_another_machine_had_stopped(gateway: Gateway) -> None:
    gateway.do(lambda ledger: ledger.hand_over("gpsd.service", NOON))
    gateway.back_up()
    gateway.lose()
    gateway.restore()
    assert gateway.ledger().handed_over() == {}

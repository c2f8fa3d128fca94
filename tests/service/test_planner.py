"""Planning: which jobs there should be, which of them run, and what the others wait for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import (
    Cause,
    CauseCode,
    ClassName,
    DeviceId,
    JobState,
    LatchScope,
    Outcome,
    Wait,
    WaitKind,
)
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.planner import Agenda, Here, Planner
from firmwarden.service.policy import Budgets
from firmwarden.service.timing import Moment
from firmwarden.service.windows import Timetable, Window
from support.house import NOON, PANEL, release
from support.stored import bare_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firmwarden.model import Job, Release
    from firmwarden.store.ledger import Ledger

DAY_S = 86_400.0
MOTOR = ClassName("motor")
LOST = Cause(code=CauseCode.LINK_LOST)
NOBODY = Here(present={}, conflicts={}, paused={}, busy=frozenset(), asking_rests={})


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with bare_ledger() as bare:
        yield bare


def enroll(ledger: Ledger, name: str, device_class: ClassName = PANEL) -> DeviceId:
    return ledger.enroll(device_class, f"serial:{name}", label="", port=name, serial=name, now=NOON).id


def plan(
    ledger: Ledger,
    *versions: str,
    here: Here = NOBODY,
    now: float = NOON,
    parallel: int = 16,
    policies: Mapping[ClassName, ClassPolicy] | None = None,
    may_start: bool = True,
) -> Agenda:
    policies = {PANEL: ClassPolicy(name=PANEL)} if policies is None else policies
    return Planner(classes=policies, parallel=parallel).plan(
        ledger, releases=[release(version) for version in versions], here=here, now=now, may_start=may_start
    )


def present(*devices: DeviceId, plugged_at: float = 0.0) -> Here:
    return replace(NOBODY, present=dict.fromkeys(devices, plugged_at))


def fail_once(ledger: Ledger, job: Job, state: JobState, *, now: float = NOON, cause: Cause = LOST) -> None:
    """One attempt at a job that ends so."""
    attempt = ledger.claim(job.id, now)
    if state in {JobState.UNKNOWN, JobState.SUCCEEDED}:
        ledger.erase_starting(attempt.id, now)
        ledger.ending(attempt.id, now)
    outcome = {JobState.UNKNOWN: Outcome.UNKNOWN, JobState.SUCCEEDED: Outcome.SUCCEEDED}.get(
        state, Outcome.FAILED
    )
    ledger.finish(attempt.id, outcome, now=now, cause=cause, evidence="it said so")
    ledger.move(job.id, state, now=now, cause=cause)


# --- which jobs there should be -----------------------------------------------------------------------------


def test_a_job_is_made_for_an_absent_device_too_and_waits_for_it(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    agenda = plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    assert (job.device, job.version, job.state) == (device, "2.0.0", JobState.QUEUED)
    assert agenda.waits == {job.id: Wait(kind=WaitKind.ABSENT, detail="the device is not here")}
    assert agenda.owners == {job.id: device}


def test_nothing_is_planned_for_a_class_that_left_the_configuration(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    agenda = plan(ledger, "2.0.0", here=present(device), policies={})
    assert (agenda.run, agenda.waits, agenda.desired) == ([], {}, {})
    assert len(ledger.open_jobs()) == 1, "what is known stays"


ENDED = {
    "succeeded": (JobState.SUCCEEDED, LOST, 0.0, 0.0, True),
    "failed by its verdict": (JobState.FAILED, Cause(code=CauseCode.CLIENT_ERROR), NOON + 60.0, DAY_S, False),
    "cancelled by a person": (JobState.CANCELLED, Cause(code=CauseCode.CANCELLED), NOON + 60.0, DAY_S, False),
    "withdrawn": (JobState.CANCELLED, Cause(code=CauseCode.WITHDRAWN), 0.0, 1.0, True),
    "failed by a protocol that was too new": (
        JobState.FAILED, Cause(code=CauseCode.PROTOCOL_TOO_NEW), 0.0, 1.0, True,
    ),
    "exhausted": (JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), 0.0, DAY_S - 1.0, False),
    "exhausted, there since the start": (
        JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), 0.0, 60.0, False,
    ),
    "exhausted, plugged before": (
        JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), NOON - 60.0, 60.0, False,
    ),
    "exhausted, plugged since": (
        JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), NOON + 30.0, 60.0, True,
    ),
    "exhausted a day ago": (JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), 0.0, DAY_S, True),
    "exhausted by a clock years ahead": (
        JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), 0.0, -5_000 * DAY_S, True,
    ),
    "exhausted, plugged by a clock years ahead": (
        JobState.FAILED, Cause(code=CauseCode.TRANSPORT_EXHAUSTED), NOON + 5_000 * DAY_S, 60.0, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("state", "cause", "plugged_at", "later", "again"), ENDED.values(), ids=ENDED)
def test_when_a_pair_gets_another_job(
    ledger: Ledger, state: JobState, cause: Cause, plugged_at: float, later: float, again: bool
) -> None:
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, state, cause=cause)
    here = present(device, plugged_at=plugged_at)
    plan(ledger, "2.0.0", here=here, now=NOON + later)
    assert bool(ledger.open_jobs()) is again
    if not again:
        plan(ledger, "2.0.0", "3.0.0", here=here, now=NOON + later)
        (job,) = ledger.open_jobs()
        assert job.version == "3.0.0", "a new release is another pair"


@pytest.mark.parametrize(("plugged_at", "again"), [(NOON + 15.0, False), (NOON + 30.0, True)])
def test_a_device_that_comes_back_from_its_loader_by_itself_was_not_plugged_in(
    ledger: Ledger, plugged_at: float, again: bool
) -> None:
    device = enroll(ledger, "1")
    policies = {PANEL: ClassPolicy(name=PANEL, settles_s=20.0)}
    plan(ledger, "2.0.0", policies=policies)
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.FAILED, cause=Cause(code=CauseCode.TRANSPORT_EXHAUSTED))
    here = present(device, plugged_at=plugged_at)
    plan(ledger, "2.0.0", here=here, now=NOON + 60.0, policies=policies)
    assert bool(ledger.open_jobs()) is again


ASKED_OFTEN = Wait(kind=WaitKind.BACK_OFF, detail="asked 5 times without an answer")


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.UNKNOWN])
def test_a_newer_release_takes_the_place_of_what_waits(ledger: Ledger, state: JobState) -> None:
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    (old,) = ledger.open_jobs()
    if state is not JobState.QUEUED:
        fail_once(ledger, old, state)
    here = replace(NOBODY, asking_rests={device: ASKED_OFTEN} if state is JobState.UNKNOWN else {})
    agenda = plan(ledger, "2.0.0", "3.0.0", here=here)
    (new,) = ledger.open_jobs()
    superseded = ledger.job(old.id)
    assert superseded is not None
    assert (superseded.state, new.version) == (JobState.SUPERSEDED, "3.0.0")
    assert [event.value for event, _ in agenda.notes] == ["job-superseded", "job-created"]


def test_what_became_of_an_update_is_asked_before_a_newer_release_takes_its_place(ledger: Ledger) -> None:
    """The newer one may have to wait for days, and the unit may be in its loader until it is asked."""
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.UNKNOWN)
    soon = Wait(kind=WaitKind.BACK_OFF, detail="the device gave no answer yet", until=NOON + 4.0)
    for here in (NOBODY, replace(present(device), asking_rests={device: soon})):
        plan(ledger, "2.0.0", "3.0.0", here=here)
        assert ledger.open_jobs() == [ledger.job(job.id)]
    agenda = plan(ledger, "2.0.0", "3.0.0", here=present(device))
    assert [each.id for each in agenda.ask] == [job.id]


def test_nobody_asks_about_what_is_called_off_where_something_else_may_be_given(ledger: Ledger) -> None:
    """The question might start it."""
    device = enroll(ledger, "1")
    plan(ledger, "1.0.0", "2.0.0")
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.UNKNOWN)
    called_back = Cause(code=CauseCode.RECALLED)
    ledger.latch(LatchScope.IMAGE, device=None, image=job.image, cause=called_back, attempt=None, now=NOON)
    agenda = plan(ledger, "1.0.0", "2.0.0", here=present(device))
    assert (agenda.ask, [each.version for each in agenda.run]) == ([], ["1.0.0"])


def test_what_runs_is_never_broken_off_for_a_newer_release(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    (job,) = plan(ledger, "2.0.0", here=present(device)).run
    ledger.claim(job.id, NOON)
    agenda = plan(ledger, "2.0.0", "3.0.0", here=present(device))
    assert (agenda.notes, agenda.run, agenda.waits) == ([], [], {})


def test_a_job_that_is_being_asked_about_is_not_taken_away(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.UNKNOWN)
    here = replace(present(device), busy=frozenset({device}))
    agenda = plan(ledger, "3.0.0", here=here)
    assert (agenda.notes, agenda.run, agenda.ask) == ([], [], [])


@pytest.mark.parametrize("came_to_its_end", [False, True])
def test_what_a_refused_update_may_have_erased_is_written_again(
    ledger: Ledger, came_to_its_end: bool
) -> None:
    """Some clients erase before they look at the first byte; an image that came to its end may be there instead."""
    device = enroll(ledger, "a")
    two, three = release("2.0.0"), release("3.0.0")
    ledger.set_running(
        device, version=two.version, sequence=None, image=two.image, evidence="it said so", now=NOON
    )
    assert ledger.open_jobs() == []
    job = ledger.create_job(device, three, NOON)
    attempt = ledger.claim(job.id, NOON)
    ledger.erase_starting(attempt.id, NOON)
    refused = Cause(code=CauseCode.INVALID_FILE, offset=0)
    if came_to_its_end:
        ledger.ending(attempt.id, NOON)
    ledger.finish(attempt.id, Outcome.FAILED, now=NOON, cause=refused)
    ledger.set_complete(device, complete=None)
    ledger.move(job.id, JobState.FAILED, now=NOON, cause=refused)
    ledger.latch(
        LatchScope.PAIR, device=device, image=three.image, cause=refused, attempt=attempt.id, now=NOON
    )
    plan(ledger, "2.0.0", "3.0.0")
    assert [job.version for job in ledger.open_jobs()] == ([] if came_to_its_end else ["2.0.0"])


def test_two_open_jobs_of_an_adopted_device_become_one(ledger: Ledger) -> None:
    old, new = enroll(ledger, "old"), enroll(ledger, "new")
    plan(ledger, "2.0.0")
    ledger.pin(new, "1.0.0")
    plan(ledger, "1.0.0", "2.0.0")
    ledger.adopt(new, old)
    assert len(ledger.open_jobs()) == 2
    ledger.pin(old, None)
    plan(ledger, "1.0.0", "2.0.0")
    (job,) = ledger.open_jobs()
    assert (job.device, job.version) == (old, "2.0.0")


def test_while_the_service_stops_jobs_are_kept_in_line_and_none_starts(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    agenda = plan(ledger, "2.0.0", here=present(device), may_start=False)
    assert len(ledger.open_jobs()) == 1
    assert (agenda.run, agenda.ask) == ([], [])


# --- what a job waits for -----------------------------------------------------------------------------------


def waiting(
    ledger: Ledger, here: Here, *, now: float = NOON, policy: ClassPolicy | None = None
) -> Wait | None:
    agenda = plan(ledger, "2.0.0", here=here, now=now, policies={PANEL: policy or ClassPolicy(name=PANEL)})
    (job,) = ledger.open_jobs()
    if job.id in agenda.waits:
        assert agenda.run == agenda.ask == []
        assert agenda.wake_at == agenda.waits[job.id].until
        return agenda.waits[job.id]
    assert [each.id for each in agenda.run + agenda.ask] == [job.id]
    return None


def test_a_job_with_nothing_to_wait_for_runs(ledger: Ledger) -> None:
    assert waiting(ledger, present(enroll(ledger, "1"))) is None


def test_it_waits_for_an_identity_that_is_clear(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    here = replace(present(device), conflicts={device: "two units show the serial 1"})
    assert waiting(ledger, here) == Wait(kind=WaitKind.IDENTITY, detail="two units show the serial 1")


@pytest.mark.parametrize(("everything", "what"), [(True, "everything is"), (False, "the device is")])
def test_it_waits_for_the_end_of_a_hold(ledger: Ledger, everything: bool, what: str) -> None:
    device = enroll(ledger, "1")
    ledger.hold(enroll(ledger, "2", MOTOR), "not this one", "bob", NOON)
    ledger.hold(None if everything else device, "fair", "ann", NOON)
    found = waiting(ledger, present(device))
    assert found == Wait(kind=WaitKind.HOLD, detail=f"{what} held by ann: fair")


def test_a_class_that_nothing_protects_waits_for_a_person_whether_or_not_its_device_is_here(
    ledger: Ledger,
) -> None:
    device = enroll(ledger, "1")
    policies = {PANEL: ClassPolicy(name=PANEL, doubt="its class does not say what it relies on")}
    wait = Wait(kind=WaitKind.FAILSAFE, detail="its class does not say what it relies on")
    for here in (NOBODY, present(device)):
        agenda = plan(ledger, "2.0.0", here=here, policies=policies)
        assert (agenda.run, list(agenda.waits.values())) == ([], [wait])
    # Who it is comes first: whatever is declared, nothing is written to it.
    conflict = replace(NOBODY, conflicts={device: "two ports"})
    (first,) = plan(ledger, "2.0.0", here=conflict, policies=policies).waits.values()
    assert first.kind is WaitKind.IDENTITY
    # To ask what became of an update is no risk.
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.UNKNOWN)
    assert plan(ledger, "2.0.0", here=present(device), policies=policies).ask != []
    assert plan(ledger, "2.0.0", here=present(device)).ask != []


def test_it_waits_while_somebody_else_has_the_port(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    wait = Wait(kind=WaitKind.PORT_HELD, detail="picocom has it", until=NOON + 8.0)
    assert waiting(ledger, replace(present(device), paused={device: wait})) == wait


BACK_OFF = {
    "until it is over": (NOON + 10.0, NOON + 10.0),
    "no longer": (NOON, None),
    "at most the longest": (NOON + 1_080.0, NOON + 1_080.0),
    "not for what a clock ahead wrote": (NOON + 1_081.0, None),
    "not for years": (NOON + 5_000 * DAY_S, None),
}


@pytest.mark.parametrize(("not_before", "until"), BACK_OFF.values(), ids=BACK_OFF)
def test_it_waits_out_its_back_off(ledger: Ledger, not_before: float, until: float | None) -> None:
    device = enroll(ledger, "1")
    plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    ledger.claim(job.id, NOON)
    ledger.move(job.id, JobState.QUEUED, now=NOON, not_before=not_before)
    found = waiting(ledger, present(device))
    assert (None if found is None else found.until) == until
    assert found is None or found.kind is WaitKind.BACK_OFF


def spend(ledger: Ledger, device: DeviceId, erases: int, now: float) -> None:
    job = ledger.create_job(device, release("1.0.0"), now)
    attempt = ledger.claim(job.id, now)
    for _ in range(erases):
        ledger.erase_starting(attempt.id, now)
    ledger.finish(attempt.id, Outcome.INTERRUPTED, now=now)
    ledger.move(job.id, JobState.FAILED, now=now, cause=LOST)


def test_it_waits_for_the_flash_s_budget_of_the_day(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    spend(ledger, device, 9, NOON)
    assert waiting(ledger, present(device)) is None
    spend(ledger, device, 1, NOON)
    found = waiting(ledger, present(device))
    assert found is not None
    assert (found.kind, found.until) == (WaitKind.WEAR, NOON + DAY_S / 2)
    assert "the erases of today are used up, 10 of 10" in found.detail
    assert waiting(ledger, present(device), now=NOON + DAY_S / 2) is None


def test_it_waits_for_ever_when_the_flash_s_life_is_spent(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    spend(ledger, device, 3, NOON - 50 * DAY_S)
    policy = ClassPolicy(name=PANEL, budgets=Budgets(erases_a_life=3))
    found = waiting(ledger, present(device), policy=policy)
    assert found is not None
    assert (found.kind, found.until) == (WaitKind.WEAR, None)


def test_an_unknown_outcome_is_asked_about_whatever_the_flash_has_been_through(ledger: Ledger) -> None:
    device = enroll(ledger, "1")
    spend(ledger, device, 10, NOON)
    plan(ledger, "2.0.0")
    (job,) = ledger.open_jobs()
    fail_once(ledger, job, JobState.UNKNOWN)
    agenda = plan(ledger, "2.0.0", here=present(device))
    assert [each.id for each in agenda.ask] == [job.id]
    rest = Wait(kind=WaitKind.BACK_OFF, detail="no answer yet", until=NOON + 4.0)
    assert waiting(ledger, replace(present(device), asking_rests={device: rest})) == rest


def test_a_suspect_image_has_one_device_at_a_time(ledger: Ledger) -> None:
    devices = [enroll(ledger, str(number)) for number in range(4)]
    cause = Cause(code=CauseCode.INVALID_FILE)
    ledger.latch(
        LatchScope.PAIR, device=devices[0], image=release("2.0.0").image, cause=cause, attempt=None, now=NOON
    )
    agenda = plan(ledger, "2.0.0", here=present(*devices))
    assert len(agenda.run) == 1
    assert [wait.kind for wait in agenda.waits.values()] == [WaitKind.CANARY, WaitKind.CANARY]


@pytest.mark.parametrize("code", [CauseCode.WRONG_DEVICE_ID, CauseCode.CLIENT_ERROR])
def test_a_verdict_on_the_pair_alone_makes_no_image_suspect(ledger: Ledger, code: CauseCode) -> None:
    devices = [enroll(ledger, str(number)) for number in range(4)]
    cause = Cause(code=code)
    ledger.latch(
        LatchScope.PAIR, device=devices[0], image=release("2.0.0").image, cause=cause, attempt=None, now=NOON
    )
    assert len(plan(ledger, "2.0.0", here=present(*devices)).run) == 3


def test_slots_are_given_in_the_order_of_the_jobs(ledger: Ledger) -> None:
    devices = [enroll(ledger, str(number)) for number in range(5)]
    agenda = plan(ledger, "2.0.0", here=present(*devices), parallel=3)
    assert [job.id for job in agenda.run] == [1, 2, 3]
    assert [wait.detail for wait in agenda.waits.values()] == ["3 updates run at once"] * 2
    for job in agenda.run[:2]:
        ledger.claim(job.id, NOON)
    here = replace(present(*devices), busy=frozenset(job.device for job in agenda.run[:2]))
    assert [job.id for job in plan(ledger, "2.0.0", here=here, parallel=3).run] == [3]


# --- properties ---------------------------------------------------------------------------------------------

VERSIONS = ["1.0.0", "2.0.0", "3.0.0"]
OPEN = ["queued", "back-off", "unknown", "running"]
FATES = st.sampled_from([*OPEN, "failed", "exhausted", "cancelled", "withdrawn", "succeeded"])


@dataclass(frozen=True)
class Past:
    """What a device has been through."""

    motor: bool
    running: str | None
    complete: bool | None
    pinned: str | None
    jobs: list[tuple[str, str]]
    latched: list[tuple[LatchScope, str, CauseCode]]
    here: bool
    conflict: bool
    held: bool
    port_held: bool


PASTS = st.lists(
    st.builds(
        Past,
        motor=st.booleans(),
        running=st.none() | st.sampled_from(VERSIONS),
        complete=st.sampled_from([None, True, False]),
        pinned=st.none() | st.sampled_from(VERSIONS),
        jobs=st.lists(st.tuples(st.sampled_from(VERSIONS), FATES), max_size=3),
        latched=st.lists(
            st.tuples(
                st.sampled_from(LatchScope),
                st.sampled_from(VERSIONS),
                st.sampled_from([CauseCode.INVALID_FILE, CauseCode.CLIENT_ERROR]),
            ),
            max_size=2,
        ),
        here=st.sampled_from([True, True, True, False]),
        conflict=st.sampled_from([False, False, False, True]),
        held=st.sampled_from([False, False, False, True]),
        port_held=st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=5,
)


def live(ledger: Ledger, number: int, past: Past) -> DeviceId:
    """Let a device have this past."""
    device_class = MOTOR if past.motor else PANEL
    device = enroll(ledger, str(number), device_class)
    if past.running is not None:
        image = release(past.running, device_class=device_class).image
        ledger.set_running(
            device, version=past.running, sequence=None, image=image, evidence="it said so", now=NOON
        )
    ledger.set_complete(device, past.complete)
    ledger.pin(device, past.pinned)
    open_already = False
    for version, fate in past.jobs:
        if open_already:
            break
        job = ledger.create_job(device, release(version, device_class=device_class), NOON)
        open_already = fate in OPEN
        if fate == "queued":
            continue
        attempt = ledger.claim(job.id, NOON)
        if fate == "running":
            continue
        ledger.finish(attempt.id, Outcome.UNKNOWN if fate == "unknown" else Outcome.INTERRUPTED, now=NOON)
        state, code = {
            "failed": (JobState.FAILED, CauseCode.CLIENT_ERROR),
            "exhausted": (JobState.FAILED, CauseCode.TRANSPORT_EXHAUSTED),
            "cancelled": (JobState.CANCELLED, CauseCode.CANCELLED),
            "withdrawn": (JobState.CANCELLED, CauseCode.WITHDRAWN),
            "succeeded": (JobState.SUCCEEDED, CauseCode.INTERRUPTED),
            "back-off": (JobState.QUEUED, CauseCode.LINK_LOST),
            "unknown": (JobState.UNKNOWN, CauseCode.END_UNANSWERED),
        }[fate]
        ledger.move(
            job.id,
            state,
            now=NOON,
            cause=Cause(code=code),
            not_before=NOON + 9.0 if fate == "back-off" else None,
        )
    for scope, version, code in past.latched:
        ledger.latch(
            scope,
            device=device,
            image=release(version, device_class=device_class).image,
            cause=Cause(code=code),
            attempt=None,
            now=NOON,
        )
    if past.held:
        ledger.hold(device, "fair", "ann", NOON)
    return device


def stopped(ledger: Ledger, job: Job) -> bool:
    """Whether an active latch forbids a job."""
    return any(
        latch.device in {None, job.device} and latch.image in {None, job.image} for latch in ledger.latches()
    )


@given(
    pasts=PASTS,
    offered=st.lists(st.sampled_from(VERSIONS), unique=True),
    parallel=st.integers(1, 4),
    motors=st.none() | st.integers(1, 2),
    downgrades=st.booleans(),
    everything_held=st.sampled_from([False, False, True]),
    closed=st.booleans(),
    inhibited=st.sampled_from([False, False, True]),
)
def test_inv3_what_holds_for_every_planning(
    pasts: list[Past],
    offered: list[str],
    parallel: int,
    motors: int | None,
    downgrades: bool,
    everything_held: bool,
    closed: bool,
    inhibited: bool,
) -> None:
    window = Window.parse("Sun 00:00-01:00" if closed else "Fri 00:00-24:00")
    policies = {
        PANEL: ClassPolicy(name=PANEL, allow_downgrade=downgrades),
        MOTOR: ClassPolicy(name=MOTOR, parallel=motors, timetable=Timetable((window,))),
    }
    planner = Planner(classes=policies, parallel=parallel)
    releases = [
        release(version, device_class=device_class) for version in offered for device_class in (PANEL, MOTOR)
    ]
    with bare_ledger() as ledger:
        devices = {live(ledger, number, past): past for number, past in enumerate(pasts)}
        if everything_held:
            ledger.hold(None, "fair", "ann", NOON)
        wait = Wait(kind=WaitKind.PORT_HELD, detail="picocom has it", until=NOON + 2.0)
        running = [job for job in ledger.open_jobs() if job.state is JobState.RUNNING]
        before = ledger.jobs(limit=100)
        here = Here(
            present={device: 0.0 for device, past in devices.items() if past.here},
            conflicts={device: "two of them" for device, past in devices.items() if past.conflict},
            paused={device: wait for device, past in devices.items() if past.port_held},
            busy=frozenset(job.device for job in running),
            asking_rests={},
            moment=Moment(
                inhibited={PANEL: Wait(kind=WaitKind.HOLD, detail="a customer pays")} if inhibited else {}
            ),
        )
        agenda = planner.plan(ledger, releases=releases, here=here, now=NOON)
        after = ledger.jobs(limit=100)

        again = planner.plan(ledger, releases=releases, here=here, now=NOON)
        assert ledger.jobs(limit=100) == after, "planning twice changes nothing"
        assert (again.notes, again.run, again.ask, again.waits) == ([], agenda.run, agenda.ask, agenda.waits)

        open_jobs = ledger.open_jobs()
        assert len({job.device for job in open_jobs}) == len(open_jobs), "never two for one device"
        assert all(job in open_jobs for job in running), "what runs is left alone"
        sorted_out = [job.id for job in (*agenda.run, *agenda.ask, *running)] + list(agenda.waits)
        assert sorted(sorted_out) == sorted(job.id for job in open_jobs), "each has one place"

        check_created(
            ledger,
            [job for job in after if job.id not in {old.id for old in before}],
            before,
            devices,
            policies,
        )
        for job in agenda.run:
            assert not stopped(ledger, job)
        for job in (*agenda.run, *agenda.ask):
            past = devices[job.device]
            assert past.here
            assert not any((past.conflict, past.held, past.port_held, everything_held))
            assert not (inhibited and job.device_class == PANEL)
        for job in agenda.run:
            assert not closed or job.device_class == PANEL or devices[job.device].complete is False
        check_limits(agenda, running, parallel, motors)
        check_canaries(ledger, agenda, running)


def check_created(
    ledger: Ledger,
    created: Sequence[Job],
    before: Sequence[Job],
    devices: Mapping[DeviceId, Past],
    policies: Mapping[ClassName, ClassPolicy],
) -> None:
    for job in created:
        past = devices[job.device]
        assert job.state is JobState.QUEUED
        assert not stopped(ledger, job)
        assert past.pinned in {None, job.version}
        if past.complete is not False and past.running is not None:
            assert job.version > past.running or policies[job.device_class].allow_downgrade
        pair = (job.device, job.image)
        last = next(
            (old for old in before if (old.device, old.image) == pair), None
        )  # the newest comes first
        if last is not None and last.state in {JobState.FAILED, JobState.CANCELLED}:
            assert last.cause is not None
            assert last.cause.code is CauseCode.WITHDRAWN


def check_limits(agenda: Agenda, running: Sequence[Job], parallel: int, motors: int | None) -> None:
    started = [*agenda.run, *agenda.ask]
    assert not started or len(started) + len(running) <= parallel
    of_motors = [job for job in (*started, *running) if job.device_class == MOTOR]
    if motors is not None and any(job.device_class == MOTOR for job in started):
        assert len(of_motors) <= motors


def check_canaries(ledger: Ledger, agenda: Agenda, running: Sequence[Job]) -> None:
    suspects = {
        latch.image
        for latch in ledger.latches()
        if latch.scope is LatchScope.PAIR and latch.cause.code is CauseCode.INVALID_FILE
    }
    for image in suspects:
        trying = [job for job in agenda.run if job.image == image]
        others = [job for job in (*running, *agenda.ask) if job.image == image]
        assert not trying or len(trying) + sum(job in running for job in others) == 1


def test_releases_are_no_business_of_another_class(ledger: Ledger) -> None:
    enroll(ledger, "1", MOTOR)
    releases: list[Release] = [release("2.0.0")]
    policies = {MOTOR: ClassPolicy(name=MOTOR), PANEL: ClassPolicy(name=PANEL)}
    Planner(classes=policies, parallel=1).plan(ledger, releases=releases, here=NOBODY, now=NOON)
    assert ledger.open_jobs() == []

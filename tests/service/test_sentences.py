"""The sentences of `why`: each situation says what holds, what comes next and what would change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import (
    Attempt,
    AttemptId,
    Cause,
    CauseCode,
    Device,
    DeviceId,
    GoodImage,
    Hold,
    ImageHash,
    Job,
    JobId,
    JobState,
    Latch,
    LatchId,
    LatchScope,
    Outcome,
    Phase,
    Wait,
    WaitKind,
)
from firmwarden.service import sentences
from firmwarden.service.desired import Desired
from firmwarden.service.identity import Conflict
from firmwarden.service.shelf import RefusedRelease
from support.house import NOON, PANEL, release

if TYPE_CHECKING:
    from firmwarden.service.views import ProbationView

TWO = release("2.0.0")
UNIT = Device(id=DeviceId("k3x9qa"), device_class=PANEL, key="serial:1")
RUNS_ONE = replace(
    UNIT, running_version="1.0.0", running_evidence="the device acknowledged its end", complete=True
)
QUEUED = Job(
    id=JobId(7),
    device=UNIT.id,
    device_class=PANEL,
    image=TWO.image,
    version="2.0.0",
    sequence=None,
    size=100,
    state=JobState.QUEUED,
    created_at=NOON,
    updated_at=NOON,
)
WANTS_TWO = Desired(TWO, "2.0.0 is the newest release of its class")
SETTLED = Desired(None, "2.0.0 is the newest release of its class, and the device runs it", settled=True)
NOTHING = Desired(None, "no release of its class is in the firmware directory")


ON_PROBATION: ProbationView = {
    "version": "2.0.0",
    "began_at": "2026-03-01T12:00:00Z",
    "soaked_s": 0.0,
    "soak_s": 600.0,
    "until": "2026-03-01T12:10:00Z",
    "detail": "it is here and well",
}
GOOD = GoodImage(version="2.0.0", sequence=None, image=TWO.image, size=100)


def ended(state: JobState, code: CauseCode) -> Job:
    return replace(QUEUED, state=state, cause=Cause(code=code, detail="it said so"))


def latch(scope: LatchScope, code: CauseCode = CauseCode.INVALID_FILE) -> Latch:
    return Latch(
        id=LatchId(1),
        scope=scope,
        device=None if scope is LatchScope.IMAGE else UNIT.id,
        image=None if scope is LatchScope.DEVICE else ImageHash(TWO.image),
        cause=Cause(code=code),
        set_at=NOON,
    )


@dataclass(frozen=True, kw_only=True)
class Situation:
    device: Device = RUNS_ONE
    job: Job | None = None
    wait: Wait | None = None
    wanted: Desired | None = WANTS_TWO
    latches: list[Latch] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    paused: bool = False
    should: str = "2.0.0 is the newest release of its class."
    runs: str = "1.0.0 (the device acknowledged its end)."
    next: str
    commands: list[str] = field(default_factory=list)


SITUATIONS = {
    "just started": Situation(
        wanted=None,
        should="Not decided yet: the first scans are not done",
        next="Nothing, until everything was looked at and planned.",
    ),
    "runs what it should": Situation(
        device=replace(RUNS_ONE, running_version="2.0.0"),
        job=replace(QUEUED, state=JobState.SUCCEEDED),
        wanted=SETTLED,
        should="What it runs now: 2.0.0 is the newest release of its class, and the device runs it.",
        runs="2.0.0 (the device acknowledged its end).",
        next="Nothing: the device runs what it should.",
    ),
    "nothing for its class": Situation(
        wanted=NOTHING,
        should="Nothing new: no release of its class",
        next="Nothing, until that changes: no release of its class is in the firmware directory.",
    ),
    "never updated": Situation(
        device=UNIT,
        job=QUEUED,
        wait=Wait(kind=WaitKind.ABSENT, detail="the device is not here"),
        runs="Not known: Firmwarden has not updated it yet",
        next="Job 7 (2.0.0) starts as soon as the device is here.",
        commands=["firmwarden cancel 7"],
    ),
    "the day is used up": Situation(
        job=QUEUED,
        wait=Wait(
            kind=WaitKind.WEAR, detail="the erases of today are used up, 10 of 10", until=NOON + 43_200.0
        ),
        next="Job 7 (2.0.0) waits until 2024-10-05T00:00:00.000Z: the erases of today are used up, 10 of 10. Before "
        "that, only a larger `per_day` under `wear` of the class panel changes that.",
        commands=["firmwarden cancel 7"],
    ),
    "its life is used up": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.WEAR, detail="the erases of its life are used up, 1000 of 1000"),
        next="Job 7 (2.0.0) waits: the erases of its life are used up, 1000 of 1000. Only a larger `per_life` under "
        "`wear` of the class panel changes that.",
        commands=["firmwarden cancel 7"],
    ),
    "starts next": Situation(
        job=QUEUED, next="Job 7 starts as soon as the planner comes by.", commands=["firmwarden cancel 7"]
    ),
    "being written": Situation(
        job=replace(QUEUED, state=JobState.RUNNING), next="Job 7 is under way, an update to 2.0.0."
    ),
    "between two attempts": Situation(
        job=replace(QUEUED, attempts=2),
        wait=Wait(kind=WaitKind.BACK_OFF, detail="the last attempt failed in transport", until=NOON + 8.0),
        next="Job 7 (2.0.0) waits until 2024-10-04T12:00:08.000Z: the last attempt failed in transport.",
        commands=["firmwarden cancel 7", "firmwarden retry k3x9qa"],
    ),
    "held by a person": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.HOLD, detail="the device is held by ann: on loan"),
        holds=[Hold(device=UNIT.id, reason="on loan", owner="ann", at=NOON)],
        next="Job 7 (2.0.0) waits: the device is held by ann: on loan.",
        commands=["firmwarden unhold k3x9qa", "firmwarden cancel 7"],
    ),
    "everything held": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.HOLD, detail="everything is held by ann: fair"),
        holds=[Hold(device=None, reason="fair", owner="ann", at=NOON)],
        next="Job 7 (2.0.0) waits: everything is held by ann: fair.",
        commands=["firmwarden unhold all", "firmwarden cancel 7"],
    ),
    "held, and up to date": Situation(
        wanted=Desired(
            None, "2.0.0 is the newest release of its class, and the device runs it", settled=True
        ),
        holds=[Hold(device=UNIT.id, reason="on loan", owner="ann", at=NOON)],
        should="What it runs now",
        next="Nothing: the device runs what it should.",
        commands=["firmwarden unhold k3x9qa"],
    ),
    "who is it": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.IDENTITY, detail="two ports show the serial number 1"),
        next="Job 7 (2.0.0) waits: two ports show the serial number 1.",
        commands=["firmwarden cancel 7"],
    ),
    "port held": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.PORT_HELD, detail="/dev/ttyACM0 is held by picocom (process 7)", until=NOON),
        next="Job 7 (2.0.0) waits until 2024-10-04T12:00:00.000Z: /dev/ttyACM0 is held by picocom (process 7).",
        commands=["firmwarden cancel 7"],
    ),
    "port held, and a person may not want to wait": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.PORT_HELD, detail="/dev/ttyACM0 is held by picocom (process 7)", until=NOON),
        paused=True,
        next="Job 7 (2.0.0) waits until 2024-10-04T12:00:00.000Z: /dev/ttyACM0 is held by picocom (process 7).",
        commands=["firmwarden cancel 7", "firmwarden retry k3x9qa"],
    ),
    "nothing protects its class": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.FAILSAFE, detail="its class does not say what it relies on"),
        next="Job 7 (2.0.0) waits: its class does not say what it relies on. Declare what protects it when the power "
        "fails, or switch on what its class relies on (`firmwarden provision --help` says on which parts it can); or "
        'take the risk: write failsafe = "none" for the class panel and reload the configuration, knowing that an '
        "interruption then bricks the device.",
        commands=["systemctl reload firmwarden", "firmwarden cancel 7"],
    ),
    "it shows that nothing protects it": Situation(
        job=QUEUED,
        wait=Wait(kind=WaitKind.FAILSAFE, detail="the device does not have BFB2=1"),
        paused=True,
        next="Job 7 (2.0.0) waits: the device does not have BFB2=1. Switch on what its class relies on",
        commands=["firmwarden cancel 7", "firmwarden retry k3x9qa", "systemctl reload firmwarden"],
    ),
    "another unit, as its memory tells": Situation(
        device=replace(RUNS_ONE, port="usb-1.4"),
        job=QUEUED,
        wait=Wait(kind=WaitKind.IDENTITY, detail="another unit is on the port"),
        paused=True,
        next="Job 7 (2.0.0) waits: another unit is on the port. Plug in the right unit",
        commands=["firmwarden adopt usb-1.4 k3x9qa", "firmwarden cancel 7", "firmwarden retry k3x9qa"],
    ),
    "it tells what has no rank": Situation(
        device=replace(UNIT, running_evidence="its product string says spring, and how", complete=True),
        job=QUEUED,
        runs="Not known: its product string says spring, and how.",
        next="Job 7 starts",
        commands=["firmwarden cancel 7"],
    ),
    "it keeps no update": Situation(
        job=replace(QUEUED, state=JobState.SUCCEEDED),
        next="Nothing within 24 hours of the first of its last updates to 2.0.0: it did not keep any of them.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "updated, and not planned since": Situation(
        device=replace(RUNS_ONE, running_image=TWO.image),
        job=replace(QUEUED, state=JobState.SUCCEEDED),
        next="Nothing, until everything was looked at and planned.",
    ),
    "erased and not finished": Situation(
        device=replace(RUNS_ONE, complete=False),
        job=QUEUED,
        runs="No complete image: an erase was begun and no update was finished since; before that 1.0.0",
        next="Job 7 starts",
        commands=["firmwarden cancel 7"],
    ),
    "outcome unknown, asked now": Situation(
        job=ended(JobState.UNKNOWN, CauseCode.END_UNANSWERED),
        runs="2.0.0 or nothing, not known: the image is on the device and it called it valid",
        next="The device is asked what became of job 7; then the record is settled.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "outcome unknown for good": Situation(
        job=ended(JobState.UNKNOWN, CauseCode.END_UNANSWERED),
        wait=Wait(kind=WaitKind.BACK_OFF, detail="asked 5 times without an answer"),
        runs="2.0.0 or nothing, not known",
        next="Job 7 has an unknown outcome; the device is asked again: asked 5 times without an answer.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "outcome unknown, and it is away": Situation(
        job=ended(JobState.UNKNOWN, CauseCode.END_UNANSWERED),
        wait=Wait(kind=WaitKind.ABSENT, detail="the device is not here"),
        runs="2.0.0 or nothing, not known",
        next="Job 7 has an unknown outcome; the device is asked as soon as it is here.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "exhausted": Situation(
        job=ended(JobState.FAILED, CauseCode.TRANSPORT_EXHAUSTED),
        next="Nothing until 2024-10-05T12:00:00.000Z: then it is tried again, or when it is plugged anew or a person",
        commands=["firmwarden retry k3x9qa"],
    ),
    "cancelled": Situation(
        job=ended(JobState.CANCELLED, CauseCode.CANCELLED),
        next="Nothing by itself: job 7 ended cancelled. A new release or a retry starts another.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "withdrawn": Situation(
        job=ended(JobState.CANCELLED, CauseCode.WITHDRAWN),
        wanted=NOTHING,
        should="Nothing new: no release of its class",
        next="Nothing, until that changes: no release of its class is in the firmware directory.",
    ),
    "withdrawn in the middle": Situation(
        device=replace(RUNS_ONE, complete=False),
        job=ended(JobState.CANCELLED, CauseCode.WITHDRAWN),
        wanted=NOTHING,
        should="Nothing new: no release of its class",
        runs="No complete image",
        next="Nothing, until there is a release for it: it holds no complete image and waits in its loader.",
    ),
    "pair latched, nothing else": Situation(
        job=ended(JobState.FAILED, CauseCode.INVALID_FILE),
        wanted=Desired(None, "every release of its class is latched for it"),
        latches=[latch(LatchScope.PAIR)],
        should="Nothing new: every release of its class is latched for it.",
        next="Nothing, until a person lifts the latch or another image is released.",
        commands=["firmwarden clear k3x9qa"],
    ),
    "image latched": Situation(
        wanted=Desired(None, "every release of its class is latched for it"),
        latches=[latch(LatchScope.IMAGE)],
        should="Nothing new",
        next="Nothing, until a person lifts the latch or another image is released.",
        commands=[f"firmwarden clear {TWO.image[:12]}"],
    ),
    "newest latched, runs the one before": Situation(
        wanted=Desired(
            None, "1.0.0 is the newest release that is not latched for it", settled=True, stopped=TWO
        ),
        latches=[latch(LatchScope.PAIR)],
        should="What it runs now: 1.0.0 is the newest release that is not latched for it. Were it not for a latch, it "
        "would be 2.0.0.",
        next="Nothing: the device runs what it should; a latch keeps another image from it.",
        commands=["firmwarden clear k3x9qa"],
    ),
    "device latched": Situation(
        device=replace(RUNS_ONE, complete=False),
        job=ended(JobState.FAILED, CauseCode.ERASE_ERROR),
        wanted=Desired(None, "the device is latched: erase-error"),
        latches=[latch(LatchScope.DEVICE, CauseCode.ERASE_ERROR)],
        should="Nothing new: the device is latched: erase-error.",
        runs="No complete image",
        next="Nothing, until a person lifts the latch: it keeps every image from this device.",
        commands=["firmwarden clear k3x9qa"],
    ),
    "latch lifted, not retried": Situation(
        job=ended(JobState.FAILED, CauseCode.INVALID_FILE),
        next="Nothing by itself: job 7 ended failed. A new release or a retry starts another.",
        commands=["firmwarden retry k3x9qa"],
    ),
    "unknown version held": Situation(
        device=UNIT,
        wanted=Desired(None, "what it runs is not known, and its class holds such devices"),
        should="Nothing new: what it runs is not known",
        runs="Not known",
        next="Nothing, until that changes: what it runs is not known, and its class holds such devices.",
        commands=["firmwarden adopt k3x9qa --running VERSION"],
    ),
    "being written, and withdrawn meanwhile": Situation(
        device=UNIT,
        job=replace(QUEUED, state=JobState.RUNNING),
        wanted=NOTHING,
        should="Nothing new: no release of its class",
        runs="Not known",
        next="Job 7 is under way, an update to 2.0.0.",
    ),
    "pinned": Situation(
        device=replace(RUNS_ONE, pinned="1.0.0"),
        wanted=Desired(None, "it is pinned to 1.0.0, and the device runs it", settled=True),
        should="What it runs now: it is pinned to 1.0.0",
        next="Nothing: the device runs what it should.",
        commands=["firmwarden pin k3x9qa none"],
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_why(situation: Situation) -> None:
    each = situation
    assert sentences.should_run(each.wanted).startswith(each.should)
    assert sentences.runs(each.device, each.job).startswith(each.runs)
    comes = sentences.next_step(
        each.device,
        each.job,
        each.wait,
        each.wanted,
        each.latches,
        again_after_s=86_400.0,
        paused=each.paused,
    )
    assert comes.startswith(each.next)
    commands = sentences.commands(
        each.device, each.job, each.wait, each.wanted, each.latches, holds=each.holds, paused=each.paused
    )
    assert commands == each.commands


def test_a_reason_that_ends_with_a_question_gets_no_full_stop() -> None:
    asks = replace(refusal(1), reason='unknown key; did you mean "image"?')
    assert sentences.should_run(NOTHING, [asks]).endswith(
        'does not count: unknown key; did you mean "image"?'
    )


def refusal(number: int) -> RefusedRelease:
    return RefusedRelease(
        manifest=f"panel-{number}.toml", reason="it is empty", since=NOON, device_class=PANEL
    )


def test_refused_releases_are_told_where_one_asks_what_should_run() -> None:
    assert sentences.should_run(NOTHING, [refusal(1)]) == (
        "Nothing new: no release of its class is in the firmware directory. panel-1.toml does not count: it is empty."
    )
    assert sentences.should_run(NOTHING, [replace(refusal(1), device_class=None)]).endswith(
        " panel-1.toml, which may be for it, does not count: it is empty."
    )
    many = sentences.should_run(WANTS_TWO, [refusal(number) for number in range(5)])
    assert "panel-2.toml does not count" in many
    assert "panel-3.toml" not in many
    assert many.endswith("Nor do 2 more; `firmwarden releases` says why.")


def attempt(**changes: object) -> Attempt:
    made = Attempt(
        id=AttemptId(1),
        job=JobId(7),
        device=UNIT.id,
        number=1,
        version="2.0.0",
        image=TWO.image,
        started_at=NOON,
        ended_at=NOON + 5.0,
        phase=Phase.WRITING,
        outcome=Outcome.FAILED,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_since_when_it_runs_that_is_told_by_the_attempt_that_brought_it() -> None:
    device = replace(RUNS_ONE, running_version="2.0.0", running_image=TWO.image)
    attempts = [attempt(), attempt(outcome=Outcome.SUCCEEDED, ended_at=NOON - 60.0)]
    assert sentences.runs(device, None, attempts) == (
        "2.0.0 (the device acknowledged its end), since 2024-10-04T11:59:00.000Z."
    )


def test_a_device_that_may_have_been_erased_is_not_called_untouched() -> None:
    refused = attempt(erase_starts=1)
    assert "it may hold nothing now" in sentences.runs(UNIT, None, [refused])
    assert "has not updated it yet" in sentences.runs(UNIT, None, [replace(refused, erase_starts=0)])


def test_inv4_a_place_of_which_it_is_not_clear_who_is_there_names_who_may_be() -> None:
    riddle = Conflict(
        ports=("usb-1-2",),
        classes=(PANEL,),
        devices=(UNIT.id, DeviceId("q8dmz1")),
        detail="two units of its classes are missing",
        place="usb-1-2",
    )
    told = sentences.whose("usb-1-2", riddle)
    assert "two units of its classes are missing" in told
    assert "`firmwarden why k3x9qa` or, if this is it, `firmwarden adopt usb-1-2 k3x9qa`" in told
    assert "`firmwarden adopt usb-1-2 q8dmz1`" in told
    assert "adopt" not in sentences.whose("/dev/ttyACM0", replace(riddle, place=""))


@pytest.mark.parametrize(
    ("good", "roll_back", "consequence"),
    [
        (None, True, "Should it not keep well, it has nothing to go back to."),
        (
            replace(GOOD, version="1.0.0", image=ImageHash("1" * 64)),
            True,
            "Should it not keep well, it goes back to 1.0.0.",
        ),
        (GOOD, True, "Should it not keep well, it is left alone, for it kept well with that before."),
        (GOOD, False, "Should it not keep well, that image is latched for it."),
    ],
)
def test_what_a_unit_has_yet_to_show(good: GoodImage | None, roll_back: bool, consequence: str) -> None:
    unit = replace(UNIT, running_version="2.0.0", running_image=TWO.image, good=good)
    told = sentences.on_probation(ON_PROBATION, unit, None, roll_back=roll_back)
    shown = "It is on probation with 2.0.0 until 2026-03-01T12:10:00Z: it is here and well."
    assert told == f"{shown} {consequence}"


def test_what_is_done_comes_before_what_it_has_yet_to_show() -> None:
    assert sentences.on_probation(ON_PROBATION, UNIT, QUEUED, roll_back=True) == ""
    assert sentences.on_probation(None, UNIT, None, roll_back=True) == ""


def test_what_it_was_ill_with_before_is_for_a_person_to_try_again() -> None:
    """Its latch was lifted; by now it runs what it went back to."""
    three = release("3.0.0")
    back = replace(QUEUED, state=JobState.SUCCEEDED)
    unit = replace(UNIT, running_version="2.0.0", running_image=TWO.image)
    wanted = Desired(three, "3.0.0 is the newest release of its class")
    assert sentences.next_step(unit, back, None, wanted, [], again_after_s=3600.0) == (
        "Nothing by itself: it was given 3.0.0 before, and that did not go well. "
        "A new release or a retry starts another job."
    )
    assert sentences.commands(unit, back, None, wanted, []) == [f"firmwarden retry {unit.id}"]

"""The sentences of ``why``: what should it run, what does it run, what comes next, what would change it.  Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Final

from firmwarden.model import CauseCode, JobState, LatchScope, Outcome, WaitKind
from firmwarden.service import rollout
from firmwarden.service.floor import allowing
from firmwarden.service.telling import instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmwarden.model import Attempt, Device, Hold, Job, Latch, Wait
    from firmwarden.service.desired import Desired
    from firmwarden.service.identity import Conflict
    from firmwarden.service.rollout import Progress
    from firmwarden.service.shelf import RefusedRelease
    from firmwarden.service.views import ProbationView


REFUSALS_TOLD: Final = 3


def should_run(wanted: Desired | None, refused: Sequence[RefusedRelease] = ()) -> str:
    """What should it run, and why; and what does not count, of releases for it that were refused."""
    told = [_should_run(wanted)]
    if wanted is not None and wanted.stopped is not None:
        told.append(f"Were it not for a latch, it would be {wanted.stopped.version}.")
    told += [
        f"{each.manifest}{'' if each.device_class else ', which may be for it,'} does not count: {each.reason}"
        f"{'' if each.reason.endswith('?') else '.'}"
        for each in refused[:REFUSALS_TOLD]
    ]
    if len(refused) > REFUSALS_TOLD:
        told.append(f"Nor do {len(refused) - REFUSALS_TOLD} more; `firmwarden releases` says why.")
    return " ".join(told)


def _should_run(wanted: Desired | None) -> str:
    if wanted is None:
        return (
            "Not decided yet: the first scans are not done, or its class is no longer in the configuration."
        )
    if wanted.release is None:
        text = "What it runs now" if wanted.settled else "Nothing new"
        return f"{text}: {wanted.reason}."
    version = wanted.release.version
    # Most reasons name it first thing.
    return f"{wanted.reason}." if wanted.reason.startswith(version) else f"{version}: {wanted.reason}."


def runs(
    device: Device, job: Job | None, attempts: Sequence[Attempt] = (), *, in_loader: bool = False
) -> str:
    """What does it run, and how do we know, and since when.

    Args:
        device: in question.
        job: its open job, else its last one.
        attempts: its last ones, newest first.
        in_loader: whether it is seen in its loader.
    """
    if job is not None and job.state is JobState.UNKNOWN:
        return (
            f"{job.version} or nothing, not known: the image is on the device and it called it valid, "
            "but whether it was started could not be seen."
        )
    since = next(
        (
            f", since {instant(attempt.ended_at)}"
            for attempt in attempts
            if attempt.ended_at is not None
            and attempt.outcome is Outcome.SUCCEEDED
            and attempt.image == device.running_image
        ),
        "",
    )
    known = f"{device.running_version} ({device.running_evidence}){since}" if device.running_version else ""
    if device.complete is False:
        before = f"; before that {known}" if known else ""
        return f"No complete image: an erase was begun and no update was finished since{before}."
    if in_loader:
        return f"Nothing: it is in its loader{f'; before that {known}' if known else ''}."
    if known and device.complete is None:
        return (
            f"{known}; a later update was refused after an erase may have begun, so it may hold nothing now."
        )
    if known:
        return f"{known}."
    if device.running_evidence:
        return f"Not known: {device.running_evidence}."
    if any(attempt.erase_starts for attempt in attempts):
        return "Not known: no update of it has succeeded, and one may have erased it, so it may hold nothing now."
    return "Not known: Firmwarden has not updated it yet, and a port is opened only for a job."


def cannot_write(problem: str) -> str:
    """What keeps everything waiting while the state cannot be written; empty where it can."""
    return f"Nothing, until what is done can be written down again: {problem}." if problem else ""


def on_probation(probation: ProbationView | None, device: Device, job: Job | None, *, roll_back: bool) -> str:
    """What a device has yet to show; empty where it has nothing to, or something else comes first.

    Args:
        probation: what is told of it.
        device: in question.
        job: its open job, else its last one.
        roll_back: whether its class lets it go back.
    """
    if probation is None or (job is not None and not job.state.final):
        return ""
    until = f" until {probation['until']}" if probation["until"] is not None else ""
    told = f"It is on probation with {probation['version']}{until}: {probation['detail']}."
    if not roll_back:
        return f"{told} Should it not keep well, that image is latched for it."
    if device.good is None:
        back = "has nothing to go back to"
    elif device.good.image == device.running_image:
        back = "is left alone, for it kept well with that before"
    else:
        back = f"goes back to {device.good.version}"
    return f"{told} Should it not keep well, it {back}."


def next_step(
    device: Device,
    job: Job | None,
    wait: Wait | None,
    wanted: Desired | None,
    latches: Sequence[Latch],
    *,
    again_after_s: float,
    paused: bool = False,
) -> str:
    """What will happen next and when.

    Args:
        device: in question.
        job: its open job, else its last one.
        wait: of the job.
        wanted: what the device should be given.
        latches: those that may stop it.
        again_after_s: when a pair whose budget ran out is tried again.
        paused: whether the wait is one that ``retry`` ends.
    """
    if job is not None and not job.state.final:
        return _next_of_open(job, wait, paused=paused)
    if any(latch.scope is LatchScope.DEVICE for latch in latches):
        keeps = "Nothing, until a person lifts the latch: it keeps every image from this device."
        return f"{keeps}{_after_that(device, job)}"
    if wanted is not None and wanted.settled:
        more = "; a latch keeps another image from it" if latches else ""
        return f"Nothing: the device runs what it should{more}."
    if latches:
        return (
            f"Nothing, until a person lifts the latch or another image is released.{_after_that(device, job)}"
        )
    return _next_of_free(device, job, wanted, again_after_s)


def _after_that(device: Device, job: Job | None) -> str:
    failed = job is not None and job.state is JobState.FAILED
    return f" When it is lifted, `firmwarden retry {device.id}` tries that image again." if failed else ""


def _next_of_free(device: Device, job: Job | None, wanted: Desired | None, again_after_s: float) -> str:
    """What follows where no job is open and nothing is latched."""
    if job is not None and _may_be_retried(device, job, wanted):
        if job.state is JobState.SUCCEEDED and wanted is not None and wanted.release is not None:
            if job.image != wanted.release.image:
                tried = f"it was given {wanted.release.version} before, and that did not go well"
                return f"Nothing by itself: {tried}. A new release or a retry starts another job."
            return (
                f"Nothing within {again_after_s / 3600.0:g} hours of the first of its last updates to {job.version}: "
                "it did not keep any of them. Then it is updated again, or when a person retries."
            )
        if job.cause is not None and job.cause.code is CauseCode.TRANSPORT_EXHAUSTED:
            again = instant(job.updated_at + again_after_s)
            return f"Nothing until {again}: then it is tried again, or when it is plugged anew or a person retries."
        return f"Nothing by itself: job {job.id} ended {job.state.value}. A new release or a retry starts another."
    if wanted is not None and wanted.stuck and device.complete is not False:
        return "Nothing by itself: it waits in its loader. Cycle its power, or release something for it."
    if device.complete is False and wanted is not None and wanted.release is None:
        return "Nothing, until there is a release for it: it holds no complete image and waits in its loader."
    if wanted is None or wanted.release is not None:
        return "Nothing, until everything was looked at and planned."
    return f"Nothing, until that changes: {wanted.reason}."


def _next_of_open(job: Job, wait: Wait | None, *, paused: bool) -> str:
    if job.state is JobState.RUNNING:
        return f"Job {job.id} is under way, an update to {job.version}."
    if job.state is JobState.UNKNOWN:
        if wait is None:
            return f"The device is asked what became of job {job.id}; then the record is settled."
        if wait.kind is WaitKind.ABSENT:
            return f"Job {job.id} has an unknown outcome; the device is asked as soon as it is here."
        return f"Job {job.id} has an unknown outcome; the device is asked again{_when(wait)}: {wait.detail}."
    if wait is None:
        return f"Job {job.id} starts as soon as the planner comes by."
    if wait.kind is WaitKind.ABSENT:
        return f"Job {job.id} ({job.version}) starts as soon as the device is here."
    waits = f"Job {job.id} ({job.version}) waits{_when(wait)}: {wait.detail}."
    if wait.kind is WaitKind.FAILSAFE:
        return f"{waits} {_way_out(job, shown=paused)}"
    if wait.kind is WaitKind.WEAR:
        larger = "Only a larger `per_life`" if wait.until is None else "Before that, only a larger `per_day`"
        return f"{waits} {larger} under `wear` of the class {job.device_class} changes that."
    if paused and wait.until is None:
        return (
            f"{waits} Plug in the right unit, and it is looked at again; or, if this is the one, say so and it is "
            "written whatever it holds."
        )
    return waits


def _way_out(job: Job, *, shown: bool) -> str:
    """What a person can do who does not want to wait for ever; ``shown``: it is the device that lacks something."""
    declare, switch_on = (
        "declare what protects it when the power fails",
        "switch on what its class relies on (`firmwarden provision --help` says on which parts it can)",
    )
    first, second = (switch_on, declare) if shown else (declare, switch_on)
    return (
        f"{first[0].upper()}{first[1:]}, or {second}; or take the risk: write "
        f'failsafe = "none" for the class {job.device_class} and reload the configuration, knowing that an '
        "interruption then bricks the device."
    )


def whose(place: str, conflict: Conflict) -> str:
    """Why nothing can be said of what is at a place of which it is not clear which device it is."""
    ways = [
        f"`firmwarden why {device}`"
        + (f" or, if this is it, `firmwarden adopt {conflict.place} {device}`" if conflict.place else "")
        for device in conflict.devices
    ]
    return f"which device is at {place} is not clear: {'; '.join([conflict.detail, *ways])}"


def commands(
    device: Device,
    job: Job | None,
    wait: Wait | None,
    wanted: Desired | None,
    latches: Sequence[Latch],
    *,
    holds: Sequence[Hold] = (),
    paused: bool = False,
    riddles: Sequence[str] = (),
    provision: str = "",
    going_out: Progress | None = None,
) -> list[str]:
    """The exact commands that would change it.

    Args:
        device: in question.
        job: its open job, else its last one.
        wait: of the job.
        wanted: what the device should be given.
        latches: those that may stop it.
        holds: those that concern it.
        paused: whether the wait is one that ``retry`` ends.
        riddles: places of loaders that may be its own.
        provision: the command that sets what its class relies on where it is, or empty.
        going_out: the rollout in which it has yet to have its turn.
    """
    found = [f"firmwarden adopt {place} {device.id}" for place in riddles]
    for latch in latches:
        target = latch.image[:12] if latch.scope is LatchScope.IMAGE and latch.image else device.id
        found.append(f"firmwarden clear {target}")
    found += _commands_of_holds(holds)
    if wait is not None:
        found += _commands_of_wait(device, wait, provision, paused=paused)
    if going_out is not None:
        found += rollout.commands(going_out)
    if job is not None and job.state is JobState.QUEUED:
        found.append(f"firmwarden cancel {job.id}")
    hurried = wait is not None and wait.kind in {WaitKind.BACK_OFF, WaitKind.CONDITION}
    if job is not None and (_may_be_retried(device, job, wanted) or hurried or paused):
        found.append(f"firmwarden retry {device.id}")
    busy = job is not None and job.state in {JobState.QUEUED, JobState.RUNNING}
    unknown = device.running_version is None and not busy
    if unknown and wanted is not None and wanted.release is None and not latches:
        found.append(f"firmwarden adopt {device.id} --running VERSION")
    if wanted is not None and wanted.older is not None:
        found.append(allowing(device, wanted.older))
    if device.pinned is not None:
        found.append(f"firmwarden pin {device.id} none")
    if wait is not None and wait.kind is WaitKind.FAILSAFE:
        found.append("systemctl reload firmwarden")
    return list(dict.fromkeys(found))


def _commands_of_holds(holds: Sequence[Hold]) -> list[str]:
    counts = Counter(hold.device for hold in holds)
    return [
        f"firmwarden unhold {hold.device or 'all'}"
        + (f" --owner {shlex.quote(hold.owner)}" if counts[hold.device] > 1 else "")
        for hold in holds
    ]


def _commands_of_wait(device: Device, wait: Wait, provision: str, *, paused: bool) -> list[str]:
    match wait.kind:
        case WaitKind.IDENTITY if paused:
            return [f"firmwarden adopt {device.port} {device.id}"]
        case WaitKind.FAILSAFE if paused:  # the class may well be right
            return [provision] if provision else []
        case WaitKind.FAILSAFE:
            return ["systemctl reload firmwarden"]
        case _:
            return []


def _may_be_retried(device: Device, job: Job, wanted: Desired | None) -> bool:
    """Whether a person's ``retry`` would start something that does not start by itself."""
    if job.state is JobState.SUCCEEDED:
        release = None if wanted is None else wanted.release
        return release is not None and device.running_image != release.image
    if job.state in {JobState.FAILED, JobState.CANCELLED}:
        return wanted is not None and wanted.release is not None
    return job.state is JobState.UNKNOWN


def _when(wait: Wait) -> str:
    return "" if wait.until is None else f" until {instant(wait.until)}"

"""What the views mean, in words: how a device is doing, how an attempt ended.

The command line and the status page tell them alike.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from firmwarden.service.measures import IMAGE_SHOWN, ago, ahead, between, how_far, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from firmwarden.service.views import (
        AttemptView,
        CauseView,
        DeviceView,
        JobView,
        LatchView,
        ProbationView,
        WaitView,
    )

_END_AT = frozenset({"hold", "window", "canary"})
"""Waits whose instant is their end; after that of the others, what was in vain is tried once more."""
_WAITING = frozenset({"queued", "unknown"})
_WITHOUT_SUCCESS = frozenset({"failed", "cancelled"})

SCOPES: Final = {
    "pair": "this image on this device",
    "image": "this image on every device",
    "device": "every image on this device",
}
"""What a latch stops, by its scope."""

_TOLD_ELSEWHERE = frozenset({"event", "level", "timestamp", "device", "detail", "evidence", "reason"})

_WHERE_IT_ENDED = {
    "probing": "before anything was erased",
    "writing": "after the erase had begun",
    "ending": "when it was about to be started",
}


def state_of_device(device: DeviceView, now: datetime) -> str:
    """Say the one thing about a device that matters most."""
    job = device["job"]
    state = "" if job is None else job["state"]
    if job is not None and (state == "running" or (state in _WAITING and not device["conflict"])):
        return state_of_job(job, now)
    if device["conflict"] is not None:
        return f"conflict: {device['conflict']}"
    if device["latched"]:
        cause = job["cause"] if job is not None and state == "failed" else None
        return f"stopped: {cause['meaning']} ({cause['code']})" if cause else _stopped(device)
    if job is not None and state in _WITHOUT_SUCCESS and device["running_version"] != job["version"]:
        return state_of_job(job, now)
    return _at_rest(device, now)


def _stopped(device: DeviceView) -> str:
    what = device["stopped_version"]
    # By this device, by others, or by a person who called the release back.
    return f"{what} is stopped by a latch" if what else "stopped by a latch"


def _at_rest(device: DeviceView, now: datetime) -> str:
    if device["complete"] is False:
        return "holds no complete image"
    if device["probation"] is not None:
        return probation_in_words(device["probation"], now)
    up_to_date = device["desired_version"] in {None, device["running_version"]}
    if not device["present"]:
        last_seen = f"away, last seen {ago(device['last_seen'], now)}"
        return last_seen if not up_to_date else f"up to date when it was here; {last_seen}"
    held = f"held by {device['held']}" if device["held"] is not None else ""
    if up_to_date:
        rest = "up to date" if device["desired_version"] else f"nothing to run: {device['desired_reason']}"
        return f"{rest}; {held}" if held else rest
    if held:
        return held
    return f"should run {device['desired_version']}"


def what_it_stops(latch: LatchView, latches: Sequence[LatchView]) -> str:
    """Say what a latch stops, with the image where these latches are about several."""
    stops = SCOPES[latch["scope"]]
    if latch["image"] is None or {each["image"] for each in latches} <= {latch["image"], None}:
        return stops
    return f"{stops}, {latch['image'][:IMAGE_SHOWN]}"


def probation_in_words(probation: ProbationView, now: datetime) -> str:
    """Say what a device has yet to show, and until when where that is known."""
    until = f", over {ahead(probation['until'], now)}" if probation["until"] is not None else ""
    return f"on probation with {probation['version']}{until}: {probation['detail']}"


def state_of_job(job: JobView, now: datetime) -> str:
    """Say how a job is doing."""
    match job["state"]:
        case "running":
            progress = job["progress"]
            step = f": {how_far(progress['step'], progress['done'], progress['total'])}" if progress else ""
            return f"updating to {job['version']}{step}"
        case "queued":
            return f"waits: {wait_in_words(job['wait'], now)}" if job["wait"] else "is next"
        case "unknown":
            return "outcome unknown; the device is asked again"
        case "failed" | "cancelled" if job["cause"] is not None:
            return f"{job['state']}: {job['cause']['meaning']} ({job['cause']['code']})"
        case other:
            return other


def wait_in_words(wait: WaitView, now: datetime) -> str:
    """Say what is waited for, and until when where that is known."""
    ends = "over" if wait["kind"] in _END_AT else "again"
    until = f"; {ends} {ahead(wait['until'], now)}" if wait["until"] is not None else ""
    return (wait["detail"] or wait["kind"]) + until


def cause_in_words(cause: CauseView) -> list[str]:
    """Say why something ended: what it means, what was seen, where, and the bytes of the answer."""
    said = [sentence(f"{cause['meaning']} ({cause['code']})")]
    if cause["detail"]:
        said.append(sentence(cause["detail"]))
    where = []
    if cause["chunk"] is not None:
        where.append(f"at chunk {cause['chunk']}")
    if cause["sequence"] is not None and (cause["raw"] or cause["chunk"] is not None):
        where.append(f"{'' if where else 'at '}sequence number {cause['sequence']}")
    if cause["offset"] or (cause["offset"] is not None and cause["chunk"] is not None):
        where.append(f"after {cause['offset']:,} bytes of the image")
    if where:
        said.append(f"That was {', '.join(where)}.")
    if cause["raw"]:
        said.append(f"It answered {raw_bytes(cause['raw'])}.")
    return said


def outcome_in_words(attempt: AttemptView) -> str:
    """Say how an attempt ended, after how long, and what it had done to the device by then."""
    if attempt["ended_at"] is None:
        return "under way"
    took = between(attempt["started_at"], attempt["ended_at"])
    where = "" if attempt["outcome"] == "succeeded" else f", {_WHERE_IT_ENDED[attempt['phase']]}"
    return f"{attempt['outcome']} after {took}{where}"


def findings_in_words(attempt: AttemptView) -> list[str]:
    """Say why an attempt ended so, how that is known, and how the wire was; nothing while it is under way."""
    if attempt["ended_at"] is None:
        return []
    told = [] if attempt["cause"] is None else cause_in_words(attempt["cause"])
    if attempt["evidence"] and (
        attempt["cause"] is None or attempt["evidence"] != attempt["cause"]["detail"]
    ):
        told.append(sentence(attempt["evidence"]))
    stats = attempt["stats"]
    trouble = [
        f"{stats[key]:,} {name}"
        for key, name in (
            ("resends", "sent again"),
            ("timeouts", "unanswered"),
            ("damaged", "with a damaged answer"),
            ("strays", "answered late or twice"),
        )
        if stats.get(key)
    ]
    if trouble:
        commands = stats.get("commands", 0)
        told.append(f"Of {commands:,} command{'' if commands == 1 else 's'}: {', '.join(trouble)}.")
    return told


def findings_told_once(
    attempts: Sequence[AttemptView], latches: Sequence[LatchView]
) -> Iterator[tuple[AttemptView, str]]:
    """Yield each attempt with its findings, those only pointed at that stand above it already."""
    verdicts = [cause_in_words(latch["cause"]) for latch in latches]
    before: list[str] = []
    for attempt in attempts:
        told = shown = findings_in_words(attempt)
        verdict = [] if attempt["cause"] is None else cause_in_words(attempt["cause"])
        if verdict in verdicts:
            shown = ["That stopped it.", *told[len(verdict) :]]
        elif told and told == before:
            shown = ["The same."]
        yield attempt, " ".join(shown)
        before = told


def tries_in_words(device: DeviceView) -> list[str]:
    """Say how often the job of a device was tried."""
    job = device["job"]
    if job is None:
        return []
    if job["state"] == "running":
        return [f"This is attempt {job['attempts']}."]
    untried = "was cancelled before it was tried" if job["state"] == "cancelled" else "has not been tried yet"
    # Not "of so many": attempts that a stop of the daemon broke off count against no budget.
    times = {0: untried, 1: "was tried once"}.get(job["attempts"], f"was tried {job['attempts']} times")
    return [f"Job {job['id']} ({job['version']}) {times}."]


def event_in_words(data: Mapping[str, object]) -> tuple[str, str]:
    """Tell a log event: what happened and what was said of it; then the rest as key=value."""
    said = data.get("detail") or data.get("evidence") or data.get("reason")
    rest = (
        f"{key}={value if key != 'image' else str(value)[:IMAGE_SHOWN]}"
        for key, value in data.items()
        if key not in _TOLD_ELSEWHERE and value not in (None, "")
    )
    return (f"{data['event']}: {said}" if said else f"{data['event']}"), " ".join(rest)


def sentence(text: str) -> str:
    """Make a sentence; what begins with a name, of a port or a file, keeps its small letter."""
    begins_with_a_word = re.match(r"[a-z'-]+(?:[ ,;]|: |$)", text) is not None
    return f"{text[:1].upper() if begins_with_a_word else text[:1]}{text[1:].rstrip('.')}."

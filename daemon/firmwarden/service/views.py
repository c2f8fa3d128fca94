"""The shapes of what the service tells: what `--json` prints and what the control API answers.

Plain data that goes to JSON as it is.  Instants are RFC 3339 strings in UTC, durations seconds, hashes and raw
bytes hexadecimal.  Keys are only ever added.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypedDict

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, JobState, LatchScope, Outcome, Phase, WaitKind

Instant: TypeAlias = Annotated[str, "date-time"]
"""RFC 3339 in UTC.  Annotated is the ``format`` of JSON Schema, elsewhere the enum whose values a text may have."""


class CauseView(TypedDict):
    """Why an attempt or a job ended."""

    code: Annotated[str, CauseCode]
    detail: str
    meaning: str
    """What the code means, in words."""
    raw: str
    offset: int | None
    chunk: int | None
    sequence: int | None


class WaitView(TypedDict):
    """Why a job does not run now."""

    kind: Annotated[str, WaitKind]
    detail: str
    until: Instant | None


class ProgressView(TypedDict):
    """How far an attempt is."""

    step: Annotated[str, Step]
    done: int
    total: int


class WearView(TypedDict):
    """Starts of an erase beside their budgets."""

    today: int
    today_budget: int
    life: int
    life_budget: int


class LatchView(TypedDict):
    """A stop that a person lifts."""

    id: int
    scope: Annotated[str, LatchScope]
    device: str | None
    image: str | None
    cause: CauseView
    set_at: Instant
    clear: str
    """The exact command that lifts it."""


class JobView(TypedDict):
    """One release for one device."""

    id: int
    device: str
    device_class: str
    version: str
    image: str
    state: Annotated[str, JobState]
    created_at: Instant
    updated_at: Instant
    attempts: int
    attempts_budget: int
    """Failures in transport that end it; attempts that were broken off do not count."""
    wait: WaitView | None
    progress: ProgressView | None
    cause: CauseView | None


class AttemptView(TypedDict):
    """One try at a job."""

    id: int
    job: int
    device: str
    number: int
    version: str
    image: str
    started_at: Instant
    ended_at: Instant | None
    phase: Annotated[str, Phase]
    outcome: Annotated[str, Outcome]
    cause: CauseView | None
    evidence: str
    erase_starts: int
    stats: dict[str, int]


class DeviceView(TypedDict):
    """One unit and its state of affairs."""

    id: str
    label: str
    device_class: str
    identity: str
    port: str
    serial: str
    present: bool
    conflict: str | None
    running_version: str | None
    running_image: str | None
    running_evidence: str
    complete: bool | None
    desired_version: str | None
    desired_reason: str
    """Why this version, or why none."""
    stopped_version: str | None
    """What it should run, were it not for a latch; None where no latch makes a difference."""
    pinned: str | None
    held: str | None
    """The reason of the hold that concerns it, if any."""
    latched: bool
    job: JobView | None
    """Its job that is not final, else its last one."""
    wear: WearView
    first_seen: Instant
    last_seen: Instant


class WaitingView(TypedDict):
    """A job that waits."""

    job: int
    device: str
    label: str
    device_class: str
    version: str
    wait: WaitView


class DeviceWearView(TypedDict):
    """What a device's flash has been through."""

    device: str
    label: str
    device_class: str
    wear: WearView


class ConflictView(TypedDict):
    """Ports of which it cannot be said which unit is behind them."""

    ports: list[str]
    detail: str


class ReleaseView(TypedDict):
    """One manifest in the firmware directory."""

    manifest: str
    state: Literal["accepted", "refused"]
    device_class: str | None
    version: str | None
    sequence: int | None
    image: str | None
    size: int | None
    reason: str | None
    """Why it is refused."""
    latched: bool


class StatusView(TypedDict):
    """The whole in numbers."""

    version: str
    started_at: Instant
    state: Literal["starting", "ready", "stopping"]
    devices: int
    present: int
    conflicts: list[ConflictView]
    running: int
    waiting: int
    unknown: int
    latches: int
    failed: int
    """Devices whose last job failed and that no latch stops: trouble of the transport, or not tried again since."""
    waiting_for_you: int
    """Jobs that wait for what only a person can do, and that neither a conflict nor a hold tells of."""
    held: str | None
    """The reason of the hold on everything, if any."""
    releases: int
    refused_releases: int
    problems: list[str]
    """What the operator should mend: a refused configuration, an unreadable directory, a full disk."""


class HealthView(TypedDict):
    """A sign of life."""

    state: Literal["alive"]
    store_s: float
    """Seconds that the state database took to answer."""


class ReadyView(TypedDict):
    """The first scans are done: what is told of devices and releases is so."""

    state: Literal["ready"]


class PlanView(TypedDict):
    """What would happen to one device and why not."""

    device: str
    label: str
    decision: Literal["update", "nothing", "wait", "stopped", "running"]
    version: str | None
    reason: str


class PowerCutView(TypedDict):
    """A part of an update, and what a loss of power in it would leave."""

    step: Annotated[str, Step]
    does: str
    if_interrupted: str


class WhyView(TypedDict):
    """Everything known of one device's state of affairs; the text answer is made of this."""

    device: DeviceView
    should_run: str
    """What should it run, and why: one sentence."""
    runs: str
    """What does it run, and how do we know: one sentence."""
    latches: list[LatchView]
    attempts: list[AttemptView]
    """Newest first, at most ten."""
    next: str
    """What will happen next and when, and what a person can do about a wait that does not end by itself."""
    power_cuts: list[PowerCutView]
    """What a loss of power in an update would leave, in the order of the update; empty where no table tells it."""
    doubted: bool
    """Whether that which the class relies on may not be there; ``power_cuts`` then tells how it is without."""
    commands: list[str]
    """The exact commands that would change it."""


class ActionView(TypedDict):
    """What a person did."""

    at: Instant
    who: str
    what: str
    target: str
    detail: str


class HistoryView(TypedDict):
    """Attempts and actions, newest first."""

    attempts: list[AttemptView]
    actions: list[ActionView]


class DoneView(TypedDict):
    """A wish was carried out."""

    done: str
    """What was done and what follows, one sentence."""


class FeedItem(TypedDict):
    """One item of the event stream."""

    id: int
    kind: Literal["log", "progress", "gap"]
    data: dict[str, object]
    """A log event with its keys; or {device, job, attempt, release, step, done, total}; or {missed, restarted}: so many
    items before the next one are no longer there, and if restarted also some of an earlier run of the daemon."""

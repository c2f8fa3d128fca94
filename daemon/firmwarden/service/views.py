"""The shapes of what the service tells: what `--json` prints and what the control API answers.

Plain data that goes to JSON as it is.  Instants are RFC 3339 strings in UTC, durations seconds, hashes and raw
bytes hexadecimal.  Keys are only ever added.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class CauseView(TypedDict):
    """Why an attempt or a job ended."""

    code: str
    detail: str
    meaning: str
    """What the code means, in words."""
    raw: str
    offset: int | None
    chunk: int | None
    sequence: int | None


class WaitView(TypedDict):
    """Why a job does not run now."""

    kind: str
    detail: str
    until: str | None


class ProgressView(TypedDict):
    """How far an attempt is."""

    step: str
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
    scope: str
    device: str | None
    image: str | None
    cause: CauseView
    set_at: str
    clear: str
    """The exact command that lifts it."""


class JobView(TypedDict):
    """One release for one device."""

    id: int
    device: str
    device_class: str
    version: str
    image: str
    state: str
    created_at: str
    updated_at: str
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
    started_at: str
    ended_at: str | None
    phase: str
    outcome: str
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
    first_seen: str
    last_seen: str


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
    started_at: str
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

    step: str
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

    at: str
    who: str
    what: str
    target: str
    detail: str


class HistoryView(TypedDict):
    """Attempts and actions, newest first."""

    attempts: list[AttemptView]
    actions: list[ActionView]


class FeedItem(TypedDict):
    """One item of the event stream."""

    id: int
    kind: Literal["log", "progress", "gap"]
    data: dict[str, object]
    """A log event with its keys; or {device, job, attempt, release, step, done, total}; or {missed, restarted}: so many
    items before the next one are no longer there, and if restarted also some of an earlier run of the daemon."""

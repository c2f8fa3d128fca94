"""The shapes of what the service tells: what `--json` prints and what the control API answers.

Plain data that goes to JSON as it is.  Instants are RFC 3339 strings in UTC, durations seconds, hashes and raw
bytes hexadecimal.  Keys are only ever added.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypedDict

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, JobState, LatchScope, Outcome, Phase, RolloutState, WaitKind
from firmwarden.service.rollout import Stage

Instant: TypeAlias = Annotated[str, "date-time"]
"""RFC 3339 in UTC.  Annotated is the ``format`` of JSON Schema, elsewhere the enum whose values a text may have."""


class CauseView(TypedDict):
    """Why an attempt or a job ended."""

    code: Annotated[str, CauseCode]
    detail: str
    """One sentence for a person; its wording may change."""
    meaning: str
    """What the code means, in words."""
    raw: str
    """What the device sent, as received."""
    offset: int | None
    """Bytes of the image that the device had accepted before."""
    chunk: int | None
    """Number of the chunk that was refused or under way, from 0."""
    sequence: int | None
    """Sequence number of the command that was refused or under way."""


class WaitView(TypedDict):
    """Why a job does not run now."""

    kind: Annotated[str, WaitKind]
    detail: str
    """What exactly is waited for, for a person."""
    until: Instant | None
    """When it ends by itself, where that is known."""


class WaitCountView(TypedDict):
    """How many jobs wait for the same kind of thing."""

    kind: Annotated[str, WaitKind]
    jobs: int


class ProgressView(TypedDict):
    """How far an attempt is."""

    step: Annotated[str, Step]
    done: int
    """Bytes."""
    total: int
    """Bytes; 0 where a step has no measure."""


class WearView(TypedDict):
    """Starts of an erase beside their budgets."""

    today: int
    """On this day in UTC."""
    today_budget: int
    life: int
    life_budget: int


class LatchView(TypedDict):
    """A stop that a person lifts."""

    id: int
    scope: Annotated[str, LatchScope]
    device: str | None
    """Null: every device."""
    image: str | None
    """Null: every image."""
    cause: CauseView
    set_at: Instant
    clear: str
    """The exact command that lifts it."""


class HoldView(TypedDict):
    """A wish that nothing be started."""

    device: str | None
    """Null: everything."""
    owner: str
    reason: str
    at: Instant
    until: Instant | None
    """When it ends by itself."""


class JobView(TypedDict):
    """One release for one device."""

    id: int
    device: str
    device_class: str
    version: str
    image: str
    """SHA-256 of what is sent."""
    state: Annotated[str, JobState]
    created_at: Instant
    updated_at: Instant
    attempts: int
    attempts_budget: int
    """Failures in transport that end it; attempts that were broken off do not count."""
    wait: WaitView | None
    """Null where it waits for nothing."""
    progress: ProgressView | None
    """While it runs."""
    cause: CauseView | None
    """Of the last attempt that did not succeed, or why the job ended."""


class AttemptView(TypedDict):
    """One try at a job."""

    id: int
    job: int
    device: str
    number: int
    """From 1 within the job."""
    version: str
    image: str
    started_at: Instant
    ended_at: Instant | None
    """Null while it runs."""
    phase: Annotated[str, Phase]
    outcome: Annotated[str, Outcome]
    cause: CauseView | None
    evidence: str
    """What makes us believe the outcome, one sentence."""
    erase_starts: int
    stats: dict[str, int]
    """Counters of the wire."""


class ProbationView(TypedDict):
    """What a unit that was updated has yet to show."""

    version: str
    """What it was given."""
    began_at: Instant
    soaked_s: float
    """For how long it has been here and well since."""
    soak_s: float
    """For how long it has to be."""
    until: Instant | None
    """When that is over if it goes on as it does; null while it is away, or is being asked."""
    detail: str
    """How it goes, for a person."""


class DeviceView(TypedDict):
    """One unit and its state of affairs."""

    id: str
    """Short and stable."""
    label: str
    device_class: str
    identity: str
    """By what it is known, by the rule of its class."""
    port: str
    """Where it is, or was last seen."""
    serial: str
    present: bool
    """Whether it is here now."""
    conflict: str | None
    """Why nothing is written to it, where it cannot be said which unit this is."""
    running_version: str | None
    """Null: not known."""
    running_image: str | None
    running_evidence: str
    """How that is known, one sentence."""
    complete: bool | None
    """Whether it holds a complete image; null: not known."""
    desired_version: str | None
    """What it should run; null where nothing says so, and it keeps what it runs."""
    desired_reason: str
    """Why this version, or why none."""
    stopped_version: str | None
    """What it should run, were it not for a latch; null where no latch makes a difference."""
    pinned: str | None
    """The version that a person keeps it at."""
    floor: int | None
    """The greatest sequence with which it was confirmed: nothing below that is given to it; null: there is none."""
    may_go_back_to: str | None
    """The version to which a person allowed it to go back all the same, once."""
    held: str | None
    """By whom it is held and why, if it is."""
    holds: list[HoldView]
    """Those that concern it, also those on everything."""
    good_version: str | None
    """What it kept well with last, and would go back to; null: nothing is known."""
    probation: ProbationView | None
    """Null where it has nothing to show."""
    port_lent: str | None
    """Who was stopped to leave the ports of its class, and since when."""
    latched: bool
    """Whether a latch stops it."""
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
    """The name of its file."""
    state: Literal["accepted", "refused"]
    device_class: str | None
    version: str | None
    sequence: int | None
    image: str | None
    """SHA-256 of what is sent."""
    size: int | None
    """Bytes of what is sent."""
    signed_by: str | None
    """The name of the key; null where it is not signed, or refused."""
    reason: str | None
    """Why it is refused, or how many devices do not get it although it is accepted."""
    latched: bool
    """Whether a latch stops its image on every device."""


class RolloutView(TypedDict):
    """How far a release has come among the devices of its class."""

    device_class: str
    version: str
    image: str
    """SHA-256 of what is sent."""
    state: Annotated[str, RolloutState]
    standing: str
    """Where it is and what it waits for, for a person."""
    until: Instant | None
    """When the wave has soaked, where it does."""
    next: str
    """What a person can do; empty where it goes on by itself."""
    wave: int
    """0: the canaries."""
    waves: int
    """How many follow the canaries."""
    places: int
    """How many devices may have been given it by the end of this wave."""
    devices: int
    """How many are meant to have it."""
    tried: int
    """At how many it was tried, or runs anyway."""
    well: int
    """How many run it in good health."""
    failed: int
    began_at: Instant
    wave_at: Instant
    """When the wave began."""
    changed_by: str
    """Who let it go on or called it back last; empty where nobody did."""
    reason: str
    """Why it stopped or was called back, or by whose order it goes on although so many had failed."""


class RolloutMemberView(TypedDict):
    """One device in a rollout."""

    device: str
    label: str
    version: str
    stage: Annotated[str, Stage]
    wave: int | None
    """In which wave it has its turn if all go on as they are; none where that is over."""
    present: bool


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
    waits: list[WaitCountView]
    """What those that wait do so for."""
    unknown: int
    latches: int
    """Those that stop a device: what they are on is in the firmware directory, or was given last."""
    failed: int
    """Devices whose last job failed and that no latch stops: trouble of the transport, or not tried again since."""
    on_probation: int
    """Devices that were updated and have yet to show that they keep well."""
    waiting_for_you: int
    """Jobs that wait for what only a person can do, and that neither a conflict nor a hold tells of."""
    held: str | None
    """By whom everything is held and why, if it is."""
    holds: list[HoldView]
    """Those on everything."""
    releases: int
    refused_releases: int
    unsigned_classes: list[str]
    """Classes that take releases without a signature."""
    rollouts: list[RolloutView]
    """Of releases that some device is meant to have now, or that were called back."""
    problems: list[str]
    """What the operator should mend: a refused configuration, an unreadable directory, a full disk."""
    last_event: int
    """The latest item of the event stream when this was asked: the stream after it tells all that came since."""


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
    """What a person did: a command, an order over the API, or a release that was dropped or taken away."""

    at: Instant
    who: str
    """The user; of a release that was dropped the owner of its file; `the daemon` where it followed by itself."""
    what: str
    target: str
    """A device, an image, a manifest, or `all`."""
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

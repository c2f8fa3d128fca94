"""The nouns of the service as frozen values: ids, devices, releases, jobs, attempts, causes, latches.

This is the bottom layer.  Nothing here does IO, reads a clock or knows a protocol; every other layer may
import it.  What may follow what in a job's life is the table ``TRANSITIONS``: code, tests and docs read it there.

Instants are wall-clock seconds since the epoch in UTC (they are stored); durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

ClassName = NewType("ClassName", str)
DeviceId = NewType("DeviceId", str)
"""Short and stable; what a person types and what every log line carries as ``device``."""
JobId = NewType("JobId", int)
AttemptId = NewType("AttemptId", int)
LatchId = NewType("LatchId", int)
ImageHash = NewType("ImageHash", str)
"""SHA-256 of an image, 64 lower-case hexadecimal digits."""


# --- where a device is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbFacts:
    """What sysfs tells of the USB interface behind a port, without opening anything."""

    vendor_id: int
    product_id: int
    serial: str | None = None
    topology: str = ""
    """Bus and port path as the kernel writes it, e.g. ``1-1.4``."""
    interface: int | None = None
    """bInterfaceNumber: one adapter may carry several ports."""
    port: str = ""
    """The port by a name that is the same after a restart, e.g. ``usb-0000:00:14.0-1.4-if0``; the number of the
    bus, with which ``topology`` begins, may be another after each boot."""
    manufacturer: str = ""
    product: str = ""
    revision: int = 0
    """bcdDevice: 0x0210 for 2.10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialAddress:
    """A tty by the name it is opened with."""

    path: str
    baud: int = 115_200
    usb: UsbFacts | None = None
    """Where it was on the USB when it had this name: names are given anew when devices come back."""

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A peer that carries the serial frames in a TCP stream, or where the service itself listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixGroup:
    """A group of users of this machine."""

    name: str
    gid: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbAddress:
    """A USB device by its place: what it says of itself changes when it goes into its loader, its place does not."""

    topology: str
    """Bus and port path as the kernel writes it, e.g. ``1-1.4``."""
    usb: UsbFacts | None = None
    """What was there when it was seen: another unit may have been plugged in since."""

    def __str__(self) -> str:
        return f"usb:{self.topology}"


StreamAddress = SerialAddress | TcpAddress
"""Where bytes come and go in a stream."""

Address = StreamAddress | UsbAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One port that a scan saw: names and facts only, the port was not opened (invariant 4)."""

    address: Address
    links: tuple[str, ...] = ()
    """Other names of the same node, by-id and by-path links and links in watched directories, sorted."""
    usb: UsbFacts | None = None


# --- what should run ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An image plus its manifest, accepted from the firmware directory."""

    device_class: ClassName
    version: str
    sequence: int | None = None
    image: ImageHash
    size: int
    manifest: str
    """Name of the manifest file in the firmware directory, or of the bundle."""
    signed_by: str = ""
    """The name of the key whose signature its manifest has; empty where its class needs none."""
    downgrade: bool = False
    """Its signed manifest says that it may follow what is newer."""


# --- why something ended -----------------------------------------------------------------------------


@unique
class CauseCode(StrEnum):
    """Why an attempt ended.  The values go to logs, the store and scripts: they never change."""

    # The wire and the port.
    NO_ANSWER = "no-answer"
    RETRIES_EXHAUSTED = "retries-exhausted"
    LINK_LOST = "link-lost"
    OPEN_FAILED = "open-failed"
    CLIENT_REBOOTED = "client-rebooted"
    OUT_OF_STEP = "out-of-step"
    STUCK_BUSY = "stuck-busy"
    ENTRY_FAILED = "entry-failed"
    INTERRUPTED = "interrupted"
    TRANSPORT_EXHAUSTED = "transport-exhausted"
    # The device's own verdicts.
    CLIENT_ERROR = "client-error"
    INVALID_FILE = "invalid-file"
    WRONG_DEVICE_ID = "wrong-device-id"
    ADDRESS_ERROR = "address-error"
    ERASE_ERROR = "erase-error"
    WRITE_ERROR = "write-error"
    READ_ERROR = "read-error"
    VERSION_REFUSED = "version-refused"
    ABORT_WITHOUT_CAUSE = "abort-without-cause"
    ABORT_UNKNOWN = "abort-unknown"
    NOT_AUTHORIZED = "not-authorized"
    NOT_SUPPORTED = "command-not-supported"
    IMAGE_INVALID = "image-invalid"
    CLIENT_INFO_MALFORMED = "client-info-malformed"
    PROTOCOL_TOO_NEW = "protocol-too-new"
    WRONG_TARGET = "wrong-target"
    NOT_BLANK = "not-blank"
    VERIFY_ERROR = "verify-error"
    READ_PROTECTED = "read-protected"
    FIRMWARE_CORRUPT = "firmware-corrupt"
    VENDOR_ERROR = "vendor-error"
    # What we found out ourselves.
    IMAGE_UNFIT = "image-unfit"
    VERSION_MISMATCH = "version-mismatch"
    UNHEALTHY = "unhealthy"
    RECALLED = "recalled"
    READ_BACK_DIFFERS = "read-back-differs"
    END_UNANSWERED = "end-unanswered"
    NOT_STARTED = "not-started"
    PORT_HELD = "port-held"
    IMAGE_UNAVAILABLE = "image-unavailable"
    STATE_UNWRITABLE = "state-unwritable"
    DEFECT = "defect"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an attempt ended, as the device or the wire told it."""

    code: CauseCode
    detail: str = ""
    """One sentence for a person."""
    raw: bytes = b""
    """What the device sent, as received."""
    offset: int | None = None
    """Bytes of the image that the device had accepted before."""
    chunk: int | None = None
    """Index of the chunk that was refused or under way, from 0."""
    sequence: int | None = None
    """Sequence number of the command that was refused or under way."""


@unique
class LatchScope(StrEnum):
    """What a latch stops."""

    PAIR = "pair"
    """This image on this device."""
    IMAGE = "image"
    """This image on every device."""
    DEVICE = "device"
    """Every image on this device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """A stop that only a person lifts, with its evidence."""

    id: LatchId
    scope: LatchScope
    device: DeviceId | None
    image: ImageHash | None
    cause: Cause
    set_at: float
    attempt: AttemptId | None = None
    """The attempt whose verdict set it."""
    lifted_at: float | None = None
    lifted_by: str = ""


# --- what is being done ------------------------------------------------------------------------------


@unique
class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when nothing follows any more."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.SUPERSEDED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.UNKNOWN, JobState.QUEUED, JobState.CANCELLED}
    ),
    JobState.UNKNOWN: frozenset(
        {JobState.SUCCEEDED, JobState.QUEUED, JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.SUPERSEDED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""What may follow what in a job's life; a move that is not here is a defect and is refused by the store."""


@unique
class Phase(StrEnum):
    """How far an attempt got, as it stands on disk: each is written before the device is touched (invariant 5)."""

    PROBING = "probing"
    """Nothing on the device has changed yet."""
    WRITING = "writing"
    """An erase may have begun: the device may hold no complete image."""
    ENDING = "ending"
    """The device called the image valid; the command that starts it may have been sent."""


@unique
class Outcome(StrEnum):
    """How an attempt ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


@unique
class WaitKind(StrEnum):
    """What keeps a queued job from running now."""

    ABSENT = "absent"
    IDENTITY = "identity"
    HOLD = "hold"
    BACK_OFF = "back-off"
    WEAR = "wear"
    WINDOW = "window"
    CONDITION = "condition"
    CANARY = "canary"
    PASSED_OVER = "passed-over"
    """It refused what is newer, and this release had not gone to all when that came."""
    FAILSAFE = "failsafe"
    """Nothing proves that an interruption would not brick the device, and nobody took that risk."""
    PORT_HELD = "port-held"
    SLOT = "slot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a job does not run now.  Derived anew at each planning, never stored."""

    kind: WaitKind
    detail: str
    until: float | None = None
    """The instant at which it ends by itself, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStats:
    """Counters of one attempt's wire."""

    commands: int = 0
    resends: int = 0
    timeouts: int = 0
    damaged: int = 0
    strays: int = 0
    """Late or duplicate answers, dropped."""
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodImage:
    """What a unit ran last and kept its health with."""

    version: str
    sequence: int | None
    image: ImageHash
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """A unit that was updated and has yet to show that it keeps well."""

    device: DeviceId
    job: JobId
    """By which it got the image."""
    image: ImageHash
    version: str
    sequence: int | None
    size: int
    began_at: float
    soaked_s: float = 0.0
    """For how long it has been here and well since."""

    @property
    def on_trial(self) -> GoodImage:
        """What the unit may turn out to keep well with."""
        return GoodImage(version=self.version, sequence=self.sequence, image=self.image, size=self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One physical unit as the store knows it; whether it is here now is the registry's to say."""

    id: DeviceId
    device_class: ClassName
    key: str
    """The identity by the class's rule: ``serial:...`` or ``port:...``."""
    label: str = ""
    port: str = ""
    """Where it was last seen."""
    serial: str = ""
    running_version: str | None = None
    """What it is known to run; None is not known."""
    running_sequence: int | None = None
    running_image: ImageHash | None = None
    running_evidence: str = ""
    """How we know, one sentence."""
    complete: bool | None = None
    """False: known to hold no complete image.  True: holds one.  None: not known."""
    entered: bool = False
    """An attempt brought it out of its application, or a person said that it is in its loader; since then nothing was
    erased, and it was not seen running."""
    pinned: str | None = None
    floor: int | None = None
    """The greatest sequence with which it was confirmed; nothing below it is given to it."""
    may_go_back_to: str | None = None
    """The version to which a person allowed it to go back all the same, once."""
    good: GoodImage | None = None
    good_before: GoodImage | None = None
    """The same of the one before that, should the last be called back."""
    first_seen: float = 0.0
    last_seen: float = 0.0

    @property
    def good_images(self) -> frozenset[ImageHash]:
        """What it is known to have kept well with."""
        return frozenset(each.image for each in (self.good, self.good_before) if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One release for one device.  Durable."""

    id: JobId
    device: DeviceId
    device_class: ClassName
    image: ImageHash
    version: str
    sequence: int | None
    size: int
    state: JobState
    created_at: float
    updated_at: float
    attempts: int = 0
    not_before: float | None = None
    """Back-off: no attempt before this instant."""
    present_s: float = 0.0
    """How long this was tried, the attempts and the back-off between them while the device was here: what the time
    budget counts."""
    cause: Cause | None = None
    """Of the last attempt that did not succeed, or why the job ended."""


@dataclass(frozen=True, slots=True)
class CommitMark:
    """The bytes with which a device starts its image, where a loader can be read back: they are written last.

    By them the half-done update of this unit is told from the flash of another one that was plugged in instead.
    """

    before: bytes
    """What stood there before anything was erased."""
    after: bytes
    """What the update puts there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a job, from probe to outcome; every one is kept."""

    id: AttemptId
    job: JobId
    device: DeviceId
    image: ImageHash
    version: str
    number: int
    """From 1 within the job."""
    started_at: float
    phase: Phase
    outcome: Outcome
    ended_at: float | None = None
    cause: Cause | None = None
    evidence: str = ""
    """What makes us believe the outcome, one sentence."""
    erase_starts: int = 0
    mark: CommitMark | None = None
    vouched: bool = False
    """A person said since that the unit is this one, whatever its flash holds; told of one left unfinished only."""
    stats: LinkStats = field(default_factory=LinkStats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """Starts of an erase counted for one device."""

    today: int = 0
    life: int = 0
    ahead: int = 0
    """Of today's, those that a clock which was ahead dated on a day to come."""
    ahead_s: float = 0.0
    """How much longer these count as today's, while Firmwarden runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A person's wish that nothing be started, for one device or (``device`` is None) for all."""

    device: DeviceId | None
    reason: str
    owner: str
    at: float
    expires_at: float | None = None
    """When it ends by itself."""


@unique
class RolloutState(StrEnum):
    """How far a release may go among the units of its class."""

    CANARY = "canary"
    WAVES = "waves"
    STOPPED = "stopped"
    """Too many units failed, or its image was latched: a person has to say how it goes on."""
    DONE = "done"
    RECALLED = "recalled"
    """A person called it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far a release has come among the units of its class."""

    device_class: ClassName
    image: ImageHash
    version: str
    state: RolloutState
    wave: int = 0
    """0: the canaries."""
    began_at: float
    wave_at: float
    """When the wave began."""
    soaks_since: float | None = None
    """Since when all of the wave have kept well; None: some are yet to show it."""
    forgiven: int = 0
    """Failures at which a person let it go on; they count no more."""
    changed_by: str = ""
    """Who stopped, resumed or recalled it; empty where it was nobody."""
    reason: str = ""
    """Why it stopped or was called back, or by whose order it goes on although so many had failed."""


THE_DAEMON: Final = "the daemon"
"""Who did what nobody did; no user has a name with a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a person did, kept in the history; also to drop a release into the firmware directory.

    What followed by itself and lasts is there too, as done by ``THE_DAEMON``.
    """

    at: float
    who: str
    what: str
    target: str
    detail: str = ""

"""The catalogue of log events.

Scripts match on these names and keys, so they never change meaning.  ``docs/reference/events.md`` is written
from this table and a test keeps both true.  Levels say who acts: debug for those who work on Firmwarden, info
for a step an operator wants to see, warning when the service copes by itself, error when a person is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal["debug", "info", "warning", "error"]


@unique
class LogEvent(StrEnum):
    """Names of log events, as they stand in the ``event`` key."""

    DAEMON_STARTING = "daemon-starting"
    DAEMON_READY = "daemon-ready"
    DAEMON_STOPPING = "daemon-stopping"
    DAEMON_STOPPED = "daemon-stopped"
    LISTENING = "listening"
    LISTENING_EXPOSED = "listening-exposed"
    ACCESS_IMPAIRED = "access-impaired"
    SIGNATURE_NOT_REQUIRED = "signature-not-required"
    CONFIG_RELOADED = "config-reloaded"
    CONFIG_REFUSED = "config-refused"
    HINTS_UNAVAILABLE = "hints-unavailable"
    SCAN_FAILED = "scan-failed"
    DIRECTORY_UNREADABLE = "directory-unreadable"
    DEVICE_APPEARED = "device-appeared"
    DEVICE_GONE = "device-gone"
    DEVICE_ENROLLED = "device-enrolled"
    VERSION_TOLD = "version-told"
    DEVICE_CONFLICT = "device-conflict"
    CONFLICT_SETTLED = "conflict-settled"
    RELEASE_ACCEPTED = "release-accepted"
    RELEASE_REFUSED = "release-refused"
    RELEASE_WITHDRAWN = "release-withdrawn"
    IMAGES_DISCARDED = "images-discarded"
    JOB_CREATED = "job-created"
    JOB_SUPERSEDED = "job-superseded"
    JOB_CANCELLED = "job-cancelled"
    JOB_WAITING = "job-waiting"
    ATTEMPT_STARTED = "attempt-started"
    ATTEMPT_FAILED = "attempt-failed"
    ATTEMPT_INTERRUPTED = "attempt-interrupted"
    UPDATE_SUCCEEDED = "update-succeeded"
    UPDATE_FAILED = "update-failed"
    UPDATE_UNKNOWN = "update-unknown"
    UPDATE_SETTLED = "update-settled"
    PROBATION_STARTED = "probation-started"
    PROBATION_HELD_UP = "probation-held-up"
    PROBATION_PASSED = "probation-passed"
    PROBATION_FAILED = "probation-failed"
    PROBATION_OVERTAKEN = "probation-overtaken"
    LATCH_SET = "latch-set"
    LATCH_LIFTED = "latch-lifted"
    HOLD_ENDED = "hold-ended"
    CONDITION_UNMET = "condition-unmet"
    CONDITION_FAILED = "condition-failed"
    ROLLOUT_STARTED = "rollout-started"
    WAVE_STARTED = "wave-started"
    ROLLOUT_STOPPED = "rollout-stopped"
    ROLLOUT_DONE = "rollout-done"
    RELEASE_RECALLED = "release-recalled"
    HOOK_FAILED = "hook-failed"
    PORT_LENT = "port-lent"
    PORT_RETURNED = "port-returned"
    PORT_NOT_RETURNED = "port-not-returned"
    ACTION_TAKEN = "action-taken"
    STORE_FAILED = "store-failed"
    STORE_WORKS = "store-works"
    WORKER_CRASHED = "worker-crashed"
    LIBRARY_TROUBLE = "library-trouble"
    EVENTS_LOST = "events-lost"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one event means."""

    level: Level
    keys: tuple[str, ...]
    """Keys beyond ``event``, ``level`` and ``timestamp``."""
    meaning: str
    act: str
    """Who should do what."""


_NOBODY: Final = "nobody"

CATALOGUE: Final[Mapping[LogEvent, Entry]] = {
    LogEvent.DAEMON_STARTING: Entry(
        "info", ("version", "config"), "The daemon read its configuration and starts.", _NOBODY
    ),
    LogEvent.DAEMON_READY: Entry(
        "info", ("devices", "releases", "startup_s"), "The first scans are done; updates may start.", _NOBODY
    ),
    LogEvent.DAEMON_STOPPING: Entry(
        "info",
        ("signal", "running", "grace_s", "detail"),
        "Asked to stop; running transfers may finish within the grace time. "
        "Told again, as a warning, when a command had to be cut off.",
        _NOBODY,
    ),
    LogEvent.DAEMON_STOPPED: Entry("info", (), "Stopped; nothing is left claimed.", _NOBODY),
    LogEvent.LISTENING: Entry(
        "info", ("address",), "The API is served at this socket, or at this address and port.", _NOBODY
    ),
    LogEvent.LISTENING_EXPOSED: Entry(
        "warning",
        ("address",),
        "Other machines may reach this address. It is plain HTTP: whoever reaches it may ask, and whoever listens in "
        "on the network sees the token.",
        "`listen` at a loopback address, with a reverse proxy before it, unless you trust the network",
    ),
    LogEvent.ACCESS_IMPAIRED: Entry(
        "error",
        ("detail",),
        "Some may not do what the configuration means them to: the token or a socket's mode is in the way.",
        "do what the detail says, reload",
    ),
    LogEvent.SIGNATURE_NOT_REQUIRED: Entry(
        "warning",
        ("device_class",),
        "This class takes releases without a signature: whoever can write to the firmware directory decides what its "
        "devices run. Told at each start and reload.",
        "sign its releases and leave `require_signature` out, unless this is a bench",
    ),
    LogEvent.CONFIG_RELOADED: Entry(
        "info", ("config", "classes"), "A new configuration is in force.", _NOBODY
    ),
    LogEvent.CONFIG_REFUSED: Entry(
        "error",
        ("config", "problems"),
        "A configuration was refused whole; the old one stays in force.",
        "mend the file, `firmwarden check`, reload",
    ),
    LogEvent.HINTS_UNAVAILABLE: Entry(
        "warning",
        ("detail",),
        "Events of a kind cannot be had; scans find changes a little later.",
        "mend what the detail says, to react faster",
    ),
    LogEvent.SCAN_FAILED: Entry(
        "warning", ("what", "detail"), "A scan failed and will be repeated.", "look at the detail if it stays"
    ),
    LogEvent.DIRECTORY_UNREADABLE: Entry(
        "error",
        ("path", "detail"),
        "The firmware directory cannot be read, or has too much in it; known releases stay.",
        "mend the directory or its rights, or clear it out",
    ),
    LogEvent.DEVICE_APPEARED: Entry(
        "info", ("device", "device_class", "port", "identity"), "A device is here.", _NOBODY
    ),
    LogEvent.DEVICE_GONE: Entry(
        "info",
        ("device", "device_class", "port"),
        "A device is no longer here, nor on its way into its loader or back.",
        _NOBODY,
    ),
    LogEvent.DEVICE_ENROLLED: Entry(
        "info",
        ("device", "device_class", "port", "identity"),
        "A device was seen for the first time.",
        _NOBODY,
    ),
    LogEvent.VERSION_TOLD: Entry(
        "info",
        ("device", "release", "before", "evidence"),
        "The application of a device tells another version than was known.",
        _NOBODY,
    ),
    LogEvent.DEVICE_CONFLICT: Entry(
        "warning",
        ("port", "detail"),
        "It is not clear which unit this is; nothing is written to it.",
        "do what the detail says",
    ),
    LogEvent.CONFLICT_SETTLED: Entry("info", ("port",), "A conflict of identities is over.", _NOBODY),
    LogEvent.RELEASE_ACCEPTED: Entry(
        "info",
        ("manifest", "device_class", "release", "image", "size", "signed_by"),
        "A release was checked and taken.",
        _NOBODY,
    ),
    LogEvent.RELEASE_REFUSED: Entry(
        "warning",
        ("manifest", "reason"),
        "A release was refused and left where it lies.",
        "mend the release; `firmwarden releases` shows the reason",
    ),
    LogEvent.RELEASE_WITHDRAWN: Entry(
        "info", ("manifest", "device_class", "release"), "A release is no longer in the directory.", _NOBODY
    ),
    LogEvent.IMAGES_DISCARDED: Entry(
        "debug", ("count",), "Stored images that nothing needs were removed.", _NOBODY
    ),
    LogEvent.JOB_CREATED: Entry(
        "info",
        ("device", "job", "release", "image", "detail"),
        "A device should run a release; an update is queued.",
        _NOBODY,
    ),
    LogEvent.JOB_SUPERSEDED: Entry(
        "info",
        ("device", "job", "release", "by"),
        "A newer release took the place of a waiting job.",
        _NOBODY,
    ),
    LogEvent.JOB_CANCELLED: Entry(
        "info", ("device", "job", "attempt", "release", "cause", "detail"), "A job was cancelled.", _NOBODY
    ),
    LogEvent.JOB_WAITING: Entry(
        "info",
        ("device", "job", "wait", "detail", "until"),
        "A job waits, and for what. The same is told again only after an attempt began or a person asked for one.",
        "see the detail",
    ),
    LogEvent.ATTEMPT_STARTED: Entry(
        "info", ("device", "job", "attempt", "number", "release", "port"), "An attempt begins.", _NOBODY
    ),
    LogEvent.ATTEMPT_FAILED: Entry(
        "warning",
        ("device", "job", "attempt", "release", "cause", "detail", "offset", "next", "retry_in_s"),
        "An attempt failed; `next` says what follows.",
        _NOBODY,
    ),
    LogEvent.ATTEMPT_INTERRUPTED: Entry(
        "warning",
        ("device", "job", "attempt", "release", "phase"),
        "An attempt was found running at start: the daemon had died.",
        _NOBODY,
    ),
    LogEvent.UPDATE_SUCCEEDED: Entry(
        "info",
        ("device", "job", "attempt", "release", "evidence", "seconds"),
        "The device runs the release.",
        _NOBODY,
    ),
    LogEvent.UPDATE_FAILED: Entry(
        "error",
        ("device", "job", "attempt", "release", "cause", "detail", "offset"),
        "A job ended without success.",
        "`firmwarden why DEVICE` says what would change it",
    ),
    LogEvent.UPDATE_UNKNOWN: Entry(
        "warning",
        ("device", "job", "attempt", "release", "cause", "detail", "offset"),
        "The link died in the last step; the device will be asked again.",
        _NOBODY,
    ),
    LogEvent.UPDATE_SETTLED: Entry(
        "info",
        ("device", "job", "attempt", "release", "outcome", "evidence"),
        "An unknown outcome became known.",
        _NOBODY,
    ),
    LogEvent.PROBATION_STARTED: Entry(
        "info",
        ("device", "job", "release", "soaked_s"),
        "A device that was updated has yet to show that it keeps well; told again when the daemon starts meanwhile.",
        _NOBODY,
    ),
    LogEvent.PROBATION_HELD_UP: Entry(
        "warning",
        ("device", "job", "release", "detail"),
        "The device is to be checked and cannot be: somebody else has its port, or the command cannot be run. It is "
        "tried again every minute, and meanwhile nothing is held against the device, nor told again.",
        "see `detail`, if it lasts",
    ),
    LogEvent.PROBATION_PASSED: Entry(
        "info",
        ("device", "job", "release", "detail"),
        "The device kept well; this is what it would go back to from now on.",
        _NOBODY,
    ),
    LogEvent.PROBATION_FAILED: Entry(
        "error",
        ("device", "job", "release", "image", "cause", "detail"),
        "The device did not keep well with what it was given, which is latched for it. "
        "Where its class says `roll_back`, it goes back.",
        "find out what is wrong with the release, or with this device: `firmwarden why DEVICE`",
    ),
    LogEvent.PROBATION_OVERTAKEN: Entry(
        "info",
        ("device", "job", "release", "detail"),
        "The device no longer runs what it was to show that it keeps well with.",
        _NOBODY,
    ),
    LogEvent.LATCH_SET: Entry(
        "error",
        ("device", "job", "attempt", "release", "image", "scope", "cause", "detail", "offset"),
        "The device's own verdict stops further tries.",
        "`firmwarden why DEVICE` says what it means; when that is mended, `firmwarden clear DEVICE`",
    ),
    LogEvent.LATCH_LIFTED: Entry(
        "info", ("device", "image", "scope", "who"), "A person lifted a latch.", _NOBODY
    ),
    LogEvent.HOLD_ENDED: Entry(
        "info",
        ("device", "owner", "reason"),
        "The time of a hold is over; without a device it was one on everything.",
        _NOBODY,
    ),
    LogEvent.CONDITION_UNMET: Entry(
        "info",
        ("device", "job", "release", "detail", "again_in_s"),
        "The condition of the class said no, for another reason than the last time.",
        _NOBODY,
    ),
    LogEvent.CONDITION_FAILED: Entry(
        "warning",
        ("device", "job", "release", "detail", "again_in_s"),
        "The condition of the class cannot be run or took too long, which counts as no.",
        "mend the program that `condition` names",
    ),
    LogEvent.ROLLOUT_STARTED: Entry(
        "info",
        ("device_class", "release", "image", "places", "devices", "waves"),
        "A release goes to the canaries of its class, so many of its devices.",
        _NOBODY,
    ),
    LogEvent.WAVE_STARTED: Entry(
        "info",
        ("device_class", "release", "image", "wave", "waves", "places", "devices"),
        "Those who had a release kept well with it, and it may go to more: by now to so many of the devices.",
        _NOBODY,
    ),
    LogEvent.ROLLOUT_STOPPED: Entry(
        "error",
        ("device_class", "release", "image", "detail"),
        "Too many devices failed with a release, or its image was latched; it goes to no other.",
        "`firmwarden rollout CLASS` shows which failed; then `firmwarden resume CLASS` or `firmwarden recall CLASS`",
    ),
    LogEvent.ROLLOUT_DONE: Entry(
        "info",
        ("device_class", "release", "image", "devices", "failed"),
        "A release went to every device of its class that is here.",
        _NOBODY,
    ),
    LogEvent.RELEASE_RECALLED: Entry(
        "info",
        ("device_class", "release", "image", "who", "detail"),
        "A person called a release back: no device is given it any more.",
        _NOBODY,
    ),
    LogEvent.HOOK_FAILED: Entry(
        "warning",
        ("device", "job", "attempt", "release", "hook", "detail"),
        "A hook of the operator failed or took too long.",
        "mend the hook",
    ),
    LogEvent.PORT_LENT: Entry(
        "info", ("owner",), "Whoever has a port was stopped, so that devices can be reached there.", _NOBODY
    ),
    LogEvent.PORT_RETURNED: Entry(
        "info", ("owner", "seconds"), "Whoever was stopped to leave a port was started again.", _NOBODY
    ),
    LogEvent.PORT_NOT_RETURNED: Entry(
        "error",
        ("owner", "detail", "retry_in_s"),
        "Whoever was stopped to leave a port could not be started again; it is tried again by itself.",
        "mend what the detail says, or start it by hand",
    ),
    LogEvent.ACTION_TAKEN: Entry(
        "info", ("who", "action", "target", "detail"), "A person asked for something.", _NOBODY
    ),
    LogEvent.STORE_FAILED: Entry(
        "error",
        ("device", "job", "attempt", "release", "detail"),
        "The state database cannot be written; no update starts.",
        "make room or mend the disk",
    ),
    LogEvent.STORE_WORKS: Entry(
        "info", (), "The state database has been written for a minute again; updates go on.", _NOBODY
    ),
    LogEvent.WORKER_CRASHED: Entry(
        "error",
        ("device", "job", "attempt", "release", "detail", "exception"),
        "A defect in Firmwarden ended an attempt; other devices go on.",
        "please report it with the traceback",
    ),
    LogEvent.LIBRARY_TROUBLE: Entry(
        "error",
        ("library", "detail"),
        "A library that Firmwarden is made of logged a warning (then the level is warning) or an error.",
        "please report it, with the traceback where there is one",
    ),
    LogEvent.EVENTS_LOST: Entry(
        "warning",
        ("count",),
        "Whoever reads the log took nothing for a while, so some events are not in it; nothing else is missing.",
        "see why the journal, the pipe or the terminal was stuck, if it happens again",
    ),
}

"""Writes the reference pages that are tables of the code, and the journal's catalogue of messages.

``make docs`` (``python -m support.reference_pages``) writes them; tests/docs/test_reference_pages.py compares.  What
the code knows comes from the code; what only a person needs to be told stands here, by the same keys.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.control.metrics import DURATION, METRICS
from firmwarden.events import CATALOGUE, LogEvent
from firmwarden.log.journald import message_id
from firmwarden.model import (
    TRANSITIONS,
    Cause,
    CauseCode,
    JobState,
    LatchScope,
    Outcome,
    Phase,
    WaitKind,
)
from firmwarden.service.figures import DeviceState, ReleaseState
from firmwarden.service.pauses import PORT_HELD_FIRST_S, PORT_HELD_LONGEST_S
from firmwarden.service.policy import (
    DISPOSITIONS,
    MEANINGS,
    AskAgain,
    Budgets,
    Disposition,
    Fail,
    History,
    decide,
)
from firmwarden.store.figures import BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

WIDTH: Final = 118
"""Of prose in the documentation."""
_TERMINAL: Final = 78
ROOT: Final = Path(__file__).parent.parent.parent
REFERENCE: Final = ROOT / "docs" / "reference"
CATALOGUE_FILE: Final = ROOT / "systemd" / "firmwarden.catalog"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def code(word: str) -> str:
    return f"`{word}`"


def paragraph(text: str) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def sentence(text: str) -> str:
    """Begin with a capital letter, unless what begins is a command, and end with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


# --- events ------------------------------------------------------------------------------------------------

KEYS: Final[Mapping[str, str]] = {
    "device": "id of the device, as `firmwarden devices` shows it",
    "job": "number of the job",
    "attempt": "number of the attempt, counted over all jobs",
    "release": "version of the release that it is about",
    "cause": "[code](causes.md) of why it ended",
    "image": "SHA-256 of the image",
    "detail": "one sentence for a person; its wording may change",
    "evidence": "one sentence for a person: what the device said",
}
"""Keys that several events share."""

EXAMPLE: Final = {
    "timestamp": "2026-03-01T11:57:12.081337Z",
    "level": CATALOGUE[LogEvent.ATTEMPT_FAILED].level,
    "event": LogEvent.ATTEMPT_FAILED.value,
    "device": "k3f9q2",
    "job": 7,
    "attempt": 21,
    "release": "2.4.0",
    "cause": CauseCode.LINK_LOST.value,
    "detail": "/dev/ttyUSB0: the port hung up",
    "next": "retry",
    "retry_in_s": 2.1,
}


def events() -> Iterator[str]:
    example = json.dumps(EXAMPLE)
    yield from f"""\
# Log events

The daemon writes its log to standard error: entries with [fields](#in-the-journal) where the systemd journal reads
that, text where it is a terminal, and else one JSON object a line. The same events come with `firmwarden watch --json`
and from the [API](api.md#get-v1events). `log_level` of the [configuration](configuration.md) says the least that is
written.

```json
{example}
```

Every line has `timestamp` (UTC), `level` and `event`. Names of events and keys never change their meaning, and scripts
may match on them; a key that has nothing to say is left out or null. Levels say who acts:

| level | who acts |
|---|---|
| `debug` | those who work on Firmwarden |
| `info` | nobody; a step that an operator may want to see |
| `warning` | Firmwarden copes by itself |
| `error` | a person |

Keys that many events share:
""".splitlines()
    yield from table(("key", "what it holds"), ((code(key), text) for key, text in KEYS.items()))
    yield ""
    yield "## The events"
    yield from table(
        ("event", "level", "what happened", "keys", "who should do what"),
        (
            (
                code(event.value),
                entry.level,
                sentence(entry.meaning),
                ", ".join(code(key) for key in entry.keys),
                entry.act,
            )
            for event, entry in ((event, CATALOGUE[event]) for event in LogEvent)
        ),
    )
    yield from f"""
## In the journal

Run by systemd, the daemon hands its events to the journal as entries with a field for each key: `FIRMWARDEN_` and the
key in capital letters, `FIRMWARDEN_EVENT` for the name. So the journal can be asked:

```sh
journalctl FIRMWARDEN_DEVICE={EXAMPLE["device"]}                                # everything about one device
journalctl FIRMWARDEN_DEVICE={EXAMPLE["device"]} FIRMWARDEN_JOB=7 -o verbose    # one job of it, with all fields
journalctl FIRMWARDEN_EVENT=latch-set FIRMWARDEN_EVENT=update-failed --since -7d
journalctl FIRMWARDEN_CAUSE=link-lost --output json                  # for a script
journalctl --unit firmwarden --priority err                          # what waits for a person
journalctl --field FIRMWARDEN_DEVICE                                 # every device that an entry is about
```

Several values of one field mean any of them, several fields all of them. With `--catalog` the journal adds what an
event means and what to do, in words and with the device's own name in the command, for all that asks something of
somebody. The Debian package installs that text; by hand:

```sh
sudo install -D -m 644 systemd/firmwarden.catalog /usr/lib/systemd/catalog/firmwarden.catalog
sudo journalctl --update-catalog
```

The other fields that an entry has:

| field | what it holds |
|---|---|
| `MESSAGE` | the name of the event and its keys, on one line |
| `PRIORITY` | 3 for `error`, 4 for `warning`, 6 for `info`, 7 for `debug` |
| `SYSLOG_IDENTIFIER` | `firmwarden` |
| `MESSAGE_ID` | one for each kind of event, the same in every version and on every machine |
| `FIRMWARDEN_EXCEPTION` | the traceback of a defect |

Anybody on the machine may write such fields. What really came from the service has `_SYSTEMD_UNIT=firmwarden.service`,
which only the journal itself sets; `--unit firmwarden` asks for that.

When the journal does not take an entry, the event is written as a line of JSON, which the journal reads from standard
error. When it does not take that either, the event is lost and counted, for no update waits for a log: `events-lost`
tells how many, when the journal is back. A pipe or a terminal that nobody reads is treated alike.
""".splitlines()


def catalogue() -> Iterator[str]:
    """The journal's explanations (systemd.io, CATALOG) of what asks something of somebody."""
    yield "# What log events of Firmwarden ask for, shown by `journalctl --catalog`. `make docs` writes it."
    for event, entry in CATALOGUE.items():
        if entry.act == "nobody":
            continue
        subject, *more = entry.meaning.rstrip(".").split(". ", 1)
        told = [f"@FIRMWARDEN_{key.upper()}@" for key in entry.keys if key in {"detail", "reason"}]
        act = entry.act.replace("DEVICE", "@FIRMWARDEN_DEVICE@")
        yield from ("", f"-- {message_id(event)}", f"Subject: {subject}", "Defined-By: Firmwarden")
        for text in (*map(sentence, more), *told, f"What to do: {act}."):
            yield from ("", *textwrap.wrap(text, _TERMINAL, break_on_hyphens=False))


# --- causes ------------------------------------------------------------------------------------------------

ADVICE: Final[Mapping[CauseCode, str]] = {
    CauseCode.NO_ANSWER: (
        "Check that the device has power, and that `baud`, `enter` and `settle` of its class are right. `firmwarden "
        "info` asks the loader directly."
    ),
    CauseCode.RETRIES_EXHAUSTED: "Look at cable, hub and baud rate.",
    CauseCode.LINK_LOST: "Nothing, if it was pulled. Else look at cable, hub and power supply.",
    CauseCode.OPEN_FAILED: "Check that the daemon may open the port, or that the TCP peer listens.",
    CauseCode.CLIENT_REBOOTED: "Nothing, if it happens once. Else look at the power supply and the watchdog.",
    CauseCode.OUT_OF_STEP: "Nothing, if it happens once. Else see that no other program talks to the device.",
    CauseCode.STUCK_BUSY: "Replug the device. If it comes back, ask whoever wrote the loader.",
    CauseCode.ENTRY_FAILED: "Compare `enter` of its class with what the detail says.",
    CauseCode.INTERRUPTED: "Nothing.",
    CauseCode.IMAGE_UNAVAILABLE: (
        "Nothing, if the release is still in the firmware directory: it is copied anew. Else drop it again. If it "
        "comes back, check the disk."
    ),
    CauseCode.DEFECT: "Report it, with the traceback that the log has beside `worker-crashed`.",
    CauseCode.INVALID_FILE: "Check that the image is for this device and built for its loader.",
    CauseCode.ADDRESS_ERROR: "Check that the image lies where the loader allows it.",
    CauseCode.WRONG_TARGET: "Check that the image is for this device and lies in its flash.",
    CauseCode.WRONG_DEVICE_ID: "Check that the unit is of this class, and the image for it.",
    CauseCode.VERSION_REFUSED: "Ask whoever wrote the loader which versions it takes.",
    CauseCode.ERASE_ERROR: "Have the unit looked at: its flash may be worn out or locked.",
    CauseCode.WRITE_ERROR: "Have the unit looked at: its flash may be worn out or locked.",
    CauseCode.READ_ERROR: "Have the unit looked at: its flash may be worn out or locked.",
    CauseCode.NOT_BLANK: "Have the unit looked at: its flash may be worn out or locked.",
    CauseCode.VERIFY_ERROR: "Have the unit looked at: its flash may be worn out or locked.",
    CauseCode.READ_PROTECTED: "Lift the protection on the bench. That erases the unit.",
    CauseCode.READ_BACK_DIFFERS: (
        "Have the unit looked at. Write protection of its flash shows like this, and so does wear."
    ),
    CauseCode.FIRMWARE_CORRUPT: "Look at how the image was built: the loader cannot start it.",
    CauseCode.VENDOR_ERROR: "Ask whoever wrote the loader; the attempt has the bytes that it sent.",
    CauseCode.CLIENT_ERROR: "Ask whoever wrote the loader; the attempt has the bytes that it sent.",
    CauseCode.ABORT_WITHOUT_CAUSE: "Ask whoever wrote the loader; the attempt has the bytes that it sent.",
    CauseCode.ABORT_UNKNOWN: "Ask whoever wrote the loader; the attempt has the bytes that it sent.",
    CauseCode.NOT_AUTHORIZED: "Find out how this loader is unlocked.",
    CauseCode.NOT_SUPPORTED: "Check that a loader of the class's `driver` runs, and nothing else answers on the port.",
    CauseCode.IMAGE_INVALID: "Look at how the image was built: its checksum or signature is not what the loader wants.",
    CauseCode.CLIENT_INFO_MALFORMED: "Ask whoever wrote the loader; the attempt has the bytes that it sent.",
    CauseCode.PROTOCOL_TOO_NEW: (
        "A Firmwarden that speaks it lifts the latch when it starts. "
        "`mdfu.accept_newer` lets it speak to a newer minor version."
    ),
    CauseCode.IMAGE_UNFIT: "Check that the image has the `image_format` of its class and is for this device.",
    CauseCode.UNHEALTHY: "`firmwarden why DEVICE` has what its health check said; mend the firmware.",
    CauseCode.RECALLED: "Drop a new release; lift the latch of the image when it was called back by mistake.",
    CauseCode.VERSION_MISMATCH: "Compare the manifest's `version`, the image and `version_query` of the class.",
    CauseCode.END_UNANSWERED: (
        "Nothing: the device is asked again. `version_query` lets it answer; `firmwarden retry` writes it anew."
    ),
    CauseCode.NOT_STARTED: (
        "Nothing. If it comes back on a unit that stays in its loader, look at how the image starts. On one that runs, "
        "give its class a [`dfu.version`](configuration.md#dfuversion), or a longer `return_within`."
    ),
    CauseCode.TRANSPORT_EXHAUSTED: (
        "Mend what the last attempt says, then `firmwarden retry`. Plugging it in anew and `again_after` do the same."
    ),
    CauseCode.PORT_HELD: "[Keep the other program off the port](../how-to/keep-others-off-the-port.md).",
    CauseCode.CANCELLED: "Nothing. `firmwarden retry` makes another job.",
    CauseCode.WITHDRAWN: "Nothing. Dropping the release again makes another job.",
    CauseCode.STATE_UNWRITABLE: "Make room on the disk of the state, or mend it; it goes on by itself.",
    CauseCode.STOPPING: "Nothing.",
}
"""What a person does about a cause."""

DISPOSITION_TEXTS: Final[Mapping[Disposition, tuple[str, str]]] = {
    Disposition.RETRY: (
        "Tried again",
        (
            "Trouble of the cable, the port, or Firmwarden itself. The attempt failed; the job is queued again with a "
            "pause that doubles, until its budget of attempts or time is used up. Then the job fails, for "
            "`transport-exhausted`."
        ),
    ),
    Disposition.AGAIN: (
        "Tried again, whatever the phase",
        (
            "The device was seen after the last step: in its loader, or as an application of which nobody can say that "
            "it is the new one. Asking once more would tell nothing else, so the job is queued again within the same "
            "budgets. By DfuSe the next attempt reads back what is there, and writes no more than is wrong; by plain "
            "DFU it writes everything."
        ),
    ),
    Disposition.SUSPECT: (
        "Final, and the image becomes suspect",
        (
            "The device's verdict on the image, which may be about this unit alone: real clients report a wrong "
            "device type so, too. While such a latch is set, one other device at a time may try the image. Another "
            "unit with a verdict of this kind latches the image for all. An `invalid-file` in the middle of the "
            "transfer, on a chunk that carried sequence number 1, may be that of a client that rebooted; it gets one "
            "fresh attempt first."
        ),
    ),
    Disposition.FINAL_PAIR: (
        "Final for this image on this device",
        "The device's verdict, or ours where the detail says so. Another image is not concerned.",
    ),
    Disposition.FINAL_DEVICE: (
        "Final for the device",
        "The device's verdict on itself. No image is written to it until a person lifts the latch.",
    ),
    Disposition.UNKNOWN: (
        "Not known yet",
        (
            "The image is on the device and was called valid, and the link died in the last step. The outcome is "
            "`unknown`; the device is asked again, and the record is settled then."
        ),
    ),
    Disposition.RELEASED: (
        "No verdict",
        "Nobody's fault. No attempt counts for it, or the job ends without anything being held against the device.",
    ),
}


def latches_of(cause: CauseCode) -> str:
    """Ask the policy what a cause latches: at the first unit, and after another unit's suspect verdict."""

    def scopes(other_suspects: int) -> tuple[LatchScope, ...]:
        decision = decide(
            Cause(code=cause),
            phase=Phase.WRITING,
            history=History(attempts=1, present_s=0.0, other_suspects=other_suspects),
            budgets=Budgets(),
            dice=0.5,
        )
        return decision.latches if isinstance(decision, Fail) else ()

    first, second = scopes(0), scopes(1)
    return ", then ".join(
        f"*{scope.value}*" for scope in (*first, *(each for each in second if each not in first))
    )


def asked_in_ending(cause: CauseCode) -> bool:
    """Tell whether a cause leaves the outcome unknown once the end had begun."""
    decision = decide(
        Cause(code=cause),
        phase=Phase.ENDING,
        history=History(attempts=1, present_s=0.0),
        budgets=Budgets(),
        dice=0.5,
    )
    return isinstance(decision, AskAgain)


def causes() -> Iterator[str]:
    yield from """\
# Causes

Why an attempt or a job ended is data: a code from this page, a sentence, and where the device sent something, its
bytes, the chunk and the offset in the image. `firmwarden why DEVICE` shows all of it; `cause` in the [log](events.md)
is the code, and the [API](api.md) and `--json` have it as `code` in `cause`. Codes never change their meaning.

A code says what was observed. What follows is decided in one place, by the tables below. A *latch* is a stop that only
a person lifts, with `firmwarden clear`:

| latch | what it stops |
|---|---|
| *pair* | this image on this device |
| *image* | this image on every device |
| *device* | every image on this device |

Latches of the first two kinds belong to the hash of the image: another build is another image.
""".splitlines()
    for disposition, (title, text) in DISPOSITION_TEXTS.items():
        members = [cause for cause in CauseCode if DISPOSITIONS[cause] is disposition]
        yield ""
        yield f"## {title}"
        yield from paragraph(text)
        unknown = [cause for cause in members if asked_in_ending(cause)]
        if unknown and disposition is not Disposition.UNKNOWN:
            yield from paragraph(
                "An attempt that ends so in the phase `ending` leaves the outcome `unknown`, and the device is asked."
            )
        latched = any(latches_of(cause) for cause in members)
        yield from table(
            ("code", "what it means", *(("latch",) if latched else ()), "what to do"),
            (
                (
                    code(cause.value),
                    sentence(MEANINGS[cause]),
                    *((latches_of(cause),) if latched else ()),
                    ADVICE[cause],
                )
                for cause in members
            ),
        )


# --- jobs --------------------------------------------------------------------------------------------------

STATES: Final[Mapping[JobState, str]] = {
    JobState.QUEUED: "It waits: for a slot, for its device, or for [something else](#waits).",
    JobState.RUNNING: "An attempt is under way.",
    JobState.UNKNOWN: (
        "The last attempt ended without evidence, one way or the other. The device is asked again, before it is given "
        "another release."
    ),
    JobState.SUCCEEDED: "The device runs the release, and there is evidence for it.",
    JobState.FAILED: "It ended without success, for the cause that it names.",
    JobState.SUPERSEDED: "Another release took its place before it ran.",
    JobState.CANCELLED: "A person cancelled it, or its release is no longer wanted.",
}

OUTCOMES: Final[Mapping[Outcome, str]] = {
    Outcome.RUNNING: "It is under way.",
    Outcome.SUCCEEDED: "The device said that it runs the image, or acknowledged the command that starts it.",
    Outcome.FAILED: "It ended for its cause; what follows is the job's state.",
    Outcome.UNKNOWN: "The link died after the device had called the image valid.",
    Outcome.INTERRUPTED: (
        "Firmwarden stopped, was killed or lost power. Only the erases count, not the attempt: nothing speaks against "
        "the device."
    ),
    Outcome.CANCELLED: "A person cancelled the job before anything was erased.",
}

PHASES: Final[Mapping[Phase, tuple[str, str]]] = {
    Phase.PROBING: ("Nothing on the device has changed yet.", "queued again"),
    Phase.WRITING: ("An erase may have begun: the device may hold no complete image.", "queued again"),
    Phase.ENDING: (
        "The device called the image valid; the command that starts it may have been sent.",
        "unknown, and the device is asked",
    ),
}
"""What a phase means, and what a restart does with an attempt that it finds in it."""

WAITS: Final[Mapping[WaitKind, tuple[str, str]]] = {
    WaitKind.ABSENT: ("The device is not here.", "it is plugged in; nothing counts against it meanwhile"),
    WaitKind.IDENTITY: (
        "It cannot be said which unit is behind a port.",
        (
            "the plugs or the configuration are clear, the detail says what would make them so; where only the "
            "device's memory shows the doubt, it is looked at again after a reload, `firmwarden retry` or a plug"
        ),
    ),
    WaitKind.HOLD: (
        "A person holds the device, or all of them, or a workload holds the class with a file.",
        "`firmwarden unhold`, at the end that the hold has, or the file goes",
    ),
    WaitKind.BACK_OFF: (
        "The last attempt failed in transport, or a question had no answer.",
        "the pause is over, or with `firmwarden retry`",
    ),
    WaitKind.WEAR: (
        "The budget of erases is used up.",
        (
            "the next day (UTC) begins, or Firmwarden has run for a day where a clock that was ahead dated them; "
            "where it is that of the life, `wear.per_life` is raised"
        ),
    ),
    WaitKind.WINDOW: ("No window of the class is open.", "the next one opens"),
    WaitKind.CONDITION: (
        "The condition of the class says: not now.",
        "it says otherwise; `firmwarden retry` asks it at once",
    ),
    WaitKind.CANARY: (
        (
            "The release [goes out in waves](../how-to/roll-out-with-care.md), and this device has its turn later; or "
            "another device refused this image, so one device at a time tries it."
        ),
        "the wave before has soaked, or a stopped rollout is resumed; or the device that tries it now is done",
    ),
    WaitKind.PASSED_OVER: (
        "The release had not gone to all when a newer one came, and that one is latched for this device.",
        "the device is pinned to it, the latch is cleared, or something newer comes",
    ),
    WaitKind.FAILSAFE: (
        "Nothing proves that an interruption would not brick the device.",
        (
            'the mechanism is declared or switched on, or the class says `failsafe = "none"`: somebody took the risk; '
            "looked at again after a reload, `firmwarden retry` or a plug"
        ),
    ),
    WaitKind.PORT_HELD: (
        (
            "Another process has the port; or Firmwarden itself speaks there to the same unit, which had another "
            "identity before a reload."
        ),
        (
            f"it lets go: the port is tried again after {PORT_HELD_FIRST_S:.0f} seconds, then after a pause that "
            f"doubles up to {PORT_HELD_LONGEST_S:.0f} seconds; where it is Firmwarden, as soon as that is done"
        ),
    ),
    WaitKind.SLOT: ("As many updates run as `parallel` allows.", "one of them is done"),
}
"""What is waited for, and when it ends."""


def jobs() -> Iterator[str]:
    yield from """\
# Jobs, attempts and waits

A *job* is one release for one device. It is written to disk before anything is done for it, and it is not finished
before it has ended in one of the final states. An *attempt* is one try at a job, from the first question to the
outcome. `firmwarden jobs` and `firmwarden history` list them. Attempts are kept: all of the last 90 days, and the last
1,000 of a device; older ones are counted, but for one that left its device half done.

## States of a job
""".splitlines()
    yield from table(
        ("state", "what it means", "what may follow"),
        (
            (
                code(state.value),
                STATES[state],
                ", ".join(code(after.value) for after in JobState if after in TRANSITIONS[state])
                or "nothing: it is final",
            )
            for state in JobState
        ),
    )
    yield from """
No other step is possible; the store refuses it. The planner keeps one job of a device at most that is not final.

A device may be known to run something else although its last jobs for the wanted release all succeeded: it falls back
on another image each time. After as many of them as `attempts`, the next one comes `again_after` the first, or with
`firmwarden retry`.

A device that an attempt brought into its loader, and that sits there with all that it ran, is given that once more when
nothing else comes to it and its release lies in the directory. Nothing has to be erased for it: what it holds is read
back and started. One that somebody else brought there is left to them, and `firmwarden why` says where it is.

## Outcomes of an attempt
""".splitlines()
    yield from table(("outcome", "what it means"), ((code(each.value), OUTCOMES[each]) for each in Outcome))
    yield from """
## Phases of an attempt

Each is on disk before the device is touched in that way. After a kill or a power loss, the phase that stands there
decides what becomes of the attempt.
""".splitlines()
    yield from table(
        ("phase", "what it means", "after a restart the job is"),
        ((code(each.value), *PHASES[each]) for each in Phase),
    )
    yield from """
That a device was brought out of its application is on disk before, too. It stands until something is erased or the
device is seen running: whichever attempt comes next starts the device again if it cannot go on.

## Waits

A queued job that does not run waits for one of these; `firmwarden why` names it, with what exactly and until when.
Waits are found anew each time and not stored. A device that had to be left in its loader when its attempt began to wait
is looked at again after a reload or `firmwarden retry` only: a plug starts its application, and must not take that from
it each time.
""".splitlines()
    yield from table(
        ("wait", "what it means", "it ends when"), ((code(each.value), *WAITS[each]) for each in WaitKind)
    )


# --- metrics -----------------------------------------------------------------------------------------------

DEVICE_STATES: Final[Mapping[DeviceState, str]] = {
    DeviceState.UPDATING: "An attempt is under way.",
    DeviceState.CONFLICT: "It is not clear whether this unit is the one at its port; nothing is written there.",
    DeviceState.WAITING: "An update is queued; `firmwarden_waits` says for what it waits.",
    DeviceState.UNKNOWN: "The outcome of its last attempt is not known; it is asked again.",
    DeviceState.LATCHED: "A latch keeps it from what it should run, or from every image.",
    DeviceState.FAILED: "Its last job failed in transport, and nothing is tried again by itself for now.",
    DeviceState.INCOMPLETE: "It holds no complete image, and there is no release to give it.",
    DeviceState.BEHIND: "It should run something else, and nothing is queued: its job was cancelled, for instance.",
    DeviceState.UP_TO_DATE: "It runs what it should, or there is nothing for it to run.",
}
RELEASE_STATES: Final[Mapping[ReleaseState, str]] = {
    ReleaseState.ACCEPTED: "It was checked and taken.",
    ReleaseState.LATCHED: "It was taken, but several devices refused its image: no other gets it.",
    ReleaseState.REFUSED: "It does not count, or not yet; `firmwarden releases` says why.",
}


def metrics() -> Iterator[str]:
    yield from """\
# Metrics

`GET /metrics` answers Prometheus, on the control socket and, where `listen` is set, on TCP: as text, or as OpenMetrics
for those who ask for that. It needs the extra `metrics`: `pip install 'firmwarden[metrics]'`, or the distribution's
`python3-prometheus-client`. [How to be alerted](../how-to/alerting.md) has the configuration of Prometheus and rules.

Labels hold the name of a class or a word from the tables below; never a device, a job or a version. Gauges tell 0 for
every class and word where there is nothing.

Counters are kept in the state database, by class. They outlast restarts, and they do not fall when old attempts are
folded or a device is forgotten. A class that has left the configuration keeps its counts under its name. Only
`firmwarden restore` may make them fall, which Prometheus takes for a restart.

Ages are in seconds by the clock since boot, for the wall clock of a gateway may be years away from that of Prometheus.
""".splitlines()
    yield from table(
        ("metric", "type", "labels", "what it tells"),
        (
            *(
                (code(each.name), each.kind, ", ".join(code(label) for label in each.labels), each.help)
                for each in METRICS
            ),
            (
                code(DURATION.name),
                "histogram",
                ", ".join(code(label) for label in DURATION.labels),
                f"{DURATION.help} Bounds: {', '.join(f'{bound:g}' for bound in BOUNDS_S)} seconds.",
            ),
        ),
    )
    yield from """
## What the labels hold

`cause` is a [code](causes.md), or empty where there is none. `outcome` is one of the [outcomes of an
attempt](jobs.md#outcomes-of-an-attempt), `kind` one of the [waits](jobs.md#waits), and `scope` says what a latch stops:
`pair` this image on this device, `image` this image on every device, `device` every image on this device. The `state`
of a job is one of [its states](jobs.md#states-of-a-job).

A device has the first `state` of these that is true:
""".splitlines()
    yield from table(
        ("state of a device", "what it means"),
        ((code(each.value), DEVICE_STATES[each]) for each in DeviceState),
    )
    yield from table(
        ("state of a release", "what it means"),
        ((code(each.value), RELEASE_STATES[each]) for each in ReleaseState),
    )


PAGES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "events.md": events,
    "causes.md": causes,
    "jobs.md": jobs,
    "metrics.md": metrics,
}


def render_catalogue() -> str:
    """Write the journal's explanations."""
    return "\n".join(catalogue()) + "\n"


def render(name: str) -> str:
    """Write one page."""
    return "\n".join(PAGES[name]()) + "\n"


def main() -> None:
    for name in PAGES:
        (REFERENCE / name).write_text(render(name), encoding="utf-8")
    CATALOGUE_FILE.write_text(render_catalogue(), encoding="utf-8")


if __name__ == "__main__":
    main()

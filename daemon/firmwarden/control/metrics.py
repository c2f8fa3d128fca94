"""What ``/metrics`` tells, metric by metric; the documentation is written from the same table.

Names and labels never change their meaning, for dashboards and alerts are made of them.  A label holds the name of a
class or a word of the code's own, so the number of series is bounded by the configuration.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from firmwarden.model import JobState, LatchScope, RolloutState, WaitKind
from firmwarden.service.figures import DeviceState, ReleaseState
from firmwarden.service.rollout import Stage
from firmwarden.store.figures import BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from firmwarden.model import ClassName, LinkStats
    from firmwarden.service.figures import FiguresView
    from firmwarden.store.figures import CountedAttempts

    Samples = Iterable[tuple[tuple[str, ...], float]]
    """Numbers, each with what its labels say."""
    Read = Callable[[FiguresView], Samples]

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: a number for each set of labels."""

    name: str
    help: str
    read: Read
    kind: Literal["counter", "gauge"] = "gauge"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One metric that tells how many of the observed fall below each bound, and their sum."""

    name: str
    help: str
    labels: tuple[str, ...]


# --- how the numbers are read out of the figures ---


def _one(number: Callable[[FiguresView], float]) -> Read:
    return lambda view: [((), number(view))]


def _resident_bytes() -> int:
    # proc(5), /proc/pid/statm: total size and resident size, in pages.
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _by_class(numbers: Callable[[FiguresView], Mapping[ClassName, float]]) -> Read:
    """One for each class, and 0 where there is none: an alert can tell that from a daemon that says nothing."""

    def read(view: FiguresView) -> Samples:
        found = numbers(view)
        return [((name,), found.get(name, 0)) for name in sorted({*view.classes, *found})]

    return read


def _by_class_and(
    words: Iterable[Word], numbers: Callable[[FiguresView], Mapping[tuple[ClassName, Word], float]]
) -> Read:
    """One for each class and word, 0 as well."""

    def read(view: FiguresView) -> Samples:
        found = numbers(view)
        classes = sorted({*view.classes, *(name for name, _ in found)})
        return [((name, word.value), found.get((name, word), 0)) for name in classes for word in words]

    return read


def _attempts(
    labels: Callable[[CountedAttempts], tuple[str, ...]], number: Callable[[CountedAttempts], int]
) -> Read:
    """Sums over how attempts ended, by what the labels take of that."""

    def read(view: FiguresView) -> Samples:
        sums: Counter[tuple[str, ...]] = Counter()
        for row in view.counted.attempts:
            sums[labels(row)] += number(row)
        return [(told, amount) for told, amount in sums.items() if amount]

    return read


def _link(number: Callable[[LinkStats], int]) -> Read:
    """One for each class that was ever updated."""

    def read(view: FiguresView) -> Samples:
        sums: Counter[str] = Counter()
        for row in view.counted.attempts:
            sums[row.device_class] += number(row.stats)
        return [((name,), amount) for name, amount in sums.items()]

    return read


# --- the metrics ---

_CLASS: Final = ("device_class",)
OPEN_JOBS: Final = tuple(state for state in JobState if not state.final)

METRICS: Final = (
    Metric(
        name="firmwarden_ready",
        help="1 when the first scans are done and updates may start, 0 before that and while it stops.",
        read=_one(lambda view: view.ready),
    ),
    Metric(
        name="firmwarden_build_info",
        help="Always 1; the label tells the version.",
        labels=("version",),
        read=lambda view: [((view.version,), 1)],
    ),
    Metric(
        name="firmwarden_uptime_seconds",
        help="How long ago it was started.",
        read=_one(lambda view: view.uptime_s),
    ),
    Metric(
        name="firmwarden_problems",
        help="What the operator should mend, as `firmwarden status` tells it: a full disk, a refused configuration.",
        read=_one(lambda view: view.problems),
    ),
    Metric(
        name="firmwarden_planning_age_seconds",
        help="How long ago the latest planning was stored; one comes every 30 seconds at least.",
        read=_one(lambda view: view.planning_s),
    ),
    Metric(
        name="firmwarden_device_scan_age_seconds",
        help="How long ago the latest good scan of the ports began; one comes every `scan_interval`.",
        read=_one(lambda view: view.device_scan_s),
    ),
    Metric(
        name="firmwarden_release_scan_age_seconds",
        help="How long ago the firmware directory was last read; it is every 30 seconds at least.",
        read=_one(lambda view: view.release_scan_s),
    ),
    Metric(
        name="firmwarden_held",
        help="1 while everything is held (`firmwarden hold all`).",
        read=_one(lambda view: view.everything_held),
    ),
    Metric(
        name="firmwarden_conflicts",
        help="Ports of which it is not clear which unit is behind them; nothing is written there.",
        read=_one(lambda view: view.conflicts),
    ),
    Metric(
        name="firmwarden_devices",
        help="Known devices, each in one state.",
        labels=("device_class", "state"),
        read=_by_class_and(DeviceState, lambda view: view.devices),
    ),
    Metric(
        name="firmwarden_devices_present",
        help="Known devices that are here.",
        labels=_CLASS,
        read=_by_class(lambda view: view.present),
    ),
    Metric(
        name="firmwarden_devices_held",
        help="Devices that are held one by one (`firmwarden hold DEVICE`).",
        labels=_CLASS,
        read=_by_class(lambda view: view.held),
    ),
    Metric(
        name="firmwarden_jobs",
        help="Jobs that are not over.",
        labels=("device_class", "state"),
        read=_by_class_and(OPEN_JOBS, lambda view: view.jobs),
    ),
    Metric(
        name="firmwarden_jobs_waiting_for_person",
        help="Jobs that wait for what only a person can do, conflicts aside.",
        labels=_CLASS,
        read=_by_class(lambda view: view.for_a_person),
    ),
    Metric(
        name="firmwarden_waits",
        help="Jobs that wait, by what for.",
        labels=("device_class", "kind"),
        read=_by_class_and(WaitKind, lambda view: view.waits),
    ),
    Metric(
        name="firmwarden_unknown_outcome_age_seconds",
        help="How long the oldest unknown outcome of the class has waited to be settled; 0 where there is none.",
        labels=_CLASS,
        read=_by_class(lambda view: view.unknown_s),
    ),
    Metric(
        name="firmwarden_latches",
        help="Latches that are set; those on an image are told under the class that the image is for.",
        labels=("device_class", "scope"),
        read=_by_class_and(LatchScope, lambda view: view.latches),
    ),
    Metric(
        name="firmwarden_devices_on_probation",
        help="Devices that were updated and have yet to show that they keep well.",
        labels=_CLASS,
        read=_by_class(lambda view: view.on_probation),
    ),
    Metric(
        name="firmwarden_rollouts",
        help="Releases of classes with a `rollout` that devices are meant to have, by how far each has come.",
        labels=("device_class", "state"),
        read=_by_class_and(RolloutState, lambda view: view.rollouts),
    ),
    Metric(
        name="firmwarden_rollout_devices",
        help="Devices in those rollouts, by how far each is with the release.",
        labels=("device_class", "stage"),
        read=_by_class_and(Stage, lambda view: view.rollout_devices),
    ),
    Metric(
        name="firmwarden_wear_day_budget_used_ratio",
        help="Erases today of the unit that had most, divided by `wear.per_day`; at 1 it waits for tomorrow (UTC).",
        labels=_CLASS,
        read=_by_class(lambda view: view.day_budget_used),
    ),
    Metric(
        name="firmwarden_wear_life_budget_used_ratio",
        help="Erases in the life of the unit that had most, divided by `wear.per_life`; at 1 it is updated no more.",
        labels=_CLASS,
        read=_by_class(lambda view: view.life_budget_used),
    ),
    Metric(
        name="firmwarden_releases",
        help="Manifests in the firmware directory; a refused one that names no known class is told without a class.",
        labels=("device_class", "state"),
        read=_by_class_and(ReleaseState, lambda view: view.releases),
    ),
    Metric(
        name="firmwarden_signature_required",
        help="1 where a class takes signed releases only, 0 where it says `require_signature = false`.",
        labels=_CLASS,
        read=lambda view: [((name,), flag) for name, flag in sorted(view.signature_required.items())],
    ),
    Metric(
        name="firmwarden_attempts_total",
        kind="counter",
        help="Attempts that are over, by how they ended first: an outcome that was unknown is not counted again.",
        labels=("device_class", "outcome", "cause"),
        read=_attempts(lambda row: (row.device_class, row.outcome, row.cause), lambda row: row.attempts),
    ),
    Metric(
        name="firmwarden_attempts_retried_total",
        kind="counter",
        help="Attempts after which their job was queued again, after a pause.",
        labels=("device_class", "cause"),
        read=_attempts(lambda row: (row.device_class, row.cause), lambda row: row.retried),
    ),
    Metric(
        name="firmwarden_outcomes_settled_total",
        kind="counter",
        help="Attempts whose outcome had been unknown, by what it turned out to be.",
        labels=("device_class", "outcome"),
        read=_attempts(lambda row: (row.device_class, row.outcome), lambda row: row.settled),
    ),
    Metric(
        name="firmwarden_jobs_ended_total",
        kind="counter",
        help="Jobs that are over; the cause is told of those that failed or were cancelled.",
        labels=("device_class", "state", "cause"),
        read=lambda view: [((row.device_class, row.state, row.cause), row.jobs) for row in view.counted.jobs],
    ),
    Metric(
        name="firmwarden_probations_ended_total",
        kind="counter",
        help="Probations that are over: passed, failed, or overtaken by something else before there was a verdict.",
        labels=("device_class", "outcome"),
        read=lambda view: [
            ((row.device_class, row.outcome), row.probations) for row in view.counted.probations
        ],
    ),
    Metric(
        name="firmwarden_erase_starts_total",
        kind="counter",
        help="Erases that were started, of all units that there ever were.",
        labels=_CLASS,
        read=lambda view: [((row.device_class,), row.starts) for row in view.counted.wear],
    ),
    Metric(
        name="firmwarden_link_sent_bytes_total",
        kind="counter",
        help="Bytes sent to devices.",
        labels=_CLASS,
        read=_link(lambda stats: stats.sent_bytes),
    ),
    Metric(
        name="firmwarden_link_received_bytes_total",
        kind="counter",
        help="Bytes received from devices.",
        labels=_CLASS,
        read=_link(lambda stats: stats.received_bytes),
    ),
    Metric(
        name="firmwarden_link_commands_total",
        kind="counter",
        help="Commands sent to devices, each counted once.",
        labels=_CLASS,
        read=_link(lambda stats: stats.commands),
    ),
    Metric(
        name="firmwarden_link_resends_total",
        kind="counter",
        help="Commands that were sent again.",
        labels=_CLASS,
        read=_link(lambda stats: stats.resends),
    ),
    Metric(
        name="firmwarden_link_timeouts_total",
        kind="counter",
        help="Commands that got no answer in time.",
        labels=_CLASS,
        read=_link(lambda stats: stats.timeouts),
    ),
    Metric(
        name="firmwarden_link_damaged_answers_total",
        kind="counter",
        help="Answers that were damaged on their way.",
        labels=_CLASS,
        read=_link(lambda stats: stats.damaged),
    ),
    Metric(
        name="firmwarden_link_stray_answers_total",
        kind="counter",
        help="Answers that came late or twice, and were dropped.",
        labels=_CLASS,
        read=_link(lambda stats: stats.strays),
    ),
    # Not the library's own: it tells nothing where the sandbox hides what /proc says of the machine.
    Metric(
        name="process_cpu_seconds_total",
        kind="counter",
        help="CPU time of the daemon, user and system.",
        read=_one(lambda _: time.process_time()),
    ),
    Metric(
        name="process_resident_memory_bytes",
        help="Resident memory of the daemon.",
        read=_one(lambda _: _resident_bytes()),
    ),
    Metric(
        name="process_open_fds",
        help="Open files and sockets of the daemon.",
        read=_one(lambda _: sum(1 for _ in Path("/proc/self/fd").iterdir())),
    ),
    Metric(
        name="process_max_fds",
        help="How many it may have open.",
        read=_one(lambda _: resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ),
)

DURATION: Final = Histogram(
    name="firmwarden_attempt_duration_seconds",
    help="How long attempts took, from the first question to the end, by how they ended first.",
    labels=("device_class", "outcome"),
)


def durations(view: FiguresView) -> Iterator[tuple[tuple[str, str], list[tuple[str, int]], float]]:
    """Read the histogram: labels, how many took at most so long for each bound, and the sum of seconds."""
    rows = view.counted.seconds
    for labels in sorted({(row.device_class, row.outcome) for row in rows}):
        these = [row for row in rows if (row.device_class, row.outcome) == labels]
        yield (
            labels,
            [
                (
                    f"{bound:g}" if bound < inf else "+Inf",
                    sum(row.attempts for row in these if row.longer_than < bound),
                )
                for bound in (*BOUNDS_S, inf)
            ],
            sum(row.seconds for row in these),
        )

"""Figures of a service that has seen everything once."""

from __future__ import annotations

from typing import Final

from firmwarden.model import (
    CauseCode,
    ClassName,
    JobState,
    LatchScope,
    LinkStats,
    Outcome,
    RolloutState,
    WaitKind,
)
from firmwarden.service.figures import NO_CLASS, DeviceState, FiguresView, ReleaseState
from firmwarden.service.rollout import Stage
from firmwarden.store.figures import (
    ClassWear,
    Counted,
    CountedAttempts,
    CountedJobs,
    CountedProbations,
    CountedSeconds,
)
from firmwarden.store.probations import ProbationEnd

PANEL: Final = ClassName("front-panel")
STATS: Final = LinkStats(
    commands=1300, resends=3, timeouts=2, damaged=1, strays=4, sent_bytes=70_000, received_bytes=9_000
)


def ended(
    outcome: Outcome, attempts: int, cause: CauseCode | None = None, *, settled: int = 0, retried: int = 0
) -> CountedAttempts:
    """Attempts that ended so."""
    return CountedAttempts(
        device_class=PANEL,
        outcome=outcome.value,
        cause="" if cause is None else cause.value,
        attempts=attempts,
        settled=settled,
        retried=retried,
        stats=STATS,
    )


def took(longer_than: float, attempts: int, seconds: float) -> CountedSeconds:
    """Successes that took so long."""
    return CountedSeconds(
        device_class=PANEL,
        outcome=Outcome.SUCCEEDED.value,
        longer_than=longer_than,
        attempts=attempts,
        seconds=seconds,
    )


def some_figures() -> FiguresView:
    """Make them."""
    return FiguresView(
        version="0.1.0",
        classes=[PANEL],
        ready=True,
        counted=Counted(
            attempts=[
                ended(Outcome.SUCCEEDED, 12, settled=1),
                ended(Outcome.FAILED, 5, CauseCode.LINK_LOST, retried=4),
                ended(Outcome.UNKNOWN, 2, CauseCode.END_UNANSWERED),
            ],
            jobs=[
                CountedJobs(device_class=PANEL, state=JobState.SUCCEEDED.value, cause="", jobs=12),
                CountedJobs(
                    device_class=PANEL,
                    state=JobState.FAILED.value,
                    cause=CauseCode.TRANSPORT_EXHAUSTED.value,
                    jobs=1,
                ),
            ],
            probations=[
                CountedProbations(device_class=PANEL, outcome=ProbationEnd.PASSED.value, probations=3)
            ],
            seconds=[took(5.0, 9, 63.5), took(20.0, 2, 50.0), took(1800.0, 1, 2000.25)],
            wear=[ClassWear(device_class=PANEL, starts=19, most_today=3, most_life=10)],
        ),
        signature_required={PANEL: True, ClassName("lab"): False},
        devices={(PANEL, DeviceState.UP_TO_DATE): 20, (PANEL, DeviceState.LATCHED): 1},
        present={PANEL: 19},
        held={PANEL: 2},
        everything_held=False,
        jobs={(PANEL, JobState.UNKNOWN): 1, (PANEL, JobState.QUEUED): 2},
        unknown_s={PANEL: 75.5},
        waits={(PANEL, WaitKind.FAILSAFE): 1, (PANEL, WaitKind.ABSENT): 1},
        for_a_person={PANEL: 1},
        latches={(PANEL, LatchScope.PAIR): 1, (NO_CLASS, LatchScope.IMAGE): 1},
        day_budget_used={PANEL: 0.3},
        life_budget_used={PANEL: 0.01},
        on_probation={PANEL: 2},
        rollouts={(PANEL, RolloutState.CANARY): 1},
        rollout_devices={(PANEL, Stage.GOOD): 1, (PANEL, Stage.WAITING): 2},
        releases={(PANEL, ReleaseState.ACCEPTED): 2, (NO_CLASS, ReleaseState.REFUSED): 1},
        conflicts=1,
        problems=2,
        uptime_s=3600.5,
        device_scan_s=1.25,
        release_scan_s=12.0,
        planning_s=7.5,
    )

"""How releases go out, as a person reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.ask import status_lines
from firmwarden.cli.rollout import member_lines, rollout_lines
from support.memory_desk import MemoryDesk, a_member, a_rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STOPPED = a_rollout(
    state="stopped",
    standing="stopped at 2 canaries: 1 of 2 devices failed",
    until=None,
    well=1,
    failed=1,
    next="`firmwarden resume front-panel` lets it go on",
)


def test_how_a_release_stands_and_what_can_be_done() -> None:
    soaking, stopped = rollout_lines([a_rollout()], NOON), rollout_lines([STOPPED], NOON)
    assert list(soaking) == [
        "front-panel 2.4.0 soaks on 2 canaries, over in 20 minutes.",
        "  Given to 2 of 24 devices (it began 3 minutes ago): well 2, failed 0.",
    ]
    assert list(stopped) == [
        "front-panel 2.4.0 stopped at 2 canaries: 1 of 2 devices failed.",
        "  Given to 2 of 24 devices (it began 3 minutes ago): well 1, failed 1.",
        "  `firmwarden resume front-panel` lets it go on.",
    ]


def test_who_is_in_it() -> None:
    assert member_lines(
        [
            a_member(),
            a_member(device="lamp-1", label="", stage="failed", present=False),
            a_member(device="lamp-2", label="", stage="waiting", wave=0),
            a_member(device="lamp-3", label="", stage="waiting", wave=2),
        ]
    ) == [
        "",
        "DEVICE   LABEL       VERSION  STATE",
        "panel-1  north wall  2.4.0    runs it well",
        "lamp-1               2.4.0    failed, away",
        "lamp-2               2.4.0    has its turn among the canaries",
        "lamp-3               2.4.0    has its turn in wave 2",
    ]


def test_the_devices_of_a_class_are_listed_below_it(run: Run, desk: MemoryDesk) -> None:
    desk.going_out = [a_rollout(), a_rollout(device_class="lamp")]
    desk.in_it = [a_member()]
    told = run("rollout", "front-panel").stdout
    assert told.startswith("front-panel 2.4.0 soaks")
    assert told.endswith("panel-1  north wall  2.4.0    runs it well\n")
    assert "lamp" not in told
    assert "lamp 2.4.0 soaks" in run("rollout").stdout


def test_without_any_it_says_how_there_would_be_one(run: Run) -> None:
    assert "whose table in the configuration has `rollout`" in run("rollout").stdout.replace("\n", " ")


def test_a_class_that_there_is_not(run: Run) -> None:
    result = run("rollout", "pannel")
    assert (result.exit_code, "there is no class 'pannel'" in result.stderr) == (1, True)


@pytest.mark.anyio
async def test_the_status_has_what_is_on_its_way_and_last_what_has_stopped() -> None:
    desk = MemoryDesk()
    desk.shelf = desk.shelf[:1]
    desk.going_out = [a_rollout(), STOPPED, a_rollout(state="done", standing="went to all")]
    assert list(status_lines(await desk.status(), NOON))[3:] == [
        "Releases  1 accepted, 0 refused",
        "Rollout   front-panel 2.4.0 soaks on 2 canaries, over in 20 minutes.",
        "",
        "For you to look at:",
        "- The rollout of front-panel 2.4.0 stopped at 2 canaries: 1 of 2 devices failed.",
        "  `firmwarden rollout front-panel` shows where; `firmwarden resume front-panel` lets it",
        "  go on.",
    ]

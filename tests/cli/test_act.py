"""The wishes: what arrives at the desk, what is printed, and what happens when it is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.memory_desk import IMAGE_B, WRONG_DEVICE, MemoryDesk, a_job, a_rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("command", "what", "target", "detail"),
    [
        ("retry panel-1", "retry", "panel-1", ""),
        ("cancel 7", "cancel", "7", ""),
        ("hold --reason fair", "hold", "all", "fair"),
        ("hold all --reason fair", "hold", "all", "fair"),
        ("hold panel-1 --reason fair", "hold", "panel-1", "fair"),
        ("hold --reason fair --for 2h --owner bench", "hold", "all", "fair for 7200 s by bench"),
        ("unhold", "unhold", "all", ""),
        ("unhold panel-1 --owner bench", "unhold", "panel-1", "bench"),
        ("unhold panel-1", "unhold", "panel-1", ""),
        ("pin panel-1 2.3.1", "pin", "panel-1", "2.3.1"),
        ("pin panel-1 2.3.1 --allow-downgrade", "pin", "panel-1", "2.3.1 or older"),
        ("pin panel-1 none", "pin", "panel-1", "None"),
        ("adopt panel-1 lamp-2", "adopt", "panel-1", "old=lamp-2 running=None"),
        ("adopt panel-1 --running 2.4.0", "adopt", "panel-1", "old=None running=2.4.0"),
        ("forget panel-1", "forget", "panel-1", ""),
        ("resume front-panel", "resume", "front-panel", ""),
        ("recall front-panel --reason hums", "recall", "front-panel", "hums"),
        (f"clear {IMAGE_B}", "clear", IMAGE_B, ""),
    ],
)
def test_each_wish_reaches_the_desk_and_says_what_was_done(
    run: Run, desk: MemoryDesk, command: str, what: str, target: str, detail: str
) -> None:
    desk.fleet["panel-1"]["job"] = a_job()
    desk.going_out = [a_rollout(state="stopped")]
    desk.latched = [
        {
            "id": 3,
            "scope": "image",
            "device": None,
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:00:00Z",
            "clear": f"firmwarden clear {IMAGE_B[:12]}",
        }
    ]
    result = run(*command.split())
    assert result.exit_code == 0
    assert result.stdout.endswith(".\n")
    action = desk.actions[0]
    assert (action["what"], action["target"], action["detail"]) == (what, target, detail)


def test_a_wish_as_json(run: Run) -> None:
    assert json.loads(run("unhold", "--json").stdout) == {"done": "Updates of all go on."}


def test_a_refusal_is_told_in_the_daemons_words(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["latched"] = True
    result = run("retry", "panel-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert " ".join(result.stderr.split()) == (
        "firmwarden: panel-1 is stopped by its own verdict. Clear it first: firmwarden clear panel-1"
    )
    assert json.loads(run("retry", "panel-1", "--json").stdout) == {
        "event": "error",
        "type": "refused",
        "detail": "panel-1 is stopped by its own verdict. Clear it first: firmwarden clear panel-1",
    }
    assert desk.actions == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("hold panel-1", "--reason"),
        ("hold panel-1 --reason fair --for ever", "'ever' is no duration, such as 30min, 2h or 3d."),
        ("adopt panel-1", "Give either OLD"),
        ("adopt panel-1 lamp-2 --running 2.4.0", "Give either OLD"),
        ("cancel first", "'first' is not a valid integer"),
        ("jobs --limit 0", "0 is not in the range"),
        ("why", "Missing argument 'DEVICE'"),
        ("polish panel-1", "No such command 'polish'"),
    ],
)
def test_wrong_usage_is_2_and_reaches_nobody(run: Run, desk: MemoryDesk, command: str, says: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 2
    assert says in result.stderr
    assert desk.actions == []

"""Every JSON line is an object of the API, as its OpenAPI document describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from firmwarden.cli.root import SECTIONS
from firmwarden.control.openapi import document
from support.memory_desk import (
    IMAGE_B,
    WRONG_DEVICE,
    MemoryDesk,
    a_device,
    a_job,
    a_member,
    a_rollout,
    an_attempt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

LINES = {
    "status": "Status",
    "devices": "Device",
    "releases": "Release",
    "jobs": "Job",
    "plan": "Plan",
    "rollout": "Rollout",
    "rollout front-panel": "RolloutMember",
    "why panel-1": "Why",
    "retry far-3": "Done",
    f"clear {IMAGE_B}": "Done",
    "cancel 7": "Done",
    "hold --reason fair": "Done",
    "unhold": "Done",
    "pin panel-1 2.3.1": "Done",
    "adopt panel-1 --running 2.3.1": "Done",
    "forget lamp-2": "Done",
    "resume front-panel": "Done",
    "recall front-panel --reason hums": "Done",
}
"""What each command prints; ``history``, ``watch`` and ``retry --wait`` have tests of their own."""


def faults(line: dict[str, Any], component: str) -> list[str]:
    """Say what of a line is not as the component has it; keys that it lacks are faults too."""
    described = document()["components"]
    schema = {"$ref": f"#/components/schemas/{component}", "components": described}
    found = [error.message for error in Draft202012Validator(schema).iter_errors(line)]
    return found + [
        f"it has {key}" for key in line.keys() - described["schemas"][component]["properties"].keys()
    ]


@pytest.fixture
def busy(desk: MemoryDesk) -> MemoryDesk:
    """A desk with something to tell of everything."""
    waits = {"kind": "back-off", "detail": "the last attempt failed", "until": "2026-03-01T12:04:00.000Z"}
    progress = {"step": "write", "done": 1, "total": 2}
    desk.fleet["panel-1"] |= {"job": a_job(wait=waits), "stopped_version": "2.5.0", "held": "ann: on loan"}
    desk.fleet["lamp-2"] |= {"job": a_job(id=8, state="running", progress=progress), "running_version": None}
    desk.fleet["far-3"] = a_device(id="far-3", job=a_job(id=9, state="failed", cause=WRONG_DEVICE))
    desk.log = [a_job(cause=WRONG_DEVICE), a_job(id=6, wait=waits)]
    desk.tried = [an_attempt(number=2, ended_at=None, outcome="running", cause=None), an_attempt()]
    desk.going_out = [a_rollout(state="stopped")]
    desk.in_it = [a_member(), a_member(device="lamp-2", stage="waiting", wave=1)]
    desk.power_cuts = [{"step": "write", "does": "erase", "if_interrupted": "its loader runs"}]
    desk.latched = [
        {
            "id": 3,
            "scope": "image",
            "device": None,
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:59:00Z",
            "clear": f"firmwarden clear {IMAGE_B[:12]}",
        }
    ]
    return desk


def test_every_command_is_here() -> None:
    told = {line.split()[0] for line in LINES} | {"history", "watch"}
    asked = {
        command.name
        for title in ("Ask the running daemon", "Tell the running daemon")
        for command in SECTIONS[title]
    }
    assert told == asked | {"plan"}


@pytest.mark.parametrize(("command", "component"), LINES.items(), ids=LINES)
def test_a_line_is_an_object_of_the_api(run: Run, busy: MemoryDesk, command: str, component: str) -> None:
    assert busy.fleet
    lines = run(*command.split(), "--json").stdout.splitlines()
    assert lines
    assert [fault for line in lines for fault in faults(json.loads(line), component)] == []


def test_history_says_of_each_line_what_it_is(run: Run, busy: MemoryDesk) -> None:
    busy.actions = [
        {"at": "2026-03-01T11:58:00Z", "who": "ann", "what": "retry", "target": "panel-1", "detail": ""}
    ]
    lines = [json.loads(line) for line in run("history", "--json").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["action", "attempt", "attempt"]
    for line in lines:
        assert faults(line, line.pop("kind").title()) == []


def test_a_line_that_is_none_is_found() -> None:
    (missing,) = faults({}, "Done")
    assert "'done' is a required property" in missing
    assert faults({"done": "so", "event": "done"}, "Done") == ["it has event"]
    assert faults({**a_job(), "attempts": "two"}, "Job") == ["'two' is not of type 'integer'"]

"""Where devices stand, and which of them are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firmwarden.control.page.rack import arrange
from firmwarden.control.page.standing import Standing, standing_of
from firmwarden.control.problems import BadRequest
from support.memory_desk import a_device, a_job

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT = {"kind": "absent", "detail": "the device is not here", "until": None}
FAILSAFE = {"kind": "failsafe", "detail": "nothing protects it", "until": None}
WORN = {"kind": "wear", "detail": "the budget of its life is spent", "until": None}
WORN_TODAY = {**WORN, "until": "2026-03-02T00:00:00Z"}
DONE = {"running_version": "2.4.0"}


@pytest.mark.parametrize(
    ("device", "standing"),
    [
        (DONE, "up-to-date"),
        ({"desired_version": None}, "up-to-date"),
        ({}, "waiting"),
        ({"held": "alice: painting"}, "waiting"),
        ({**DONE, "present": False}, "away"),
        ({"present": False}, "away"),
        ({"job": a_job(state="running"), "latched": True, "conflict": "seen twice"}, "updating"),
        ({"job": a_job()}, "waiting"),
        ({"job": a_job(wait=ABSENT), "present": False}, "waiting"),
        ({"job": a_job(wait=WORN_TODAY)}, "waiting"),
        ({"job": a_job(wait=WORN)}, "needs-you"),
        ({"job": a_job(wait=FAILSAFE)}, "needs-you"),
        ({"job": a_job(state="unknown")}, "waiting"),
        ({"job": a_job(), "conflict": "seen twice"}, "needs-you"),
        ({"conflict": "seen twice", "present": False}, "needs-you"),
        ({**DONE, "latched": True}, "needs-you"),
        ({"job": a_job(state="failed")}, "needs-you"),
        ({**DONE, "job": a_job(state="failed")}, "up-to-date"),
        ({"job": a_job(state="cancelled")}, "waiting"),
        ({**DONE, "job": a_job(state="succeeded")}, "up-to-date"),
        ({**DONE, "complete": False}, "needs-you"),
    ],
)
def test_standings(device: dict[str, Any], standing: str) -> None:
    assert standing_of(a_device(**device)) is Standing(standing)


DEVICES = [
    a_device(id="1", **DONE),
    a_device(id="2", latched=True),
    a_device(id="3", device_class="io module", latched=True),
    a_device(id="4", **DONE),
]


@pytest.mark.parametrize(
    ("asked", "groups"),
    [
        ({}, {"needs-you": "23", "up-to-date": "14"}),
        ({"state": "needs-you"}, {"needs-you": "23"}),
        ({"class": "io module"}, {"needs-you": "3"}),
        ({"class": "front-panel", "state": "up-to-date"}, {"up-to-date": "14"}),
        ({"class": "io module", "state": "away"}, {}),
    ],
)
def test_devices_keep_their_order_within_groups(asked: Mapping[str, str], groups: dict[str, str]) -> None:
    rack = arrange(DEVICES, asked)
    assert {
        standing.value: "".join(each["id"] for each in members) for standing, members in rack.groups
    } == groups
    assert rack.narrowed is bool(asked)


def test_choices_keep_the_other_one_and_say_how_many_they_would_show() -> None:
    rack = arrange(DEVICES, {"state": "needs-you", "class": "io module"})
    assert [(each.query, each.count, each.chosen) for each in rack.classes] == [
        ("state=needs-you", 2, False),
        ("state=needs-you&class=front-panel", 1, False),
        ("state=needs-you&class=io+module", 1, True),
    ]
    assert [(each.query, each.count) for each in rack.standings[:2]] == [
        ("class=io+module", 1),
        ("state=needs-you&class=io+module", 1),
    ]


def test_one_class_is_no_choice() -> None:
    assert arrange(DEVICES[:2], {}).classes == []


def test_inv8_a_state_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadRequest, match="must be one of: needs-you, updating, waiting, up-to-date, away"):
        arrange(DEVICES, {"state": "asleep"})

"""The questions: what a person reads, and what a script gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.ask import device_lines, history_lines, job_lines, plan_lines, release_lines, status_lines
from firmwarden.service.words import state_of_device, state_of_job
from support.memory_desk import (
    EXHAUSTED,
    IMAGE_B,
    LINK_LOST,
    WRONG_DEVICE,
    MemoryDesk,
    a_device,
    a_job,
    an_attempt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from firmwarden.service.views import WaitCountView

    Run = Callable[..., Result]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITING = a_job(state="running", progress={"step": "write", "done": 65_536, "total": 131_072})
IN_4_MINUTES = "2026-03-01T12:04:00.000Z"
ON_PROBATION = {
    "version": "2.4.0",
    "began_at": "2026-03-01T11:57:00.000Z",
    "soaked_s": 360.0,
    "soak_s": 600.0,
    "until": IN_4_MINUTES,
    "detail": "it is here and well",
}
BACK_OFF = {"kind": "back-off", "detail": "attempt 2 lost its link", "until": IN_4_MINUTES}


@pytest.mark.parametrize(
    ("device", "state"),
    [
        (a_device(running_version="2.4.0"), "up to date"),
        (a_device(), "should run 2.4.0"),
        (
            a_device(
                running_version=None, desired_version=None, desired_reason="its class holds such devices"
            ),
            "nothing to run: its class holds such devices",
        ),
        (
            a_device(
                desired_version=None, pinned="9.9", desired_reason="it is pinned to 9.9, which is not here"
            ),
            "nothing to run: it is pinned to 9.9, which is not here",
        ),
        (a_device(present=False, last_seen="2026-03-01T09:00:00Z"), "away, last seen 3 hours ago"),
        (
            a_device(present=False, running_version="2.4.0", last_seen="2026-02-27T12:00:00Z"),
            "up to date when it was here; away, last seen 2 days ago",
        ),
        (a_device(held="alice: being painted"), "held by alice: being painted"),
        (
            a_device(held="alice: being painted", running_version="2.4.0", desired_version="2.4.0"),
            "up to date; held by alice: being painted",
        ),
        (a_device(complete=False), "holds no complete image"),
        (a_device(job=WRITING), "updating to 2.4.0: write 50 %"),
        (a_device(job=a_job()), "is next"),
        (a_device(job=a_job(wait=BACK_OFF)), "waits: attempt 2 lost its link; again in 4 minutes"),
        (a_device(job=a_job(state="unknown")), "outcome unknown; the device is asked again"),
        (a_device(job=a_job(state="cancelled")), "cancelled"),
        (
            a_device(job=a_job(state="failed", cause=EXHAUSTED)),
            "failed: the budget is used up (transport-exhausted)",
        ),
        (a_device(running_version="2.4.0", job=a_job(state="succeeded")), "up to date"),
        (
            a_device(running_version="2.4.0", probation=ON_PROBATION),
            "on probation with 2.4.0, over in 4 minutes: it is here and well",
        ),
        (
            a_device(present=False, probation=ON_PROBATION | {"until": None, "detail": "it is not here"}),
            "on probation with 2.4.0: it is not here",
        ),
        (a_device(probation=ON_PROBATION, job=WRITING), "updating to 2.4.0: write 50 %"),
        (a_device(latched=True), "stopped by a latch"),
        (
            a_device(latched=True, complete=False, job=a_job(state="failed", cause=WRONG_DEVICE)),
            "stopped: the device says that the file is for another device (wrong-device-id)",
        ),
        (a_device(conflict="also seen at ttyACM4"), "conflict: also seen at ttyACM4"),
        (a_device(conflict="also seen at ttyACM4", job=a_job()), "conflict: also seen at ttyACM4"),
        (a_device(conflict="also seen at ttyACM4", job=WRITING), "updating to 2.4.0: write 50 %"),
    ],
)
def test_the_state_of_a_device_is_what_matters_most(device: dict[str, object], state: str) -> None:
    assert state_of_device(device, NOON) == state  # type: ignore[arg-type]


def test_a_running_job_without_progress_yet() -> None:
    assert state_of_job(a_job(state="running"), NOON) == "updating to 2.4.0"


def test_devices_as_a_table(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["lamp-2"] |= {"running_version": None, "pinned": "2.4.0"}
    assert run("devices").stdout.splitlines() == [
        "DEVICE   LABEL       PORT                   CLASS        RUNS       SHOULD RUN      STATE",
        "panel-1  north wall                         front-panel  2.3.1      2.4.0           should run 2.4.0",
        "lamp-2               usb-Acme_Panel_1-if00  front-panel  not known  2.4.0 (pinned)  should run 2.4.0",
    ]


def test_a_pin_to_what_is_not_there_names_it(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"] |= {"desired_version": None, "pinned": "9.9"}
    assert "  - (pinned to 9.9)  " in run("devices").stdout.splitlines()[1]


def test_a_newer_release_that_a_latch_keeps_away_is_named(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"] |= {"desired_version": "2.3.1", "stopped_version": "2.4.0", "latched": True}
    panel = run("devices").stdout.splitlines()[1]
    assert panel.endswith("2.3.1  2.3.1 (2.4.0 is stopped)  2.4.0 is stopped by a latch")


def test_a_column_without_content_is_left_out(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["label"] = ""
    assert "LABEL" not in run("devices").stdout


def test_status_in_words(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"] |= {"job": WRITING, "conflict": "the same serial number twice"}
    desk.held = "root: fair week"
    text = run("status").stdout
    assert "Firmwarden 0.1.0 is ready, started " in text
    assert "2 known, 2 here" in text
    assert "1 running, 0 waiting, 0 with unknown outcome" in text
    assert "1 accepted, 1 refused" in text
    assert "Everything is held by root: fair week. `firmwarden unhold all` lifts it." in text
    port = "/dev/serial/by-id/usb-Acme_Panel_1-if00"
    assert f"- {port}: the same serial number twice" in text
    desk.fleet["panel-1"]["conflict"] = f"{port} matches two classes"
    assert f"- {port} matches two classes" in run("status").stdout


@pytest.mark.anyio
async def test_a_status_without_worries_has_no_list_of_them() -> None:
    desk = MemoryDesk()
    desk.shelf = desk.shelf[:1]
    assert list(status_lines(await desk.status(), NOON)) == [
        "Firmwarden 0.1.0 is ready, started 4 days ago.",
        "Devices   1 known, 1 here",
        "Updates   0 running, 0 waiting, 0 with unknown outcome",
        "Releases  1 accepted, 0 refused",
    ]
    unwell = await desk.status()
    waiting: list[WaitCountView] = [{"kind": "window", "jobs": 5}, {"kind": "hold", "jobs": 1}]
    unwell |= {"waiting": 7, "waits": waiting}
    unwell["on_probation"] = 3
    assert list(status_lines(unwell, NOON))[1] == "Devices   1 known, 1 here, 3 on probation"
    assert "0 running, 7 waiting (window 5, hold 1), 0 with" in list(status_lines(unwell, NOON))[2]
    unwell |= {
        "held": "ann: trade fair (until 2026-03-01T14:00:00.000Z)",
        "latches": 2,
        "failed": 3,
        "waiting_for_you": 4,
        "unsigned_classes": ["lab", "pump"],
        "problems": ["the firmware directory cannot be read: permission denied"],
    }
    text = "\n".join(status_lines(unwell, NOON))
    assert "(in 2 hours))" in text, "as a person says it"
    assert "Latches that stop devices: 2." in text
    assert "Ended without success: 3." in text
    assert "Waiting for what only you can do: 4." in text
    assert "Classes that take releases without a signature: lab, pump." in text
    assert "- the firmware directory cannot be read: permission denied" in text


def test_releases_with_the_reason_of_a_refusal(run: Run, desk: MemoryDesk) -> None:
    _, accepted, refused = run("releases").stdout.splitlines()
    assert accepted.split("  ")[-1] == "accepted"
    assert f"2.4.0    128 KiB  {IMAGE_B[:12]}  vendor-2026" in accepted
    assert refused.endswith(
        "refused: the image has 1000 bytes, the manifest says 131072: is it still being copied?"
    )
    desk.shelf[0]["reason"] = "2 devices do not get it: they were confirmed with something newer"
    assert "accepted, but 2 devices do not get it: they were confirmed with" in run("releases").stdout
    desk.shelf[0]["latched"] = True
    assert "accepted, but a latch keeps it from every device" in run("releases").stdout


def test_jobs_newest_first(run: Run, desk: MemoryDesk) -> None:
    desk.log = [a_job(id=9, attempts=2), a_job(id=8, state="succeeded", attempts=1)]
    _, newest, older = run("jobs").stdout.splitlines()
    assert newest.split()[:4] == ["9", "panel-1", "2.4.0", "2"]
    assert older.endswith("succeeded")
    assert len(run("jobs", "--limit", "1").stdout.splitlines()) == 2


def test_history_tells_attempts_and_actions_by_time(run: Run, desk: MemoryDesk) -> None:
    desk.tried = [an_attempt()]
    run("hold", "panel-1", "--reason", "being painted")
    _, first, second = run("history", "panel-1").stdout.splitlines()
    assert first.endswith("hold being painted")
    assert second.endswith("attempt 1 of job 7 at 2.4.0: failed, link-lost: /dev/ttyACM3 vanished")
    assert run("history", "panel-1", "--limit", "1").stdout.splitlines()[1:] == [first]
    assert len(run("history", "panel-1", "--limit", "1", "--json").stdout.splitlines()) == 1
    kinds = [json.loads(line)["kind"] for line in run("history", "panel-1", "--json").stdout.splitlines()]
    assert kinds == ["action", "attempt"]
    assert "Nothing was tried" in run("history", "lamp-2").stdout


def test_history_counts_what_happened_and_not_the_lines_that_tell_it(run: Run, desk: MemoryDesk) -> None:
    told_at_length = {**LINK_LOST, "detail": "once more, " * 30 + "and then it was over"}
    desk.tried = [an_attempt(number=number, cause=told_at_length) for number in (3, 2, 1)]
    text = " ".join(run("history", "--limit", "2").stdout.split())
    assert text.endswith("and then it was over")
    assert text.count("and then it was over") == 2


def test_the_plan_of_every_device(run: Run) -> None:
    _, first, _ = run("plan").stdout.splitlines()
    assert first.split() == [
        "panel-1",
        "north",
        "wall",
        "update",
        "2.4.0",
        *["it", "is", "the", "newest", "release", "of", "its", "class"],
    ]


@pytest.mark.parametrize(
    "question", ["status", "devices", "releases", "jobs", "history", "plan", "why panel-1"]
)
def test_json_is_one_object_a_line(run: Run, desk: MemoryDesk, question: str) -> None:
    desk.log = [a_job(), a_job(id=6)]
    desk.tried = [an_attempt(), an_attempt(number=2)]
    lines = run(*question.split(), "--json").stdout.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_nothing_to_show_is_said_with_what_it_means() -> None:
    assert "No device has been seen yet" in device_lines([], NOON)[0]
    assert "No release is known" in release_lines([], [])[0]
    assert release_lines([], ["/srv/fw cannot be read: permission denied"])[-1].startswith("/srv/fw cannot")
    assert "no job yet" in job_lines([], NOON)[0]
    assert "nobody did anything" in history_lines({"attempts": [], "actions": []}, 50)[0]
    assert "nothing to plan" in plan_lines([])[0]


def test_what_others_chose_cannot_act_on_the_terminal(run: Run, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"] |= {"label": "\x1b]0;owned\x07", "conflict": "\u202egnp.exe"}
    desk.tried = [an_attempt(cause={**LINK_LOST, "detail": "\x1b[31mred"}, evidence="a\rb")]
    for command in ("devices", "status", "plan", "history", "why panel-1"):
        shown = run(*command.split()).stdout
        assert all(character.isprintable() or character == "\n" for character in shown), command
    assert "\\x1b]0;owned\\x07" in run("devices").stdout

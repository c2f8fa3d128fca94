"""``retry --wait``: the exit status a script builds on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from firmwarden.cli.wait import is_for_a_person
from firmwarden.model import WaitKind
from firmwarden.service.picture import for_a_person
from support.memory_desk import EXHAUSTED, IMAGE_B, LINK_LOST, WRONG_DEVICE, MemoryDesk, a_job, a_rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from support.served import Served

    Run = Callable[..., Result]


def carry_out(api: Served, desk: MemoryDesk, *steps: dict[str, Any], answered: int = 1) -> threading.Thread:
    """Once the retry is done and its job known, lead the job through these changes, each with an event.

    The job is known when the daemon has ``answered`` so many questions about it.
    """

    def change(step: dict[str, Any]) -> None:
        desk.fleet["panel-1"]["job"] = a_job(id=8) | step  # type: ignore[typeddict-item]
        desk.fleet["panel-1"]["latched"] = step.get("state") == "failed"
        desk.publish("log", event="job-changed", device="lamp-2")
        desk.publish("progress", device="panel-1", job=8, step="probe", done=0, total=131_072)
        desk.publish("log", event="job-changed", device="panel-1", state=step.get("state"))

    def script() -> None:
        while not api.call(lambda: desk.whys >= answered):
            pass
        for step in steps:
            api.call(partial(change, step))

    thread = threading.Thread(target=script)
    thread.start()
    return thread


RUNNING = {"state": "running", "attempts": 1}
LATCHED = {"state": "failed", "attempts": 1, "cause": WRONG_DEVICE}


@pytest.mark.parametrize(
    ("last", "status", "says"),
    [
        ({"state": "succeeded", "attempts": 1, "cause": LINK_LOST}, 0, "panel-1 runs 2.4.0."),
        (
            LATCHED,
            1,
            "Job 8 failed. The device says that the file is for another device (wrong-device-id).",
        ),
        ({"state": "cancelled"}, 1, "Job 8 is cancelled."),
        ({"state": "failed", "cause": EXHAUSTED}, 3, "only transport trouble, but too much of it"),
        ({"state": "unknown"}, 4, "Whether panel-1 runs 2.4.0 is not known."),
    ],
)
def test_the_status_is_that_of_the_outcome(
    run: Run, api: Served, desk: MemoryDesk, last: dict[str, Any], status: int, says: str
) -> None:
    thread = carry_out(api, desk, RUNNING, last)
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == status
    assert says in " ".join(result.stdout.split())
    assert result.stdout.startswith("Job 8 for panel-1 is tried now.")


def test_a_job_that_runs_already_is_followed(run: Run, api: Served, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["job"] = a_job(id=8) | RUNNING  # type: ignore[typeddict-item]
    thread = carry_out(api, desk, RUNNING, {"state": "succeeded"}, answered=2)
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == 0
    first, *_, last = result.stdout.splitlines()
    assert (first, last) == ("panel-1 is being updated right now (job 8)", "panel-1 runs 2.4.0.")


def test_what_follows_a_failure_is_told_with_the_command(run: Run, api: Served, desk: MemoryDesk) -> None:
    thread = carry_out(api, desk, RUNNING, LATCHED)
    said = run("retry", "panel-1", "--wait").stdout
    thread.join()
    follows = (
        "What happens next\n  Nothing, until the latch is cleared.\n\n"
        "What you can do\n  firmwarden clear panel-1\n"
    )
    assert said.endswith(follows)
    assert run("why", "panel-1").stdout.endswith(follows)


def test_json_ends_with_the_outcome(run: Run, api: Served, desk: MemoryDesk) -> None:
    desk.latched = [
        {
            "id": 3,
            "scope": "pair",
            "device": "panel-1",
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:00:00Z",
            "clear": "firmwarden clear panel-1",
        }
    ]
    thread = carry_out(api, desk, RUNNING, LATCHED)
    result = run("retry", "panel-1", "--wait", "--json")
    thread.join()
    *events, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["device"] for event in events} == {"panel-1"}
    assert {event["event"] for event in events} >= {"progress"}
    assert last == {
        "event": "update-finished",
        "outcome": "failed",
        "device": "panel-1",
        "job": 8,
        "attempts": 1,
        "release": "2.4.0",
        "image": IMAGE_B,
        "cause": {**WRONG_DEVICE, "scope": "pair"},
    }


def test_what_it_waits_for_is_shown(run: Run, api: Served, desk: MemoryDesk) -> None:
    waiting = {"wait": {"kind": "slot", "detail": "16 updates are running", "until": None}}
    thread = carry_out(api, desk, waiting, {"state": "succeeded"})
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == 0
    # Whoever reads fast enough sees each state once, and nobody sees one twice.
    lines = result.stdout.splitlines()[1:-1]
    assert len(lines) == len(set(lines))
    assert set(lines) <= {"  is next", "  waits: 16 updates are running", "panel-1  probe"}


WAITS = {
    "hold": {"kind": "hold", "detail": "the device is held by ann: on loan", "until": None},
    "wear": {"kind": "wear", "detail": "the erases of its life are used up", "until": None},
}


@pytest.mark.parametrize("kind", WAITS)
def test_it_ends_when_only_a_person_can_go_on(run: Run, api: Served, desk: MemoryDesk, kind: str) -> None:
    thread = carry_out(api, desk, {"wait": WAITS[kind]})
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == 2
    assert "Job 8 waits for what only a person can do. It is updated now." in " ".join(result.stdout.split())


CANARY = {"kind": "canary", "detail": "2 canaries come first", "until": None}


@pytest.mark.parametrize("state", ["stopped", "recalled"])
def test_a_rollout_that_has_stopped_goes_on_by_a_person_alone(
    run: Run, api: Served, desk: MemoryDesk, state: str
) -> None:
    desk.going_out = [a_rollout(), a_rollout(state=state)]
    thread = carry_out(api, desk, {"wait": CANARY})
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == 2
    assert "Job 8 waits for what only a person can do." in result.stdout


def test_a_rollout_that_goes_on_is_waited_for(run: Run, api: Served, desk: MemoryDesk) -> None:
    desk.going_out = [
        a_rollout(),
        a_rollout(state="stopped", device_class="lamp"),
        a_rollout(state="stopped", image="00" * 32),
    ]
    thread = carry_out(api, desk, {"wait": CANARY}, {"state": "succeeded"})
    assert run("retry", "panel-1", "--wait").exit_code == 0
    thread.join()


def test_json_ends_when_only_a_person_can_go_on(run: Run, api: Served, desk: MemoryDesk) -> None:
    thread = carry_out(api, desk, {"wait": WAITS["hold"]})
    *_, last = run("retry", "panel-1", "--wait", "--json").stdout.splitlines()
    thread.join()
    assert json.loads(last)["outcome"] == "not-started"
    assert json.loads(last)["cause"] == {"code": "not-started", "scope": None, "detail": "It is updated now."}


def test_a_wait_that_the_retry_ended_is_no_end(run: Run, api: Served, desk: MemoryDesk) -> None:
    """The daemon may answer once more with the wait of before."""
    thread = carry_out(api, desk, {"wait": WAITS["hold"]}, {"state": "succeeded"})
    assert run("retry", "panel-1", "--wait").exit_code == 0
    thread.join()


def test_which_waits_are_for_a_person_is_what_the_service_says() -> None:
    for kind in WaitKind:
        for until in (None, "2026-03-01T12:00:00Z"):
            told = is_for_a_person({"kind": kind.value, "detail": "", "until": until})
            # A hold is a person's own wish, so `status` does not ask for them; nothing goes on without them, though,
            # unless they said for how long.
            held = kind is WaitKind.HOLD and until is None
            assert told is (held or for_a_person(kind, ends=until is not None)), kind


def test_another_job_in_its_place_is_not_taken_for_it(run: Run, api: Served, desk: MemoryDesk) -> None:
    thread = carry_out(api, desk, {"id": 9, "state": "succeeded"})
    result = run("retry", "panel-1", "--wait")
    thread.join()
    assert result.exit_code == 4
    assert "Another job took the place of this one" in result.stderr


def test_a_refusal_and_no_daemon_are_2_because_nothing_was_sent(
    run_alone: Run, run: Run, api: Served, desk: MemoryDesk
) -> None:
    desk.fleet["panel-1"] |= {"latched": True, "job": a_job() | LATCHED}  # type: ignore[typeddict-item]
    assert run("retry", "panel-1", "--wait").exit_code == 2
    assert run("retry", "nobody", "--wait").exit_code == 2
    api.stop()
    assert run_alone("retry", "panel-1", "--wait").exit_code == 2


@pytest.mark.parametrize("ending", ["stop", "interrupt"])
def test_it_ends_early_without_a_claim(api: Served, ending: str) -> None:
    script = "from firmwarden.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "retry", "panel-1", "--wait", "--socket", str(api.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Job 8 for panel-1 is tried now.\n"
        assert process.stdout.readline() == "  is next\n"
        if ending == "stop":
            api.stop()
            expected, says = 4, "It goes on with the job when it is started again."
        else:
            process.send_signal(signal.SIGINT)
            expected, says = 130, "the daemon goes on with the job"
        _, told = process.communicate(timeout=5)
        assert process.returncode == expected
        assert says in " ".join(told.split())

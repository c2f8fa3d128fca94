"""What people tell the running daemon, and what it tells them."""

from __future__ import annotations

import getpass
import json
import sys
from typing import TYPE_CHECKING

import pytest

from firmwarden.exit_status import ExitStatus
from support.gateway import NEW, OLD, QUERY, SEND, USUAL, device_class, image

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack

IMPATIENT = """\
settle = "150ms"
boot_delay = "200ms"
mdfu = { discovery = "500ms" }
retry = { attempts = 2, back_off = "100ms", back_off_max = "200ms" }"""


def start(gateway: Gateway, *options: object, more: tuple[str, ...] = USUAL, **settings: object) -> Rack:
    rack = gateway.rack("panel", "--version", OLD, *options)
    gateway.configure(device_class("panel", rack.match, *more), **settings)
    gateway.start()
    return rack


def do(gateway: Gateway, *arguments: object) -> str:
    """Run a command that succeeds; returns what it says on one line."""
    done = gateway.command(*arguments)
    assert done.returncode == 0, done
    return " ".join(done.stdout.split())


def test_hold_and_unhold(gateway: Gateway) -> None:
    rack = start(gateway, "--count", 2)
    one, two = rack.addresses
    assert "is held" in do(gateway, "hold", gateway.id(one), "--reason", "it is on stage tonight")
    gateway.drop("panel", NEW, image())
    gateway.job(two, "succeeded")
    gateway.daemon.wait_for("job-waiting", wait="hold")
    assert "it is on stage tonight" in do(gateway, "why", gateway.id(one))
    assert gateway.why(one)["commands"][0] == f"firmwarden unhold {gateway.id(one)}"
    (plan,) = [plan for plan in gateway.client.get("plan")["plan"] if plan["device"] == gateway.id(one)]
    assert plan["decision"] == "wait"

    # The hold on everything is another one.
    do(gateway, "hold", "--reason", "and so is the gateway")
    do(gateway, "unhold", gateway.id(one))
    assert "and so is the gateway" in do(gateway, "status")
    assert gateway.device(one)["job"]["state"] == "queued"  # type: ignore[index]
    do(gateway, "unhold", "all")
    gateway.job(one, "succeeded")
    refused = gateway.command("unhold")
    assert (refused.returncode, "no hold on everything" in refused.stderr) == (1, True)


def test_a_hold_outlives_the_daemon(gateway: Gateway) -> None:
    rack = start(gateway)
    do(gateway, "hold", "--reason", "the line is live")
    assert gateway.daemon.stop() == 0
    gateway.drop("panel", NEW, image())
    gateway.start().wait_for("job-waiting", wait="hold")
    assert rack.report()["panel-0001"]["opens"] == 0


def test_pin(gateway: Gateway) -> None:
    rack = start(gateway)
    device = gateway.id("panel-0001")
    assert "is not in the firmware directory yet" in do(gateway, "pin", device, "1.5.0")
    gateway.drop("panel", NEW, image())
    gateway.daemon.wait_for("release-accepted")
    gateway.drop("panel", "1.5.0", image("1.5.0"))
    gateway.daemon.wait_for("update-succeeded", release="1.5.0")
    assert gateway.device("panel-0001")["pinned"] == "1.5.0"
    assert "(pinned)" in do(gateway, "devices")

    do(gateway, "pin", device, "none")
    gateway.daemon.wait_for("update-succeeded", release=NEW)
    assert rack.report()["panel-0001"]["erase_starts"] == 2


def test_cancel_what_waits_and_not_what_writes(gateway: Gateway) -> None:
    rack = start(gateway, "--count", 2, "--paced", 115_200, parallel=1)
    gateway.drop("panel", NEW, image())
    started = gateway.daemon.wait_for("attempt-started")
    jobs = {job["device"]: job["id"] for job in gateway.client.get("jobs")["jobs"]}
    waiting = next(device for device in jobs if device != started["device"])
    assert "is cancelled" in do(gateway, "cancel", jobs[waiting])
    names = {gateway.id(name): name for name in rack.addresses}
    rack.wait_for("start", names[started["device"]])

    refused = gateway.command("cancel", started["job"])
    assert refused.returncode == 1
    assert "an erase has begun" in " ".join(refused.stderr.split())
    gateway.job(names[started["device"]], "succeeded")
    # It makes no second job for the pair until somebody says so.
    assert gateway.device(names[waiting])["job"]["state"] == "cancelled"  # type: ignore[index]
    assert f"firmwarden retry {waiting}" in gateway.why(names[waiting])["commands"]
    assert rack.told()[names[waiting]]["opens"] == 0
    do(gateway, "retry", waiting)
    gateway.job(names[waiting], "succeeded")


def test_cancel_before_the_erase(gateway: Gateway) -> None:
    enter = SEND.replace("BOOTLOADER!", "NOTHING").replace("300ms", "3s")
    rack = start(gateway, more=(enter, QUERY, IMPATIENT))
    gateway.drop("panel", NEW, image())
    started = gateway.daemon.wait_for("attempt-started")
    assert "stops at the next safe point" in do(gateway, "cancel", started["job"])
    cancelled = gateway.daemon.wait_for("job-cancelled")
    assert cancelled["cause"] == "cancelled"
    assert getpass.getuser() in cancelled["detail"]
    device = rack.report()["panel-0001"]
    assert (device["erase_starts"], device["commands"]) == (0, {})


def test_inv3_a_verdict_latches_until_a_person_lifts_it(gateway: Gateway) -> None:
    rack = start(gateway, "--fault", "abort@chunk=5,cause=write-error")
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "failed")
    device = gateway.id("panel-0001")
    latch = gateway.daemon.wait_for("latch-set")
    assert (latch["device"], latch["scope"], latch["cause"]) == (device, "device", "write-error")

    why = do(gateway, "why", device)
    for sentence in (
        f"{device}: stopped: the device could not program its flash (write-error)",
        "It runs No complete image: an erase was begun and no update was finished since.",
        "every image on this device, since",
        "That was at chunk 5, sequence number 7, after 2,560 bytes of the image. It answered 07 05 05.",
        f"To lift it: `firmwarden clear {device}`",
        "Nothing, until a person lifts the latch",
        f"What you can do firmwarden clear {device}",
    ):
        assert sentence in why, why
    told = json.loads(gateway.command("why", device, "--json").stdout)
    assert told["attempts"][0]["cause"]["raw"] == "070505"

    # Neither another release nor a retry nor a restart passes it.
    gateway.drop("panel", "2.1.0", image("2.1.0"))
    gateway.daemon.wait_for("release-accepted", release="2.1.0")
    refused = gateway.command("retry", device)
    assert (refused.returncode, "latch" in refused.stderr) == (1, True)
    gateway.daemon.stop()
    gateway.start()
    assert len(gateway.client.get("jobs")["jobs"]) == 1
    assert rack.told()["panel-0001"]["erase_starts"] == 1

    assert "1 latch lifted" in do(gateway, "clear", device)
    gateway.daemon.wait_for("latch-lifted", device=device)
    gateway.daemon.wait_for("update-succeeded", release="2.1.0")
    running = rack.report()["panel-0001"]["running"]
    assert running is not None
    assert running["version"] == "2.1.0"


def test_inv3_two_units_that_refuse_an_image_latch_it_for_all(gateway: Gateway) -> None:
    rack = start(
        gateway, "--count", 4, "--fault", "abort@chunk=0,cause=invalid-file,times=always", parallel=1
    )
    digest = gateway.drop("panel", NEW, image())
    gateway.daemon.wait_for("latch-set", scope="image")
    (release,) = gateway.client.get("releases")["releases"]
    assert release["latched"]
    assert "a latch keeps it from every device" in do(gateway, "releases")
    gateway.daemon.until(lambda: gateway.client.get("status")["waiting"] == 0, "the end of the other jobs")
    # The others were spared it.
    assert sorted(device["erase_starts"] for device in rack.told().values()) == [0, 0, 1, 1]
    latched = [device["id"] for device in gateway.devices() if device["latched"]]
    assert f"firmwarden clear {digest[:12]}" in gateway.client.get("devices", latched[0], "why")["commands"]
    assert "lifted" in do(gateway, "clear", digest[:12])
    (release,) = gateway.client.get("releases")["releases"]
    assert not release["latched"]


def test_adopt_tells_what_runs(gateway: Gateway) -> None:
    rack = start(gateway, more=(*USUAL, 'unknown = "hold"'))
    gateway.drop("panel", NEW, image())
    gateway.daemon.wait_for("release-accepted")
    device = gateway.id("panel-0001")
    assert f"firmwarden adopt {device} --running VERSION" in gateway.why("panel-0001")["commands"]
    assert gateway.device("panel-0001")["job"] is None
    do(gateway, "adopt", device, "--running", "1.0.0")
    gateway.job("panel-0001", "succeeded")
    assert rack.report()["panel-0001"]["erase_starts"] == 1


@pytest.mark.parametrize(
    ("fault", "status", "outcome", "code"),
    [
        ("drop@p=0", ExitStatus.SUCCEEDED, "succeeded", None),
        ("abort@chunk=3,cause=erase-error,times=always", ExitStatus.REFUSED, "failed", "erase-error"),
        ("mute", ExitStatus.EXHAUSTED, "failed", "transport-exhausted"),
        ("cut@step=end-transfer,back=0.2", ExitStatus.UNKNOWN, "unknown", "end-unanswered"),
    ],
    ids=["succeeded", "refused", "exhausted", "unknown"],
)
def test_retry_and_wait(gateway: Gateway, fault: str, status: int, outcome: str, code: str | None) -> None:
    start(gateway, "--fault", fault, more=(SEND, IMPATIENT))
    do(gateway, "hold", "--reason", "not before it is watched")
    gateway.drop("panel", NEW, image())
    gateway.daemon.wait_for("job-waiting", wait="hold")
    waiting = gateway.begin("retry", gateway.id("panel-0001"), "--wait", "--json")
    gateway.daemon.wait_for("action-taken", action="retry")
    do(gateway, "unhold")
    assert waiting.wait() == status
    last = list(waiting.records())[-1]
    assert (last["event"], last["outcome"]) == ("update-finished", outcome)
    assert (last["cause"]["code"] if "cause" in last else None) == code


def test_retry_and_wait_of_nothing_that_can_be_retried(gateway: Gateway) -> None:
    start(gateway)
    assert gateway.command("retry", gateway.id("panel-0001"), "--wait").returncode == ExitStatus.NOT_STARTED
    assert gateway.command("retry", "nobody", "--wait").returncode == ExitStatus.NOT_STARTED


def test_the_hook_gets_each_outcome(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(
        "import sys, pathlib\n"
        "with pathlib.Path(sys.argv[1]).open('a') as file: file.write(sys.stdin.read())\n"
    )
    told = tmp_path / "told.jsonl"
    hook = f"on_outcome = {json.dumps([sys.executable, str(tmp_path / 'tell.py'), str(told)])}"
    start(
        gateway,
        *("--count", 2, "--fault", "1:cut@rx=6000,back=0.2", "--fault", "2:abort@chunk=1,cause=erase-error"),
        more=(*USUAL, hook),
    )
    digest = gateway.drop("panel", NEW, image())
    gateway.daemon.until(
        lambda: told.exists() and len(told.read_text().splitlines()) == 2, "two outcomes", timeout_s=10
    )
    messages = {message["device"]: message for message in map(json.loads, told.read_text().splitlines())}
    good, bad = messages[gateway.id("panel-0001")], messages[gateway.id("panel-0002")]
    assert (good["event"], good["outcome"], good["attempts"]) == ("update-finished", "succeeded", 2)
    assert (good["release"], good["image"]) == (NEW, digest)
    assert good["evidence"] == f"the application says that it is {NEW}"
    assert (bad["outcome"], bad["cause"]["code"], bad["cause"]["scope"]) == (
        "failed",
        "erase-error",
        "device",
    )


def test_a_hook_that_fails_changes_nothing_and_is_told(gateway: Gateway) -> None:
    start(gateway, more=(*USUAL, 'on_outcome = ["/bin/sh", "-c", "echo no network >&2; exit 4"]'))
    gateway.drop("panel", NEW, image())
    failed = gateway.daemon.wait_for("hook-failed")
    assert "4" in failed["detail"]
    assert "no network" in failed["detail"]
    gateway.job("panel-0001", "succeeded")


def test_history_and_watch(gateway: Gateway) -> None:
    start(gateway, "--fault", "cut@rx=6000,back=0.2", "--paced", 230_400)
    watching = gateway.begin("watch", "--json")
    watching.until(lambda: len(gateway.client.get("history")["actions"]) == 0, "an empty history")
    device = gateway.id("panel-0001")
    do(gateway, "hold", device, "--reason", "wait for it")
    gateway.drop("panel", NEW, image())
    do(gateway, "unhold", device)
    gateway.job("panel-0001", "succeeded")

    text = do(gateway, "history", device)
    who = getpass.getuser()
    for line in (
        f"attempt 2 of job 1 at {NEW}: succeeded",
        f"attempt 1 of job 1 at {NEW}: failed, link-lost",
        f"{who}: unhold",
        f"{who}: hold wait for it",
    ):
        assert line in text, text
    records = [json.loads(line) for line in gateway.command("history", "--json").stdout.splitlines()]
    assert [record.get("number") for record in records[:2]] == [2, 1]
    assert sorted(record["what"] for record in records[2:]) == ["drop", "hold", "unhold"]

    watching.until(lambda: any(_is_log(line, "update-succeeded") for line in watching.lines), "the success")
    steps = {item["data"]["step"] for item in map(json.loads, watching.lines) if item["kind"] == "progress"}
    assert "write" in steps


def _is_log(line: str, event: str) -> bool:
    item = json.loads(line)
    return (item["kind"], item["data"].get("event")) == ("log", event)


def test_nobody_there(gateway: Gateway) -> None:
    done = gateway.command("status")
    assert done.returncode == 1
    assert "No daemon is running" in done.stderr
    assert gateway.command("retry", "k3f9q2", "--wait").returncode == ExitStatus.NOT_STARTED

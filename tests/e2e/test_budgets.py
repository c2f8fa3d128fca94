"""What is tried again, how often, and what becomes of the others meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, QUERY, QUICK, SEND, USUAL, device_class, image

if TYPE_CHECKING:
    from support.gateway import Gateway


def test_the_wear_budget_holds_over_a_restart(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD, "--fault", "cut@rx=6000,back=0.2")
    gateway.configure(device_class("panel", rack.match, *USUAL, "wear = { per_day = 1 }"))
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    waiting = daemon.wait_for("job-waiting", wait="wear")
    assert waiting["detail"] == "the erases of today are used up, 1 of 1"
    assert waiting["until"].endswith("T00:00:00.000Z")
    daemon.stop()
    gateway.start().wait_for("job-waiting", wait="wear")
    assert rack.told()["panel-0001"]["erase_starts"] == 1

    gateway.configure(device_class("panel", rack.match, *USUAL, "wear = { per_day = 2 }"))
    gateway.reload()
    gateway.job("panel-0001", "succeeded")
    assert rack.report()["panel-0001"]["erase_starts"] == 2


def test_what_was_given_up_is_tried_again_when_it_is_plugged_anew(gateway: Gateway) -> None:
    hasty = QUICK.replace("retry = {", "retry = { attempts = 2,").replace('"1s"', '"200ms"')
    rack = gateway.rack("panel", "--version", OLD, "--fault", "mute")
    gateway.configure(device_class("panel", rack.match, SEND, QUERY, hasty))
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    given_up = daemon.wait_for("update-failed")
    assert given_up["cause"] == "transport-exhausted"
    assert len(daemon.said("attempt-started")) == 2
    assert not gateway.device("panel-0001")["latched"]
    # Nothing by itself, not even after a restart.
    daemon.stop()
    gateway.start()
    assert gateway.device("panel-0001")["job"]["state"] == "failed"  # type: ignore[index]
    assert "plugged anew" in gateway.why("panel-0001")["next"]

    rack.report()
    gateway.daemon.wait_for("device-gone")
    rack = gateway.rack("panel", "--version", OLD)
    gateway.daemon.wait_for("update-succeeded")
    assert [job["state"] for job in gateway.client.get("jobs")["jobs"]] == ["succeeded", "failed"]
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_inv6_bad_devices_do_not_hold_up_the_others(gateway: Gateway) -> None:
    bad = {"1": "wedge", "2": "mute", "3": "noise@every=0.01,bytes=4096", "4": "delay@p=1,s=2"}
    faults = [argument for number, fault in bad.items() for argument in ("--fault", f"{number}:{fault}")]
    rack = gateway.rack("panel", "--count", 8, "--version", OLD, "--profile", "pic8", *faults)
    gateway.configure(
        device_class("panel", rack.match, SEND, QUERY, 'settle = "150ms"', 'boot_delay = "200ms"')
    )
    gateway.drop("panel", NEW, image(profile="pic8"))
    daemon = gateway.start()
    good = {gateway.id(name) for name in [*rack.addresses][len(bad) :]}
    daemon.until(
        lambda: {record["device"] for record in daemon.said("update-succeeded")} == good,
        "the good ones' success",
    )
    assert not daemon.said("attempt-failed")
    assert gateway.client.get("status")["running"] == len(bad)


def test_a_unit_at_another_port_is_adopted(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    gateway.drop("panel", NEW, image())
    gateway.start()
    gateway.job("panel-0001", "succeeded")
    (old,) = gateway.devices()
    rack.report()
    gateway.daemon.wait_for("device-gone")

    gateway.client.post("hold", reason="a unit is being moved")
    mark = gateway.daemon.mark
    moved = gateway.rack("panel", "--version", NEW, "--first", 2)
    new = gateway.daemon.wait_for("device-enrolled", after=mark)["device"]
    assert new != old["id"]
    assert gateway.command("adopt", new, old["id"]).returncode == 0
    (device,) = gateway.daemon.until(
        lambda: (
            [each for each in gateway.devices() if each["id"] == old["id"]]
            if len(gateway.devices()) == 1
            else None
        ),
        "one device again",
    )
    assert device["port"].endswith("panel-0002")
    assert (device["running_version"], device["wear"]["life"]) == (NEW, 1)
    gateway.client.post("unhold")
    gateway.daemon.until(lambda: gateway.client.get("status")["waiting"] == 0, "nothing to do")
    assert [job["state"] for job in gateway.client.get("jobs")["jobs"]] == ["cancelled", "succeeded"]
    assert moved.report()["panel-0002"]["erase_starts"] == 0

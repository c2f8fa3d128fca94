"""Whose releases devices run: keys that come, keys that are revoked, and classes that do without."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any, Final

from support.gateway import NEW, OLD, device_class, image, key_table
from support.signing import key

if TYPE_CHECKING:
    from support.gateway import Gateway

LEAVING: Final = key(1)
COMING: Final = key(2)
NEWER: Final = "2.1.0"
NEWEST: Final = "2.2.0"


def releases(gateway: Gateway) -> dict[str, Any]:
    """Return what is told of each release, by its version."""
    return {each["version"]: each for each in gateway.client.get("releases")["releases"]}


def test_a_key_takes_the_place_of_another(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    panel = device_class("panel", rack.match, signed=True)
    gateway.configure(key_table("leaving", LEAVING), key_table("coming", COMING), panel)
    daemon = gateway.start()
    gateway.drop("panel", NEW, image(), by=LEAVING)
    daemon.wait_for("release-accepted", signed_by="leaving")
    gateway.runs("panel-0001", NEW)

    # What waits for a release of a key that is revoked does not get it, and what runs one goes on.
    assert gateway.command("hold", "all", "--reason", "a new key").returncode == 0
    gateway.drop("panel", NEWEST, image(NEWEST), by=LEAVING)
    gateway.job("panel-0001", "queued")
    mark = daemon.mark
    revoked = key_table("leaving", LEAVING, "revoked = true")
    gateway.configure(revoked, key_table("coming", COMING), panel)
    gateway.reload()
    reason = 'its signature is refused: the key "leaving" that made it is revoked'
    for version in (NEW, NEWEST):
        daemon.wait_for("release-refused", after=mark, manifest=f"panel-{version}.toml", reason=reason)
    gateway.job("panel-0001", "superseded", "cancelled")
    assert gateway.command("unhold", "all").returncode == 0
    assert gateway.device("panel-0001")["running_version"] == NEW

    gateway.drop("panel", NEWER, image(NEWER), by=COMING)
    gateway.runs("panel-0001", NEWER)
    assert {version: each["state"] for version, each in releases(gateway).items()} == {
        NEW: "refused",
        NEWER: "accepted",
        NEWEST: "refused",
    }
    assert rack.report()["panel-0001"]["erase_starts"] == 2


def test_inv8_what_is_not_signed_waits_for_its_signature(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(key_table("vendor", LEAVING), device_class("panel", rack.match, signed=True))
    daemon = gateway.start()
    assert daemon.said("signature-not-required") == []
    gateway.drop("panel", NEW, image())
    reason = 'it is not signed, and "panel" takes signed releases only'
    daemon.wait_for("release-refused", reason=reason)
    (gateway.place / "vendor.key").write_bytes(LEAVING.file(None))
    signed = gateway.command(
        "sign", "--key", gateway.place / "vendor.key", gateway.firmware / f"panel-{NEW}.toml"
    )
    assert signed.returncode == 0, signed.stderr
    gateway.runs("panel-0001", NEW)


def test_a_class_that_does_without_is_told_of_wherever_one_looks(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    pump = device_class("pump", 'path = "/dev/no-pump"', signed=True)
    gateway.configure(device_class("panel", rack.match), pump, listen="127.0.0.1:0")
    daemon = gateway.start()
    assert [each["device_class"] for each in daemon.said("signature-not-required")] == ["panel"]
    mark = daemon.mark
    gateway.reload()
    daemon.wait_for("signature-not-required", after=mark, device_class="panel")

    told = " ".join(gateway.command("status").stdout.split())
    assert "Classes that take releases without a signature: panel." in told
    address = next(
        each["address"] for each in daemon.said("listening") if str(each["address"]).startswith("127")
    )
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'firmwarden_signature_required{device_class="panel"} 0.0' in metrics
    assert 'firmwarden_signature_required{device_class="pump"} 1.0' in metrics
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        page = answer.read().decode()
    assert "Classes that take releases without a signature" in page

    gateway.drop("panel", NEW, image())
    gateway.runs("panel-0001", NEW)
    gateway.configure(device_class("panel", rack.match, signed=True), pump, listen="127.0.0.1:0")
    gateway.reload()
    daemon.wait_for("release-refused", manifest=f"panel-{NEW}.toml")
    assert "without a signature" not in gateway.command("status").stdout
    assert gateway.device("panel-0001")["running_version"] == NEW

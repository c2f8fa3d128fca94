"""Releases as people drop them: in pieces, newer ones, older ones, and taken back."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, USUAL, device_class, image, manifest, put

if TYPE_CHECKING:
    from support.gateway import Gateway, Rack

NEWER = "2.1.0"


def start(gateway: Gateway, *options: object, **settings: object) -> Rack:
    rack = gateway.rack("panel", "--version", OLD, *options)
    gateway.configure(device_class("panel", rack.match), **settings)
    gateway.start()
    return rack


def test_inv8_half_copied_releases_wait_until_they_are_whole(gateway: Gateway) -> None:
    rack = start(gateway)
    content = image()
    text = manifest("panel", NEW, "panel.img", content)

    # As a slow copy does it: the manifest first, then the image piece by piece.
    (gateway.firmware / "panel.toml").write_text(text)
    gateway.daemon.wait_for("release-refused", reason="waits for panel.img, which is not there")
    with (gateway.firmware / "panel.img").open("wb") as file:
        file.write(content[:1000])
        file.flush()
        reason = "waits for the rest of panel.img: the manifest says 16384 bytes"
        gateway.daemon.wait_for("release-refused", reason=reason)
        (shown,) = gateway.client.get("releases")["releases"]
        assert (shown["state"], shown["reason"]) == ("refused", reason)
        file.write(content[1000:])

    accepted = gateway.daemon.wait_for("release-accepted")
    assert accepted["image"] == hashlib.sha256(content).hexdigest()
    gateway.job("panel-0001", "succeeded")
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_inv8_bad_releases_are_refused_with_a_reason_and_left_where_they_lie(gateway: Gateway) -> None:
    rack = start(gateway)
    content = image()
    put(gateway.firmware / "good.img", content)
    bad = {
        "away.toml": manifest("panel", NEW, "../good.img", content),
        "other-bytes.toml": manifest("panel", NEW, "good.img", content[:-1] + b"!"),
        "no-class.toml": manifest("toaster", NEW, "good.img", content),
        "no-version.toml": manifest("panel", "best one yet", "good.img", content),
        "nonsense.toml": "[release\n",
        "link.toml": manifest("panel", NEW, "link.img", content),
    }
    (gateway.place / "outside.img").write_bytes(content)
    (gateway.firmware / "link.img").symlink_to(gateway.place / "outside.img")
    for name, text in bad.items():
        put(gateway.firmware / name, text.encode())

    def shown() -> dict[str, str]:
        return {
            release["manifest"]: release["reason"]
            for release in gateway.client.get("releases")["releases"]
            if release["state"] == "refused"
        }

    gateway.daemon.until(lambda: shown().keys() == bad.keys(), "six refusals")
    assert all(shown().values())
    assert {path.name for path in gateway.firmware.iterdir()} == {*bad, "good.img", "link.img"}
    text = gateway.command("releases").stdout
    assert all(f"refused: {reason}" in text for reason in shown().values())
    assert gateway.device("panel-0001")["job"] is None
    assert rack.report()["panel-0001"]["opens"] == 0


def test_a_newer_release_supersedes_what_waits_but_not_what_runs(gateway: Gateway) -> None:
    rack = start(gateway, "--count", 2, "--paced", 115_200, parallel=1)
    gateway.drop("panel", NEW, image())
    running = gateway.daemon.wait_for("attempt-started")["device"]
    gateway.drop("panel", NEWER, image(NEWER, size=1024))

    gone = gateway.daemon.wait_for("job-superseded")
    assert (gone["release"], gone["by"]) == (NEW, NEWER)
    assert gone["device"] != running
    first = gateway.daemon.wait_for("update-succeeded")
    assert (first["device"], first["release"]) == (running, NEW)
    for name in rack.addresses:
        gateway.runs(name, NEWER)
    jobs = [
        (job["device"] == running, job["version"], job["state"]) for job in gateway.client.get("jobs")["jobs"]
    ]
    assert sorted(jobs) == [
        (False, NEW, "superseded"),
        (False, NEWER, "succeeded"),
        (True, NEW, "succeeded"),
        (True, NEWER, "succeeded"),
    ]
    assert sorted(device["erase_starts"] for device in rack.report().values()) == [1, 2]


def test_an_older_release_is_no_update(gateway: Gateway) -> None:
    rack = start(gateway)
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "succeeded")

    for path in gateway.firmware.iterdir():
        path.unlink()
    gateway.daemon.wait_for("release-withdrawn")
    gateway.drop("panel", "1.9.0", image("1.9.0"))
    gateway.daemon.wait_for("release-accepted", release="1.9.0")
    gateway.daemon.until(
        lambda: "1.9.0 is older than the running 2.0.0" in gateway.why("panel-0001")["should_run"],
        "a refusal",
    )
    (plan,) = gateway.client.get("plan")["plan"]
    assert plan["decision"] == "nothing"

    gateway.configure(device_class("panel", rack.match, *USUAL, "allow_downgrade = true"))
    gateway.reload()
    gateway.runs("panel-0001", "1.9.0")
    running = rack.report()["panel-0001"]["running"]
    assert running is not None
    assert running["version"] == "1.9.0"


def test_what_is_taken_back_before_it_runs_is_not_done(gateway: Gateway) -> None:
    rack = start(gateway)
    gateway.client.post("hold", reason="we are not sure")
    gateway.drop("panel", NEW, image())
    gateway.daemon.wait_for("job-waiting", wait="hold")
    (gateway.firmware / f"panel-{NEW}.toml").unlink()
    gone = gateway.daemon.wait_for("job-cancelled")
    assert gone["cause"] == "withdrawn"
    gateway.client.post("unhold")
    # Dropped again, it is a new wish.
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "succeeded")
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_inv7_a_firmware_directory_that_goes_and_comes_back(gateway: Gateway) -> None:
    start(gateway)
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "succeeded")
    shutil.rmtree(gateway.firmware)
    told = gateway.daemon.wait_for("directory-unreadable")
    assert told["path"] == str(gateway.firmware)
    assert gateway.client.get("status")["problems"] == [told["detail"]]
    # What is known stays, so nothing is taken for withdrawn.
    assert not gateway.daemon.said("release-withdrawn")
    assert "What it runs now" in gateway.why("panel-0001")["should_run"]

    gateway.firmware.mkdir()
    gateway.drop("panel", NEWER, image(NEWER))
    gateway.runs("panel-0001", NEWER)
    assert gateway.client.get("status")["problems"] == []


def test_images_that_nothing_needs_are_removed(gateway: Gateway) -> None:
    start(gateway, "--flash-time", 0)
    digests = []
    for version in ("2.0.0", "2.1.0", "2.2.0"):
        digests.append(gateway.drop("panel", version, image(version)))
        gateway.runs("panel-0001", version)
    for path in gateway.firmware.iterdir():
        path.unlink()
    gateway.daemon.until(
        lambda: (
            {path.name for path in (gateway.state / "images").rglob("*") if path.is_file()}
            == set(digests[1:])
        ),
        "only the image that runs being kept, and the one to which the device would go back",
    )

"""A release that is sent to a running daemon reaches its device, and whoever watches is told what it missed."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from support.gateway import NEW, OLD, Gateway, device_class, image, manifest

if TYPE_CHECKING:
    from firmwarden.service.views import FeedItem


def curl(gateway: Gateway, path: str, *options: str) -> tuple[int, Any]:
    """Ask as the documentation shows it."""
    done = subprocess.run(
        [
            *("curl", "--silent", "--unix-socket", str(gateway.socket), "--write-out", "\n%{http_code}"),
            *options,
            f"http://localhost/v1/{path}",
        ],
        cwd=gateway.place,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_a_release_that_is_sent_reaches_its_device(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    gateway.start()
    content = image()
    # Of itself, curl asks before it sends a megabyte.
    form = ("--header", "Expect: 100-continue", "--form", "manifest=@new.toml", "--form", "image=@new.img")
    (gateway.place / "new.img").write_bytes(content)

    (gateway.place / "new.toml").write_text(manifest("panel", NEW, "panel.img", content[:-1]))
    status, refused = curl(gateway, "releases", *form)
    assert (status, refused["type"]) == (422, "bad-release")
    assert list(gateway.firmware.iterdir()) == []

    (gateway.place / "new.toml").write_text(manifest("panel", NEW, "panel.img", content))
    for _ in range(2):
        status, release = curl(gateway, "releases", *form)
        assert (status, release["state"], release["version"]) == (201, "accepted", NEW)
    assert sorted(each.name for each in gateway.firmware.iterdir()) == ["new.toml", "panel.img"]
    gateway.runs("panel-0001", NEW)
    assert [each["what"] for each in gateway.client.get("history")["actions"]] == ["upload", "upload"]
    assert curl(gateway, "health")[1]["state"] == "alive"
    assert curl(gateway, "ready") == (200, {"state": "ready"})


def first(gateway: Gateway, after: int) -> FeedItem:
    return next(item for item in gateway.client.events(after) if item is not None)


def test_a_reader_that_comes_back_after_a_restart_is_told_so(gateway: Gateway) -> None:
    gateway.configure()
    gateway.start()
    seen = first(gateway, 0)
    assert seen["kind"] == "log"
    gateway.daemon.stop()
    gateway.start()
    told = first(gateway, seen["id"])
    assert (told["kind"], told["data"]) == ("gap", {"missed": 0, "restarted": True})
    assert first(gateway, told["id"])["data"]["event"] == "daemon-starting"

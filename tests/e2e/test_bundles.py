"""One file for several devices: made with the command, dropped or sent, and each device runs what is for it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from support.gateway import NEW, OLD, device_class, image, key_table, manifest, put
from support.signing import VENDOR, signature

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack

NEWER = "2.1.0"


def start(gateway: Gateway) -> list[Rack]:
    """Start a daemon with two classes, both of which take signed releases only."""
    racks = [gateway.rack(name, "--version", OLD) for name in ("panel", "pump")]
    classes = [
        device_class(name, rack.match, signed=True)
        for name, rack in zip(("panel", "pump"), racks, strict=True)
    ]
    gateway.configure(key_table("vendor", VENDOR), *classes)
    gateway.start()
    return racks


def bundle(gateway: Gateway, version: str, *, signed: bool = True) -> Path:
    """Make one as the how-to says, with a release for each; the pump's may lack its signature."""
    bench = gateway.place / f"bench-{version}"
    bench.mkdir()
    manifests = []
    for name in ("panel", "pump"):
        content = image(version)
        (bench / f"{name}.img").write_bytes(content)
        text = manifest(name, version, f"{name}.img", content).encode()
        (bench / f"{name}.toml").write_bytes(text)
        if signed or name == "panel":
            (bench / f"{name}.toml.minisig").write_bytes(signature(text))
        manifests.append(bench / f"{name}.toml")
    done = gateway.command("bundle", bench / f"{version}.fwz", *manifests)
    assert (done.returncode, done.stderr) == (0, "")
    return bench / f"{version}.fwz"


def send(gateway: Gateway, file: Path) -> tuple[int, Any]:
    done = subprocess.run(
        [
            *("curl", "--silent", "--unix-socket", str(gateway.socket), "--write-out", "\n%{http_code}"),
            *("--form", f"bundle=@{file}", "http://localhost/v1/bundles"),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def acts(gateway: Gateway) -> set[tuple[str, str]]:
    return {(act["what"], act["target"]) for act in gateway.client.get("history")["actions"]}


def test_a_bundle_that_is_dropped_reaches_the_devices_of_each_class(gateway: Gateway) -> None:
    racks = start(gateway)
    made = bundle(gateway, NEW).read_bytes()

    # A copy that takes its time, then the whole.
    (gateway.firmware / "spring.fwz").write_bytes(made[: len(made) // 2])
    gateway.daemon.wait_for("release-refused", manifest="spring.fwz")
    put(gateway.firmware / "spring.fwz", made)
    for name in ("panel", "pump"):
        gateway.daemon.wait_for("release-accepted", manifest=f"spring.fwz/{name}.toml", signed_by="vendor")
        gateway.runs(f"{name}-0001", NEW)
    assert [path.name for path in gateway.firmware.iterdir()] == ["spring.fwz"]
    assert acts(gateway) == {("drop", "spring.fwz/panel.toml"), ("drop", "spring.fwz/pump.toml")}

    (gateway.firmware / "spring.fwz").unlink()
    gateway.daemon.until(lambda: gateway.client.get("releases")["releases"] == [], "no release left")
    for rack in racks:
        (device,) = rack.report().values()
        assert (device["erase_starts"], device["started_partial"]) == (1, False)


def test_inv8_a_bundle_that_is_sent_counts_whole_or_not_at_all(gateway: Gateway) -> None:
    start(gateway)
    status, refused = send(gateway, bundle(gateway, NEW, signed=False))
    assert (status, refused["type"]) == (422, "bad-release")
    assert refused["detail"] == 'pump.toml: it is not signed, and "pump" takes signed releases only'
    assert list(gateway.firmware.iterdir()) == []

    status, taken = send(gateway, bundle(gateway, NEWER))
    assert status == 201
    names = {f"{NEWER}.fwz/panel.toml", f"{NEWER}.fwz/pump.toml"}
    assert {(each["manifest"], each["signed_by"]) for each in taken["releases"]} == {
        (name, "vendor") for name in names
    }
    for name in ("panel-0001", "pump-0001"):
        gateway.runs(name, NEWER)
    assert acts(gateway) == {("upload", name) for name in names}

"""Somebody changes the firmware directory while it is looked at, and while a device is written."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, device_class, image, manifest, put
from support.hostile_drops import CLASS, Maker

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack

EVIL = image("9.9.9")
ROUNDS = 150


def start(gateway: Gateway, maker: Maker, *options: object) -> Rack:
    rack = gateway.rack(CLASS, "--version", OLD, *options)
    gateway.configure(maker.tables, device_class(CLASS, rack.match, signed=True))
    gateway.start()
    return rack


def kept(gateway: Gateway) -> set[str]:
    """The images that the service has of its own, by what they hold."""
    files = (path for path in (gateway.state / "images").rglob("*") if path.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_inv1_what_is_swapped_while_a_device_is_written_does_not_reach_it(gateway: Gateway) -> None:
    maker = Maker()
    rack = start(gateway, maker, "--paced", 115_200)
    content = image(NEW)
    maker.release(gateway.firmware, NEW, content)
    gateway.daemon.wait_for("attempt-started")

    name = gateway.firmware / f"{CLASS}-{NEW}.img"
    with name.open("r+b") as file:  # in place, for who has the file open
        file.write(EVIL)
    put(name, EVIL)
    put(gateway.firmware / f"{CLASS}-{NEW}.toml", b"")
    put(gateway.firmware / f"{CLASS}-{NEW}.toml.minisig", b"")

    gateway.daemon.wait_for("update-succeeded")
    device = rack.report()[f"{CLASS}-0001"]
    assert device["running"] is not None
    assert device["running"]["sha256"] == digest(content)
    assert (device["erase_starts"], device["started_partial"]) == (1, False)


def test_inv1_inv8_nothing_unsigned_gets_in_between_two_looks(gateway: Gateway) -> None:
    """Whatever is swapped, and when: what the service keeps and sends is what was signed."""
    maker, chance = Maker(), random.Random(1)
    rack = start(gateway, maker)
    outside = gateway.place / "outside.img"
    outside.write_bytes(EVIL)
    content = image(NEW)
    maker.release(gateway.firmware, NEW, content)
    names = [f"{CLASS}-{NEW}{suffix}" for suffix in (".img", ".toml", ".toml.minisig")]
    good = {name: (gateway.firmware / name).read_bytes() for name in names}

    for _ in range(ROUNDS):
        name = chance.choice(names)
        _swap(
            gateway.firmware / name,
            chance.choice(("good", "evil", "link", "gone", "half")),
            good[name],
            outside,
        )
        gateway.client.get("releases")
    for name in names:
        _swap(gateway.firmware / name, "good", good[name], outside)

    gateway.runs(f"{CLASS}-0001", NEW)
    assert kept(gateway) <= {digest(content)}
    accepted = {record["image"] for record in gateway.daemon.said("release-accepted")}
    assert accepted == {digest(content)}
    assert gateway.daemon.said("release-refused") != []
    device = rack.report()[f"{CLASS}-0001"]
    assert device["running"] is not None
    assert device["running"]["sha256"] == digest(content)
    assert device["erase_starts"] == 1


def _swap(path: Path, how: str, good: bytes, outside: Path) -> None:
    match how:
        case "good":
            put(path, good)
        case "evil":
            unsigned = manifest(CLASS, "9.9.9", f"{CLASS}-{NEW}.img", EVIL).encode()
            put(path, EVIL if path.suffix == ".img" else unsigned)
        case "link":
            path.unlink(missing_ok=True)
            path.symlink_to(outside)
        case "gone":
            path.unlink(missing_ok=True)
        case "half":
            path.unlink(missing_ok=True)
            path.write_bytes(good[: len(good) // 2])

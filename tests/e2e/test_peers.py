"""Microchip's client, updated by the daemon and by ``firmwarden update``, over TCP and over a pty."""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.gateway import NEW, Gateway, device_class
from support.microchip import build_image, client_config, pty_client, tcp_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.microchip import MicrochipClient

IMAGE = random.Random("any file will do").randbytes(2000)
over = pytest.mark.parametrize("over", ["tcp", "pty"])


@contextmanager
def client(
    gateway: Gateway, over: str, *, buffer_size: int = 512
) -> Iterator[tuple[MicrochipClient, str, str]]:
    """Run a client; yields it, what of a class matches it, and the option of ``update`` that names it."""
    config = client_config(gateway.place / "client.toml", buffer_size=buffer_size)
    port = gateway.place / "port"
    if over == "tcp":
        with tcp_client(config) as (peer, address):
            yield peer, f'tcp = ["{address}"]', f"--tcp={address}"
    else:
        with pty_client(config, port) as peer:
            yield peer, f'path = "{port}"', f"--serial={port}"


def run_daemon(gateway: Gateway, match: str, image: bytes, *, image_format: str = "raw") -> None:
    gateway.configure(
        device_class("panel", match, 'boot_delay = "100ms"', f'image_format = "{image_format}"')
    )
    gateway.drop("panel", NEW, image)
    gateway.start()


@over
def test_the_daemon_updates_it(gateway: Gateway, over: str) -> None:
    with client(gateway, over) as (peer, match, _):
        run_daemon(gateway, match, IMAGE)
        told = gateway.daemon.wait_for("update-succeeded")
    assert told["evidence"] == "the device called the image valid and acknowledged END_TRANSFER"
    assert peer.file() == IMAGE
    assert [command for command, _ in peer.received()] == [
        "GET_CLIENT_INFO",
        "START_TRANSFER",
        *["WRITE_CHUNK"] * 4,
        "GET_IMAGE_STATE",
        "END_TRANSFER",
    ]
    (device,) = gateway.devices()
    assert (device["running_version"], device["running_image"]) == (NEW, hashlib.sha256(IMAGE).hexdigest())
    assert device["wear"]["life"] == 1


@over
def test_the_command_updates_it(gateway: Gateway, over: str, tmp_path: Path) -> None:
    (tmp_path / "panel.img").write_bytes(IMAGE)
    with client(gateway, over) as (peer, _, option):
        done = gateway.command("update", tmp_path / "panel.img", option, "--json")
    assert done.returncode == 0, done
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["outcome"]) == ("update-finished", "succeeded")
    assert peer.file() == IMAGE


def test_it_says_what_it_is(gateway: Gateway) -> None:
    with client(gateway, "pty", buffer_size=96) as (peer, _, option):
        told = gateway.command("info", option, "--json")
    assert json.loads(told.stdout) == {
        "protocol-version": "1.2.0",
        "buffer-size": 96,
        "buffers": 1,
        "timeout": "5 s",
        "timeout-start-transfer": "10 s",
    }
    assert [command for command, _ in peer.received()] == ["GET_CLIENT_INFO"]


@pytest.mark.parametrize("by", ["daemon", "command"])
def test_an_image_from_a_hex_file(gateway: Gateway, tmp_path: Path, by: str) -> None:
    image = build_image(tmp_path, bytes(range(1, 241)) * 8, write_size=256)
    with client(gateway, "pty", buffer_size=256 + 15) as (peer, match, option):
        if by == "daemon":
            run_daemon(gateway, match, image, image_format="mdfu-8bit")
            gateway.daemon.wait_for("update-succeeded")
        else:
            assert gateway.command("update", tmp_path / "application.img", option).returncode == 0
    assert peer.file() == image
    chunks = [data for command, data in peer.received() if command == "WRITE_CHUNK"]
    # Each chunk is one block of the file, which tells its own length first.
    assert [len(chunk) for chunk in chunks] == [int.from_bytes(chunk[:2], "little") for chunk in chunks]


@pytest.mark.parametrize("by", ["daemon", "command"])
def test_blocks_for_another_client_are_refused_before_anything_is_erased(
    gateway: Gateway, tmp_path: Path, by: str
) -> None:
    image = build_image(tmp_path, bytes(range(1, 241)) * 8, write_size=128)
    with client(gateway, "pty", buffer_size=256 + 15) as (peer, match, option):
        if by == "daemon":
            run_daemon(gateway, match, image, image_format="mdfu-8bit")
            told = gateway.daemon.wait_for("update-failed")
            (device,) = gateway.devices()
            assert (device["wear"]["life"], device["complete"], device["latched"]) == (0, None, True)
        else:
            done = gateway.command("update", tmp_path / "application.img", option, "--json")
            assert done.returncode == 1, done
            told = json.loads(done.stdout.splitlines()[-1])["cause"]
            told["cause"] = told["code"]
            assert told["scope"] == "pair"
    assert told["cause"] == "image-unfit"
    assert told["detail"] == "the image has blocks of 143 bytes, the client takes 271"
    assert [command for command, _ in peer.received()] == ["GET_CLIENT_INFO"]


def test_a_file_that_breaks_its_format_never_becomes_a_release(gateway: Gateway, tmp_path: Path) -> None:
    image = build_image(tmp_path, bytes(range(1, 241)) * 8, write_size=256)
    with client(gateway, "pty") as (peer, match, _):
        run_daemon(gateway, match, image[:-300] + image[-200:], image_format="mdfu-8bit")
        (release,) = gateway.client.get("releases")["releases"]
    assert release["state"] == "refused"
    assert "block" in release["reason"]
    assert gateway.devices()[0]["job"] is None
    assert peer.received() == []

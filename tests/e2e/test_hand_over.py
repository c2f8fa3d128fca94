"""A program that has the port all day, and is asked to leave it for the time of an update, by real commands."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest

from support.gateway import NEW, OLD, USUAL, device_class, image
from support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gateway import Gateway, Rack

READER: Final = """\
import fcntl, json, os, socket, sys
place, path = sys.argv[1:]

def tell(event):
    print(json.dumps({"event": event}), flush=True)

def take():
    port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
    tell("took")
    return port

server = socket.create_server(f"{place}/reader.sock", family=socket.AF_UNIX)
port = take()
while True:
    asked, _ = server.accept()
    with asked:
        wish = asked.recv(16)
        if wish == b"pause" and os.path.exists(f"{place}/printing"):
            asked.sendall(b"it is printing")
            continue
        if wish == b"pause" and port is not None:
            os.close(port)
            port = None
            tell("left")
        elif wish == b"resume" and port is None:
            port = take()
        asked.sendall(b"done")
"""
"""Holds the port as long as nobody asks for it; ends in an error when it is to take it and somebody else has it."""

ASK: Final = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as reader:
    reader.connect(sys.argv[1] + "/reader.sock")
    reader.sendall(sys.argv[2].encode())
    answer = reader.recv(64).decode()
sys.exit(0 if answer == "done" else answer)
"""


@pytest.fixture
def rack(gateway: Gateway) -> Rack:
    return gateway.rack("panel", "--version", OLD, "--paced", 57_600)


@pytest.fixture
def reader(gateway: Gateway, rack: Rack) -> Iterator[Process]:
    """It runs, has the port, and is in the class."""
    place = gateway.place
    (place / "read.py").write_text(READER)
    (place / "ask.py").write_text(ASK)
    process = Process("reader", sys.executable, place / "read.py", place, rack.addresses["panel-0001"])
    process.wait_for("took")
    gateway.configure(device_class("panel", rack.match, f"hand_over = {owner(place)}", *USUAL))
    gateway.drop("panel", NEW, image())
    yield process
    process.close()
    print(process.tail(20))


def owner(place: Path) -> str:
    """Write the commands that stop and start it."""
    stop, start = (
        json.dumps([sys.executable, f"{place}/ask.py", f"{place}", wish]) for wish in ("pause", "resume")
    )
    return f"{{ stop = {stop}, start = {start} }}"


def acts(reader: Process) -> list[str]:
    return [record["event"] for record in reader.records()]


def until_it_is_back(reader: Process, times: int) -> None:
    reader.until(lambda: acts(reader).count("took") > times, f"return {times}")


def test_a_reader_is_off_its_port_for_the_time_of_an_update(
    gateway: Gateway, rack: Rack, reader: Process
) -> None:
    gateway.start()
    rack.wait_for("erase", "panel-0001")
    reader.wait_for("left")
    assert gateway.device("panel-0001")["port_lent"] is not None
    assert "Its port is lent" in gateway.command("why", gateway.id("panel-0001")).stdout
    gateway.job("panel-0001", "succeeded")
    until_it_is_back(reader, 1)
    gateway.daemon.wait_for("port-returned")
    assert gateway.device("panel-0001")["port_lent"] is None
    gateway.daemon.stop()
    assert acts(reader) == ["took", "left", "took"]
    assert rack.report()["panel-0001"]["erase_starts"] == 1


@pytest.mark.parametrize("by", ["the next daemon", "hand-back"])
def test_inv5_a_reader_is_back_after_the_daemon_was_killed_in_the_middle(
    gateway: Gateway, rack: Rack, reader: Process, by: str
) -> None:
    gateway.start()
    rack.wait_for("erase", "panel-0001")
    reader.wait_for("left")
    gateway.daemon.stop(signal.SIGKILL)
    assert acts(reader) == ["took", "left"], "nobody is there to ask it back"
    if by == "hand-back":
        done = gateway.command("hand-back", "--config", gateway.config)
        assert done.returncode == 0, done.stderr
        assert acts(reader) == ["took", "left", "took"]
    gateway.start()
    gateway.job("panel-0001", "succeeded")
    until_it_is_back(reader, 2)
    gateway.daemon.stop()
    # Whoever was left stopped comes back before anything else is done, and leaves again for what was cut.
    assert acts(reader) == ["took", "left", "took", "left", "took"]
    assert rack.report()["panel-0001"]["started_partial"] == 0


def test_nothing_is_sent_to_a_device_whose_reader_stays(
    gateway: Gateway, rack: Rack, reader: Process
) -> None:
    (gateway.place / "printing").touch()
    daemon = gateway.start()
    waiting = daemon.wait_for("job-waiting", wait="port-held")
    assert waiting["detail"].endswith(
        f"pause`, which cannot be made to leave: {sys.executable}: exit status 1: it is printing"
    )
    why = gateway.why("panel-0001")
    assert waiting["detail"] in why["next"]
    assert why["attempts"] == []
    assert acts(reader) == ["took"]
    assert not rack.process.said("loader-requested")
    (gateway.place / "printing").unlink()
    gateway.job("panel-0001", "succeeded")
    until_it_is_back(reader, 1)
    assert acts(reader) == ["took", "left", "took"]

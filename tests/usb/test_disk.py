"""Real small disks, filled up, mounted read-only and broken under the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.client import Problem
from support.gateway import NEW, OLD, Gateway, Rack, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
Ill = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def disk(directory: Path, size: int = 4 * MIB) -> Iterator[Path]:
    """Mount a disk of its own on a directory."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Fill a disk to its last byte."""
    filler = directory / "somebody-elses.log"
    with filler.open("wb", buffering=0) as file:
        for size in (64 << 10, 4 << 10, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    yield
    filler.unlink()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Mount a disk read-only; nobody may have a file open there for writing."""
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", directory], check=True)


class Card:
    """A memory card with a file system that turns read-only when the kernel finds an error in it, ext4(5)."""

    def __init__(self, file: Path, directory: Path) -> None:
        self._file, self._directory = file, directory
        with file.open("wb") as made:
            made.truncate(16 * MIB)
        subprocess.run(["mkfs.ext4", "-q", file], check=True)
        self.plug()

    def plug(self) -> None:
        self._directory.mkdir(exist_ok=True)
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, self._file, self._directory], check=True)

    def unplug(self) -> None:
        subprocess.run(["umount", self._directory], check=True)

    def fail(self) -> None:
        """Have the kernel find an error: sysfs-fs-ext4 of its documentation."""
        major, minor = os.major(self._number), os.minor(self._number)
        name = Path(f"/sys/dev/block/{major}:{minor}").resolve().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1", encoding="ascii")

    @property
    def _number(self) -> int:
        return self._directory.stat().st_dev


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with ExitStack() as undo:
        made = Gateway(tmp_path)
        undo.enter_context(disk(made.state))
        undo.callback(made.close)
        yield made


def start(gateway: Gateway, *options: object) -> Rack:
    rack = gateway.rack("panel", "--version", OLD, *options)
    gateway.configure(device_class("panel", rack.match), grace="1s")
    gateway.start()
    return rack


def stored(gateway: Gateway) -> list[str]:
    return sorted(each.name for each in (gateway.state / "images").iterdir())


def goes_on(gateway: Gateway, rack: Rack, *, at_most: int = 1) -> None:
    gateway.runs("panel-0001", NEW)
    assert gateway.client.get("status")["problems"] == []
    report = rack.report()["panel-0001"]
    assert (report["ended_partial"], report["started_partial"]) == (0, 0)
    assert 1 <= report["erase_starts"] <= at_most
    assert gateway.daemon.stop() == 0


def test_inv8_a_release_waits_for_room_and_leaves_nothing_behind(gateway: Gateway) -> None:
    rack = start(gateway)
    with full(gateway.state):
        gateway.drop("panel", NEW, image())
        refused = gateway.daemon.wait_for("release-refused")
        assert refused["reason"] == f"panel-{NEW}.img cannot be stored: No space left on device"
        assert stored(gateway) == []
    gateway.daemon.wait_for("release-accepted", timeout_s=45.0)
    goes_on(gateway, rack)


def test_inv1_inv5_what_cannot_be_written_down_is_not_done(gateway: Gateway) -> None:
    rack = start(gateway, "--flash-time", 0.1)
    gateway.drop("panel", NEW, image())
    rack.wait_for("start", "panel-0001")
    with full(gateway.state):
        gateway.daemon.wait_for("store-failed")
        (problem, *_) = gateway.client.get("status")["problems"]
        assert "firmwarden.db" in problem
        assert problem in gateway.why("panel-0001")["next"]
        with pytest.raises(Problem) as refusal:
            gateway.client.post("hold", reason="stocktaking")
        assert refusal.value.status == 503
    # The room that the write-ahead log has already may do for the last step.
    goes_on(gateway, rack, at_most=2)


def test_inv1_inv5_a_card_that_turns_read_only_loses_nothing(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    card = Card(tmp_path / "card.img", gateway.state)
    try:
        rack = start(gateway, "--flash-time", 0.1)
        gateway.drop("panel", NEW, image())
        rack.wait_for("start", "panel-0001")
        card.fail()
        gateway.daemon.wait_for("store-failed")
        (problem, *_) = gateway.client.get("status")["problems"]
        assert "firmwarden.db" in problem
        assert problem in gateway.why("panel-0001")["next"]
        assert "end-transfer" not in rack.told()["panel-0001"]["commands"]
        gateway.daemon.send(signal.SIGTERM)
        gateway.daemon.wait(40.0)
        card.unplug()
        card.plug()
        gateway.start()
        goes_on(gateway, rack, at_most=2)
    finally:
        gateway.close()
        card.unplug()


@pytest.mark.parametrize("ill", [full, read_only])
def test_a_daemon_does_not_start_where_it_could_not_write_and_does_later(gateway: Gateway, ill: Ill) -> None:
    rack = start(gateway)
    assert gateway.daemon.stop() == 0
    with ill(gateway.state):
        launched = gateway.launch()
        with suppress(AssertionError):  # it ended
            launched.wait_for("daemon-ready")
        if launched.said("daemon-ready"):
            # The log of before has room for a start; then it waits.
            assert ill is full
            gateway.drop("panel", NEW, image())
            launched.wait_for("release-refused")
            launched.stop()
        else:
            assert launched.wait() == 1
            said = "\n".join(launched.lines)
            assert any(why in said for why in ("Read-only file system", "disk is full", "No space left")), (
                said
            )
            assert "Traceback" not in said
    gateway.drop("panel", NEW, image())
    gateway.start()
    goes_on(gateway, rack)


def test_a_firmware_directory_may_be_read_only(gateway: Gateway) -> None:
    with disk(gateway.firmware):
        rack = start(gateway)
        gateway.drop("panel", NEW, image())
        gateway.job("panel-0001", "succeeded")
        with read_only(gateway.firmware):
            goes_on(gateway, rack)


def test_a_backup_is_taken_while_the_disk_is_full_or_not_at_all(gateway: Gateway, tmp_path: Path) -> None:
    rack = start(gateway)
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "succeeded")
    with full(gateway.state):
        done = gateway.command("backup", tmp_path / "elsewhere.tar", "--config", gateway.config)
        assert done.returncode == 0, done.stderr
        done = gateway.command("backup", gateway.state / "here.tar", "--config", gateway.config)
        assert done.returncode == 1
        assert "disk is full" in done.stderr or "No space left" in done.stderr
        left = [each.name for each in gateway.state.iterdir()]
        assert not [name for name in left if "here" in name or name.startswith(".")]
    goes_on(gateway, rack)


def test_a_restore_without_room_changes_nothing(gateway: Gateway, tmp_path: Path) -> None:
    rack = start(gateway)
    gateway.drop("panel", NEW, image())
    gateway.job("panel-0001", "succeeded")
    file = tmp_path / "b.tar"
    assert gateway.command("backup", file, "--config", gateway.config).returncode == 0
    assert gateway.daemon.stop() == 0
    for ill in (full, read_only):
        with ill(gateway.state):
            done = gateway.command("restore", file, "--config", gateway.config)
            assert done.returncode == 1, done.stdout
            assert "Traceback" not in done.stderr
    assert gateway.command("restore", file, "--config", gateway.config).returncode == 0
    gateway.start()
    goes_on(gateway, rack)

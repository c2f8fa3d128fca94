"""Who has a port, asked of the real /proc and of made-up ones."""

import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmwarden.transport.holders import who_holds


@pytest.fixture
def port() -> Iterator[str]:
    """A pty that this process has open itself."""
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


@contextmanager
def holder(path: str) -> Iterator[int]:
    """A process of another program that has ``path`` open."""
    program = f"exec 3<>{path}; echo open; read line"
    with subprocess.Popen(
        [shutil.which("sh") or "/bin/sh", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process.pid
        process.stdin.close()


def nobody(path: str) -> str:
    return f"another process (run: sudo fuser -v {path})"


def test_a_process_that_has_the_port_is_named(port: str) -> None:
    with holder(port) as pid:
        assert who_holds(port) == f"sh (pid {pid})"


def test_it_is_found_under_another_name_too(port: str, tmp_path: Path) -> None:
    link = tmp_path / "usb-Acme_Panel"
    link.symlink_to(port)
    with holder(port) as pid:
        assert who_holds(str(link)) == f"sh (pid {pid})"


def test_we_are_not_named_ourselves(port: str) -> None:
    assert who_holds(port) == nobody(port)


def test_holders_of_another_port_are_not_named(port: str) -> None:
    master, slave = pty.openpty()
    with holder(os.ttyname(slave)):
        assert who_holds(port) == nobody(port)
    os.close(slave)
    os.close(master)


class Processes:
    """A made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("self", "net"):
            (root / name).mkdir()

    def add(self, pid: int, comm: bytes, *opened: str | Path) -> Path:
        process = self.root / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_bytes(comm + b"\n")
        for number, target in enumerate(opened):
            (process / "fd" / str(number)).symlink_to(target)
        return process


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_several_holders(processes: Processes, port: str) -> None:
    processes.add(812, b"ModemManager", "/dev/null", port)
    processes.add(9, b"getty", port, port)
    processes.add(77, b"innocent", "/dev/null")

    assert who_holds(port, proc_root=processes.root) == "getty (pid 9) and ModemManager (pid 812)"


def test_very_many_holders_are_counted(processes: Processes, port: str) -> None:
    for pid in range(1, 7):
        processes.add(pid, b"cat", port)

    assert (
        who_holds(port, proc_root=processes.root) == "cat (pid 1) and cat (pid 2) and cat (pid 3) and 3 more"
    )


def test_a_name_cannot_play_with_the_terminal(processes: Processes, port: str) -> None:
    processes.add(5, b"\x1b[2Jevil\xff", port)
    (processes.add(6, b"", port) / "comm").unlink()

    assert (
        who_holds(port, proc_root=processes.root)
        == "?[2Jevil\N{REPLACEMENT CHARACTER} (pid 5) and a process (pid 6)"
    )


def test_what_proc_does_not_show_is_not_guessed(processes: Processes, port: str) -> None:
    # As with hidepid=1, and of a process that ends while it is looked at.
    (processes.add(5, b"hidden", port) / "fd").rename(processes.root / "elsewhere")
    processes.add(6, b"gone", "/dev/gone-meanwhile")

    assert who_holds(port, proc_root=processes.root) == nobody(port)


def test_a_port_that_is_gone_has_no_holder(processes: Processes) -> None:
    processes.add(5, b"cat", "/dev/null")

    assert who_holds("/dev/ttyUSB 0", proc_root=processes.root) == nobody("'/dev/ttyUSB 0'")


def test_inv6_files_are_not_touched(processes: Processes, port: str) -> None:
    """A file that somebody has open may lie on a mount that does not answer any more."""
    odd = processes.root / "mount"
    odd.symlink_to(port)  # would count as the port if it were followed
    processes.add(5, b"nfs", odd)

    assert who_holds(port, proc_root=processes.root) == nobody(port)


def test_inv6_the_search_ends_in_time(
    processes: Processes, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmwarden.transport.holders._TIME_LIMIT_S", -1.0)
    processes.add(5, b"cat", port)

    assert who_holds(port, proc_root=processes.root) == nobody(port)

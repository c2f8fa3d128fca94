"""Tries what a service may not do, and prints what came of each attempt; runs in the place of the daemon.

Standard library only, and on its own: it runs where none of the tests' files can be seen.  What succeeds is undone.

Arguments: a node of the disk and one of a character device, both open to everybody; the id of a root's process that
sleeps; a directory that the service may write; a file in ``/tmp``, ``/home`` and ``/root`` each.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import signal
import socket
import stat
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)

# Linux, x86-64: asm/unistd_64.h, linux/sched.h, linux/ptrace.h, linux/perf_event.h.
SYSCALLS: Final = {
    "ptrace": 101,
    "syslog": 103,
    "personality": 135,
    "sched_setscheduler": 144,
    "chroot": 161,
    "mount": 165,
    "reboot": 169,
    "sethostname": 170,
    "init_module": 175,
    "clock_settime": 227,
    "add_key": 248,
    "unshare": 272,
    "perf_event_open": 298,
    "process_vm_readv": 310,
    "bpf": 321,
}
PTRACE_ATTACH: Final = 16
PTRACE_DETACH: Final = 17
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
ADDR_NO_RANDOMIZE: Final = 0x0004_0000
PERF_TYPE_SOFTWARE: Final = 1
MNT_DETACH: Final = 2
NETLINK_KOBJECT_UEVENT: Final = 15
NOBODY: Final = 65_534
PATIENCE_S: Final = 3.0


def call(name: str, *arguments: object) -> int:
    """Call the kernel, past whatever a library would check before."""
    result: int = _libc.syscall(SYSCALLS[name], *arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def write(path: str) -> None:
    """Make a file, and remove it."""
    existed = Path(path).exists()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    if not existed:
        Path(path).unlink()


def read(path: str) -> None:
    """Read the beginning of a file."""
    with Path(path).open("rb", buffering=0) as file:
        file.read(16)


def run_own(directory: str) -> None:
    """Write a program and run it."""
    program = Path(directory, "probe-program")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    try:
        os.execv(program, [str(program)])
    finally:
        program.unlink()


def set_user_id(directory: str) -> None:
    """Make a program that would run as its owner."""
    program = Path(directory, "probe-setuid")
    program.touch()
    try:
        program.chmod(0o4700)
    finally:
        program.unlink()


def make_node(path: str) -> None:
    """Make a node of the first disk."""
    os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    Path(path).unlink()


def attach(process: int) -> None:
    """Trace a process, and let it go."""
    call("ptrace", PTRACE_ATTACH, process, 0, 0)
    os.waitpid(process, 0)
    call("ptrace", PTRACE_DETACH, process, 0, 0)


def attach_to_child() -> None:
    """Trace a process of our own."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        attach(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def read_memory(process: int) -> None:
    """Read from the memory of a process; from nowhere, which says whether one might."""
    local = struct.pack("QQ", 0, 0)
    call("process_vm_readv", process, local, 1, local, 1, 0)


def set_the_clock() -> None:
    """Set the clock to what it is."""
    now = time.time_ns()
    call("clock_settime", time.CLOCK_REALTIME, struct.pack("qq", *divmod(now, 1_000_000_000)))


def make_writable_code() -> None:
    """Map memory that can be written and run."""
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def mount() -> None:
    """Mount something."""
    place = Path("/tmp/probe-mount")
    place.mkdir()
    try:
        call("mount", b"probe", bytes(place), b"tmpfs", 0, 0)
        _libc.umount2(bytes(place), MNT_DETACH)
    finally:
        place.rmdir()


def hear() -> None:
    """Listen to what udev tells of devices."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as news:
        news.bind((0, 2))


def connect(address: str) -> None:
    """Talk TCP."""
    with socket.create_server((address, 0)) as server:
        socket.create_connection(server.getsockname(), timeout=PATIENCE_S).close()


def see_others(process: int) -> None:
    """Look for a process of somebody else."""
    if not any(each.name == str(process) for each in Path("/proc").iterdir()):
        raise OSError(errno.ENOENT, "not there")


def attempts(
    disk: str, character: str, process: int, state: str, tmp: str, home: str, root: str
) -> dict[str, Callable[[], object]]:
    """List what is tried."""
    return {
        # files
        "write /etc": lambda: write("/etc/probe"),
        "write /usr": lambda: write("/usr/local/lib/probe"),
        "write /var": lambda: write("/var/lib/probe"),
        "write /run": lambda: write("/run/probe"),
        "write /boot": lambda: write("/boot/probe"),
        "write its configuration": lambda: write("/etc/firmwarden/firmwarden.toml"),
        "write /sys": lambda: write("/sys/kernel/mm/ksm/run"),
        "write /proc/sys": lambda: write("/proc/sys/kernel/core_pattern"),
        "write a control group": lambda: write("/sys/fs/cgroup/cgroup.procs"),
        "read /etc/shadow": lambda: read("/etc/shadow"),
        "read /home": lambda: read(home),
        "read /root": lambda: read(root),
        "read another's /tmp": lambda: read(tmp),
        "read /proc/kcore": lambda: read("/proc/kcore"),
        "read the kernel's log": lambda: call("syslog", 3, ctypes.create_string_buffer(64), 64),
        "run what it has written": lambda: run_own(state),
        "run what it has written to /tmp": lambda: run_own("/tmp"),
        "make a set-user-ID program": lambda: set_user_id(state),
        "make a device node": lambda: make_node(f"{state}/probe-node"),
        # devices
        "read a disk": lambda: read(disk),
        "read another device": lambda: read(character),
        "write to the kernel's log": lambda: write("/dev/kmsg"),
        "read /dev/mem": lambda: read("/dev/mem"),
        # other processes
        "see another's process": lambda: see_others(process),
        "read another's /proc/PID": lambda: read(f"/proc/{process}/status"),
        "trace another's process": lambda: attach(process),
        "trace its own process": attach_to_child,
        "read another's memory": lambda: read_memory(process),
        "signal another's process": lambda: os.kill(process, signal.SIGCONT),
        # more rights
        "become root": lambda: os.setresuid(0, 0, 0),
        "become somebody else": lambda: os.setresuid(NOBODY, NOBODY, NOBODY),
        "change its groups": lambda: os.setgroups([NOBODY]),
        "give a file away": lambda: os.chown(state, NOBODY, NOBODY),
        "new user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "new mount namespace": lambda: call("unshare", CLONE_NEWNS),
        "new network namespace": lambda: call("unshare", CLONE_NEWNET),
        "mount": mount,
        "change the root directory": lambda: call("chroot", b"/"),
        "writable code": make_writable_code,
        "another personality": lambda: call("personality", ADDR_NO_RANDOMIZE),
        # the system
        "load a kernel module": lambda: call("init_module", b"", 0, b""),
        "load a BPF program": lambda: call("bpf", 5, ctypes.create_string_buffer(128), 128),
        "count what the processor does": lambda: call(
            "perf_event_open", struct.pack("IIQ", PERF_TYPE_SOFTWARE, 64, 0).ljust(64, b"\0"), 0, -1, -1, 0
        ),
        "restart the machine": lambda: call("reboot", 0, 0, 0, 0),
        "set the clock": set_the_clock,
        "set the host's name": lambda: call(
            "sethostname", socket.gethostname().encode(), len(socket.gethostname())
        ),
        "real-time priority": lambda: call("sched_setscheduler", 0, 1, struct.pack("i", 1)),
        "a higher priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "a key in the kernel": lambda: call("add_key", b"user", b"probe", b"x", 1, -3),
        # the network
        "raw IP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "a low port": lambda: socket.create_server(("127.0.0.1", 80)).close(),
        # what it does need
        "needed: write its state": lambda: write(f"{state}/probe"),
        "needed: write /tmp": lambda: write("/tmp/probe"),
        "needed: run a program": lambda: os.execv("/bin/true", ["true"]),
        "needed: TCP to this machine": lambda: connect("127.0.0.1"),
        "needed: TCP to another machine": lambda: connect("127.0.0.2"),
        "needed: hear of devices": hear,
        "needed: list USB devices": lambda: list(Path("/sys/bus/usb/devices").iterdir()),
        "needed: list ttys": lambda: list(Path("/sys/class/tty").iterdir()),
        "needed: know users": lambda: read("/etc/passwd"),
    }


def outcome(attempt: Callable[[], object]) -> str:
    """Try in a process of its own, and name the error or the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as exc:
            os._exit(exc.errno or 255)
        except BaseException:  # noqa: BLE001
            os._exit(255)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    number = os.WEXITSTATUS(status)
    return "done" if number == 0 else errno.errorcode.get(number, f"failed with {number}")


def main(disk: str, character: str, process: str, *places: str) -> None:
    """Try everything."""
    assert platform.machine() == "x86_64", "the numbers of system calls are those of x86-64"
    found = {name: outcome(each) for name, each in attempts(disk, character, int(process), *places).items()}
    print(f"probed {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

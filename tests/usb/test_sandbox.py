"""The sandbox of the unit that ships: what it forbids is tried by a program in the daemon's place."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from lab import probe
from lab.service import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.service import Service

PROGRAM: Final = Path("/usr/local/lib/firmwarden-probe.py")
"""Where the service can see it."""

REFUSALS: Final = {"EACCES", "EPERM", "EROFS", "ENOENT", "EAFNOSUPPORT"}
NEEDED: Final = {name for name in probe.attempts("", "", 0, "", "", "", "") if name.startswith("needed: ")}
OF_ONES_OWN: Final = {
    "write /run",
    "read /etc/shadow",
    "see another's process",
    "read another's /proc/PID",
    "signal another's process",
}
"""What root may, because it belongs to root; the service is another user."""

Outcomes = dict[str, str]


def told(text: str) -> Outcomes:
    (line,) = [line for line in text.splitlines() if line.startswith("probed ")]
    found: Outcomes = json.loads(line.removeprefix("probed "))
    return found


@pytest.fixture
def command() -> Iterator[list[str]]:
    """Set out what is tempting, and give the command line of the program that tries."""
    with ExitStack() as undo:
        nodes = []
        for name, kind, number in (
            ("disk", stat.S_IFBLK, Path("/dev/vda").stat().st_rdev),
            ("character", stat.S_IFCHR, Path("/dev/hwrng").stat().st_rdev),
        ):
            node = Path("/dev", f"probe-{name}")
            os.mknod(node, kind | 0o666, number)
            undo.callback(node.unlink)
            node.chmod(0o666)
            nodes.append(node)
        places = []
        for directory in ("/tmp", "/home", "/root"):
            place = Path(directory, "probed")
            place.write_text("somebody's")
            place.chmod(0o644)
            undo.callback(place.unlink)
            places.append(place)
        victim = subprocess.Popen(["sleep", "infinity"])
        undo.callback(victim.wait)
        undo.callback(victim.kill)
        shutil.copy(probe.__file__, PROGRAM)
        undo.callback(PROGRAM.unlink)
        yield [sys.executable, str(PROGRAM), *map(str, (*nodes, victim.pid, STATE, *places))]


def tried(service: Service, command: list[str], *lines: str) -> Outcomes:
    """Have the program started by the unit, with lines added to it."""
    service.unit(
        *("Type=oneshot", "WatchdogSec=0", "Restart=no", "ExecStart=", f"ExecStart={' '.join(command)}"),
        *lines,
    )
    service.start()
    return told(service.journal())


def test_it_is_refused_what_it_does_not_need(service: Service, command: list[str]) -> None:
    service.configure()
    bare = told(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # Or a refusal would prove nothing.
    assert {name: outcome for name, outcome in bare.items() if outcome in REFUSALS} == {}
    found = tried(service, command)
    print(json.dumps(found, indent=1))
    assert {name for name, outcome in found.items() if outcome not in REFUSALS} == NEEDED
    assert {found[name] for name in NEEDED} == {"done"}


def test_the_sandbox_holds_whoever_is_inside(service: Service, command: list[str]) -> None:
    service.configure()
    found = tried(service, command, "User=root", "Group=root")
    assert {name for name, outcome in found.items() if outcome not in REFUSALS} == NEEDED | OF_ONES_OWN


def test_the_network_may_be_closed(service: Service, command: list[str]) -> None:
    service.configure()
    found = tried(service, command, "IPAddressDeny=any", "IPAddressAllow=127.0.0.1")
    assert found["needed: TCP to this machine"] == "done"
    assert found["needed: TCP to another machine"] != "done"

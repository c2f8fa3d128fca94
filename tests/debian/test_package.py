"""The Debian package, by a real dpkg and a real systemd: what comes with it, what an upgrade keeps, what stays behind.

Commands run where the rest of the machine lives, which sees nothing of the tests' own packages.
"""

from __future__ import annotations

import hashlib
import json
import pwd
import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from firmwarden.cli.client import DEFAULT_CONFIG, DEFAULT_SOCKET, Client
from lab.adapters import UsbSerial
from lab.package import NEWER, PACKAGE, PACKAGES
from lab.waiting import until
from lab.wire import Panel
from support.gateway import OLD, USUAL, device_class, image, manifest
from support.pages import fenced

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUILD, INSTALL, RELOAD, _UPGRADE, REMOVE, PURGE, _MASK = (
    shown.text for shown in fenced("sh") if shown.page.name == "install-the-package.md"
)

UNITS: Final = ("firmwarden.service", "firmwarden.socket")
STATE: Final = Path("/var/lib/firmwarden")
CLASS: Final = DEFAULT_CONFIG.parent / "devices.d" / "panel.toml"
LIBRARY: Final = Path("/usr/lib/firmwarden")
FIRST: Final = "2.0.0"
SECOND: Final = "3.0.0"
THIRD: Final = "4.0.0"
"""A version for each test: as long as the package is installed, the service remembers what it did in another one."""
BAUD: Final = 38_400
HALF_A_MINUTE: Final = 128 * 1024
"""The size of an image that takes so long at that rate."""


def system(*words: object, status: int = 0) -> str:
    """Run a command where the rest of the machine is; return what it printed."""
    command = ["nsenter", "--target=1", "--mount", "--wd=/", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"# {' '.join(command[4:])}\n{done.stdout}{done.stderr}")
    assert done.returncode == status
    return done.stdout


def do(shown: str) -> None:
    """Do what the page shows; for apt, which asks a network that is not here, does what it calls in the end."""
    for line in shown.splitlines():
        words = line.removeprefix("sudo ").split()
        if words[0] == "apt":
            words = ["dpkg", f"--{words[1]}", words[2]]
        system(*(PACKAGES / PACKAGE if word.endswith(".deb") else word for word in words))


def is_installed() -> bool:
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", "firmwarden"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout == "installed"


def traces() -> list[str]:
    """List the files of the machine that are called after us, its journal and dpkg's own records aside."""
    found = system(
        *("find", "/", "-xdev", "-path", "/var/lib/dpkg", "-prune"),
        *("-o", "-name", "*firmwarden*", "-prune", "-print"),
    )
    return sorted([*found.split(), *map(str, Path("/run").glob("*firmwarden*"))])


@pytest.fixture
def empty() -> None:
    """A machine that has only Debian."""
    do(PURGE)
    assert traces() == []
    needed = ("click", "pydantic", "serial", "starlette", "usb")
    system("python3", "-c", f"import importlib.util; assert not any(map(importlib.util.find_spec, {needed}))")


@pytest.fixture
def installed() -> None:
    """A machine that has the package, in this version."""
    if not is_installed():
        do(INSTALL)


@pytest.fixture
def adapter() -> Iterator[UsbSerial]:
    with closing(UsbSerial("PACKAGE")) as made:
        yield made


@pytest.fixture
def panel(tmp_path: Path, adapter: UsbSerial) -> Iterator[Panel]:
    with closing(Panel(tmp_path, adapter.far_end, "--version", OLD, "--paced", BAUD)) as made:
        yield made


def configure(*settings: str) -> None:
    """Do as an operator does: change the configuration, add a class, have it checked, and put it in force."""
    sample = DEFAULT_CONFIG.read_text()
    DEFAULT_CONFIG.write_text("\n".join((*sample.splitlines()[:1], "[firmwarden]", *settings, "")))
    CLASS.write_text(device_class("panel", f'usb = "{UsbSerial.IDS}", serial = "PACKAGE"', *USUAL))
    do(RELOAD)


def drop(version: str, *, size: int = 16_384) -> None:
    content, name = image(version, size=size), f"panel-{version}"
    (STATE / "firmware" / f"{name}.img").write_bytes(content)
    (STATE / "firmware" / f"{name}.toml").write_text(manifest("panel", version, f"{name}.img", content))


def ask(*path: str) -> Any:  # noqa: ANN401  (JSON)
    return Client(DEFAULT_SOCKET).get(*path)


def runs(version: str) -> None:
    until(
        lambda: [each["running_version"] for each in ask("devices")["devices"]] == [version],
        f"a device that runs {version}",
    )


def service(name: str) -> str:
    return system("systemctl", "show", "--property", name, "--value", UNITS[0]).strip()


def assert_serves() -> None:
    for unit in UNITS:
        assert system("systemctl", "is-active", unit).strip() == "active"
        assert system("systemctl", "is-enabled", unit).strip() == "enabled"
    assert json.loads(system("firmwarden", "status", "--json").splitlines()[-1])


@pytest.mark.usefixtures("empty")
def test_from_an_empty_system_to_the_first_updated_device(adapter: UsbSerial, panel: Panel) -> None:
    do(INSTALL)
    assert_serves()
    user = pwd.getpwnam("firmwarden")
    for directory in (STATE, STATE / "firmware"):
        assert (directory.stat().st_uid, directory.stat().st_gid) == (user.pw_uid, user.pw_gid)

    process = Path("/proc", service("MainPID"))
    assert process.stat().st_uid == user.pw_uid
    assert (process / "cmdline").read_text().split("\0")[:3] == [
        "/usr/bin/python3",
        "-sP",
        "/usr/bin/firmwarden",
    ]
    modules = set(re.findall(r"/\S+\.so\b\S*", (process / "maps").read_text()))
    assert any(Path(each).is_relative_to(LIBRARY) for each in modules)
    assert all(Path(each).is_relative_to("/usr/lib") for each in modules)
    assert list((LIBRARY / "firmwarden" / "__pycache__").glob("*.pyc"))

    configure()
    adapter.plug(1)
    drop(FIRST)
    runs(FIRST)
    (device,) = ask("devices")["devices"]
    assert FIRST in system("firmwarden", "why", device["id"])
    assert panel.report()["running"] is not None
    assert panel.report()["started_partial"] == 0


@pytest.mark.usefixtures("installed")
def test_inv5_an_upgrade_in_the_middle_of_an_update(adapter: UsbSerial, panel: Panel) -> None:
    configure('grace = "1s"')
    adapter.plug(1)
    old = service("MainPID")
    configuration = hashlib.sha256(DEFAULT_CONFIG.read_bytes()).hexdigest()
    # In the two steps of which an installation consists; and compiled in between, so that the restart comes while the
    # update runs, on however slow a machine.
    system("dpkg", "--unpack", PACKAGES / NEWER)
    system("python3", "-m", "compileall", "-q", "-j", 0, LIBRARY)
    assert service("MainPID") == old
    drop(SECOND, size=HALF_A_MINUTE)
    panel.wait_for("erase")
    system("dpkg", "--configure", "firmwarden")
    assert service("MainPID") != old
    assert_serves()
    assert ask("status")["version"].endswith("+next")
    runs(SECOND)
    assert hashlib.sha256(DEFAULT_CONFIG.read_bytes()).hexdigest() == configuration
    report = panel.report()
    assert (report["erase_starts"], report["started_partial"], report["ended_partial"]) == (2, 0, 0)


@pytest.mark.usefixtures("installed")
def test_removed_and_back_again_and_purged(adapter: UsbSerial, panel: Panel) -> None:
    configure()
    adapter.plug(1)
    drop(THIRD)
    runs(THIRD)
    known = ask("devices")["devices"]

    do(REMOVE)
    for unit in UNITS:
        system("systemctl", "is-active", unit, status=3)
    assert not Path("/usr/bin/firmwarden").exists()
    assert not LIBRARY.exists()
    assert not DEFAULT_SOCKET.exists()
    assert CLASS.exists()
    assert (STATE / "firmwarden.db").exists()

    do(INSTALL)
    assert_serves()
    runs(THIRD)
    assert [each["id"] for each in ask("devices")["devices"]] == [each["id"] for each in known]
    assert panel.report()["erase_starts"] == 1

    do(PURGE)
    assert traces() == []
    # Files elsewhere may belong to it, so its number is not given to another.
    assert pwd.getpwnam("firmwarden")

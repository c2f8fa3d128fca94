"""Which ports there are, and what sysfs tells of them: names and facts only, nothing is opened (invariant 4).

A scan lists the ttys that have a device behind them, the nodes that the path patterns of the configuration
name (ptys, links in any directory), and the TCP endpoints, which count as present and are dialled only for a job.
Several names of one node are one port.

Sources: Linux kernel, Documentation/ABI/testing/sysfs-bus-usb and sysfs-tty, Documentation/admin-guide/devices.txt;
the name of an interface's directory, ``<bus>-<ports>:<configuration>.<interface>``, is set in
drivers/usb/core/message.c, usb_set_configuration().
"""

# ruff: noqa: PTH115
# Functions of os where pathlib would do: a scan is made of such calls and runs every two seconds for years.

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, replace
from enum import Enum, auto, unique
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.model import SerialAddress, Sighting, TcpAddress, UsbFacts
from firmwarden.transport.nodes import PTY_MAJORS, node_of
from firmwarden.transport.sysfs import (
    OUT_OF_RESOURCES,
    InTransition,
    read,
    registration,
    text,
    usb_facts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.transport.nodes import Node
    from firmwarden.transport.sysfs import Registration

_CONSOLE_MAJOR: Final = 4
_CONSOLE_MINORS: Final = range(64)
_ALIAS_MAJOR: Final = 5
"""/dev/tty, /dev/console, /dev/ptmx: other names of terminals."""
_NO_UART: Final = b"0"
"""``type`` of a ttyS slot for which no chip was found: PORT_UNKNOWN of linux/serial_core.h."""
_INTERFACE: Final = re.compile(
    r"/(?P<topology>\d+-(?P<ports>\d+(?:\.\d+)*))/(?P=topology):\d+\.(?P<number>\d+)(?=/|$)"
)


@unique
class _Kind(Enum):
    PORT = auto()
    EMPTY_SLOT = auto()
    """A ttyS without a chip."""
    VIRTUAL = auto()


@dataclass(frozen=True, slots=True)
class _Tty:
    kind: _Kind
    usb: UsbFacts | None = None


class PortScanner:
    """Scans for ports; remembers what cannot change while a device stays registered, so that a scan costs little.

    Not for two threads at once.
    """

    def __init__(
        self,
        patterns: Iterable[str] = (),
        tcp: Iterable[TcpAddress] = (),
        *,
        sys_root: Path = Path("/sys"),
        dev_root: Path = Path("/dev"),
    ) -> None:
        """Prepare scans.

        Args:
            patterns: absolute paths; only the last part of one may have wildcards.
            tcp: endpoints that the configuration names.
            sys_root: where sysfs is mounted.
            dev_root: where the nodes are.
        """
        self._patterns = sorted(set(patterns))
        self._tcp = [Sighting(address=address) for address in sorted(set(tcp), key=str)]
        self._sys_root = str(sys_root)
        self._dev_root = str(dev_root)
        self._ttys: dict[Registration, _Tty] = {}
        self._last: tuple[Sighting, ...] = ()
        self.problems: tuple[str, ...] = ()
        """Directories of patterns that the last scan could not read, each with its reason."""

    def scan(self) -> tuple[Sighting, ...]:
        """Return every port there is, in a fixed order; the same object again when nothing changed.

        The rate of an address is the model's default: which one is right is known to the class.

        Raises:
            OSError: the scan could not be done, so nothing is known; the machine is out of descriptors or memory.
        """
        self.problems = ()
        ports: dict[Node, tuple[str, UsbFacts | None]] = {}
        empty_slots: set[Node] = set()
        for name, tty in self._class_entries():
            if (
                tty.kind is not _Kind.VIRTUAL
                and (node := node_of(path := f"{self._dev_root}/{name}")) is not None
            ):
                if tty.kind is _Kind.PORT:
                    ports[node] = (path, tty.usb)
                else:
                    empty_slots.add(node)

        names: dict[Node, set[str]] = {}
        for directory in ("by-id", "by-path"):
            for name in self._listing(f"{self._dev_root}/serial/{directory}"):
                if (node := node_of(name)) in ports:
                    names.setdefault(node, set()).add(name)
        for name in self._names_by_pattern():
            node = node_of(name)
            if node in ports or (node is not None and node not in empty_slots and self._is_port(node)):
                names.setdefault(node, set()).add(name)

        found = [_sighting(path, names.get(node, set()), usb) for node, (path, usb) in ports.items()]
        # Without a name of the kernel's own, the one that the operator gave is the stable one: a pty behind a
        # link has another number after each restart of whoever made it.
        found += [_sighting(min(paths), paths, None) for node, paths in names.items() if node not in ports]
        found.sort(key=lambda sighting: str(sighting.address))
        sightings = (*found, *self._tcp)
        if sightings != self._last:
            self._last = sightings
        return self._last

    def _class_entries(self) -> Iterator[tuple[str, _Tty]]:
        known, self._ttys = self._ttys, {}
        try:
            with os.scandir(f"{self._sys_root}/class/tty") as listing:
                entries = list(listing)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            try:
                key = registration(entry.path)
                tty = known.get(key) or self._read_tty(entry.path, key)
            except InTransition:
                continue
            if tty.kind is not _Kind.EMPTY_SLOT:  # setserial may give it a chip without registering it anew
                self._ttys[key] = tty
            yield entry.name, tty

    def _read_tty(self, path: str, key: Registration) -> _Tty:
        real = os.path.realpath(path)
        if not os.path.lexists(f"{real}/device"):
            return _Tty(_Kind.VIRTUAL)
        if read(f"{real}/type") == _NO_UART:
            return _Tty(_Kind.EMPTY_SLOT)
        usb = _usb_of(real.removeprefix(os.path.realpath(self._sys_root)), real)
        if registration(path) != key:
            # What was read may be of two devices, and a serial number that was not there may have been removed.
            raise InTransition
        return _Tty(_Kind.PORT, usb)

    def _names_by_pattern(self) -> Iterator[str]:
        for pattern in self._patterns:
            directory, _, last = pattern.rpartition("/")
            if not any(character in last for character in "*?["):
                yield pattern
                continue
            matches = re.compile(fnmatch.translate(last)).match
            for name in self._listing(directory or "/"):
                base = name.rpartition("/")[2]
                # As in a shell, a wildcard does not find hidden names: half-made links have such names.
                if matches(base) and (not base.startswith(".") or last.startswith(".")):
                    yield name

    def _listing(self, directory: str) -> list[str]:
        """Full names of what is in a directory, except those that no log or database could hold."""
        try:
            with os.scandir(directory) as entries:
                return [entry.path for entry in entries if entry.name.isprintable()]
        except (FileNotFoundError, NotADirectoryError):
            pass  # it comes with the first device
        except OSError as exc:
            if exc.errno in OUT_OF_RESOURCES:
                raise
            self.problems = (*self.problems, f"{directory} cannot be read: {exc.strerror}")
        return []

    def _is_port(self, node: Node) -> bool:
        """Tell ports among the nodes that a pattern names: never open a watchdog because it was near."""
        major, minor = os.major(node[0]), os.minor(node[0])
        if major in PTY_MAJORS:
            return True
        if major == _ALIAS_MAJOR or (major == _CONSOLE_MAJOR and minor in _CONSOLE_MINORS):
            return False
        try:
            return "/tty/" in os.readlink(f"{self._sys_root}/dev/char/{major}:{minor}")
        except OSError:
            return False


def _sighting(path: str, names: set[str], usb: UsbFacts | None) -> Sighting:
    return Sighting(address=SerialAddress(path=path), links=tuple(sorted(names - {path})), usb=usb)


def _usb_of(device_path: str, real: str) -> UsbFacts | None:
    """Read what is known of the USB interface that a tty hangs on, None where it hangs on none.

    Args:
        device_path: of the tty, below the mount point of sysfs.
        real: the same with the mount point.
    """
    interface = None
    for interface in _INTERFACE.finditer(device_path):  # noqa: B007
        pass  # the innermost one
    if interface is None:
        return None
    end = interface.end("topology")
    facts = usb_facts(real[: len(real) - len(device_path) + end], device_path[:end])
    port = f"{facts.port}-if{interface['number']}"
    number = text(read(f"{real}/device/port_number"))
    if number not in {"", "0"}:  # some adapters have several ports on one interface
        port += f"-port{number}"
    return replace(facts, interface=int(interface["number"]), port=port)

"""Which unit is behind each port, and where that cannot be said.  Pure.

A class knows its units by the serial number or by the port, as its ``identity`` says; there is no falling back
from one to the other, and no first one found.  What is ambiguous is a conflict: nothing is written there until
the plugs or the configuration say more (invariant 4).

A unit that is updated over the USB itself may show itself in its loader, under other ids; ``loaders`` tells whose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.model import SerialAddress, TcpAddress, UsbAddress
from firmwarden.protocol.dfu.quirks import is_shared
from firmwarden.service.loaders import Loader
from firmwarden.service.running import own_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.drivers.dfu_settings import VersionSource
    from firmwarden.model import ClassName, Device, DeviceId, Sighting
    from firmwarden.service.running import OwnWord

_Identity = tuple["ClassName", str]
"""Class and key."""
_RELOAD: Final = "then `systemctl reload firmwarden`"
_NOBODY: Final[Mapping[Sighting, AbstractSet[DeviceId]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """How units of a class are recognised and told apart; what is given must all hold, ``tcp`` stands alone."""

    name: ClassName
    by_serial: bool = False
    path: str | None = None
    """Only the last part may have wildcards."""
    usb: tuple[int, int] | None = None
    """Vendor and product."""
    serial: str | None = None
    """May have wildcards."""
    interface: int | None = None
    tcp: tuple[TcpAddress, ...] = ()
    baud: int = 115_200
    dfu: bool = False
    """Its units are USB devices as a whole, not ttys."""
    loader: tuple[int, int] | None = None
    """Vendor and product of a unit in its loader, where that is a USB device."""
    place: str | None = None
    """Of a USB device, as ``UsbFacts.port`` names it; may have wildcards."""
    version: VersionSource | None = None
    """Where an application tells its version without being opened."""

    def matches(self, sighting: Sighting) -> bool:
        """Tell whether a port is one of this class."""
        if isinstance(sighting.address, TcpAddress):
            return sighting.address in self.tcp
        if isinstance(sighting.address, UsbAddress) != self.dfu:
            return False
        if self.may_be_loader(sighting):
            return True
        if self.path is not None and not self.names(sighting):
            return False
        if self.usb is None and self.serial is None and self.interface is None:
            return self.path is not None
        usb = sighting.usb
        return (
            usb is not None
            and self.usb in {None, (usb.vendor_id, usb.product_id)}
            and self.interface in {None, usb.interface}
            and self.fits_serial(usb.serial or "")
            and self.fits_place(sighting)
        )

    def may_be_loader(self, sighting: Sighting) -> bool:
        """Tell whether a port may be a unit of this class in its loader."""
        usb = sighting.usb
        if usb is None or self.loader != (usb.vendor_id, usb.product_id):
            return False
        # Under ids of the product's own that stay the same it is told as its application is.
        return (self.loader != self.usb or is_shared(*self.loader)) and self.fits_place(sighting)

    def fits_serial(self, serial: str) -> bool:
        """Tell whether a serial number may be one of this class."""
        return self.serial is None or fnmatchcase(serial, self.serial)

    def fits_place(self, sighting: Sighting) -> bool:
        """Tell whether units of this class may be at a place."""
        return self.place is None or fnmatchcase(usb_port(sighting), self.place)

    def names(self, sighting: Sighting) -> list[str]:
        """The names of a port that the path pattern finds, sorted."""
        if self.path is None:
            return []
        directory, _, pattern = self.path.rpartition("/")
        found = []
        for name in (str(sighting.address), *sighting.links):
            where, _, last = name.rpartition("/")
            if where == directory and fnmatchcase(last, pattern):
                found.append(name)
        return sorted(found)

    def port(self, sighting: Sighting) -> str:
        """Name a port so that the name is the same after a restart."""
        if isinstance(sighting.address, TcpAddress):
            return f"tcp-{sighting.address}"
        if sighting.usb is not None:
            return usb_port(sighting)
        return next(iter(self.names(sighting)), str(sighting.address))

    def key(self, sighting: Sighting) -> str | None:
        """The identity of the unit behind a port; None where the class goes by a serial number and there is none."""
        if not self.by_serial:
            return f"port:{self.port(sighting)}"
        serial = serial_number(sighting)
        return f"serial:{serial}" if serial else None

    @property
    def tells_modes(self) -> bool:
        """Whether a scan sees if a unit runs its application or its loader.

        It does not where both go by the same ids; what a loader says, its revision for one, would be taken for what
        the unit runs.
        """
        return self.loader is not None and self.loader != self.usb


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A unit that is here, without doubt about which."""

    device_class: ClassName
    key: str
    sighting: Sighting
    """Its address has the class's rate."""
    port: str
    """To be kept as ``Device.port``: where the unit was is compared with it when the unit turns up elsewhere."""
    serial: str
    """Of the unit or only of its cable, may be empty."""
    known: DeviceId | None
    """None: seen for the first time."""
    moved_from: str | None = None
    """The port where the unit was before."""
    running: bool = False
    """Its application was seen, and no loader can look like that."""
    in_loader: bool = False
    """Its loader was seen, and no application can look like that."""
    word: OwnWord | None = None
    """What its application tells of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Ports of which it cannot be said which unit is behind them."""

    ports: tuple[str, ...]
    """As they are opened, sorted."""
    classes: tuple[ClassName, ...]
    devices: tuple[DeviceId, ...]
    """Known devices that may be meant, sorted."""
    detail: str
    """Between what, and what settles it."""
    place: str = ""
    """Of a loader of which it cannot be said whose it is; a person may say it by that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Who is here; ports that no class matches are in neither list."""

    present: tuple[Presence, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A port that exactly one class matches."""

    rule: ClassRule
    sighting: Sighting
    key: str
    loader: Loader | None = None
    """Where the unit shows itself in it."""


def roll(
    rules: Sequence[ClassRule],
    sightings: Iterable[Sighting],
    known: Iterable[Device],
    *,
    others: Mapping[Sighting, AbstractSet[DeviceId]] = _NOBODY,
) -> Roll:
    """Say which units are here.

    Neither the order of the sightings nor that of the known devices matters.

    Args:
        rules: of every class.
        sightings: all that one scan found.
        known: every device of the store; ``port`` is where it was last present, as ``Presence.port`` named it.
        others: known devices that a loader of nobody's is not, so that none of them is looked for there.  Who is
            present does not depend on it.
    """
    scan = _Scan(rules, {(device.device_class, device.key): device for device in known}, others)
    for sighting in sightings:
        scan.sort(sighting)
    scan.sort_loaders()
    scan.settle()
    return Roll(
        present=tuple(sorted(scan.present, key=lambda presence: (presence.device_class, presence.key))),
        conflicts=tuple(sorted(scan.conflicts, key=lambda conflict: (conflict.ports, conflict.detail))),
    )


@dataclass(slots=True)
class _Scan:
    """One scan, as far as it is sorted."""

    rules: Sequence[ClassRule]
    devices: Mapping[_Identity, Device]
    others: Mapping[Sighting, AbstractSet[DeviceId]]
    occupied: defaultdict[str, list[Sighting]] = field(default_factory=lambda: defaultdict(list))
    running: set[_Identity] = field(default_factory=set)
    """Units whose application was seen."""
    alike: defaultdict[_Identity, list[_Candidate]] = field(default_factory=lambda: defaultdict(list))
    loaders: list[Loader] = field(default_factory=list)
    present: list[Presence] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)

    def sort(self, sighting: Sighting) -> None:
        """Sort a port by what is seen of it alone; loaders wait until all else is sorted."""
        matching = [rule for rule in self.rules if rule.matches(sighting)]
        loader = _loader(matching, sighting)
        if loader is not None:
            self.loaders.append(loader)
            return
        if sighting.usb is not None:
            self.occupied[usb_port(sighting)].append(sighting)
        keys = {rule.name: rule.key(sighting) for rule in matching}
        self.running |= {(name, key) for name, key in keys.items() if key is not None}
        key = keys[matching[0].name] if matching else None
        if len(matching) == 1 and key is not None:
            self.alike[matching[0].name, key].append(_Candidate(matching[0], sighting, key))
        elif matching:
            detail = (
                _no_serial(sighting, matching[0])
                if len(matching) == 1
                else _several_classes(sighting, matching)
            )
            concerned = {device for rule in matching for device in _concerned(rule, sighting, self.devices)}
            self.conflicts.append(_conflict([sighting], matching, concerned, detail))

    def sort_loaders(self) -> None:
        """Sort the loaders by whose they may be."""
        devices = self.devices.values()
        numbers = Counter(number for loader in self.loaders for number in loader.numbers)
        told = {number for number, count in numbers.items() if count > 1 or number in self.devices}
        claims = [(loader, loader.owners(devices, self.running | told)) for loader in self.loaders]
        here = self.running | {
            (owners[0].rule.name, owners[0].key) for _, owners in claims if len(owners) == 1
        }
        for loader, found in claims:
            owners = [*found, *loader.rivals(found[0], devices, here)] if len(found) == 1 else found
            if len(owners) == 1:
                owner = owners[0]
                candidate = _Candidate(owner.rule, loader.sighting, owner.key, loader)
                self.alike[owner.rule.name, owner.key].append(candidate)
                continue
            others = self.others.get(loader.sighting, frozenset())
            lost = [unit for unit in loader.lost(devices, here) if not owners and unit.id not in others]
            concerned = {owner.device.id for owner in owners if owner.device} | {unit.id for unit in lost}
            detail = loader.riddle(owners, lost)
            said = _conflict([loader.sighting], loader.rules, concerned, detail)
            self.conflicts.append(replace(said, place=loader.place))

    def settle(self) -> None:
        """Say who is present where only one port may be a unit, and nothing else may be it."""
        told_apart = {
            candidate.sighting
            for candidates in self.alike.values()
            for candidate in candidates
            if candidate.rule.by_serial
        }
        for identity, candidates in self.alike.items():
            first, device = candidates[0], self.devices.get(identity)
            if len(candidates) > 1:
                doubles = [candidate.sighting for candidate in candidates]
                concerned = set() if device is None else {device.id}
                self.conflicts.append(_conflict(doubles, [first.rule], concerned, _same_key(first, doubles)))
                continue
            presence = _presence(first, device)
            in_its_place = [
                other
                for other in self.occupied.get(presence.moved_from or "", [])
                if other not in told_apart or serial_number(other) == presence.serial
            ]
            if device is not None and in_its_place:
                detail = _old_port_occupied(presence, device.id, in_its_place)
                self.conflicts.append(_conflict([first.sighting], [first.rule], {device.id}, detail))
            else:
                self.present.append(presence)


def usb_port(sighting: Sighting) -> str:
    """Name the port of a USB device, for a tty with its interface; empty for other ports."""
    usb = sighting.usb
    if usb is None:
        return ""
    interface = "" if usb.interface is None else f"-if{usb.interface}"
    return usb.port or f"usb-{usb.topology}{interface}"


def serial_number(sighting: Sighting) -> str:
    """The serial number that a USB device shows, empty where there is none."""
    return "" if sighting.usb is None else sighting.usb.serial or ""


def _loader(matching: Sequence[ClassRule], sighting: Sighting) -> Loader | None:
    """What is seen at a port, where it can be nothing but a loader."""
    usb = sighting.usb
    if usb is None or not matching or not all(rule.may_be_loader(sighting) for rule in matching):
        return None
    return Loader(sighting=sighting, usb=usb, place=usb_port(sighting), rules=matching)


def _presence(candidate: _Candidate, device: Device | None) -> Presence:
    rule, sighting = candidate.rule, candidate.sighting
    if isinstance(sighting.address, SerialAddress):
        sighting = replace(sighting, address=replace(sighting.address, baud=rule.baud))
    port = rule.port(sighting)
    moved = rule.by_serial and device is not None and device.port not in {"", port}
    running = rule.tells_modes and candidate.loader is None
    word = None
    if running and rule.version is not None and sighting.usb is not None:
        word = own_word(rule.version, sighting.usb)
    serial = serial_number(sighting)
    if candidate.loader is not None and (device is not None or candidate.loader.shared):
        serial = "" if device is None else device.serial  # that of its application
    return Presence(
        device_class=rule.name,
        key=candidate.key,
        sighting=sighting,
        port=port,
        serial=serial,
        known=None if device is None else device.id,
        moved_from=device.port if moved and device is not None else None,
        running=running,
        in_loader=candidate.loader is not None,
        word=word,
    )


def _concerned(
    rule: ClassRule, sighting: Sighting, devices: Mapping[tuple[ClassName, str], Device]
) -> set[DeviceId]:
    """The known devices of a class that may be behind a port."""
    key = rule.key(sighting)
    if key is not None:
        return {devices[rule.name, key].id} if (rule.name, key) in devices else set()
    # A loader may hide the serial number that the application shows: whoever was there last is meant.
    port = rule.port(sighting)
    return {
        device.id for device in devices.values() if (device.device_class, device.port) == (rule.name, port)
    }


def _conflict(
    sightings: Sequence[Sighting], rules: Sequence[ClassRule], concerned: set[DeviceId], detail: str
) -> Conflict:
    return Conflict(
        ports=_ports(sightings),
        classes=tuple(sorted(rule.name for rule in rules)),
        devices=tuple(sorted(concerned)),
        detail=detail,
    )


def _ports(sightings: Iterable[Sighting]) -> tuple[str, ...]:
    return tuple(sorted(str(sighting.address) for sighting in sightings))


def _several_classes(sighting: Sighting, rules: Sequence[ClassRule]) -> str:
    return (
        f"{sighting.address} matches the classes {_and(sorted(rule.name for rule in rules))}: narrow `match` of all "
        f"but one, by path, usb, serial or interface, {_RELOAD}"
    )


def _no_serial(sighting: Sighting, rule: ClassRule) -> str:
    return (
        f"{sighting.address} has no serial number, and class {rule.name} knows its units by it: give the class "
        f'`identity = "port"` or narrow its `match`, {_RELOAD}'
    )


def _same_key(candidate: _Candidate, sightings: Sequence[Sighting]) -> str:
    ports = _and(_ports(sightings))
    if not candidate.rule.by_serial:
        return f"{ports} go by the same name of a port, {candidate.key.removeprefix('port:')}: unplug all but one"
    # A USB device as a whole has no number of an interface to be matched.
    interface = "" if candidate.rule.dfu else "`interface` in `match` or by "
    return (
        f"{ports} show the same serial number {candidate.key.removeprefix('serial:')}, and class "
        f"{candidate.rule.name} knows its units by it: unplug all but one, or tell them apart by {interface}"
        f'`identity = "port"`, {_RELOAD}'
    )


def _old_port_occupied(presence: Presence, device: DeviceId, there: Sequence[Sighting]) -> str:
    return (
        f"serial number {presence.serial}, which is {device}, was at {presence.moved_from} and is now at "
        f"{presence.sighting.address}, while {_and(_ports(there))} is at the old place and may be the same unit: "
        f"unplug one of them for some seconds, or `firmwarden forget {device}` to begin anew at the new place"
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]

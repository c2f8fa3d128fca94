"""From files to a ``Config``, or to every problem in one message.

The main file has ``[firmwarden]``, ``[retry]``, ``[wear]``, ``[[key]]`` and ``[[device]]``; each ``*.toml`` in
``devices.d`` beside it has ``[[device]]`` alone, so that a product can bring its class as one file.  Whom to trust is
said in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from firmwarden.config.faults import (
    faults_of_class,
    faults_of_keys,
    faults_of_retry,
    faults_of_settings,
    why_both_match,
)
from firmwarden.config.tree import Config, DeviceClass, DriverName, Retry, Settings, SigningKey, WearLimits
from firmwarden.errors import BadConfig
from firmwarden.files import Unusable, read_file
from firmwarden.toml.document import BadToml, Document, read_toml
from firmwarden.toml.keys import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from firmwarden.config.faults import Fault

_LARGEST_FILE: Final = 1 << 20
"""Room for thousands of device classes; whatever is larger is no configuration."""

_NEED_RESTART: Final = ("firmware_dir", "state_dir", "socket", "listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesFile(Table):
    """A file in ``devices.d``."""

    device: tuple[DeviceClass, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MainFile(DevicesFile):
    """``firmwarden.toml``; its ``retry`` and ``wear`` are what a class has unless it says otherwise."""

    firmwarden: Settings = field(default_factory=Settings)
    retry: Retry = field(default_factory=Retry)
    wear: WearLimits = field(default_factory=WearLimits)
    key: tuple[SigningKey, ...] = ()


@dataclass(frozen=True, slots=True)
class _Placed:
    """A class and where it stands."""

    device: DeviceClass
    document: Document
    index: int

    @property
    def given(self) -> Mapping[str, object]:
        """The table as it stands in the file."""
        table: Mapping[str, object] = self.document.data["device"][self.index]
        return table

    def problem(self, fault: Fault) -> str:
        place, text = fault
        return self.document.problem(("device", self.index, *place), text)

    def __str__(self) -> str:
        return f'"{self.device.name}" at {self.document.name}:{self.document.line(("device", self.index))}'


def load(path: Path) -> Config:
    """Read the configuration at ``path`` and the files in ``devices.d`` beside it.

    Raises:
        BadConfig: with every problem of every file.
    """
    problems: list[str] = []
    placed: list[_Placed] = []
    main, main_document = MainFile(), Document(str(path), {}, {})
    defaults: Mapping[str, dict[str, object]] = {}

    try:
        main_document = document = _read(path)
        defaults = _usable_defaults(document)
        main = document.check(MainFile, _with_defaults(document.data, defaults))
        placed += _place(main, document)
        problems += [
            document.problem(("firmwarden", *at), text) for at, text in faults_of_settings(main.firmwarden)
        ]
        problems += [document.problem(("retry", *at), text) for at, text in faults_of_retry(main.retry)]
    except BadToml as exc:
        problems += exc.problems

    for each in _device_files(path.parent / "devices.d", problems):
        try:
            document = _read(each)
            placed += _place(document.check(DevicesFile, _with_defaults(document.data, defaults)), document)
        except BadToml as exc:
            problems += exc.problems

    # Where a file cannot be read, a class may be in that one.
    classes = None if problems else {each.device.name for each in placed}
    problems += [main_document.problem(("key", *at), text) for at, text in faults_of_keys(main.key, classes)]
    problems += [each.problem(fault) for each in placed for fault in faults_of_class(each.device, each.given)]
    problems += _faults_between(placed)
    if problems:
        raise BadConfig(tuple(problems))
    return Config(settings=main.firmwarden, devices=tuple(each.device for each in placed), keys=main.key)


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Name the settings that differ and that a running service cannot change."""
    return tuple(name for name in _NEED_RESTART if getattr(old.settings, name) != getattr(new.settings, name))


def _read(path: Path) -> Document:
    try:
        content, _ = read_file(path, _LARGEST_FILE, follow=True)
    except FileNotFoundError as exc:
        raise BadToml(f"{path}: there is no such file; `--config FILE` names another") from exc
    except OSError as exc:
        raise BadToml(f"{path}: cannot be read: {exc.strerror}") from exc
    except Unusable as exc:
        raise BadToml(f"{path}: {exc}") from exc
    return read_toml(content, str(path))


def _device_files(directory: Path, problems: list[str]) -> list[Path]:
    try:
        # Hidden files are the temporary files of editors.
        return sorted(each for each in directory.iterdir() if each.suffix == ".toml" and each.name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as exc:
        problems.append(f"{directory}: cannot be read: {exc.strerror}")
        return []


def _place(file: DevicesFile, document: Document) -> Iterator[_Placed]:
    return (_Placed(device, document, index) for index, device in enumerate(file.device))


def _usable_defaults(document: Document) -> Mapping[str, dict[str, object]]:
    """Get the tables that classes inherit from, unless wrong: their faults are reported once, where they stand."""
    usable = {}
    for name, kind in (("retry", Retry), ("wear", WearLimits)):
        table = document.data.get(name, {})
        try:
            checked = document.check(kind, table)
        except BadToml:
            continue
        if not (isinstance(checked, Retry) and any(faults_of_retry(checked))):
            usable[name] = table
    return usable


def _with_defaults(data: Mapping[str, Any], defaults: Mapping[str, dict[str, object]]) -> dict[str, Any]:
    devices = data.get("device")
    if not isinstance(devices, list):
        return dict(data)
    return {**data, "device": [_inheriting(device, defaults) for device in devices]}


def _inheriting(device: object, defaults: Mapping[str, dict[str, object]]) -> object:
    if not isinstance(device, dict):
        return device
    inherited = {
        name: {**table, **own}
        for name, table in defaults.items()
        if isinstance(own := device.get(name, {}), dict)
    }
    way = {"enter": {"method": "detach"}} if device.get("driver") == DriverName.DFU else {}
    return {**way, **device, **inherited}


def _faults_between(placed: list[_Placed]) -> Iterator[str]:
    for one, other in combinations(placed, 2):
        if one.device.name == other.device.name:
            yield other.problem((("name",), f"expected a name of its own, but there is {one} already"))
        elif why := why_both_match(one.device.match, other.device.match):
            yield other.problem((("match",), f"expected other devices than those of {one}: {why}"))

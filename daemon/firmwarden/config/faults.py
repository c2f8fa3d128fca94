"""What no single key can be blamed for: keys that contradict each other, within a class and between classes."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from firmwarden.config.by_driver import faults_of_driver
from firmwarden.config.tree import (
    EVERY_CLASS,
    DriverName,
    EnterCommand,
    EnterPulse,
    EnterSend,
    EnterTouch1200,
    Identity,
    Match,
)
from firmwarden.config.values import has_wildcard
from firmwarden.drivers.boot.declared import fault_of_failsafe, fault_of_part
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.toml.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.config.tree import DeviceClass, HandOver, Retry, Settings, SigningKey

_WHOLE: Final = 100
"""Percent."""

Fault = tuple[tuple[str | int, ...], str]
"""The key, within the table, and what is wrong with it."""


def faults_of_settings(settings: Settings) -> Iterator[Fault]:
    """Look for contradictions in ``[firmwarden]``."""
    if settings.firmware_dir == settings.state_dir:
        yield (
            ("firmware_dir",),
            "expected another directory than state_dir, where Firmwarden keeps its own files",
        )


def faults_of_retry(retry: Retry) -> Iterator[Fault]:
    """Look for contradictions among the budgets."""
    if retry.back_off_max < retry.back_off:
        yield ("back_off_max",), "expected no less than back_off"


def faults_of_keys(keys: Sequence[SigningKey], classes: AbstractSet[str] | None) -> Iterator[Fault]:
    """Look for contradictions among the keys; ``classes`` are those of all files, None where that is not known."""
    for index, key in enumerate(keys):
        if not key.classes:
            yield (index, "classes"), f'expected the names of classes, or "{EVERY_CLASS}"'
        if EVERY_CLASS in key.classes and len(key.classes) > 1:
            yield (index, "classes"), f'expected "{EVERY_CLASS}" alone: it is every class'
        for place, name in enumerate(key.classes):
            if classes is not None and name not in {EVERY_CLASS, *classes}:
                alike = difflib.get_close_matches(name, classes, n=1)
                hint = f'; did you mean "{alike[0]}"?' if alike else ""
                yield (
                    (index, "classes", place),
                    f"expected a class of the configuration, got {shown(name)}{hint}",
                )
        for other in keys[:index]:
            if other.name == key.name:
                yield (index, "name"), "expected a name of its own, but another key has it already"
            if other.public.key_id == key.public.key_id:
                yield (index, "public"), f'expected another key than that of "{other.name}"'


def faults_of_class(device: DeviceClass, given: Mapping[str, object]) -> Iterator[Fault]:
    """Look for contradictions within one class; ``given`` is its table as it stands in the file."""
    match = device.match
    yield from faults_of_driver(device, given)
    if fault := fault_of_part(device.part, device.failsafe):
        yield ("part",), fault
    elif fault := fault_of_failsafe(device.part, device.failsafe):
        yield ("failsafe",), fault
    elif device.failsafe is Failsafe.GOLDEN_BANK and device.dfu.version is None:
        yield (
            ("dfu", "version"),
            f'is missing; with failsafe = "{device.failsafe}" only a version tells the image from the golden one',
        )
    if device.driver is DriverName.MDFU:
        if match.tcp:
            yield from _faults_over_tcp(device)
        elif match.path is None and match.usb is None and match.serial is None:
            yield ("match",), "expected at least one of path, usb, serial or tcp"
    if isinstance(device.enter, EnterPulse) and not device.enter.steps:
        yield ("enter", "steps"), "expected at least one step"
    if isinstance(device.enter, EnterCommand) and not device.enter.argv:
        yield ("enter", "argv"), "expected a program and its arguments"
    yield from _faults_of_owner(device.hand_over)
    yield from _faults_of_times(device, given)
    yield from _faults_of_health(device, given)
    for place, text in faults_of_retry(device.retry):
        yield ("retry", *place), text


def _faults_of_owner(owner: HandOver | None) -> Iterator[Fault]:
    if owner is None:
        return
    if owner.unit is None and not (owner.stop and owner.start):
        yield ("hand_over",), "expected a unit, or the two commands stop and start"
    if owner.unit is not None and (owner.stop or owner.start):
        yield ("hand_over",), "expected either a unit, or the two commands stop and start"


def _faults_of_times(device: DeviceClass, given: Mapping[str, object]) -> Iterator[Fault]:
    if "time_zone" in given and not device.windows:
        yield ("time_zone",), "expected only with windows, which it is about"
    if "inhibit_for" in given and device.inhibit is None:
        yield ("inhibit_for",), "expected only with inhibit, which it is about"
    if device.rollout is not None:
        waves = device.rollout.waves
        if not waves or waves[-1] != _WHOLE or list(waves) != sorted(set(waves)):
            yield ("rollout", "waves"), "expected percentages that rise, the last of them 100"
    if device.condition is not None and not device.condition.argv:
        yield ("condition", "argv"), "expected a program and its arguments"


def _faults_of_health(device: DeviceClass, given: Mapping[str, object]) -> Iterator[Fault]:
    health = device.health
    if health is None:
        if device.roll_back:
            yield ("roll_back",), "expected only with health: nothing else finds out that a unit is not well"
        return
    if health.query is not None and health.query.expect.groups > 1:
        yield ("health", "query", "expect"), "expected one group, which holds the version, or none"
    table = given.get("health")
    if isinstance(table, dict) and "timeout" in table and not health.command:
        yield ("health", "timeout"), "expected only with command, which it is about"


def _faults_over_tcp(device: DeviceClass) -> Iterator[Fault]:
    match = device.match
    if match != Match(tcp=match.tcp):
        yield ("match", "tcp"), "expected alone: path, usb, serial and interface say nothing about a TCP peer"
    if len(set(match.tcp)) < len(match.tcp):
        yield ("match", "tcp"), "expected each address once"
    if device.identity is Identity.SERIAL:
        yield ("identity",), 'expected "port": a TCP peer has no serial number'
    if isinstance(device.enter, EnterPulse | EnterTouch1200):
        yield (
            ("enter", "method"),
            f'expected "none", "send" or "command": "{device.enter.method}" does not reach over TCP',
        )
    if isinstance(device.enter, EnterSend) and device.enter.baud is not None:
        yield ("enter", "baud"), "expected to be left out: TCP has no baud rate"
    if device.version_query is not None and device.version_query.baud is not None:
        yield ("version_query", "baud"), "expected to be left out: TCP has no baud rate"
    query = None if device.health is None else device.health.query
    if query is not None and query.baud is not None:
        yield ("health", "query", "baud"), "expected to be left out: TCP has no baud rate"


def why_both_match(one: Match, other: Match) -> str:
    """Say which device certainly matches both classes; empty where none is certain.

    The rest shows only with a device at hand, which then waits with an identity conflict.
    """
    both = sorted(str(address) for address in set(one.tcp) & set(other.tcp))
    if both:
        return f"{both[0]} is in both"
    if one == other:
        return "both match the same devices"
    for fixed, pattern in ((one, other), (other, one)):
        if fixed.path is None or has_wildcard(fixed.path) or pattern != Match(path=pattern.path):
            continue  # what else a class asks for may tell the two apart
        where, _, name = fixed.path.rpartition("/")
        wanted_where, _, wanted = (pattern.path or "").rpartition("/")
        if where == wanted_where and fnmatchcase(name, wanted):
            return f"{fixed.path} is in both"
    return ""

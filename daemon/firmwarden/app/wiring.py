"""Turns the configuration into the plain arguments that each component takes.

Only this package reads the configuration's tree, and only it knows the concrete drivers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from firmwarden import config as cfg
from firmwarden.app.examining import health_rule
from firmwarden.config.tree import ST_ROM
from firmwarden.drivers import entry
from firmwarden.drivers.boot.describe import outlooks
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.provisioning import setting_of
from firmwarden.drivers.boot.reliance import standing_doubt
from firmwarden.drivers.dfu import DfuDriver
from firmwarden.drivers.dfu_access import patience
from firmwarden.drivers.dfu_settings import DfuSettings, EnterDetach, VersionSource
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings, VersionQuery
from firmwarden.errors import Refused
from firmwarden.images.formats import ImageRules
from firmwarden.model import ClassName, SerialAddress, UsbAddress
from firmwarden.protocol.dfu.quirks import quirks_of
from firmwarden.protocol.mdfu.host import Settings as HostSettings
from firmwarden.service.conditions import Condition
from firmwarden.service.criteria import Criteria
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.hooks import Hook
from firmwarden.service.identity import ClassRule
from firmwarden.service.inhibitors import Inhibitor
from firmwarden.service.policy import Budgets
from firmwarden.service.port_owner import CommandOwner, UnitOwner
from firmwarden.service.rollout import Rule
from firmwarden.service.trust import Trust, TrustedKey
from firmwarden.service.windows import Timetable
from firmwarden.service.zones import zone_named
from firmwarden.transport.opening import open_link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmwarden.drivers.base import Driver, Journal, PlannedStep
    from firmwarden.drivers.boot.facts import Family
    from firmwarden.model import Address, Device, Job
    from firmwarden.service.port_owner import Owner
    from firmwarden.service.worker import MakeDriver
    from firmwarden.transport.usb_link import UsbPorts


def policies(config: cfg.Config) -> dict[ClassName, ClassPolicy]:
    """What planning needs of each class."""
    return {
        device_class.name: ClassPolicy(
            name=device_class.name,
            parallel=device_class.parallel,
            require_signature=device_class.require_signature,
            allow_downgrade=device_class.allow_downgrade,
            unknown=device_class.unknown.value,
            budgets=Budgets(
                attempts=device_class.retry.attempts,
                back_off_s=device_class.retry.back_off,
                back_off_longest_s=device_class.retry.back_off_max,
                presence_s=device_class.retry.presence,
                again_after_s=device_class.retry.again_after,
                erases_a_day=device_class.wear.per_day,
                erases_a_life=device_class.wear.per_life,
            ),
            rollout=_rollout(device_class.rollout),
            settles_s=_settles_s(device_class),
            doubt=_doubt(device_class),
            provision=_provision(device_class),
            power_cuts=_power_cuts(device_class, _relied_on(device_class)[0]),
            unprotected=_power_cuts(device_class, cfg.Failsafe.NONE),
            hand_over=_owner(device_class.hand_over),
            timetable=_timetable(device_class),
            inhibitor=_inhibitor(device_class),
            condition=_condition(device_class.condition),
            health=health_rule(device_class),
            roll_back=device_class.roll_back,
        )
        for device_class in config.devices
    }


def _timetable(device_class: cfg.DeviceClass) -> Timetable:
    zone = device_class.time_zone
    return Timetable(device_class.windows, None if zone is None else zone_named(zone))


def _inhibitor(device_class: cfg.DeviceClass) -> Inhibitor | None:
    return None if device_class.inhibit is None else Inhibitor(device_class.inhibit, device_class.inhibit_for)


def _condition(condition: cfg.Condition | None) -> Condition | None:
    return None if condition is None else Condition(condition.argv, condition.timeout, condition.again)


def _owner(owner: cfg.HandOver | None) -> Owner | None:
    if owner is None:
        return None
    if owner.unit is not None:
        return UnitOwner(owner.unit, owner.timeout)
    return CommandOwner(owner.stop, owner.start, owner.timeout)


def _rollout(rollout: cfg.Rollout | None) -> Rule | None:
    if rollout is None:
        return None
    return Rule(first=rollout.first, soak_s=rollout.soak, waves=rollout.waves, stop_at=rollout.stop_at)


def _settles_s(device_class: cfg.DeviceClass) -> float:
    """How long a driver may wait for a unit of a class that comes and goes."""
    if device_class.driver is not cfg.DriverName.DFU:
        # A cable that flaps, or a board that restarts and takes its port with it, would else be tried without end.
        return device_class.mdfu.discovery
    return max(
        patience(device_class.dfu.return_within, quirks_of(*ids, revision=0)) for ids in _ids(device_class)
    )


def _doubt(device_class: cfg.DeviceClass) -> str:
    if device_class.driver is not cfg.DriverName.DFU:
        return ""
    by_software = isinstance(device_class.enter, cfg.EnterDetach)
    return standing_doubt(*_relied_on(device_class), _family(device_class), by_software=by_software) or ""


def _provision(device_class: cfg.DeviceClass) -> str:
    part, loader = device_class.part, device_class.dfu.loader
    if device_class.failsafe is not cfg.Failsafe.BFB2 or part is None or loader != ST_ROM:
        return ""
    try:
        setting_of(part)
    except Refused:
        return ""
    return f"firmwarden provision --usb {loader}@{{topology}} --part {part} --failsafe bfb2"


def _power_cuts(device_class: cfg.DeviceClass, failsafe: cfg.Failsafe) -> tuple[PlannedStep, ...]:
    return outlooks(failsafe) if device_class.driver is cfg.DriverName.DFU else ()


def _family(device_class: cfg.DeviceClass) -> Family | None:
    return None if device_class.part is None else family_of(device_class.part)


def _relied_on(device_class: cfg.DeviceClass) -> tuple[cfg.Failsafe, bool]:
    """What a class says it relies on when the power fails, and whether it says so: silence promises nothing."""
    return device_class.failsafe or cfg.Failsafe.NONE, device_class.failsafe is not None


def rules(config: cfg.Config) -> list[ClassRule]:
    """How units of each class are recognised."""
    return [
        ClassRule(
            name=device_class.name,
            by_serial=device_class.identity is cfg.Identity.SERIAL,
            path=device_class.match.path,
            usb=None if device_class.match.usb is None else _pair(device_class.match.usb),
            serial=device_class.match.serial,
            interface=device_class.match.interface,
            tcp=device_class.match.tcp,
            baud=device_class.baud,
            dfu=device_class.driver is cfg.DriverName.DFU,
            loader=_pair(device_class.dfu.loader) if device_class.driver is cfg.DriverName.DFU else None,
            place=device_class.match.port,
            version=_version_source(device_class),
        )
        for device_class in config.devices
    ]


def labels(config: cfg.Config) -> dict[ClassName, str]:
    """The templates of labels, by class."""
    return {
        device_class.name: device_class.label
        for device_class in config.devices
        if device_class.label is not None
    }


def image_rules(config: cfg.Config) -> dict[ClassName, ImageRules]:
    """What the images of each class must be."""
    return {device_class.name: image_rules_of(device_class) for device_class in config.devices}


def trust(config: cfg.Config) -> Trust:
    """Who may sign releases, and which classes do without."""
    return Trust(
        keys=tuple(
            TrustedKey(
                name=key.name,
                public=key.public,
                classes=None if cfg.EVERY_CLASS in key.classes else frozenset(map(ClassName, key.classes)),
                revoked=key.revoked,
            )
            for key in config.keys
        ),
        unsigned=frozenset(each.name for each in config.devices if not each.require_signature),
    )


def usb_ids(config: cfg.Config) -> frozenset[tuple[int, int]]:
    """Vendor and product by which any unit may go, as application or in its loader; other devices are of no concern."""
    return frozenset(ids for device_class in config.devices for ids in _ids(device_class))


def _ids(device_class: cfg.DeviceClass) -> tuple[tuple[int, int], ...]:
    if device_class.driver is not cfg.DriverName.DFU:
        return ()
    return tuple(map(_pair, filter(None, (device_class.match.usb, device_class.dfu.loader))))


def _pair(ids: cfg.UsbId) -> tuple[int, int]:
    return ids.vendor_id, ids.product_id


def image_rules_of(device_class: cfg.DeviceClass) -> ImageRules:
    """What the images of a class must be."""
    return ImageRules(
        format=device_class.image_format,
        fill=device_class.image_fill,
        address=device_class.image_address,
        device=device_class.driver is cfg.DriverName.DFU,
        ids=_ids(device_class),
        alternate=device_class.dfu.alternate,
        hardware=device_class.hardware,
    )


def criteria(config: cfg.Config) -> Criteria:
    """What releases are judged by."""
    return Criteria(image_rules(config), trust(config))


def hooks(config: cfg.Config) -> dict[ClassName, Hook]:
    """The outcome hooks, by class."""
    return {
        device_class.name: Hook(command=device_class.on_outcome, timeout_s=device_class.on_outcome_timeout)
        for device_class in config.devices
        if device_class.on_outcome
    }


def driver_maker(classes: Callable[[], Mapping[ClassName, cfg.DeviceClass]], usb: UsbPorts) -> MakeDriver:
    """Make drivers by the configuration that is in force when an attempt starts."""

    def make(job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        device_class = classes()[job.device_class]
        if isinstance(address, SerialAddress):
            address = replace(address, baud=device_class.baud)
        match device_class.driver:
            case cfg.DriverName.MDFU:
                if isinstance(address, UsbAddress):
                    raise TypeError("MDFU goes over streams of bytes")
                return MdfuDriver(
                    mdfu_settings(device_class),
                    address,
                    journal,
                    open_link=open_link,
                    expected_version=job.version,
                )
            case cfg.DriverName.DFU:
                if not isinstance(address, UsbAddress):
                    raise TypeError("DFU goes over the USB itself")
                settings = dfu_settings(device_class, device.serial)
                if device.running_image is None and job.attempts == 0:
                    settings = replace(settings, recognise=True)
                return DfuDriver(settings, address, journal, ports=usb, expected_version=job.version)
            case unreachable:
                assert_never(unreachable)

    return make


def mdfu_settings(device_class: cfg.DeviceClass) -> MdfuSettings:
    """What the MDFU driver needs of a class."""
    query = device_class.version_query
    return MdfuSettings(
        enter=_enter(device_class.enter),
        settle_s=device_class.settle,
        boot_delay_s=device_class.boot_delay,
        version_query=None
        if query is None
        else VersionQuery(send=query.send, expect=query.expect, timeout_s=query.timeout, baud=query.baud),
        host=HostSettings(
            retries=device_class.mdfu.retries,
            discovery_s=device_class.mdfu.discovery,
            accept_newer=device_class.mdfu.accept_newer,
            honour_delay=device_class.mdfu.honour_delay,
        ),
    )


def dfu_settings(device_class: cfg.DeviceClass, serial: str = "") -> DfuSettings:
    """What the DFU driver needs of a class, and of the unit whose serial number that is."""
    tuning = device_class.dfu
    failsafe, declared = _relied_on(device_class)
    shown = device_class.match.usb
    return DfuSettings(
        application=frozenset() if shown is None else frozenset({_pair(shown)}),
        loader=frozenset({_pair(tuning.loader)}),
        image=image_rules_of(device_class),
        failsafe=failsafe,
        declared=declared,
        family=_family(device_class),
        application_at=tuning.application,
        alternate=tuning.alternate,
        enter=_enter_dfu(device_class.enter),
        enter_within_s=tuning.enter_within,
        return_within_s=tuning.return_within,
        serial=(serial or None) if device_class.identity is cfg.Identity.SERIAL else None,
        version=_version_source(device_class),
    )


def _version_source(device_class: cfg.DeviceClass) -> VersionSource | None:
    told = device_class.dfu.version
    return None if told is None else VersionSource(field=told.from_.value, expect=told.expect)


def _enter_dfu(way: cfg.Enter) -> EnterDetach | entry.EnterCommand | entry.EnterNone:
    if isinstance(way, cfg.EnterDetach):
        return EnterDetach()
    into = _enter(way)
    if not isinstance(into, entry.EnterCommand | entry.EnterNone):
        raise TypeError("a DFU interface is no stream of bytes")
    return into


def _enter(way: cfg.Enter) -> entry.Enter:
    match way:
        case cfg.EnterNone():
            return entry.EnterNone()
        case cfg.EnterPulse(steps=steps):
            return entry.EnterPulse(steps=tuple(_step(step) for step in steps))
        case cfg.EnterTouch1200(wait=wait):
            return entry.EnterTouch(wait_s=wait)
        case cfg.EnterSend(send=send, expect=expect, timeout=timeout, baud=baud):
            return entry.EnterSend(data=send, expect=expect, timeout_s=timeout, baud=baud)
        case cfg.EnterCommand(argv=argv, timeout=timeout):
            return entry.EnterCommand(argv=argv, timeout_s=timeout)
        case cfg.EnterDetach():
            raise TypeError("a stream of bytes has no DFU interface")
        case unreachable:
            assert_never(unreachable)


def _step(step: cfg.SetLine | cfg.Pause) -> entry.SetLine | entry.Pause:
    match step:
        case cfg.SetLine(line=line, on=on):
            return entry.SetLine("dtr" if line == "dtr" else "rts", on)
        case cfg.Pause(seconds=seconds):
            return entry.Pause(seconds)
        case unreachable:
            assert_never(unreachable)

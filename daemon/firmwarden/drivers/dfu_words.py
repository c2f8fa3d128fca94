"""What DFU devices and plans of their updates are called, for ``info`` and ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from firmwarden.drivers.base import PlannedStep, Step
from firmwarden.drivers.boot.describe import outlooks, planned_steps
from firmwarden.drivers.boot.outlook import Failsafe, Outlook
from firmwarden.drivers.boot.preflight import Grade
from firmwarden.drivers.dfu_settings import EnterDetach, revision_text
from firmwarden.drivers.entry import EnterCommand, EnterNone, describe
from firmwarden.protocol.dfu.descriptors import Attribute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.drivers.dfuse_visit import Memory, Planned
    from firmwarden.drivers.usb_place import Shown
    from firmwarden.protocol.dfu.descriptors import FunctionalDescriptor
    from firmwarden.protocol.dfu.steps import Unit

_UNTOUCHED = "nothing on the device has changed"


# --- a device ----------------------------------------------------------------------------------------


def about_application(shown: Shown) -> Mapping[str, str | int]:
    """Tell what the descriptors of an application say."""
    told: dict[str, str | int] = {"mode": "application", **_identity(shown)}
    if shown.interface is None:
        return told | {"dfu-interface": "none"}
    told["dfu-interface"] = shown.interface.number
    functional = shown.interface.functional
    return told if functional is None else told | _functional(functional, functional.version)


def about_loader(
    shown: Shown, unit: Unit, memories: tuple[Memory, ...], loader_id: int | None
) -> Mapping[str, str | int]:
    """Tell what a loader says."""
    told: dict[str, str | int] = {"mode": "loader", **_identity(shown)}
    told |= _functional(unit.functional, unit.version)
    told |= {f"memory-{memory.setting}": memory.text for memory in memories}
    if loader_id is not None:
        told["loader-id"] = f"0x{loader_id:02x}"
    return told


def _identity(shown: Shown) -> dict[str, str | int]:
    facts = shown.seen.facts
    told = {
        "ids": f"{facts.vendor_id:04x}:{facts.product_id:04x}",
        "manufacturer": facts.manufacturer,
        "product": facts.product,
        "serial": facts.serial or "",
        "revision": revision_text(facts.revision),
    }
    return {key: text for key, text in told.items() if text}


def _functional(functional: FunctionalDescriptor, version: int) -> dict[str, str | int]:
    attributes = (
        each.name.lower().replace("_", "-")
        for each in Attribute
        if each in functional.attributes and each.name
    )
    return {
        "dfu-version": revision_text(version),
        "attributes": ", ".join(attributes),
        "transfer-size": functional.transfer_size,
        "detach-timeout": f"{functional.detach_timeout_ms} ms",
    }


# --- a plan ------------------------------------------------------------------------------------------


def plan_unread(settings: DfuSettings, doubt: str | None, version: str) -> tuple[PlannedStep, ...]:
    """Plan for a device of which nothing was read, because its application runs: only what is true of all of them."""
    return (*_doubts(doubt), _enter(settings), *outlooks(settings.failsafe), _confirm(settings, version))


def plan_words(settings: DfuSettings, planned: Planned, version: str) -> tuple[PlannedStep, ...]:
    """Plan for a device whose memory was read: what was found, then what is done."""
    doubts = tuple(found.detail for found in planned.findings if found.grade is not Grade.GOOD)
    good = "; ".join(found.detail for found in planned.findings if found.grade is Grade.GOOD)
    checked = PlannedStep(step=Step.PROBE, does=f"check: {good}", if_interrupted=_UNTOUCHED)
    return (*_doubts(*doubts), checked, *planned_steps(planned.plan), _confirm(settings, version))


def plan_of_stream(
    settings: DfuSettings, doubt: str | None, size: int, version: str
) -> tuple[PlannedStep, ...]:
    """Plan for a loader that takes an image as a stream, and does the rest by itself."""
    outlook = Outlook.LOADER if settings.failsafe is Failsafe.RESIDENT_LOADER else Outlook.DEAD
    return (
        *_doubts(doubt),
        PlannedStep(
            step=Step.WRITE,
            does=f"send {size} bytes, which the loader writes as they come",
            if_interrupted=outlook.value,
        ),
        PlannedStep(
            step=Step.LEAVE,
            does="tell the loader that this was all: it checks the image, and starts it after a reset of the port",
            if_interrupted=outlook.value,
        ),
        _confirm(settings, version),
    )


def _doubts(*doubts: str | None) -> Iterator[PlannedStep]:
    for doubt in doubts:
        if doubt is not None:
            yield PlannedStep(step=Step.PROBE, does=f"wait for a person: {doubt}", if_interrupted=_UNTOUCHED)


def _enter(settings: DfuSettings) -> PlannedStep:
    match settings.enter:
        case EnterDetach():
            does = "ask the application by DFU_DETACH to make room for its loader"
        case EnterCommand() | EnterNone():
            does = describe(settings.enter)
        case unreachable:
            assert_never(unreachable)
    return PlannedStep(
        step=Step.ENTER,
        does=does,
        if_interrupted="the device may wait in its loader; its application is whole",
    )


def _confirm(settings: DfuSettings, version: str) -> PlannedStep:
    does = f"wait up to {settings.return_within_s:g} s until it is back as its application"
    if settings.version is not None:
        does += f", whose {settings.version.field} must tell version {version}"
    if settings.failsafe is Failsafe.GOLDEN_BANK:
        does += (
            "; the ROM starts the golden image first, so the outcome stays unknown until the device was reset or its "
            "power was off"
        )
    return PlannedStep(
        step=Step.CONFIRM,
        does=does,
        if_interrupted="the outcome is unknown until the device has been looked at",
    )

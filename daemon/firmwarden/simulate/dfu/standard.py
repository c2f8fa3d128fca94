"""The standard requests that a simulated device answers, whatever else it is.

Source: USB 2.0 Specification, 9.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.simulate.dfu.identity import CONFIGURATION, DEVICE, STRING

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.conversation import Reply
    from firmwarden.protocol.dfu.requests import Setup
    from firmwarden.simulate.dfu.identity import Identity
    from firmwarden.simulate.dfu.traits import Traits

_KIND: Final = 0x60
_FUNCTIONAL: Final = 0x21


@unique
class _Request(IntEnum):
    GET_STATUS = 0
    CLEAR_FEATURE = 1
    SET_FEATURE = 3
    SET_ADDRESS = 5
    GET_DESCRIPTOR = 6
    GET_CONFIGURATION = 8
    SET_CONFIGURATION = 9
    GET_INTERFACE = 10
    SET_INTERFACE = 11


@dataclass(slots=True)
class Chosen:
    """What the host chose."""

    configuration: int = 0
    alternate: int = 0


def is_standard(setup: Setup) -> bool:
    """Tell whether a request is one of these."""
    return not setup.request_type & _KIND


def answer(identity: Identity, traits: Traits, chosen: Chosen, setup: Setup) -> Reply:
    """Answer a standard request."""
    match setup.request:
        case _Request.GET_DESCRIPTOR:
            return _descriptor(identity, traits, setup)
        case _Request.GET_CONFIGURATION:
            return bytes((chosen.configuration,))
        case _Request.SET_CONFIGURATION if setup.value in {0, 1}:
            chosen.configuration, chosen.alternate = setup.value, 0
            return b""
        case _Request.GET_INTERFACE:
            return bytes((chosen.alternate,)) if _is_dfu(identity, setup) else b"\x00"
        case _Request.SET_INTERFACE if traits.selects and _is_dfu(identity, setup):
            alternates = identity.dfu.alternates if identity.dfu else ()
            if setup.value >= len(alternates):
                return Trouble.STALL
            chosen.alternate = setup.value
            return b""
        case _Request.GET_STATUS:
            return b"\x00\x00"
        case _Request.CLEAR_FEATURE | _Request.SET_FEATURE | _Request.SET_ADDRESS:
            return b""
        case _:
            return Trouble.STALL


def _is_dfu(identity: Identity, setup: Setup) -> bool:
    return identity.dfu is not None and setup.index == identity.dfu.number


def _descriptor(identity: Identity, traits: Traits, setup: Setup) -> Reply:
    kind, number = divmod(setup.value, 0x100)
    found: bytes | None = None
    if kind == DEVICE:
        found = identity.device()
    elif kind == CONFIGURATION and number == 0:
        found = identity.configuration()
    elif kind == STRING:
        found = identity.string(number, overlong=traits.overlong_strings)
    elif kind == _FUNCTIONAL and identity.dfu is not None:
        if not traits.answers_functional:
            return Trouble.TIMED_OUT
        found = identity.dfu.functional.encode()
    return Trouble.STALL if found is None else found[: setup.length]

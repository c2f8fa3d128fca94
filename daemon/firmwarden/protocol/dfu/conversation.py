"""How a DFU host speaks without a bus: a generator that yields what is to be done and is sent what came of it.

DFU is question and answer.  The host asks by a control transfer, the device answers within it or refuses; nothing
comes unasked.  So a host is best written as what it is, one question after the other, and a generator is that
without IO: ``reply = yield Control(...)``.  Conversations are put together with ``yield from``, and every point at
which the world may end is a ``yield``, where a test can count it and cut.

A ``Conversation[T]`` gives a ``T`` when it ends.  The shell's duties, in full:

* ``Control``: make the transfer with that time-out; send back the data that came (empty for a transfer to the
  device), or the ``Trouble`` instead.  A transfer to the device that was not taken whole is ``BROKEN``.
* ``SelectAlternate``: select the alternate setting, in the way that the system allows; send back as for ``Control``.
* ``Pause``: wait, then send ``b""``.
* ``ResetPort``: reset the port, whatever comes of it, then send ``b""``.  The device will be back under a new
  address, so no conversation goes on from there.
* ``Milestone``: do what has to be durable, then send ``b""``.  Between two milestones nothing else may be
  stopped for: a shell that was asked to stop does it here.
* An ``AttemptFailed`` that the generator raises ends the conversation; so does closing it, at any ``yield``.  No
  conversation does or asks for anything then: there is no tidying up that could start half an image.

A shell fits in a dozen lines, so each has its own: the driver's moves transfers to a thread, the tests' has none.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, TypeVar

from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.requests import Setup


@dataclass(frozen=True, slots=True)
class Control:
    """Make a control transfer."""

    setup: Setup
    timeout_s: float
    """Devices that carry a command out within the transfer hold it back for so long."""
    data: bytes = b""
    """What goes to the device."""


@dataclass(frozen=True, slots=True)
class SelectAlternate:
    """Select an alternate setting of the interface."""

    interface: int
    setting: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Leave the device alone."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class ResetPort:
    """Reset the port that the device is on."""


@dataclass(frozen=True, slots=True)
class Writing(Milestone):
    """What comes next may erase: it must be on disk before."""


@dataclass(frozen=True, slots=True)
class Progress(Milestone):
    """A boundary between two steps."""

    done: int
    """Bytes, of those that this conversation moves."""
    total: int


Event = Control | SelectAlternate | Pause | ResetPort | Milestone


@unique
class Trouble(Enum):
    """What may come instead of an answer."""

    STALL = "the device refused"
    TIMED_OUT = "the device did not answer in time"
    GONE = "the device is gone"
    BROKEN = "the transfer broke"


Reply = bytes | Trouble

_T = TypeVar("_T")
Conversation = Generator[Event, Reply, _T]

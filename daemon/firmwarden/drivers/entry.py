"""Ways into a loader: how a device that runs its application is brought to listen to an update.

The way is tried afresh on every attempt.  A device that is already in its loader, because an earlier attempt broke
off, must not be lost by it: so no way demands more than such a device can give.

Nothing here knows a protocol; what comes out is an open link behind which a loader should answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, assert_never

import anyio

from firmwarden.errors import AttemptFailed, LinkError, LinkLost, OpenFailed, PortHeld
from firmwarden.model import Cause, CauseCode, SerialAddress
from firmwarden.programs import run_program

if TYPE_CHECKING:
    import re

    from firmwarden.model import Address, StreamAddress
    from firmwarden.transport.link import Link, OpenLink

TOUCH_BAUD: Final = 1200
RETURNS_WITHIN_S: Final = 10.0
"""How long the port of an application with a USB of its own may be away, until it is back as the loader's."""
_VANISHES_WITHIN_S: Final = 2.0
"""Boards leave the bus some hundred milliseconds after the touch.  One that stays this long is not going to."""
_LOOK_AGAIN_S: Final = 0.05

_REPLY_LIMIT: Final = 16 * 1024
"""Bytes among which an application's reply is looked for; one that logs without end is told from one that replies."""
_TOLD: Final = 200
"""Bytes of a reply that go into a cause."""


@dataclass(frozen=True, slots=True)
class EnterNone:
    """The loader listens by itself."""


@dataclass(frozen=True, slots=True)
class SetLine:
    """Set a control line."""

    line: Literal["dtr", "rts"]
    on: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Leave the lines as they are."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterPulse:
    """Move DTR and RTS, which are wired to the device's reset and boot pins."""

    steps: tuple[SetLine | Pause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterTouch:
    """Open the port at 1200 baud, drop DTR and close it; the device comes back as its loader."""

    wait_s: float = RETURNS_WITHIN_S
    """How long the port may take to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterSend:
    """Send bytes to the application.

    A reply that does not come, or is another one, is no failure yet: a device in its loader does not reply, or
    complains about what it takes for a damaged command.  Whether a loader answers afterwards decides.
    """

    data: bytes
    expect: re.Pattern[bytes] | None = None
    timeout_s: float = 2.0
    baud: int | None = None
    """The application's rate, where it differs from the loader's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterCommand:
    """Run a program, with the port's name in ``FIRMWARDEN_PORT``.  It must succeed for a device in its loader, too."""

    argv: tuple[str, ...]
    timeout_s: float = 30.0


Enter = EnterNone | EnterPulse | EnterTouch | EnterSend | EnterCommand


@dataclass(frozen=True, slots=True)
class Entered:
    """The way was gone."""

    link: Link
    """Behind it a loader should answer.  What has come so far is noise of the way; and where an application goes into
    its loader at a time of its own and takes its port along, the link may break, or be broken, before one does."""
    doubt: str = ""
    """What speaks against it, for the cause should no loader answer."""


async def enter(way: Enter, address: StreamAddress, open_link: OpenLink) -> Entered:
    """Go the way and open a link to the loader.

    Raises:
        AttemptFailed: the way is not passable; the cause is ENTRY_FAILED.
        PortHeld: somebody else has the port; a device that is in use is not sent into its loader.
        OpenFailed: the port cannot be opened.
        LinkLost: the port went away.
    """
    match way:
        case EnterNone():
            return Entered(await open_link(address))
        case EnterPulse(steps=steps):
            return Entered(await _pulse(steps, await open_link(address)))
        case EnterTouch(wait_s=wait_s):
            await _touch(address, open_link)
            return Entered(await open_link(address, patience_s=wait_s))
        case EnterSend(baud=baud) if (
            baud is not None and isinstance(address, SerialAddress) and baud != address.baud
        ):
            asked = await _ask(way, await open_link(replace(address, baud=baud)))
            try:
                # What has not left when a link is closed is lost.
                await anyio.sleep(len(way.data) * 10 / baud)
            finally:
                await asked.link.aclose()
            return replace(asked, link=await open_link(address, patience_s=RETURNS_WITHIN_S))
        case EnterSend():
            return await _ask(way, await open_link(address))
        case EnterCommand():
            await _find_free(address, open_link)
            await run_command(way, address)
            return Entered(await open_link(address, patience_s=RETURNS_WITHIN_S))
        case unreachable:
            assert_never(unreachable)


def describe(way: Enter) -> str:
    """Say in one sentence what the way does, for a plan."""
    match way:
        case EnterNone():
            return "The loader listens by itself: nothing is sent to the application."
        case EnterPulse(steps=steps):
            return f"DTR and RTS are moved in {len(steps)} steps, which resets the device into its loader."
        case EnterTouch():
            return "The port is opened at 1200 baud and closed, and comes back as the loader."
        case EnterSend(data=data, expect=None):
            return f"The application is sent {len(data)} byte(s)."
        case EnterSend(data=data):
            return f"The application is sent {len(data)} byte(s) and should reply."
        case EnterCommand(argv=argv):
            return f"The program {argv[0]} is run."
        case unreachable:
            assert_never(unreachable)


def _failed(detail: str) -> AttemptFailed:
    return AttemptFailed(Cause(code=CauseCode.ENTRY_FAILED, detail=detail))


async def _pulse(steps: tuple[SetLine | Pause, ...], link: Link) -> Link:
    try:
        for step in steps:
            match step:
                case SetLine(line="dtr", on=on):
                    await link.set_lines(dtr=on)
                case SetLine(on=on):
                    await link.set_lines(rts=on)
                case Pause(seconds=seconds):
                    await anyio.sleep(seconds)
                case unreachable:
                    assert_never(unreachable)
    except LinkError as exc:
        await link.aclose()
        raise _failed(str(exc)) from exc
    except BaseException:
        await link.aclose()
        raise
    return link


async def _touch(address: StreamAddress, open_link: OpenLink) -> None:
    if not isinstance(address, SerialAddress):
        raise _failed(f"{address} is no serial port, which the 1200-baud touch needs")
    link = await open_link(replace(address, baud=TOUCH_BAUD))
    try:
        await link.set_lines(dtr=False)
    except LinkError:
        pass  # some drivers have no lines; the rate alone tells most devices
    finally:
        await link.aclose()
    with anyio.move_on_after(_VANISHES_WITHIN_S):
        while _exists(address.path):  # noqa: ASYNC110  (no event tells a driver)
            await anyio.sleep(_LOOK_AGAIN_S)


def _exists(path: str) -> bool:
    return Path(path).exists()


async def _ask(way: EnterSend, link: Link) -> Entered:
    try:
        await link.send(way.data)
        doubt = "" if way.expect is None else await _await_reply(way.expect, way.timeout_s, link)
    except BaseException:
        await link.aclose()
        raise
    return Entered(link, doubt)


async def _await_reply(expect: re.Pattern[bytes], timeout_s: float, link: Link) -> str:
    """Return what is wrong with the reply, nothing when it is the expected one."""
    heard = b""
    try:
        with anyio.move_on_after(timeout_s):
            while len(heard) < _REPLY_LIMIT:
                heard += await link.receive()
                if expect.search(heard):
                    return ""
    except LinkLost:
        pass  # perhaps on its way into the loader, and the reply went down with the port
    if not heard:
        return "the application did not reply to the request for the loader"
    return f"the application's reply to the request for the loader was {heard[:_TOLD]!r}"


async def _find_free(address: StreamAddress, open_link: OpenLink) -> None:
    """Make sure that nobody has the port: the program would not ask.

    Raises:
        PortHeld: somebody has it.
    """
    if not isinstance(address, SerialAddress):
        return  # who else talks to a serial server is not told by connecting to it
    try:
        link = await open_link(address, patience_s=0)
    except PortHeld:
        raise
    except OpenFailed:
        return  # the program may be what brings the port, as one that switches the power does
    await link.aclose()


async def run_command(way: EnterCommand, address: Address) -> None:
    """Run the program of a way into a loader.

    Raises:
        AttemptFailed: it failed.
    """
    wrong = await run_program(way.argv, timeout_s=way.timeout_s, extra_env={"FIRMWARDEN_PORT": str(address)})
    if wrong:
        raise _failed(f"{way.argv[0]}: {wrong}")

"""Asking an application something over its port, and knowing its answer by a pattern."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.model import SerialAddress
from firmwarden.transport.link import OPEN_PATIENCE_S

if TYPE_CHECKING:
    import re

    from firmwarden.model import StreamAddress
    from firmwarden.transport.link import Link, OpenLink

TRIES: Final = 3
"""One reply may be lost or damaged, and what another version is said to be is believed when it was told twice."""

_REPLY_LIMIT: Final = 16 * 1024
"""Bytes among which the answer is looked for."""

_TOLD: Final = 80
"""Bytes of an unexpected reply that are told."""

_REPLY_SETTLES_S: Final = 0.1
"""A reply that matches may still go on: 2.4.1 may be the beginning of 2.4.10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is sent, and what the answer must be."""

    send: bytes
    expect: re.Pattern[bytes]
    """Its group, where it has one, is what the application tells; else all that matches."""
    timeout_s: float = 2.0
    baud: int | None = None
    """The application's rate, where it differs from the loader's."""

    def at(self, address: StreamAddress) -> StreamAddress:
        """The address, at the application's rate."""
        if self.baud is None or not isinstance(address, SerialAddress):
            return address
        return replace(address, baud=self.baud)


async def ask_once(link: Link, question: Question) -> str | None:
    """Ask once; None when no answer comes in time."""
    told, _ = await _ask(link, question)
    return told


async def _ask(link: Link, question: Question) -> tuple[str | None, bytes]:
    """Ask once; return the answer, None when none comes in time, and all that was heard."""
    link.discard_input()
    await link.send(question.send)
    heard = told = b""
    with anyio.move_on_after(question.timeout_s) as scope:
        latest = scope.deadline + _REPLY_SETTLES_S
        while len(heard) < _REPLY_LIMIT:
            heard += await link.receive()
            found = question.expect.search(heard)
            # Only what changes the answer extends the wait: an application may go on with its log.
            if found is not None and (found[question.expect.groups] or b"") != told:
                told = found[question.expect.groups] or b""
                scope.deadline = min(anyio.current_time() + _REPLY_SETTLES_S, latest)
    return told.decode(errors="replace") or None, heard


async def ask_how_it_is(
    question: Question, address: StreamAddress, expected_version: str, open_link: OpenLink
) -> str:
    """Ask an application how it is, and return what is wrong with it, nothing when it is well.

    Where the pattern has a group, that is the version, and must be the expected one.

    Raises:
        PortHeld: somebody else has the port; nothing was sent.
        LinkError: the way to it failed.
    """
    told: str | None = None
    heard = b""
    link = await open_link(question.at(address), patience_s=OPEN_PATIENCE_S)
    try:
        for _ in range(TRIES):
            answer, reply = await _ask(link, question)
            if answer is not None and (not question.expect.groups or answer == expected_version):
                return ""
            told, heard = answer or told, reply or heard
    finally:
        await link.aclose()
    if told is not None:
        return f"it says that it is {told}, not {expected_version}"
    if heard:
        return f"it was asked {TRIES} times, and the last reply was {heard[:_TOLD]!r}"
    return f"it was asked {TRIES} times, and gave no reply"

"""The shell of a DFU conversation: it makes the transfers, waits, counts, and stops at milestones for the driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, assert_never

import anyio

from firmwarden.model import LinkStats
from firmwarden.protocol.dfu.conversation import Control, Pause, ResetPort, SelectAlternate, Trouble
from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from firmwarden.protocol.dfu.conversation import Conversation, Event, Reply
    from firmwarden.transport.usb_link import UsbLink

T = TypeVar("T")


class Shell:
    """Runs conversations; what its ``milestone`` raises ends one, and nothing is sent any more then.

    Attributes:
        stats: the transfers of all conversations so far.
    """

    def __init__(self, milestone: Callable[[Milestone], Awaitable[None]]) -> None:
        self.stats = LinkStats()
        self._milestone = milestone

    async def run(self, link: UsbLink, conversation: Conversation[T]) -> T:
        """Drive a conversation to its end.

        Raises:
            AttemptFailed: it failed.
        """
        try:
            event = next(conversation)
            while True:
                event = conversation.send(await self._answer(link, event))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            conversation.close()

    async def _answer(self, link: UsbLink, event: Event) -> Reply:
        match event:
            case Control():
                return self._counted(event, await link.transfer(event))
            case SelectAlternate():
                self.stats = replace(self.stats, commands=self.stats.commands + 1)
                return await link.select(event)
            case Pause(duration_s):
                await anyio.sleep(duration_s)
            case ResetPort():
                await link.reset()
            case Milestone():
                await self._milestone(event)
            case unreachable:
                assert_never(unreachable)
        return b""

    def _counted(self, ask: Control, reply: Reply) -> Reply:
        stats = self.stats
        self.stats = replace(
            stats,
            commands=stats.commands + 1,
            timeouts=stats.timeouts + (reply is Trouble.TIMED_OUT),
            sent_bytes=stats.sent_bytes + len(ask.data),
            received_bytes=stats.received_bytes + (len(reply) if isinstance(reply, bytes) else 0),
        )
        return reply

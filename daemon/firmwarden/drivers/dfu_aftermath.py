"""The end of a DFU attempt: waiting for what comes back, and what to believe of it.

A version that is the wanted one is proof whenever it is seen.  That an application is back at all is proof only in the
attempt that has just checked the image and seen the device leave: later it may be the one from before, or another
board's.  Nor is anything held against an image but what this attempt saw itself.  Whatever a cable could have done is
tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.drivers.base import Landing
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu_access import as_causes, patience
from firmwarden.errors import AttemptFailed, PortHeld
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.dfu.host import reset_if_waiting
from firmwarden.protocol.dfu.quirks import Mode
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.protocol.dfu.verdicts import failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.drivers.dfu_access import Access, Opened
    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.drivers.usb_place import Shown
    from firmwarden.protocol.dfu.conversation import Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """That a device was told to start an image."""

    evidence: str
    """What is known of the image, for a person."""
    heard: bool = False
    """In this attempt the loader said that it leaves, or that it puts the image in force."""
    checked: bool = False
    """In this attempt the image was read back whole."""
    again: Callable[[Opened], Conversation[bool]] | None = None
    """Reads the image back and starts it once more, and returns what is then heard."""


class Aftermath:
    """Waits for one device, and judges."""

    def __init__(self, settings: DfuSettings, access: Access, expected_version: str) -> None:
        self._settings = settings
        self._access = access
        self._place = access.place
        self._expected_version = expected_version

    async def landed(self, loader: Shown, sent: Sent) -> Landing:
        """See what comes of the loader that was told to start an image.

        A device that left and is in its loader again gets one more chance at once: twice seen by the same attempt, it
        speaks against the image.

        Raises:
            AttemptFailed: the image did not start, or another one did.
        """
        try:
            with as_causes():
                shown = await self._next(loader)
                if not sent.heard and await self._reset_if_waiting(shown, ended=True):
                    shown = await self._next(loader)
                if sent.heard and sent.again and shown is not None and _came_back(loader, shown):
                    heard = await self._start_again(shown, sent, sent.again)
                    loader, shown = shown, await self._next(shown)
                    if heard and shown is not None and _came_back(loader, shown):
                        detail = f"{sent.evidence}, twice, and each time the device comes back in its loader"
                        raise failure(CauseCode.FIRMWARE_CORRUPT, detail)
                return await self._conclude(shown, sent)
        except PortHeld as exc:
            # Too late for "nothing was sent".
            return _unknown(f"{sent.evidence}; asking whether it started has to wait: {exc}")

    async def confirm(self, *, ended: bool) -> Landing:
        """See what became of an attempt that ended unknown.

        Nothing is sent to a device but the reset that some wait for in the end.

        Args:
            ended: that attempt got as far as to tell the device that it has the whole image.

        Raises:
            AttemptFailed: the image was not seen to run.
        """
        within_s = self._settings.return_within_s
        shown = await self._place.wait_for(self._place.may_be_application, within_s)
        if await self._reset_if_waiting(shown, ended=ended):
            shown = await self._place.wait_for(self._place.may_be_application, within_s)
        return await self._conclude(shown, Sent(evidence="the device was told to start the image"))

    async def _next(self, loader: Shown) -> Shown | None:
        """Wait for an application behind a loader that was told to leave; return what there is in the end."""

        def is_back(shown: Shown) -> bool:
            # What has left may still be shown for a moment.
            return shown.seen.address != loader.seen.address and self._place.may_be_application(shown)

        return await self._place.wait_for(is_back, patience(self._settings.return_within_s, loader.quirks))

    async def _start_again(
        self, shown: Shown, sent: Sent, again: Callable[[Opened], Conversation[bool]]
    ) -> bool:
        try:
            with as_causes():
                async with self._access.opened(shown) as loader:
                    return await loader.run(again(loader))
        except AttemptFailed as failed:
            detail = f"{sent.evidence}, and the device is in its loader again; there, {failed}"
            raise failure(CauseCode.NOT_STARTED, detail) from failed

    async def _reset_if_waiting(self, shown: Shown | None, *, ended: bool) -> bool:
        if shown is None or shown.interface is None:
            return False
        if not self._place.may_be_loader(shown) or self._place.is_another(shown):
            return False
        if Unit.of(shown.interface, shown.quirks).dfuse:
            return False
        async with self._access.opened(shown) as loader:
            return await loader.run(reset_if_waiting(loader.unit, told=ended))

    async def _conclude(self, shown: Shown | None, sent: Sent) -> Landing:
        """Conclude from what is at the place."""
        evidence, place = sent.evidence, self._place
        if shown is None:
            return _unknown(f"{evidence}, and nothing came back at {place}")
        if not place.is_known(shown) or place.is_another(shown):
            return _unknown(f"{evidence}, and at {place} there is {shown} now")
        if await self._access.mode(shown) is not Mode.RUN_TIME:
            raise failure(CauseCode.NOT_STARTED, f"{evidence}, and the device is in its loader")
        return self._conclude_from_application(shown, sent)

    def _conclude_from_application(self, shown: Shown, sent: Sent) -> Landing:
        source = self._settings.version
        version = None if source is None else source.read(shown.seen.facts)
        if version is not None and version == self._expected_version:
            says = f"the application says that it is {version}"
            return Landing(confirmed=True, evidence=says, version=version)
        back = f"{sent.evidence}; it is back as {shown}"
        if not self._place.shows_itself(shown):
            return _unknown(f"{back}, of which nobody said that it is its application")
        if source is not None and version is None:
            return _unknown(f"{back}, which tells no version")
        if self._settings.failsafe is Failsafe.GOLDEN_BANK:
            # A ROM that is told to leave jumps into bank 1, whatever it would choose after a reset.
            return _unknown(f"{back}, which may be the golden image, until the next reset")
        if version is None:
            if sent.heard or sent.checked:
                return Landing(confirmed=True, evidence=back)
            raise failure(
                CauseCode.NOT_STARTED, f"{back}, which without a version may be the one from before"
            )
        detail = f"the application says that it is {version}, not {self._expected_version}"
        if sent.heard:
            raise failure(CauseCode.VERSION_MISMATCH, detail, raw=version.encode())
        raise failure(
            CauseCode.NOT_STARTED, f"{sent.evidence}; {detail}, so the one from before may still run"
        )


def _came_back(loader: Shown, shown: Shown) -> bool:
    """Tell whether a loader left the bus and is there again, the same for all that it shows."""
    return loader.seen.facts == shown.seen.facts and loader.seen.address != shown.seen.address


def _unknown(evidence: str) -> Landing:
    cause = Cause(code=CauseCode.END_UNANSWERED, detail=evidence)
    return Landing(confirmed=False, evidence=evidence, cause=cause)

"""Settings of an option bit whose power fails at every instant, and what ``firmwarden provision`` says of each.

The command itself runs, against a simulated part that is in the loader in its ROM.  The power goes before, in the
middle of and after every operation on the option bytes, and before and after every status poll; it comes back, and the
command looks.  What is left is judged by the chip, which loads its option bytes anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cache
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.app.named_usb import ST_ROM, UsbTarget, UsbWay
from firmwarden.app.provision import Visits
from firmwarden.errors import AttemptFailed, Refused
from firmwarden.simulate.dfu.chip import Reset
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.flash import Tear
from firmwarden.simulate.dfu.options import ENTRY
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.dfu.work import Cut, When
from support import virtual_time
from support.dfu_ports import SimulatedUsb
from support.dfu_simulated import image, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from firmwarden.app.provision import Survey
    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.dfu.chip import Boot
    from firmwarden.simulate.dfu.work import Moment

SETTABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stm32l476": "STM32L476RG",
        "stm32l4p5": "STM32L4P5CG",
        "stm32l4s5": "STM32L4S5VI",
        "stm32g474": "STM32G474RE",
    }
)
"""Simulated parts whose bit the command sets, with their part numbers."""

REFUSED: Final = "refused"
"""What the command says where it has not written."""

SHARES: Final = (0.0, 0.25, 0.75)


@unique
class Span(StrEnum):
    """Where in the write a cut was."""

    BEFORE = "before the erase"
    FIRST = "until the first word is written"
    FURTHER = "until the last word is written"
    AFTER = "after it"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionCut:
    """One cut, what was said of it, and what is true."""

    span: Span
    said: str
    all_seen: bool
    """The loader shows all option bytes, so that the command can speak for them."""
    again: str
    """What the command would do if it were given once more."""
    left: str
    """`old`, `new`, or what protects it since words do not fit their complements."""
    torn: bool
    """Neither old nor new."""
    shown_as_meant: bool
    """What the loader shows of the option bytes is as it should be."""
    level: int
    boot: Boot
    """At the next power-on, with BOOT0 low."""


@cache
def option_campaign(name: str) -> tuple[OptionCut, ...]:
    """Cut the power of a part at every instant while its bit is set."""
    return virtual_time.run(_Campaign(name).cuts)


class _Campaign:
    def __init__(self, name: str) -> None:
        part = PARTS[name]
        # With a supply of its own: the cable that gives the power back is then no second cut.
        what = settings(part, image("old", part, 6000), boot0=True, self_powered=True)
        self._part = SETTABLE[name]
        self._usb = SimulatedUsb(what)
        self._device = self._usb.device = SimDfu(what, self._hear)
        self._old = self._new = self._device.chip.stored

    def _hear(self, event: SimEvent) -> None:
        if event.kind == "power-lost":
            self._device.unplug(event.at, back_s=0.05)

    async def cuts(self) -> tuple[OptionCut, ...]:
        device = self._device
        device.plug(anyio.current_time())
        await anyio.sleep(1)
        seen = self._usb.see()
        assert seen is not None
        visits = Visits(self._part, UsbWay(UsbTarget(ids=ST_ROM), seen, self._usb))  # type: ignore[arg-type]
        survey = await visits.survey()
        begin = device.snapshot()
        moments: list[Moment] = []
        device.watcher = moments.append
        await visits.write(survey)
        self._new = device.chip.stored
        found = []
        for number, moment in enumerate(moments):
            for cut in _ways(moment):
                device.watcher = None
                device.restore(begin)
                await anyio.sleep(1)
                device.watcher = _at(number, cut)
                said = await _said(visits, survey)
                # If it was the command's last look that was cut, the power is not back yet.
                await anyio.sleep(1)
                device.watcher = None
                again = await _again(visits)
                span = _span(moments, number, cut.when)
                found.append(self._judge(span, said, again, all_seen=survey.change.all_seen))
        return tuple(found)

    def _judge(self, span: Span, said: str, again: str, *, all_seen: bool) -> OptionCut:
        chip = self._device.chip
        chip.boot0 = 0
        boot = chip.boot(Reset.POWER_ON)
        chip.boot0 = 1
        return OptionCut(
            span=span,
            said=said,
            all_seen=all_seen,
            again=again,
            left=self._left(),
            torn=chip.stored not in {self._old, self._new},
            shown_as_meant=all(
                chip.stored[block.first * ENTRY :][: block.size]
                == self._new[block.first * ENTRY :][: block.size]
                for block in chip.part.options.shown
            ),
            level=chip.level,
            boot=boot,
        )

    def _left(self) -> str:
        chip = self._device.chip
        if chip.stored == self._old:
            return "old"
        if chip.stored == self._new:
            return "new"
        pages = chip.flash.pages // chip.part.banks
        banks = [bank for bank in range(chip.part.banks) if chip.protected(bank * pages)]
        told = [f"RDP level {chip.level}"] if chip.level else []
        told += [f"PCROP of bank {' and '.join(str(1 + bank) for bank in banks)}"] if banks else []
        return ", ".join(told) or "no protection"


def _ways(moment: Moment) -> Iterator[Cut]:
    yield Cut(When.BEFORE)
    if moment.operation is not None:
        for share in SHARES:
            yield Cut(When.DURING, Tear(share))
    yield Cut(When.AFTER)


def _at(number: int, cut: Cut) -> Callable[[Moment], Cut | None]:
    """Watch for the moment with a number, counted from now on."""
    numbers = count()
    return lambda _moment: cut if next(numbers) == number else None


def _span(moments: list[Moment], number: int, when: When) -> Span:
    """Return where a cut is, by what has been begun and what has been done until then."""
    work = [at for at, moment in enumerate(moments) if moment.operation is not None]
    begun = sum(at < number + (when is not When.BEFORE) for at in work)
    done = sum(at < number + (when is When.AFTER) for at in work)
    if not begun:
        return Span.BEFORE
    if done == len(work):
        return Span.AFTER
    # The erase, and the first word behind it.
    return Span.FIRST if done < 2 else Span.FURTHER


async def _said(visits: Visits, survey: Survey) -> str:
    try:
        return (await visits.write(survey)).result.value
    except AttemptFailed:
        return REFUSED


async def _again(visits: Visits) -> str:
    try:
        survey = await visits.survey()
    except (AttemptFailed, Refused):
        return REFUSED
    return "nothing-to-do" if survey.change.nothing_to_do else "written"

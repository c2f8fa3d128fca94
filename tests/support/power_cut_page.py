"""Writes docs/reference/dfu-power-cuts.md: what is known of silicon, what is promised, and what the campaign saw.

``python -m support.power_cut_page`` writes it; tests/faults/test_power_cut_dfu.py compares.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.outlook import OUTLOOKS, Failsafe, Stage
from support.option_cuts import SETTABLE, Span, option_campaign
from support.power_cuts import Case, campaign, cases, relied_on
from support.reference_pages import REFERENCE, code, sentence, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.drivers.boot.facts import BankCheck, Family
    from support.power_cuts import Tally

PAGE: Final = REFERENCE / "dfu-power-cuts.md"

COLUMNS: Final[Mapping[str, tuple[Stage, ...]]] = {
    "first page": (Stage.INVALIDATE,),
    "body": (Stage.ERASE, Stage.WRITE, Stage.VERIFY),
    "commit": (Stage.COMMIT,),
    "end": (Stage.CHECK, Stage.LEAVE),
}

STAGES: Final[Mapping[Stage, str]] = {
    Stage.READ: "what is there is read and compared",
    Stage.INVALIDATE: "the page with the vectors is erased, and seen to be",
    Stage.ERASE: "the other pages that differ are erased",
    Stage.WRITE: "everything but the first granule is written",
    Stage.VERIFY: "everything is read back",
    Stage.COMMIT: "the first granule is written",
    Stage.CHECK: "it is read back",
    Stage.LEAVE: "the image is started",
}


def render() -> str:
    """Write the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from """\
# Power cuts in a DFU update

An update over DfuSe is done in one order: the page with the vectors is erased first, the first granule of the image is
written last, and all between is read back. What a loss of power leaves depends on what the silicon does when it finds
no image, and that is what a device class says with `failsafe`. Only the loss of *power* is meant here: while the device
keeps it, its loader goes on running whatever happens to cable and host, and the next visit goes on.
[Why a DFU update survives](../explanation/dfu.md) has the whole argument, and
[a how-to](../how-to/make-stm32-updates-failsafe.md) what to do about it.

This page is written by the code: the facts by `drivers/boot/families.py`, the promise by `drivers/boot/outlook.py`, the
last two tables by the campaigns in `tests/faults`.

## What the silicon does

*Empty check*: with the first word of the flash erased the ROM's loader runs, at power-on. *Bank check*: with these
option bits the ROM runs first and stays in its loader when no bank begins with what could be a stack pointer. Where
neither is named the device starts the flash whatever is in it, and only a resident loader (or BOOT0) protects it. What
is not proven is not relied on: an update that nobody watches waits.
""".splitlines()
    yield from table(
        ("parts", "empty check", "bank check", "granule", "known from", "remark"),
        (_family(family) for family in FAMILIES),
    )
    yield from """
## What is promised

What the device does when its power comes back, by the stage in which it went.
""".splitlines()
    yield from table(
        ("stage", "what happens in it", *(code(failsafe.value) for failsafe in Failsafe)),
        (
            (
                code(stage.value),
                what,
                *(OUTLOOKS[failsafe][stage].name.lower().replace("_", " ") for failsafe in Failsafe),
            )
            for stage, what in STAGES.items()
        ),
    )
    yield from table(("word", "what it means"), _words())
    yield from """
*Safe* are all of these but `marginal` and `dead`. The two marginal stages last as long as the erase of one page (about
22 ms on an STM32L4, hundreds of milliseconds on an STM32F4) and the write of one granule (a tenth of a millisecond). No
order of writing closes them; a resident loader does.

## What the campaign saw

Simulated parts of eight pages are updated, and the power fails before, in the middle of and after every erase and
every write. In the middle means many times: a random part of the cells has changed, and the check bits, where the flash
has them, fit or do not. Then the part boots. A number counts cuts; what it counts is what came up: `old` and `new` are
whole images, `rom`, `loader` and `golden` what goes on with the update, which was then finished every time. **Bold** is
what needs a hand at the device: *locked up*, *resetting* (the ROM cannot read the first word) or *partial* (something
that is not whole runs).
""".splitlines()
    yield from table(("part", "`failsafe`", "relied on", *COLUMNS), (_case(case) for case in cases()))
    yield from """
## Setting the option bit

No update writes option bytes. `firmwarden provision` does, once in the life of a device, and nothing makes that safe:
all are erased, and then programmed word by word. The command itself runs here, with BOOT0 high. The power fails before,
in the middle of and after each of these operations, and before and after every status poll; it comes back, and the
command looks. A number counts cuts, behind what the command said and what is left: the `old` option bytes, the `new`
ones, or what protects the part since words do not fit their complements. **Bold** is what needs a debugger.

The command says `done` of what its loader shows. That of an STM32L47x does not show the option bytes of bank 2, and it
says that, too. The image is untouched, and the simulated parts start it after every cut; but where code is protected
(PCROP) no update can replace what is there. That a part is locked for good its manual does not rule out, and no
simulated part does it.
""".splitlines()
    yield from table(("part", *Span), (_setting(name) for name in SETTABLE))


def _words() -> Iterator[tuple[str, str]]:
    seen = dict.fromkeys(outlook for row in OUTLOOKS.values() for outlook in row.values())
    for outlook in seen:
        yield code(outlook.name.lower().replace("_", " ")), sentence(outlook.value)


def _family(family: Family) -> tuple[str, ...]:
    return (
        family.title,
        "yes" if family.empty_check else "",
        _bank_check(family.bank_check),
        str(family.flash.granule),
        f"{family.source.text} ({family.source.confidence.value})",
        family.remark,
    )


def _bank_check(check: BankCheck | None) -> str:
    if check is None:
        return ""
    notes = [f"loader 0x{check.loader_at_least:02X} or newer"] if check.loader_at_least is not None else []
    if not check.proven:
        notes.append(f"not proven: {check.doubt}")
    return "; ".join((code(check.setting), *notes))


def _case(case: Case) -> tuple[str, ...]:
    tallies = campaign(case)
    return (
        case.name,
        code(case.failsafe.value),
        "" if case.failsafe is Failsafe.NONE else "no" if relied_on(case) else "yes",
        *(_cell(tallies, stages) for stages in COLUMNS.values()),
    )


def _cell(tallies: Mapping[Stage, Tally], stages: tuple[Stage, ...]) -> str:
    found: dict[str, int] = {}
    dead: set[str] = set()
    for stage in stages:
        for name, count in tallies[stage].cuts.items():
            found[name] = found.get(name, 0) + count
        dead |= tallies[stage].dead_names
    return ", ".join(
        f"**{name} {count}**" if name in dead else f"{name} {count}" for name, count in sorted(found.items())
    )


def _setting(name: str) -> tuple[str, ...]:
    found = {span: Counter[str]() for span in Span}
    for cut in option_campaign(name):
        told = f"`{cut.said}`: {cut.left}"
        found[cut.span][f"**{told}**" if cut.torn else told] += 1
    return name, *("; ".join(f"{told} {count}" for told, count in each.items()) for each in found.values())


def main() -> None:
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()

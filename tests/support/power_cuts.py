"""Updates of simulated chips whose power fails at every instant, and the table of what becomes of them.

A chip of a few pages is updated by a procedure as ``drivers/boot`` plans it.  Before, in the middle of and after every
erase and every write the power fails: the chip is put back to a snapshot, the operation is torn, the chip boots.
Then the update is gone on with as the service would: from what the journal has and what the flash holds.

The chip is the simulator's, which shares no knowledge of silicon with the procedures.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot import recovery
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe, Outlook, Stage
from firmwarden.drivers.boot.preflight import Grade, preflight, verdict
from firmwarden.drivers.boot.procedures import Commit, Leave, Program, ReadBack, procedure
from firmwarden.drivers.boot.procedures import ErasePage as EraseStep
from firmwarden.drivers.boot.reads import wanted
from firmwarden.drivers.boot.target import Target
from firmwarden.model import CommitMark, Phase
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.chip import Chip, ErasePage, Reset
from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Firmware, Role, Service, seal
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.drivers.boot.procedures import Procedure, Step
    from firmwarden.simulate.dfu.chip import Boot, Operation
    from firmwarden.simulate.dfu.parts import Part

PAGES: Final = 8
GRANULES: Final = 8
"""Of a page: enough for a first, a last, and some between."""

ORDERED: Final[Mapping[str, str]] = MappingProxyType(
    {"stm32f429": "STM32F429ZI", "stm32g474-d3": "STM32G474RE"}
)
"""Part numbers, where a simulated part's name is not one that a class could declare."""

BANK_CHECK_ON: Final[Mapping[str, int]] = MappingProxyType(
    {"BFB2": 1, "nDBANK": 0, "nDBOOT": 0, "nSWBOOT0": 0, "nBOOT0": 1}
)
"""Option bits as whoever relies on the bank check has to set them, where a part has them."""


# --- what is updated -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One part, protected in one way."""

    name: str
    failsafe: Failsafe

    def __str__(self) -> str:
        return f"{self.name}-{self.failsafe.value}"


def cases() -> tuple[Case, ...]:
    """Return every part with every way to protect it that the table knows for its family."""
    return tuple(Case(name, failsafe) for name in PARTS for failsafe in _ways(name))


def _ways(name: str) -> Iterator[Failsafe]:
    family = family_of(ORDERED.get(name, name))
    assert family is not None
    yield Failsafe.NONE
    if family.empty_check is not None:
        yield Failsafe.EMPTY_CHECK
    if family.bank_check is not None:
        yield Failsafe.BFB2
        if family.bank_check.first != 1:
            yield Failsafe.GOLDEN_BANK
    yield Failsafe.RESIDENT_LOADER


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A part on the bench: its old image in place, a new one to come."""

    chip: Chip
    target: Target
    old: Firmware
    new: Firmware
    image: tuple[Segment, ...]
    """The new one, as its file has it."""


def stand_of(case: Case, part: Part | None = None, size: int | None = None) -> Stand:
    """Put a part on the stand, by default one of a few pages.

    Args:
        case: which part, and what protects it.
        part: of other than the usual size.
        size: of the images in bytes; by default most of what may hold them.
    """
    whole = PARTS[case.name]
    page = max(
        GRANULES * max(whole.cells.granule, 8), SEAL_SPACE if case.failsafe is Failsafe.RESIDENT_LOADER else 0
    )
    part = part or whole.small(PAGES, page)
    page = part.page_sizes[0]
    family = family_of(ORDERED.get(case.name, case.name))
    application = FLASH_BASE + page if case.failsafe is Failsafe.RESIDENT_LOADER else None
    target = Target(memory=part.flash_map, failsafe=case.failsafe, family=family, application=application)
    stack = part.stacks[0][0] + 0x400
    loader = application is not None
    start = application + SEAL_SPACE if application is not None else FLASH_BASE
    # In one bank, where there are two: what is behind it must be no image.
    room = part.bank_size - (start - FLASH_BASE)
    size = size or (page + page // 4 if loader else room - page // 3)
    old, new = (_application(name, start, size, stack, page, sealed=loader) for name in ("old", "new"))
    known = [old, new]
    if application is not None:
        service = Service.of_dfuse(application, FLASH_BASE + part.bank_size * part.banks)
        body = (Segment(FLASH_BASE, _code("loader", FLASH_BASE, page // 2, stack)),)
        known.append(
            Firmware(name="loader", segments=body, entry=FLASH_BASE, role=Role.LOADER, service=service)
        )
    if case.failsafe is Failsafe.GOLDEN_BANK:
        golden = _application("golden", FLASH_BASE, size // 2, stack, page)
        known.append(replace(golden, role=Role.GOLDEN))
    relies_on_banks = case.failsafe in {Failsafe.BFB2, Failsafe.GOLDEN_BANK}
    factory = {
        name: value
        for name, value in BANK_CHECK_ON.items()
        if relies_on_banks and name in part.options.fields
    }
    chip = Chip(part, known, factory)
    for firmware in known:
        if firmware is not new:
            bank = 2 if case.failsafe is Failsafe.GOLDEN_BANK and firmware is old else 1
            chip.install(firmware.segments, bank=bank)
    return Stand(chip=chip, target=target, old=old, new=new, image=new.segments)


def _application(
    name: str, start: int, size: int, stack: int, page: int, *, sealed: bool = False
) -> Firmware:
    body = bytearray(_code(name, start, size, stack))
    # A page that both have, and blank granules at the end of one.
    shared = slice(page, 2 * page)
    body[shared] = _code("both", start, size, stack)[shared]
    body[3 * page - page // 4 : 3 * page] = b"\xff" * len(body[3 * page - page // 4 : 3 * page])
    segments = seal(bytes(body), start - SEAL_SPACE) if sealed else (Segment(start, bytes(body)),)
    return Firmware(name=name, segments=segments, entry=start)


def _code(seed: str, start: int, size: int, stack: int) -> bytes:
    body = bytearray(random.Random(seed).randbytes(size))
    body[:8] = stack.to_bytes(4, "little") + (start + 0x11 + 2 * len(seed)).to_bytes(4, "little")
    return bytes(body)


# --- the service, without a bus ------------------------------------------------------------------------------


def enter_loader(chip: Chip) -> None:
    """Bring a chip that runs into a loader that can reach all of it, where it is as after a reset with BOOT0."""
    chip.swapped = False


def look(stand: Stand, *, whole: bool) -> Contents:
    """Read what the service wants to know."""
    chip, part = stand.chip, stand.chip.part
    pieces: list[Segment] = []
    for read in wanted(stand.target, stand.image, whole=whole):
        if chip.holds(read.address, read.size):
            data = chip.flash.read(chip.offset(read.address), read.size)
        elif (place := part.options.place(read.address, read.size)) is not None:
            data = chip.stored[place : place + read.size]
        elif read.address == part.rom + 0x6FFE:
            data = bytes((part.loader_id, 0))
        else:
            assert not read.required
            continue
        pieces.append(Segment(read.address, data))
    return Contents(tuple(pieces))


def relied_on(case: Case) -> str | None:
    """Return what keeps an unattended update of such a part from beginning; None if nothing does."""
    stand = stand_of(case, PARTS[case.name], size=4096)
    contents = look(stand, whole=False)
    worst = verdict(preflight(stand.target, stand.image, contents, block_size=1024))
    assert worst.grade is not Grade.REFUSE, worst
    return None if worst.grade is Grade.GOOD else worst.detail


def operations(stand: Stand, step: Step, *, check: bool = True) -> list[Operation]:
    """Return what a loader does for a step; reading back is checked here, if at all."""
    chip = stand.chip
    match step:
        case EraseStep(page):
            return [ErasePage(chip.flash.page_at(chip.offset(page.address)))]
        case Program(segment) | Commit(segment):
            return list(chip.programming(chip.offset(segment.address), segment.data))
        case ReadBack(segment):
            found = chip.read(segment.address, len(segment.data))
            assert not check or found == segment.data, f"0x{segment.address:08x} does not read back"
            return []
        case Leave():
            return []


def work(stand: Stand, plan: Procedure) -> None:
    """Do a whole procedure."""
    for step in plan.steps:
        for operation in operations(stand, step):
            assert stand.chip.apply(operation), f"the flash did not take {operation}"


def go_on(stand: Stand, unfinished: recovery.Unfinished) -> Procedure | None:
    """Decide as the service does, and return the procedure; None when all is done but the start."""
    contents = look(stand, whole=False)
    decision = recovery.recover(unfinished, stand.target, stand.image, contents)
    if isinstance(decision, recovery.Look):
        contents = look(stand, whole=True)
        decision = recovery.recover(unfinished, stand.target, stand.image, contents)
    match decision:
        case recovery.Begin(keep):
            return procedure(stand.target, stand.image, contents, keep=keep)
        case recovery.Start():
            return None
        case _:
            raise AssertionError(decision)


def finish(stand: Stand, boot: Boot, unfinished: recovery.Unfinished) -> Boot:
    """Go on from where a boot led, without a further cut, and boot again."""
    if boot.firmware is not stand.new:
        enter_loader(stand.chip)
        plan = go_on(stand, unfinished)
        if plan is not None:
            work(stand, plan)
    return stand.chip.boot(Reset.POWER_ON)


# --- the campaign ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What became of the cuts in one stage."""

    outlook: Outlook
    cuts: Counter[str] = field(default_factory=Counter)
    unfinished: list[str] = field(default_factory=list)
    """Cuts after which no hand was needed, and yet the update did not end well."""
    dead: int = 0
    dead_names: set[str] = field(default_factory=set)

    def count(self, boot: Boot, done: Boot | None, stand: Stand, where: str) -> None:
        name = (
            boot.firmware.name
            if boot.firmware and not boot.dead
            else boot.landing.name.lower().replace("_", " ")
        )
        self.cuts[name] += 1
        if boot.dead:
            self.dead += 1
            self.dead_names.add(name)
        elif done is None or done.firmware is not stand.new:
            self.unfinished.append(f"{where}: {boot}, then {done}")


Shares = tuple[float, ...]
EVERY_SHARE: Final[Shares] = (0.02, 0.2, 0.5, 0.8, 0.98)
SOME_SHARES: Final[Shares] = (0.05, 0.5, 0.95)


def tears(shares: Shares, seed: int, *, check_bits: bool) -> Iterator[Tear]:
    """Yield ways for an operation to be cut short."""
    for number, share in enumerate(shares):
        for bits in CheckBits if check_bits else (CheckBits.FIT,):
            yield Tear(share, seed=1000 * seed + number, check_bits=bits)


@cache
def campaign(case: Case) -> Mapping[Stage, Tally]:
    """Cut the power before, in and after every operation of an update, and go on after each."""
    stand = stand_of(case)
    chip = stand.chip
    assert chip.boot(Reset.POWER_ON).firmware is stand.old
    enter_loader(chip)
    contents = look(stand, whole=True)
    plan = procedure(stand.target, stand.image, contents)
    unfinished = journal(stand, contents)
    tallies = {phase.stage: Tally(phase.outlook) for phase in plan.phases}

    def cut(stage: Stage, where: str) -> None:
        before = chip.save()
        boot = chip.boot(Reset.POWER_ON)
        done = None if boot.dead else finish(stand, boot, unfinished)
        tallies[stage].count(boot, done, stand, where)
        chip.load(before)

    for phase in plan.phases:
        narrow = phase.stage in {Stage.INVALIDATE, Stage.COMMIT}
        cut(phase.stage, "at the beginning")
        for number, step in enumerate(phase.steps):
            for operation in operations(stand, step):
                snapshot = chip.save()
                for tear in tears(
                    EVERY_SHARE if narrow else SOME_SHARES, number, check_bits=chip.part.cells.corrects_errors
                ):
                    chip.tear(operation, tear)
                    cut(phase.stage, f"in {operation}, {tear}")
                    chip.load(snapshot)
                assert chip.apply(operation), f"the flash did not take {operation}"
                cut(phase.stage, f"after {operation}")
    return tallies


def journal(stand: Stand, contents: Contents) -> recovery.Unfinished:
    """Return what the journal has of an update that began with these contents."""
    commit = stand.target.commit(stand.target.place(stand.image))
    before = contents.read(commit.address, commit.end)
    assert before is not None
    size = recovery.MARK_SIZE
    mark = CommitMark(before=before[:size], after=commit.data[:size])
    return recovery.Unfinished(phase=Phase.WRITING, mark=mark)

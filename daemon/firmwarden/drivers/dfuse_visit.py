"""One visit of a DfuSe device, as far as it is thinking: which memory, what is in it, whether to go on and how.

Nothing in here waits, writes or knows a bus: it is conversations, and what is concluded from their answers.  The driver
moves their bytes and makes durable what has to be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot import recovery
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.facts import WORD
from firmwarden.drivers.boot.lookup import contradiction, second_bank
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.preflight import Check, Grade, preflight, verdict
from firmwarden.drivers.boot.procedures import procedure
from firmwarden.drivers.boot.reads import Read, wanted
from firmwarden.drivers.boot.vectors import VECTORS_SIZE, Vectors, could_be_stack
from firmwarden.errors import AttemptFailed, MustWait
from firmwarden.model import CauseCode, CommitMark, Phase, WaitKind
from firmwarden.protocol.dfu.descriptors import MalformedDescriptor
from firmwarden.protocol.dfu.memory_map import MalformedMap, MemoryMap
from firmwarden.protocol.dfu.quirks import map_of_gd32vf103
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.strings import read_serial, read_string
from firmwarden.protocol.dfu.verdicts import failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.boot.facts import Family
    from firmwarden.drivers.boot.preflight import Finding
    from firmwarden.drivers.boot.procedures import Procedure
    from firmwarden.drivers.boot.target import Target
    from firmwarden.model import Attempt
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.descriptors import DfuInterface
    from firmwarden.protocol.dfu.dfuse_host import DfuseHost, ReadsBackWrong
    from firmwarden.protocol.dfu.quirks import Quirks

_TRANSPORT: Final = frozenset({CauseCode.LINK_LOST, CauseCode.NO_ANSWER, CauseCode.STUCK_BUSY})


@dataclass(frozen=True, slots=True)
class Memory:
    """What one alternate setting of a loader is."""

    setting: int
    text: str
    """As the device says it."""
    map: MemoryMap


# --- which memory ------------------------------------------------------------------------------------


def read_memories(interface: DfuInterface, quirks: Quirks) -> Conversation[tuple[Memory, ...]]:
    """Ask a loader for its memories; those that it describes in no known way are left out.

    Raises:
        AttemptFailed: it cannot be asked, or describes none.
    """
    if quirks.map_from_serial:
        return (yield from _memory_by_serial(interface, quirks))
    memories = []
    wrong = "it names none"
    for alternate in interface.alternates:
        try:
            text = yield from read_string(alternate.string_index)
            memories.append(Memory(alternate.setting, text, MemoryMap.parse(text)))
        except (MalformedDescriptor, MalformedMap) as exc:
            wrong = str(exc)
    if not memories:
        raise failure(CauseCode.CLIENT_INFO_MALFORMED, f"the loader tells no memory map: {wrong}")
    return tuple(memories)


def _memory_by_serial(interface: DfuInterface, quirks: Quirks) -> Conversation[tuple[Memory, ...]]:
    try:
        serial = yield from read_serial(quirks.string_encoding)
    except MalformedDescriptor as exc:
        raise failure(CauseCode.CLIENT_INFO_MALFORMED, f"the loader's serial number: {exc}") from exc
    memory = map_of_gd32vf103(serial)
    if memory is None:
        detail = f"the loader's serial number {serial!r} does not tell how large its flash is"
        raise failure(CauseCode.CLIENT_INFO_MALFORMED, detail)
    return (Memory(interface.alternates[0].setting, memory.encode(), memory),)


def choose(memories: tuple[Memory, ...], image: Iterable[Segment], setting: int | None) -> Memory:
    """Return the memory that a class names, or else the first in which its image begins.

    Raises:
        AttemptFailed: there is none.
    """
    if setting is not None:
        for memory in memories:
            if memory.setting == setting:
                return memory
        raise failure(CauseCode.IMAGE_UNFIT, f"the loader has no memory {setting}")
    start = min(piece.address for piece in image)
    for memory in memories:
        if memory.map.sectors(start, start + 1):
            return memory
    told = ", ".join(repr(memory.text) for memory in memories)
    raise failure(
        CauseCode.IMAGE_UNFIT,
        f"the image begins at 0x{start:08x}, and the loader has no memory there, only {told}",
    )


# --- what to do --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What an update of this device comes to."""

    plan: Procedure
    contents: Contents
    findings: tuple[Finding, ...]
    mark: CommitMark

    @property
    def doubt(self) -> tuple[WaitKind, str] | None:
        """What a person has to look at first; None if there is nothing."""
        worst = verdict(self.findings)
        if worst.grade is not Grade.WAIT:
            return None
        return WaitKind.IDENTITY if worst.check is Check.PART else WaitKind.FAILSAFE, worst.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A loader, one of its memories, and the image for it."""

    host: DfuseHost
    target: Target
    image: tuple[Segment, ...] = ()
    """Where its file says."""
    block_size: int
    """What the loader moves at a time."""
    memory: Memory
    several: bool
    """There are other memories: this one has to be selected."""

    def begin(self) -> Conversation[object]:
        """Bring the device to idle, on the right memory."""
        return self.host.select(self.memory.setting) if self.several else self.host.make_idle()


def examine(
    visit: Visit, *, unfinished: Attempt | None, same_image: bool, ran: bool
) -> Conversation[Planned]:
    """Read what is there, and decide on the update.

    Args:
        visit: the visit, at its beginning.
        unfinished: the latest attempt that began to change this unit and has not come to its end.
        same_image: that attempt was for this image.
        ran: the unit was found in its application.  That tells who it is, which else its flash has to; but what reads
            right in it after a cut may still be weak, whichever image it was that ran.

    Raises:
        AttemptFailed: the image must not be written to this device, or it cannot be read.
        MustWait: it is not what the unfinished attempt can have left.
    """
    host, target, image = visit.host, visit.target, visit.image
    yield from visit.begin()
    # Nor is anything kept of what nobody can know again, if a person vouches for the unit.
    cut = unfinished is not None and (unfinished.phase is Phase.WRITING or unfinished.vouched)
    # What speaks against the image alone needs nothing to be read.
    _not_refused(preflight(target, image, Contents(), block_size=visit.block_size))
    contents, readable = yield from _read(host, wanted(target, image, whole=not cut))
    findings = preflight(target, image, contents, block_size=visit.block_size, readable=readable)
    _not_refused(findings)
    if unfinished is not None and not (ran or unfinished.vouched):
        left = recovery.Unfinished(phase=unfinished.phase, mark=unfinished.mark, same_image=same_image)
        match recovery.recover(left, target, image, contents):
            case recovery.Wait(reason):
                raise MustWait(WaitKind.IDENTITY, reason)
            case recovery.Look():
                raise MustWait(WaitKind.IDENTITY, "too little of it can be read to know it again")
            case recovery.Begin() | recovery.Start():
                pass
    commit = target.commit(target.place(image))
    before = contents.read(commit.address, commit.end) or b""
    # Where no image begins an update may have been cut of which nothing is known, another host's or one forgotten.
    blank = not before[: target.granule].strip(bytes((target.erased,)))
    plan = procedure(target, image, contents, keep=not (cut or blank))
    size = recovery.MARK_SIZE
    return Planned(
        plan=plan,
        contents=contents,
        findings=findings,
        mark=CommitMark(before=before[:size], after=commit.data[:size]),
    )


def _not_refused(findings: tuple[Finding, ...]) -> None:
    worst = verdict(findings)
    if worst.grade is Grade.REFUSE:
        raise failure(worst.code or CauseCode.IMAGE_UNFIT, worst.detail)


def _read(host: DfuseHost, reads: tuple[Read, ...]) -> Conversation[tuple[Contents, bool]]:
    """Read what can be read; the flag is False when the device does not let its flash be read."""
    pieces: list[Segment] = []
    for read in reads:
        try:
            data = yield from host.read(read.address, read.size)
        except AttemptFailed as failed:
            if failed.cause.code is CauseCode.READ_PROTECTED:
                return Contents(tuple(pieces)), False
            if read.required or failed.cause.code in _TRANSPORT:
                raise
            yield from host.make_idle()
        else:
            pieces.append(Segment(read.address, data))
    return Contents(tuple(pieces)), True


def start_again(visit: Visit, image: Iterable[Segment]) -> Conversation[bool]:
    """Read back once more an image that was there whole a moment ago, and start it.

    Returns:
        Whether the device said that it leaves.

    Raises:
        AttemptFailed: it is there no longer, or the device cannot be reached.
    """
    pieces = tuple(image)
    yield from visit.begin()
    yield from visit.host.verify(pieces)
    return (yield from visit.host.leave(pieces, visit.target.base))


# --- back --------------------------------------------------------------------------------------------


def put_back(visit: Visit) -> Conversation[bool]:
    """Send a device back into the application from which it was brought here, if that is sure to be what starts.

    A ROM starts what is at the address that it is told, whatever it would have chosen itself after a reset: an image in
    bank 2 is not what a jump to the beginning of the flash starts.  So with an image in bank 2 that could be what
    ran, or without one in bank 1, the device is left where it is.  With a golden bank it is the golden image that is
    started, which is whole, too.  A resident loader that speaks for itself is only reset, and chooses.

    Returns:
        Whether it was sent back.

    Raises:
        AttemptFailed: it cannot be reached.
        OutOfTurn: something was erased or written.
    """
    host, target = visit.host, visit.target
    yield from host.make_idle()
    own_loader = target.failsafe is Failsafe.RESIDENT_LOADER and target.base == target.start
    if not own_loader and not (yield from _starts_base(host, target)):
        return False
    yield from host.return_untouched(target.base)
    return True


def _starts_base(host: DfuseHost, target: Target) -> Conversation[bool]:
    """Find out whether what ran is what begins where the memory does."""
    family = target.family
    two_banks = (
        family is None
        or family.bank_check is not None
        # What is declared is not what this is.
        or contradiction(family, target.memory, partly=True) is not None
    )
    try:
        if not _could_run(target, (yield from host.read(target.base, VECTORS_SIZE))):
            return False
        if not two_banks or target.failsafe is Failsafe.GOLDEN_BANK:
            return True
        return not _could_run(target, (yield from host.read(second_bank(target.memory), VECTORS_SIZE)))
    except AttemptFailed as failed:
        if failed.cause.code is not CauseCode.READ_PROTECTED:
            raise
        return not two_banks


def _could_run(target: Target, raw: bytes) -> bool:
    """Tell whether an image may begin like this; in bank 2 it is linked for where it is seen when it runs."""
    vectors = Vectors.decode(raw)
    return (
        could_be_stack(vectors.stack)
        and vectors.stack % WORD == 0
        and vectors.reset & 1 == 1
        and target.base <= vectors.reset < target.end
    )


def told_apart(wrong: ReadsBackWrong, contents: Contents, target: Target) -> AttemptFailed:
    """Say of a page that reads as it did before its erase what that may mean: loaders are silent about protection."""
    before = contents.read(wrong.address, wrong.address + len(wrong.found))
    blank = not wrong.found.strip(bytes((target.erased,)))
    if blank or before != wrong.found:
        return wrong
    (page,) = target.memory.sectors(wrong.address, wrong.address + 1)
    detail = f"the page at 0x{page.address:08x} did not change when it was erased; it may be write-protected"
    return AttemptFailed(replace(wrong.cause, detail=detail))


def read_loader_id(host: DfuseHost, family: Family | None) -> Conversation[int | None]:
    """Read the version of a ROM's loader, where it is known where that is; None where it is not, or cannot be read.

    Raises:
        AttemptFailed: the device cannot be reached.
    """
    yield from host.make_idle()
    if family is None or family.loader_id is None:
        return None
    address = family.loader_id - family.loader_id % 2
    contents, _ = yield from _read(host, (Read(address, 2, required=False),))
    return contents.byte(family.loader_id)

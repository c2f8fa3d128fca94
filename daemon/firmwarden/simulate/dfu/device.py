"""One simulated DFU device, without IO: control transfers and the time go in, answers come out.

Theory of operation.  A `Chip` decides what runs at each reset.  What runs is on the bus under an identity of its own,
after a while: the ROM's loader, a resident loader, an application with a DFU interface to detach by, or nothing at
all.  Each appearance has a new `generation`: whoever holds on to an older one finds it gone.  All that a program
knows is lost in a reset; the chip stays.

The owner calls `control` for each transfer and `bus_reset`, `unplug`, `plug`, `lose_power` and `power_on` as it
pleases, `poll` when `wake_at` has come, and looks at `present` and `generation` after any of them.  The time is
whatever the owner says; it must not go back.  Nothing here reads a clock, and chance comes from the seed alone.

`snapshot` and `restore` are cheap: from within the watcher of every operation, too.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import STATUS_SIZE, Request, State, StatusReport
from firmwarden.simulate.client import SimEvent
from firmwarden.simulate.dfu import standard
from firmwarden.simulate.dfu.appearance import MODES, Mode, appearance
from firmwarden.simulate.dfu.chip import Chip, ErasePage, Landing, Program, Reset
from firmwarden.simulate.dfu.engine import Then, Withheld
from firmwarden.simulate.dfu.faults import Act, Kind
from firmwarden.simulate.dfu.firmware import Entry
from firmwarden.simulate.dfu.flash import Tear
from firmwarden.simulate.dfu.identity import serial_of
from firmwarden.simulate.dfu.parts import FLASH_BASE
from firmwarden.simulate.dfu.work import Cut, PowerLost, When, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.protocol.dfu.conversation import Reply
    from firmwarden.protocol.dfu.requests import Setup
    from firmwarden.simulate.dfu.chip import Boot, SavedChip
    from firmwarden.simulate.dfu.engine import Engine, Standing
    from firmwarden.simulate.dfu.faults import Fault
    from firmwarden.simulate.dfu.identity import Identity
    from firmwarden.simulate.dfu.settings import DfuSettings
    from firmwarden.simulate.dfu.work import Moment, SavedWork

_DETACH_S: Final = 0.01
"""From the answer to DETACH until a device that detaches by itself is off the bus."""


@dataclass(slots=True)
class _Life:
    """What a device is up to; immutable values, so that a copy is a snapshot."""

    boot: Boot | None = None
    mode: Mode = Mode.NOTHING
    powered: bool = False
    plugged: bool = False
    appears_at: float | None = None
    """None: it is on the bus, if it ever will be."""
    returns_at: float | None = None
    """When cable and power are back."""
    detaches_at: float | None = None
    configuration: int = 0
    alternate: int = 0
    asked: Setup | None = None
    """The request that is held back."""
    struck: tuple[int, ...] = ()
    """How many of the moments that it waits for each fault has seen."""
    cuts: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A device at an instant."""

    life: _Life
    standing: Standing | None
    chip: SavedChip
    work: SavedWork


class SimDfu:
    """A simulated device, off.

    Attributes:
        chip: the silicon.
        generation: how often it appeared on the bus.
        transfers: how many of each DFU request it took.
        landings: how often each outcome of a reset or a leave occurred.

    Args:
        settings: what it is like.
        notify: is told what happens, from within the calls.
    """

    def __init__(
        self, settings: DfuSettings, notify: Callable[[SimEvent], None] = lambda _event: None
    ) -> None:
        self.settings = settings
        self.traits = settings.traits or settings.part.traits
        self.chip = Chip(settings.part, settings.known, settings.factory, self.traits)
        self.chip.boot0 = int(settings.boot0)
        for bank, images in settings.installed.items():
            for image in images:
                self.chip.install(image.segments, bank=bank)
        self.generation = 0
        self.transfers: Counter[Request] = Counter()
        self.landings: Counter[Landing] = Counter()
        # Reproducible, not secret.
        unique_number = random.Random(f"{settings.seed}/{settings.name}").randbytes(12)  # noqa: S311
        self.serial = serial_of(unique_number) if settings.serial is None else settings.serial
        self._notify = notify
        self._worker = Worker(self.chip, settings.flash_time)
        self._life = _Life(struck=(0,) * len(settings.faults))
        if any(isinstance(fault.on, Act) for fault in settings.faults):
            self._worker.watcher = self._watch_flash
        self._identity: Identity | None = None
        self._engine: Engine | None = None
        self._cut: Fault | None = None

    # --- what is to be seen ------------------------------------------------------------------------------

    @property
    def boot(self) -> Boot | None:
        """What runs; None without power."""
        return self._life.boot

    @property
    def identity(self) -> Identity | None:
        """What it is on the bus as; None when it is not there."""
        return self._identity if self.present else None

    @property
    def mode(self) -> Mode:
        """What it is on the bus as, or will be soon."""
        return self._life.mode

    @property
    def powered(self) -> bool:
        """True while it has power."""
        return self._life.powered

    @property
    def present(self) -> bool:
        """True while it can be spoken to."""
        return self._life.plugged and self._identity is not None and self._life.appears_at is None

    @property
    def state(self) -> State | None:
        """Of its DFU interface; None without one."""
        return self._engine.at.state if self._engine else None

    @property
    def faults_struck(self) -> dict[str, int]:
        """How often each fault struck, as it was written."""
        seen = self._life.struck
        return {fault.text: fault.struck(seen[at]) for at, fault in enumerate(self.settings.faults)}

    @property
    def wake_at(self) -> float | None:
        """When `poll` is to be called next, None if only the owner can change anything."""
        life = self._life
        times = [life.appears_at, life.returns_at, life.detaches_at, self._worker.wake_at]
        if self._engine is not None:
            times.append(self._engine.wake_at)
        return min((at for at in times if at is not None), default=None)

    @property
    def watcher(self) -> Callable[[Moment], Cut | None] | None:
        """Is asked before every operation and status poll, and may cut the power there."""
        return self._worker.watcher

    @watcher.setter
    def watcher(self, watcher: Callable[[Moment], Cut | None] | None) -> None:
        self._worker.watcher = watcher

    # --- the owner's side ----------------------------------------------------------------------------------

    def plug(self, now: float) -> None:
        """Put the cable in; what lives on the bus's power starts."""
        self.poll(now)
        self._life.plugged = True
        if not self._life.powered:
            self.power_on(now)
        elif self._identity is not None:
            self._bus_reset(now)
            self._appear_at(now)

    def unplug(self, now: float, *, back_s: float | None = None) -> None:
        """Pull the cable; what lives on the bus's power dies."""
        self.poll(now)
        self._life.plugged = False
        self._life.returns_at = None if back_s is None else now + back_s
        self._tell("unplugged", now)
        if not self.settings.self_powered:
            self._go_off(now)

    def power_on(self, now: float) -> None:
        """Give it power, and the cable."""
        if self._life.powered:
            return
        self._life.powered = self._life.plugged = True
        self._life.returns_at = None
        self._restart(Reset.POWER_ON, now)

    def lose_power(self, now: float, *, back_s: float | None = None) -> None:
        """Take the power; of what the flash was busy with only a part is done."""
        self.poll(now)
        self._go_off(now)
        self._life.returns_at = None if back_s is None else now + back_s

    def reset(self, now: float) -> None:
        """Press the reset button."""
        self.poll(now)
        if self._life.powered:
            self._restart(Reset.PLAIN, now)

    def bus_reset(self, now: float) -> None:
        """Reset the port."""
        self.poll(now)
        if self.present:
            self._bus_reset(now)

    def poll(self, now: float) -> None:
        """Do what has become due."""
        try:
            while (at := self.wake_at) is not None and at <= now:
                self._step(at)
            # A watcher sees each operation when it happens, not when the last one is over.
            self._worker.advance(now)
        except PowerLost:
            self._lose_power_at_work(now)

    def control(self, setup: Setup, data: bytes, now: float) -> Reply | Withheld:
        """Take a control transfer; `data` is what goes to the device."""
        self.poll(now)
        if not self.present:
            return Trouble.GONE
        fault = None
        if self._life.asked != setup:
            fault = self._fault(setup)
        try:
            reply = self._answer_through(fault, setup, data, now)
        except PowerLost:
            self._lose_power_at_work(now)
            return Trouble.GONE
        self._life.asked = setup if isinstance(reply, Withheld) else None
        return reply

    def snapshot(self) -> Snapshot:
        """Return everything that it is, and is up to."""
        standing = replace(self._engine.at) if self._engine else None
        return Snapshot(replace(self._life), standing, self.chip.save(), self._worker.save())

    def restore(self, snapshot: Snapshot) -> None:
        """Be again as at a snapshot; only the counters go on."""
        self._life = replace(snapshot.life)
        self.chip.load(snapshot.chip)
        self._worker.load(snapshot.work)
        self._assemble()
        if self._engine is not None and snapshot.standing is not None:
            self._engine.at = replace(snapshot.standing)

    # --- time ----------------------------------------------------------------------------------------------

    def _step(self, now: float) -> None:
        life = self._life
        self._worker.advance(now)
        if life.returns_at is not None and life.returns_at <= now:
            life.returns_at = None
            self.plug(now)
        if life.detaches_at is not None and life.detaches_at <= now:
            life.detaches_at = None
            self._make_room(now)
        if self._engine is not None:
            if self._engine.at.then is Then.LOAD_OPTIONS and self._worker.wake_at is None:
                self._restart(Reset.OPTIONS_LOADED, now)
            else:
                self._engine.tick(now)
        if life.appears_at is not None and life.appears_at <= now:
            life.appears_at = None
            life.configuration = life.alternate = 0
            self.generation += 1
            self._tell("present", now, mode=life.mode.value)

    def _tell(self, kind: str, now: float, **details: str | int | None) -> None:
        self._notify(SimEvent(kind, now, details))

    # --- power and boot ------------------------------------------------------------------------------------

    def _go_off(self, now: float) -> None:
        life = self._life
        self._worker.lose_power(now, hash((self.settings.seed, life.cuts)))
        life.cuts += 1
        life.powered = False
        life.boot = None
        life.mode = Mode.NOTHING
        life.appears_at = life.detaches_at = life.asked = None
        self._assemble()
        self._tell("power-lost", now)

    def _restart(self, reset: Reset, now: float, *, stay: bool = False) -> None:
        boot = self.chip.boot(reset)
        if stay and boot.firmware is not None:
            boot = self.chip.run(FLASH_BASE, stay=True)
        self._start(boot, now)

    def _start(self, boot: Boot, now: float, mode: Mode | None = None) -> None:
        """Run something: what was in RAM is lost."""
        life = self._life
        life.boot = boot
        life.mode = mode or MODES[boot.landing]
        life.detaches_at = life.asked = None
        self.landings[boot.landing] += 1
        self._assemble()
        self._tell(
            "boot", now, landing=boot.landing.name, firmware=boot.firmware.name if boot.firmware else None
        )
        self._appear_at(now)

    def _appear_at(self, now: float) -> None:
        self._life.appears_at = now + self.settings.boot_s if self._life.plugged else None

    def _assemble(self) -> None:
        """Put together what is on the bus."""
        self._identity, self._engine = appearance(
            self._life.mode,
            self._life.boot.firmware if self._life.boot else None,
            chip=self.chip,
            worker=self._worker,
            serial=self.serial
            if self._life.mode is Mode.ROM
            else self.settings.product_serial or self.serial,
            has_clock=self.settings.crystal or not self.settings.part.needs_crystal,
        )

    # --- transfers -----------------------------------------------------------------------------------------

    def _fault(self, setup: Setup) -> Fault | None:
        """Return what strikes at this transfer, the first of it if several do."""
        request = setup.dfu_request
        return self._struck_at((None,) if request is None else (None, request))

    def _struck_at(self, points: tuple[Request | Act | None, ...]) -> Fault | None:
        seen = list(self._life.struck)
        struck = None
        for number, fault in enumerate(self.settings.faults):
            if fault.on in points:
                if struck is None and fault.strikes(seen[number]):
                    struck = fault
                seen[number] += 1
        self._life.struck = tuple(seen)
        return struck

    def _watch_flash(self, moment: Moment) -> Cut | None:
        match moment.operation:
            case ErasePage():
                self._cut = self._struck_at((Act.ERASE,))
            case Program():
                self._cut = self._struck_at((Act.PROGRAM,))
            case _:
                return None
        return None if self._cut is None else Cut(When.DURING, Tear(0.5, moment.number))

    def _lose_power_at_work(self, now: float) -> None:
        if self._cut is None:
            self._go_off(now)
        else:
            self._part(self._cut, now)
            self._cut = None

    def _answer_through(self, fault: Fault | None, setup: Setup, data: bytes, now: float) -> Reply | Withheld:
        if fault is None:
            return self._answer(setup, data, now)
        if fault.kind in _BEFORE:
            return _BEFORE[fault.kind]
        gone = fault.kind in {Kind.UNPLUG, Kind.POWER}
        if gone and not fault.after:
            self._part(fault, now)
            return Trouble.GONE
        reply = self._answer(setup, data, now)
        if gone:
            self._part(fault, now)
            return Trouble.GONE
        if fault.kind is Kind.STUCK and self._engine is not None:
            self._engine.stick()
        if fault.kind is Kind.UNANSWERED:
            return Trouble.TIMED_OUT
        if not isinstance(reply, bytes):
            return reply
        if fault.kind is Kind.SHORT:
            return reply[: len(reply) // 2]
        if fault.kind is Kind.LIE and len(reply) == STATUS_SIZE:
            return replace(StatusReport.decode(reply), poll_timeout_ms=fault.poll_ms).encode()
        return reply

    def _part(self, fault: Fault, now: float) -> None:
        if fault.kind is Kind.POWER or not self.settings.self_powered:
            self._go_off(now)
        self._life.plugged = False
        self._life.returns_at = None if fault.back_s is None else now + fault.back_s

    def _answer(self, setup: Setup, data: bytes, now: float) -> Reply | Withheld:
        life = self._life
        if self._identity is None:
            return Trouble.GONE
        if standard.is_standard(setup):
            chosen = standard.Chosen(life.configuration, life.alternate)
            reply = standard.answer(self._identity, self.traits, chosen, setup)
            life.configuration, life.alternate = chosen.configuration, chosen.alternate
            return reply
        if self._engine is None:
            return Trouble.STALL
        request = setup.dfu_request
        cut = None
        if request is not None and life.asked != setup:
            self.transfers[request] += 1
            cut = self._worker.poll() if request is Request.GETSTATUS else None
        if cut is not None and cut.when is When.BEFORE:
            raise PowerLost
        answer = self._engine.request(setup, data, now)
        if cut is not None:
            raise PowerLost
        self._follow(request, now)
        return answer

    def _follow(self, request: Request | None, now: float) -> None:
        """Do what a request led to."""
        if self._engine is None:
            return
        at = self._engine.at
        match at.then:
            case Then.LEAVE:
                self._leave(at.pointer, now)
            case Then.RESET:
                self._restart(Reset.PLAIN, now)
            case Then.NOTHING | Then.LOAD_OPTIONS:
                pass
        firmware = self._life.boot.firmware if self._life.boot else None
        if (
            request is Request.DETACH
            and at.state is State.APP_DETACH
            and firmware
            and firmware.run_time.will_detach
        ):
            self._life.detaches_at = now + _DETACH_S

    def _leave(self, address: int, now: float) -> None:
        """Leave a loader for an address; the ROM jumps, one of the user's own resets."""
        boot = self.chip.run(address) if self._life.mode is Mode.ROM else None
        if boot is None or boot.landing is Landing.LOCKED_UP:
            self._restart(Reset.PLAIN, now)
        else:
            self._start(boot, now)

    def _bus_reset(self, now: float) -> None:
        if self._engine is None:
            return
        detaching = self._engine.at.state is State.APP_DETACH
        loading = self._life.mode is Mode.SERVICE
        self._engine.bus_reset()
        self._life.configuration = self._life.alternate = 0
        if detaching:
            self._make_room(now)
        elif loading and self._engine.at.state.in_application:
            self._restart(Reset.PLAIN, now)

    def _make_room(self, now: float) -> None:
        """Do what the application does when it was asked to make room for an update."""
        boot = self._life.boot
        if boot is None or boot.firmware is None:
            return
        match boot.firmware.detaches_by:
            case Entry.LOADER:
                self._restart(Reset.PLAIN, now, stay=True)
            case Entry.INVALIDATE:
                granule = bytes(self.chip.part.cells.granule)
                self._worker.begin([Program(self.chip.offset(FLASH_BASE), granule)], now)
                self._worker.advance(self._worker.busy_until)
                self._restart(Reset.PLAIN, now)
            case Entry.JUMP:
                self._jump(now)
            case Entry.SERVES:
                self._start(boot, now, Mode.SERVICE)
            case unreachable:
                assert_never(unreachable)

    def _jump(self, now: float) -> None:
        """Jump into the ROM, which on some parts looks around before it stays."""
        part, chip = self.settings.part, self.chip
        word = int.from_bytes(chip.flash.read(0, 4), "little")
        if part.jump_needs_empty and word != 0xFFFF_FFFF:  # noqa: PLR2004
            self._start(chip.run(FLASH_BASE), now)
        elif part.jump_checks_banks and chip.options.get("BFB2"):
            self._restart(Reset.PLAIN, now)
        else:
            chip.swapped = chip.swapped and chip.traits.keeps_banks
            self._start(chip.enter_rom(), now)


_BEFORE: Final = {Kind.STALL: Trouble.STALL, Kind.LOST: Trouble.TIMED_OUT, Kind.BROKEN: Trouble.BROKEN}

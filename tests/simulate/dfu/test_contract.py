"""What a simulated loader must do for a test against it to mean anything, point by point."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Request, Setup, State
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.appearance import Mode
from firmwarden.simulate.dfu.chip import EraseOptions, ErasePage, Landing, Program, ProgramOption
from firmwarden.simulate.dfu.faults import Act, Fault, Kind
from firmwarden.simulate.dfu.firmware import Entry, Firmware, Role, RunTime, Service, seal
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS
from firmwarden.simulate.dfu.traits import OnBadRead, Traits, WhileBusy
from firmwarden.simulate.dfu.work import Cut, Moment, When
from support.dfu_simulated import L476, STATUS, Bench, image, settings

DONE = "00 00 00 00 05 00"
OLD = image("old", L476, 6000)

ERASE_FIRST = "41 00 00 00 08"


def rom(traits: Traits = L476.traits, **more: object) -> Bench:
    """A ROM that waits, because the bank check finds nothing."""
    return Bench(settings(L476, **{"factory": {"BFB2": 1}, "traits": traits} | more))


def flash(bench: Bench, size: int, offset: int = 0) -> bytes:
    return bench.device.chip.flash.read(offset, size)


# --- 1: commands wait for the first GETSTATUS --------------------------------------------------------------------


def test_a_command_is_carried_out_by_the_first_status_poll() -> None:
    bench = rom()
    bench.device.chip.install([Segment(FLASH_BASE, b"\x12" * 64)])
    assert bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}") == ""
    bench.wait(10)
    assert flash(bench, 8) == b"\x12" * 8, "nobody polled"
    assert bench.say(STATUS) == "00 16 00 00 04 00"
    states = [bench.device.state]
    bench.wait(0.0219)
    assert flash(bench, 8) == b"\x12" * 8, "it takes its time"
    bench.wait(0.0002)
    assert flash(bench, 8) == b"\xff" * 8
    states.append(bench.device.state)
    assert states == [State.DNBUSY, State.DNLOAD_SYNC]
    assert bench.say(STATUS) == DONE


@pytest.mark.parametrize(
    ("while_busy", "answer", "after"),
    [
        (WhileBusy.REFUSES, "STALL", "0f 00 00 00 0a 00"),
        (WhileBusy.STALLS, "STALL", DONE),
        (WhileBusy.REPORTS, "00 16 00 00 04 00", DONE),
        (WhileBusy.WITHHOLDS, DONE, DONE),
    ],
)
def test_who_polls_too_early(while_busy: WhileBusy, answer: str, after: str) -> None:
    bench = rom(replace(L476.traits, while_busy=while_busy))
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    bench.say(STATUS)
    assert bench.say(STATUS) == answer
    bench.wait(1)
    assert bench.say(STATUS) == after
    assert bench.device.chip.flash.wear[0] == 1, "the erase goes on, whatever the host is told"


def test_a_loader_that_works_within_the_transfer() -> None:
    bench = rom(replace(L476.traits, works_in_transfer=True))
    bench.say("21 01 00 00 00 00 01 00 41")
    began = bench.now
    poll = Setup.of(Request.GETSTATUS, interface=0, length=6)
    assert bench.transfer(poll, timeout_s=0.1) is Trouble.TIMED_OUT
    assert bench.say(STATUS) == "00 00 00 00 04 00"
    assert bench.now - began == pytest.approx(8 * 0.022)
    assert bench.say(STATUS) == DONE


# --- 2: pages and granules ---------------------------------------------------------------------------------------


def test_a_program_needs_a_blank_granule_and_tells_nobody() -> None:
    bench = rom()
    assert bench.write(FLASH_BASE, b"\x12" * 16) == DONE
    assert bench.write(FLASH_BASE, b"\x34" * 16) == DONE
    assert flash(bench, 16) == b"\x12" * 16
    assert bench.write(FLASH_BASE, bytes(8)) == DONE
    assert flash(bench, 16) == bytes(8) + b"\x12" * 8
    honest = rom(replace(L476.traits, reports_program_errors=True))
    assert honest.write(FLASH_BASE, b"\x12" * 16) == DONE
    assert honest.write(FLASH_BASE, b"\x34" * 16) == "06 00 00 00 0a 00"


def test_a_misaligned_write_spoils_all_after_it() -> None:
    bench = rom()
    assert bench.write(FLASH_BASE + 4, b"\x12" * 8) == DONE
    assert bench.write(FLASH_BASE, b"\x12" * 8) == DONE
    assert flash(bench, 16) == b"\xff" * 16
    bench.cycle()
    assert bench.write(FLASH_BASE, b"\x12" * 8) == DONE
    assert flash(bench, 8) == b"\x12" * 8


# --- 3: the length bug -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sound"), [(256, True), (252, True), (260, False), (264, True), (2044, False)]
)
def test_long_writes_of_odd_length_are_corrupted(size: int, sound: bool) -> None:
    data = bytes(index % 255 for index in range(size))
    bench = rom()
    assert bench.write(FLASH_BASE, data) == DONE
    assert (flash(bench, size) == data) is sound
    healthy = rom(replace(L476.traits, corrupts_odd_lengths=False))
    assert healthy.write(FLASH_BASE, data) == DONE
    assert flash(healthy, size) == data


# --- 4 to 6: protection and addresses ----------------------------------------------------------------------------


def test_write_protection_is_silent() -> None:
    bench = rom(factory={"BFB2": 1, "WRP1A_STRT": 0, "WRP1A_END": 1})
    bench.device.chip.flash.program(0, b"\x12" * 8)
    for command in (ERASE_FIRST, "41", "41 00 08 00 08"):
        assert bench.command(command) == DONE
    assert bench.write(FLASH_BASE + 2048, b"\x12" * 8) == DONE
    assert bench.write(FLASH_BASE + 4096, b"\x12" * 8) == DONE
    assert flash(bench, 8) == b"\x12" * 8
    assert flash(bench, 8, 2048) == b"\xff" * 8
    assert flash(bench, 8, 4096) == b"\x12" * 8
    assert bench.device.chip.flash.wear == [0, 0] + [1] * 6


def test_read_protection_refuses_all_but_a_few_commands() -> None:
    bench = rom(factory={"BFB2": 1, "RDP": 0x00})
    for said in (
        f"21 01 00 00 00 00 05 00 {ERASE_FIRST}",
        "21 01 02 00 00 00 08 00 12*8",
        "A1 02 02 00 00 00 08 00",
    ):
        assert bench.say(said) == "STALL"
        assert bench.say(STATUS) == "0b 00 00 00 0a 00"
        assert bench.say("21 04 00 00 00 00 00 00") == ""
    assert bench.command("21 00 00 00 08") == DONE


def test_lifting_read_protection_takes_everything() -> None:
    bench = Bench(settings(L476, OLD, boot0=True, factory={"RDP": 0x00, "BFB2": 1}))
    assert bench.command("92") == "GONE"
    bench.wait(1)
    assert bench.device.chip.level == 0
    assert bench.device.chip.options["BFB2"] == 1
    assert flash(bench, 6000) == b"\xff" * 6000
    assert bench.write(FLASH_BASE, b"\x12" * 8) == DONE


def test_a_loader_that_does_not_know_how_to_lift_it() -> None:
    bench = rom(replace(L476.traits, reads_unprotect=False))
    assert bench.say("A1 02 00 00 00 00 40 00") == "00 21 41"
    assert bench.say("21 06 00 00 00 00 00 00") == ""
    assert bench.command("92") == "0f 00 00 00 0a 00"


@pytest.mark.parametrize("command", ["21 00 00 00 40", "41 00 00 00 40", "21 00 40 00 08", "41 00 40 00 08"])
def test_bad_addresses(command: str) -> None:
    assert rom().command(command) == "01 00 00 00 0a 00"


def test_a_write_or_a_read_beyond_the_end() -> None:
    assert rom().write(FLASH_BASE + 16384 - 8, b"\x12" * 16) == "01 00 00 00 0a 00"
    bench = rom()
    assert bench.command("21 f8 3f 00 08") == DONE
    bench.say("21 06 00 00 00 00 00 00")
    assert bench.say("A1 02 02 00 00 00 08 00") == " ".join(["ff"] * 8)
    assert bench.say("A1 02 02 00 00 00 10 00") == "STALL"
    assert bench.say(STATUS) == "01 00 00 00 0a 00"


@pytest.mark.parametrize(
    "said",
    [
        "21 01 00 00 00 00 02 00 41 00",
        "21 01 00 00 00 00 01 00 77",
        "21 01 01 00 00 00 04 00 12*4",
        "21 01 02 00 00 00 01 08 12*2049",
        "A1 02 01 00 00 00 08 00",
    ],
)
def test_what_has_no_meaning_ends_in_an_error(said: str) -> None:
    bench = rom()
    if bench.say(said) != "STALL":
        bench.settle()
    assert bench.say(STATUS) == "0f 00 00 00 0a 00"


def test_other_memories() -> None:
    bench = rom()
    for command, size, content in (
        ("21 fe 6f ff 1f", 2, "92 ff"),
        ("21 00 00 ff ff", 4, "00 00 00 00"),
        ("21 00 70 ff 1f", 4, "ff ff ff ff"),
    ):
        assert bench.command(command) == DONE
        bench.say("21 06 00 00 00 00 00 00")
        assert bench.say(f"A1 02 02 00 00 00 {size:02x} 00") == content
        bench.say("21 06 00 00 00 00 00 00")


# --- 7: option bytes ---------------------------------------------------------------------------------------------


def write_options(bench: Bench, **changes: int) -> str:
    chip = bench.device.chip
    stored = L476.options.changed(chip.stored, changes)[:40]
    return bench.write(0x1FFF_7800, stored)


def test_an_option_write_restarts_the_chip_with_them() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    assert write_options(bench, BFB2=1) == "GONE"
    bench.wait(1)
    assert bench.device.chip.options["BFB2"] == 1
    assert bench.device.landings == {Landing.ROM: 2}


@pytest.mark.parametrize("number", range(11))
def test_a_cut_in_an_option_write_locks_the_chip(number: int) -> None:
    """The erase and then nine words; until the first of them is whole nothing is as it was."""
    bench = Bench(settings(L476, OLD, boot0=True))
    seen: list[Moment] = []

    def watcher(moment: Moment) -> Cut | None:
        if isinstance(moment.operation, EraseOptions | ProgramOption):
            seen.append(moment)
            return Cut(When.DURING, Tear(0.7)) if len(seen) == number + 1 else None
        return None

    bench.device.watcher = watcher
    assert write_options(bench, BFB2=1) == "GONE"
    bench.device.watcher = None
    bench.cycle()
    options = bench.device.chip.options
    if number <= 1:
        assert bench.device.chip.level == 1
        assert options["BFB2"] == options["nBOOT1"] == 1
        assert bench.command("21 00 00 00 08") == DONE
    else:
        assert bench.device.chip.level == 0
    if number <= 2:
        assert bench.device.chip.protected(0), "code protection covers everything"


def test_a_locked_chip_is_freed_by_lifting_the_protection() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    bench.device.watcher = lambda moment: (
        Cut(When.AFTER) if isinstance(moment.operation, EraseOptions) else None
    )
    write_options(bench, BFB2=1)
    bench.device.watcher = None
    bench.cycle()
    assert bench.command("92") == "GONE"
    bench.wait(1)
    assert bench.device.chip.level == 0
    assert not any(bench.device.chip.protected(page) for page in range(8))
    assert bench.write(FLASH_BASE, b"\x12" * 8) == DONE
    assert flash(bench, 8) == b"\x12" * 8


# --- 9: faults ---------------------------------------------------------------------------------------------------


def faulty(fault: Fault, *, self_powered: bool = False) -> Bench:
    return rom(faults=(fault,), self_powered=self_powered)


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.LOST, Kind.BROKEN])
def test_requests_that_do_not_get_through(kind: Kind) -> None:
    bench = faulty(Fault(kind=kind, on=Request.GETSTATUS, at=1, times=2))
    came = [bench.say(STATUS) for _ in range(4)]
    trouble = {Kind.STALL: "STALL", Kind.LOST: "TIMED_OUT", Kind.BROKEN: "BROKEN"}[kind]
    assert came == ["00 00 00 00 02 00", trouble, trouble, "00 00 00 00 02 00"]


def test_an_answer_that_is_lost() -> None:
    bench = faulty(Fault(kind=Kind.UNANSWERED, on=Request.DNLOAD))
    assert bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}") == "TIMED_OUT"
    assert bench.device.state is State.DNLOAD_SYNC


def test_half_an_answer_and_a_lie() -> None:
    bench = rom(
        faults=(
            Fault(kind=Kind.SHORT, on=Request.UPLOAD),
            Fault(kind=Kind.LIE, on=Request.GETSTATUS, times=None, poll_ms=0xFFFFFF),
        )
    )
    assert bench.say("A1 02 02 00 00 00 08 00") == "ff ff ff ff"
    assert bench.say(STATUS) == "00 ff ff ff 09 00"


def test_busy_for_ever() -> None:
    bench = faulty(Fault(kind=Kind.STUCK, on=Request.GETSTATUS))
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    assert bench.say(STATUS) == "00 16 00 00 04 00"
    bench.wait(1000)
    assert bench.say(STATUS) == "00 64 00 00 04 00"
    bench.device.bus_reset(bench.now)
    assert bench.say(STATUS) == "00 00 00 00 02 00"


@pytest.mark.parametrize("after", [False, True])
def test_a_cable_that_is_pulled_while_the_power_stays(after: bool) -> None:
    fault = Fault(kind=Kind.UNPLUG, on=Request.GETSTATUS, back_s=0.5, after=after)
    bench = faulty(fault, self_powered=True)
    generation = bench.device.generation
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    assert bench.say(STATUS) == "GONE"
    assert bench.device.powered
    assert not bench.device.present
    assert bench.say(STATUS) == "GONE"
    bench.wait(2)
    assert bench.device.generation == generation + 1
    assert bench.say(STATUS) == "00 00 00 00 02 00", "the bus was reset; the loader never stopped"
    assert bench.device.landings == {Landing.ROM: 1}
    assert bench.device.chip.flash.wear[0] == int(after)


def test_power_that_goes_with_the_cable_tears_the_page_under_way() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    bench.say(STATUS)
    bench.wait(0.011)
    bench.device.unplug(bench.now, back_s=0.1)
    torn = flash(bench, 2048)
    assert torn != OLD.segments[0].data[:2048]
    assert torn != b"\xff" * 2048
    bench.wait(1)
    assert bench.device.mode is Mode.ROM
    assert bench.device.landings == {Landing.ROM: 2}


def test_inv1_power_that_goes_at_a_granule_tears_it_and_comes_back() -> None:
    fault = Fault(kind=Kind.POWER, on=Act.PROGRAM, at=3, back_s=0.5)
    bench = rom(faults=(fault,))
    assert bench.write(FLASH_BASE, bytes(range(1, 65))) == "GONE"
    held = flash(bench, 64)
    assert held[:24] == bytes(range(1, 25))
    assert held[24:32] not in {b"\xff" * 8, bytes(range(25, 33))}
    assert held[32:] == b"\xff" * 32
    bench.wait(1)
    assert bench.device.mode is Mode.ROM
    assert bench.write(FLASH_BASE + 2048, bytes(8)).split()[4] == "05", "it strikes once"
    assert bench.device.faults_struck == {"": 1}


def test_power_that_goes_in_an_erase_for_good() -> None:
    fault = Fault(kind=Kind.POWER, on=Act.ERASE)
    bench = Bench(settings(L476, OLD, boot0=True, faults=(fault,)))
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    bench.say(STATUS)
    bench.wait(100)
    assert not bench.device.powered
    assert flash(bench, 2048) not in {b"\xff" * 2048, OLD.segments[0].data[:2048]}


@pytest.mark.parametrize(
    ("upload", "landings"), [(OnBadRead.READS_ON, {Landing.ROM: 1}), (OnBadRead.RESETS, {Landing.ROM: 2})]
)
def test_a_bad_page_is_read_or_resets_the_rom(upload: OnBadRead, landings: dict[Landing, int]) -> None:
    bench = rom(replace(L476.traits, upload=upload))
    memory = bench.device.chip.flash
    memory.program(2048, b"\x12" * 8)
    memory.tear_erase(1, Tear(0.5, check_bits=CheckBits.CLASH))
    bench.command("21 00 08 00 08")
    bench.say("21 06 00 00 00 00 00 00")
    came = bench.say("A1 02 02 00 00 00 08 00")
    assert came == ("GONE" if upload is OnBadRead.RESETS else memory.read(2048, 8).hex(" "))
    bench.wait(1)
    assert bench.device.landings == landings


def test_serials_can_be_the_same_and_are_not_by_themselves() -> None:
    one, two = (Bench(settings(L476, boot0=True, name=name)).device for name in ("one", "two"))
    assert one.serial != two.serial
    assert len(one.serial) == 12
    twins = {Bench(settings(L476, name=name, serial="TWIN")).device.serial for name in ("one", "two")}
    assert twins == {"TWIN"}


def test_a_rom_without_its_clock_is_not_on_the_bus() -> None:
    bench = rom(crystal=False)
    assert bench.device.boot is not None
    assert bench.device.boot.landing is Landing.ROM
    assert not bench.device.present
    assert bench.say(STATUS) == "GONE"


def test_what_a_loader_shows_and_answers() -> None:
    lying = rom(
        replace(
            L476.traits,
            maps=("@Internal Flash  /0x08000000/512*002Kg",),
            overlong_strings=True,
            answers_functional=False,
            selects=False,
            clears_anywhere=False,
        )
    )
    assert lying.say("80 06 04 03 09 04 FF 00").startswith("50 03 40 00")
    assert lying.say("81 06 00 21 00 00 09 00") == "TIMED_OUT"
    assert lying.say("01 0B 00 00 00 00 00 00") == "STALL"
    assert lying.say("21 04 00 00 00 00 00 00") == "STALL"
    assert rom().say("81 06 00 21 00 00 09 00") == "09 21 0b ff 00 00 08 1a 01"
    cleared = rom()
    assert cleared.say("21 04 00 00 00 00 00 00") == ""
    assert cleared.say(STATUS) == "0e 00 00 00 0a 00"


# --- ways into the loader ----------------------------------------------------------------------------------------


def _detached(firmware_detaches: Entry, part: str = "stm32l476", **factory: int) -> Bench:
    small = PARTS[part].small(8)
    app = image(
        "app",
        small,
        1000,
        detaches_by=firmware_detaches,
        run_time=RunTime(dfu_interface=0),
        service=Service.of_dfuse(FLASH_BASE + small.bank_size, FLASH_BASE + 2 * small.bank_size)
        if small.banks > 1
        else None,
    )
    bench = Bench(settings(small, app, factory=factory))
    assert bench.say("21 00 E8 03 00 00 00 00") == ""
    bench.wait(1)
    return bench


def test_an_application_jumps_into_the_rom() -> None:
    assert str(_detached(Entry.JUMP).device.boot) == "ROM"
    assert str(_detached(Entry.JUMP, "stm32f042").device.boot) == "APPLICATION app", "it comes back"
    assert str(_detached(Entry.JUMP, "stm32l073").device.boot) == "ROM"
    assert str(_detached(Entry.JUMP, "stm32l073", BFB2=1).device.boot) == "APPLICATION app", "bank 1 is valid"


def test_an_application_makes_itself_invalid() -> None:
    bench = _detached(Entry.INVALIDATE, BFB2=1)
    assert str(bench.device.boot) == "ROM"
    assert flash(bench, 16)[:8] == bytes(8)
    assert _detached(Entry.INVALIDATE).device.boot is not None
    assert _detached(Entry.INVALIDATE).device.mode is Mode.NOTHING, "without the bank check it is dead"


def test_an_application_speaks_dfu_itself_and_writes_its_window_only() -> None:
    bench = _detached(Entry.SERVES)
    modes = [bench.device.mode]
    assert bench.write(FLASH_BASE, b"\x12" * 8) == "01 00 00 00 0a 00"
    bench.say("21 04 00 00 00 00 00 00")
    assert bench.command("41 00 20 00 08") == DONE
    assert bench.write(FLASH_BASE + 8192, b"\x12" * 8) == DONE
    assert bench.say("21 01 00 00 00 00 00 00") == ""
    bench.say(STATUS)
    bench.wait(1)
    assert str(bench.device.boot) == "APPLICATION app"
    modes.append(bench.device.mode)
    assert modes == [Mode.SERVICE, Mode.RUN_TIME]


def test_a_note_in_ram_keeps_the_resident_loader() -> None:
    start, end = FLASH_BASE + 4096, FLASH_BASE + 16384
    loader = image("loader", L476, 3000, role=Role.LOADER, service=Service.of_dfuse(start, end))
    body = image("app", L476, 600, base=start + 512).segments[0].data
    app = Firmware(
        name="app",
        segments=seal(body, start),
        entry=start + 512,
        run_time=RunTime(dfu_interface=0),
        detaches_by=Entry.LOADER,
    )
    bench = Bench(settings(L476, loader, app, installed={1: (loader, app)}))
    assert str(bench.device.boot) == "APPLICATION app"
    bench.say("21 00 E8 03 00 00 00 00")
    bench.wait(1)
    assert str(bench.device.boot) == "LOADER loader"
    bench.device.reset(bench.now)
    bench.wait(1)
    assert str(bench.device.boot) == "APPLICATION app"


# --- cuts and snapshots ------------------------------------------------------------------------------------------


def _update(bench: Bench) -> None:
    bench.command(ERASE_FIRST)
    bench.write(FLASH_BASE + 8, b"\x12" * 64)
    bench.write(FLASH_BASE, OLD.segments[0].data[:8])


def test_a_watcher_sees_every_operation_and_every_poll() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    seen: list[Moment] = []
    bench.device.watcher = seen.append
    _update(bench)
    kinds = [type(moment.operation) for moment in seen]
    assert kinds.count(ErasePage) == 1
    assert kinds.count(Program) == 9
    assert kinds.count(type(None)) == bench.device.transfers[Request.GETSTATUS] == 10
    assert [moment.number for moment in seen] == list(range(20))


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("number", range(20))
def test_the_power_can_go_at_every_moment(number: int, when: When) -> None:
    bench = Bench(settings(L476, OLD, boot0=True, seed=number))
    device = bench.device
    device.watcher = lambda moment: Cut(when) if moment.number == number else None
    _update(bench)
    assert not device.powered
    assert device.boot is None
    bench.cycle()
    assert device.landings == {Landing.ROM: 2}
    assert bench.say(STATUS) == "00 00 00 00 02 00"


def test_a_cut_is_before_in_the_middle_of_or_after_an_erase() -> None:
    content = {}
    for when in When:
        bench = Bench(settings(L476, OLD, boot0=True))
        bench.device.watcher = lambda moment, when=when: (
            Cut(when) if moment.operation == ErasePage(0) else None
        )
        bench.command(ERASE_FIRST)
        content[when] = flash(bench, 2048)
    assert content[When.BEFORE] == OLD.segments[0].data[:2048]
    assert content[When.AFTER] == b"\xff" * 2048
    assert content[When.DURING] not in {content[When.BEFORE], content[When.AFTER]}


def test_a_device_restored_goes_on_as_if_nothing_had_happened() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    device = bench.device
    bench.say(f"21 01 00 00 00 00 05 00 {ERASE_FIRST}")
    bench.say(STATUS)
    bench.wait(0.01)
    snapshot, now = device.snapshot(), bench.now

    def rest() -> tuple[list[str], bytes]:
        came = []
        bench.wait(0.02)
        came.append(bench.say(STATUS))
        came.append(bench.write(FLASH_BASE + 8, b"\x12" * 64))
        return came, flash(bench, 4096)

    first = rest()
    device.lose_power(bench.now)
    assert device.snapshot() != snapshot
    device.restore(snapshot)
    assert device.snapshot() == snapshot
    bench.now = now
    assert rest() == first


def test_a_snapshot_taken_in_the_middle_of_a_block_can_be_cut_in_many_ways() -> None:
    bench = Bench(settings(L476, OLD, boot0=True))
    device = bench.device
    taken = []

    def watcher(moment: Moment) -> None:
        if moment.operation is not None:
            taken.append((moment, device.snapshot()))

    device.watcher = watcher
    _update(bench)
    device.watcher = None
    whole = flash(bench, 4096)
    assert len(taken) == 10
    for moment, snapshot in taken:
        outcomes = set()
        for seed in range(4):
            device.restore(snapshot)
            assert moment.operation is not None
            device.chip.tear(moment.operation, Tear(0.5, seed))
            outcomes.add(flash(bench, 4096))
            bench.cycle()
            assert device.mode is Mode.ROM
        assert len(outcomes) > 1
        assert whole not in outcomes

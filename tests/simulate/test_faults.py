"""Every fault does what it says, when it says, as often as it says."""

from __future__ import annotations

import pytest

from firmwarden.protocol.mdfu.framing import Frame, FrameDecoder
from firmwarden.protocol.mdfu.packet import Command, Status
from firmwarden.simulate.client import Mode
from firmwarden.simulate.firmware import find_application
from firmwarden.simulate.line import Link
from support.hand import Hand, hand, update_file

INFO = Command.GET_CLIENT_INFO
START = Command.START_TRANSFER
WRITE = Command.WRITE_CHUNK
CHUNK = bytes(512)


def frames_in(data: bytes) -> int:
    return len([item for item in FrameDecoder(256).feed(data) if isinstance(item, Frame)])


def executed(person: Hand, command: Command) -> int:
    return person.client.commands[command]


def starts(person: Hand, count: int) -> list[bool]:
    """Send START_TRANSFER with fresh numbers and tell which were answered."""
    return [person.ask(START, sync=True) is not None for _ in range(count)]


# --- on the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "executions"), [("rx", 4), ("tx", 6)])
def test_drop_from_a_frame_on(direction: str, executions: int) -> None:
    person = hand("generic", f"drop@frame=1,times=2,dir={direction}")
    assert starts(person, 6) == [True, False, False, True, True, True]
    assert executed(person, START) == executions


def test_drop_in_both_directions_is_one_fault() -> None:
    person = hand("generic", "drop@frame=2,times=always")
    assert starts(person, 5) == [True, True, False, False, False]


def test_drop_by_chance_drops_some() -> None:
    person = hand("generic", "drop@p=0.5,dir=tx")
    answered = starts(person, 200)
    assert 60 < sum(answered) < 140
    assert executed(person, START) == 200


@pytest.mark.parametrize("seed", range(20))
def test_corrupt_is_noticed(seed: int) -> None:
    person = hand("generic", "corrupt@frame=1,dir=rx", seed=seed)
    person.expect(INFO, sync=True)
    frame = person.frame(START)
    answer = person.say(frame)
    # The bit may be one of the marks that frames begin and end with: then there is no frame at all.
    assert answer == b"" or answer.startswith(b"\x56\x41\x04"), answer.hex()
    assert executed(person, START) == 0


def test_corrupt_answer_is_one_bit_off() -> None:
    right = hand().say(bytes.fromhex("56 80 01 7f fe 9e"))
    wrong = hand("generic", "corrupt@frame=0,dir=tx").say(bytes.fromhex("56 80 01 7f fe 9e"))
    assert sum((a ^ b).bit_count() for a, b in zip(right, wrong, strict=True)) == 1


def test_duplicate_command_is_executed_once_and_answered_twice() -> None:
    person = hand("generic", "duplicate@frame=1,dir=rx")
    person.expect(INFO, sync=True)
    assert person.say(person.frame(START)) == bytes.fromhex("56 01 01 fe fe 9e" * 2)
    assert executed(person, START) == 1


def test_duplicate_answer_comes_twice() -> None:
    person = hand("generic", "duplicate@frame=0,dir=tx")
    assert frames_in(person.say(person.frame(INFO, sync=True))) == 2


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_delay(direction: str) -> None:
    person = hand("generic", f"delay@frame=0,s=0.3,dir={direction}")
    assert person.say(person.frame(INFO, sync=True)) == b""
    assert executed(person, INFO) == (direction == "tx")
    assert person.wait(0.29) == b""
    assert frames_in(person.wait(0.02)) == 1


def test_line_error_is_mere_damage_to_a_client_that_does_not_report_it() -> None:
    person = hand("generic", "line-error@frame=1")
    person.expect(INFO, sync=True)
    assert person.say(person.frame(START)) == bytes.fromhex("56 41 04 00 be fb 9e")


def test_noise_before_answers() -> None:
    person = hand("generic", "noise@p=1,bytes=5,times=1")
    quiet = hand().say(person.frame(INFO, sync=True))
    said = person.say(person.frame(INFO, sync=True))
    assert said[5:] == quiet
    assert person.say(person.frame(INFO, sync=True)) == quiet


def test_noise_at_any_time_ends_when_it_is_over() -> None:
    person = hand("generic", "noise@every=0.5,bytes=4,times=3")
    said = person.wait(10)
    assert len(said) == 12
    assert person.client.wake_at is None
    assert person.client.faults_fired == {"noise@every=0.5,bytes=4,times=3": 3}


# --- at commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "data"),
    [("none", b""), ("erase-error", b"\x04"), ("application-version-error", b"\x07"), ("42", b"\x2a")],
)
def test_abort(cause: str, data: bytes) -> None:
    person = hand("generic", f"abort@chunk=2,cause={cause}")
    person.begin()
    person.send(CHUNK * 2)
    answer = person.ask(WRITE, CHUNK)
    assert answer is not None
    assert (answer.status, answer.payload) == (Status.ABORT_FILE_TRANSFER, data)
    assert person.events[-1].kind == "abort"
    assert person.events[-1].details == {"cause": data[0] if data else None, "chunk": 2}
    # What was refused was not written.
    assert person.client.flash.source == CHUNK * 2


@pytest.mark.parametrize(("times", "transfers"), [("1", 1), ("2", 2), ("always", 4)])
def test_abort_counts_transfers(times: str, transfers: int) -> None:
    person = hand("generic", f"abort@chunk=0,times={times}")
    for _ in range(4):
        person.begin()
        person.ask(WRITE, CHUNK)
    assert person.kinds().count("abort") == transfers


def test_abort_at_a_step_and_at_a_command() -> None:
    person = hand("generic", "abort@step=start-transfer,cause=1", "abort@command=2")
    answers = [person.ask(command) for command in (START, INFO, INFO, START)]
    assert [answer and answer.status.name for answer in answers] == [
        "ABORT_FILE_TRANSFER",
        "SUCCESS",
        "ABORT_FILE_TRANSFER",
        "SUCCESS",
    ]


def test_a_family_that_resets_after_aborts_resets() -> None:
    person = hand("dspic", "abort@chunk=0", installed=update_file("dspic", "1.0.0"), stay_in_loader=True)
    person.begin()
    person.ask(WRITE, bytes(128))
    person.wait(1)
    assert person.client.boots == 2
    assert person.client.mode is Mode.LOADER


def test_lose_an_answer() -> None:
    person = hand("generic", "lose@step=end-transfer")
    person.begin()
    person.send(update_file())
    person.expect(Command.GET_IMAGE_STATE)
    assert person.ask(Command.END_TRANSFER) is None
    assert person.client.mode is Mode.APPLICATION


def test_lose_by_chance() -> None:
    person = hand("generic", "lose@p=0.5")
    assert 60 < sum(starts(person, 200)) < 140
    assert executed(person, START) == 200


@pytest.mark.parametrize(("when", "written"), [("before", 1), ("after", 2)])
def test_reboot_at_a_chunk(when: str, written: int) -> None:
    person = hand("generic", f"reboot@chunk=1,when={when}")
    person.begin()
    person.send(CHUNK)
    assert person.ask(WRITE, CHUNK) is None
    assert person.client.boots == 2
    assert person.client.flash.source == CHUNK * written
    # Sequence numbers and the transfer are forgotten.
    refused = person.ask(WRITE, CHUNK, number=5)
    assert refused is not None
    assert (refused.resend, refused.sequence) == (True, 0)


def test_mute_from_the_start() -> None:
    person = hand("generic", "mute")
    assert starts(person, 3) == [False] * 3
    assert executed(person, START) == 0


def test_mute_for_a_while_keeps_the_answer() -> None:
    person = hand("generic", "mute@command=1,for=3")
    person.expect(INFO, sync=True)
    frame = person.frame(START)
    assert person.say(frame) == b""
    person.wait(2.9)
    assert person.say(frame) == b""
    person.wait(0.1)
    assert person.say(frame) == bytes.fromhex("56 01 01 fe fe 9e")
    assert executed(person, START) == 1


# --- the port and the power --------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 7))
def test_cut_after_so_many_bytes_in(count: int) -> None:
    person = hand("generic", f"cut@rx={count}")
    # The answer to the last byte would leave after it.
    assert person.say(person.frame(INFO, sync=True)) == b""
    assert person.client.link.value == "down"
    assert executed(person, INFO) == (count == 6)
    assert person.client.wake_at is None


def test_cut_after_so_many_bytes_out() -> None:
    whole = hand().say(bytes.fromhex("56 80 01 7f fe 9e"))
    for count in range(1, len(whole) + 1):
        person = hand("generic", f"cut@tx={count}")
        assert person.say(bytes.fromhex("56 80 01 7f fe 9e")) == whole[:count]
        assert (person.client.link, person.client.link_losses) == (Link.DOWN, 1)


def test_what_is_sent_into_a_cut_is_lost_and_the_client_remembers() -> None:
    person = hand("generic", "cut@command=2,back=0.5", flash_time=1.0)
    person.begin()
    assert person.ask(WRITE, CHUNK) is None
    assert person.kinds()[-2:] == ["cut", "link-up"]
    # Nothing was lost but the answer.
    assert person.say(person.frame(WRITE, CHUNK, number=2)) == bytes.fromhex("56 02 01 fd fe 9e")
    assert (executed(person, WRITE), person.client.boots) == (1, 1)


def test_without_power_memory_is_lost_and_the_device_boots_when_it_is_back() -> None:
    person = hand("generic", "cut@command=2,back=0.5,power=lost")
    person.begin()
    assert person.say(person.frame(WRITE, CHUNK)) == b""
    assert (person.client.mode, person.client.link) == (Mode.OFF, Link.DOWN)
    person.wait(0.5)
    assert (person.client.mode, person.client.link) == (Mode.BOOTING, Link.UP)
    person.wait(0.1)
    assert (person.client.mode, person.client.boots) == (Mode.LOADER, 2)
    refused = person.ask(WRITE, CHUNK, number=2)
    assert refused is not None
    assert (refused.resend, refused.sequence) == (True, 0)


def test_a_page_tears_when_the_power_goes_while_it_is_written() -> None:
    person = hand("generic", "cut@chunk=0,power=lost", seed=3)
    person.begin()
    person.say(person.frame(WRITE, CHUNK))
    written = person.client.flash.read(0, 512)
    assert written.strip(b"\xff") not in (b"", CHUNK)
    assert person.client.flash.source == b""


@pytest.mark.parametrize("profile", ["generic", "dspic", "pic8", "pic32"])
def test_inv1_power_lost_while_erasing_leaves_nothing_that_starts(profile: str) -> None:
    old = update_file(profile, "1.0.0")
    for after_s in (0.0, 0.01, 0.1, 0.3):
        person = hand(profile, installed=old, stay_in_loader=True, flash_time=1.0)
        person.expect(INFO, sync=True)
        person.say(person.frame(START))
        if not person.client.profile.erases_in_start:
            person.number += 1
            person.say(person.frame(WRITE, old[: person.client.profile.buffer_size]))
        person.wait(after_s)
        assert person.client.flash.erase_starts == 0
        person.client.unplug(person.now, power_lost=True)
        assert person.client.flash.erase_starts == 1
        assert find_application(person.client.flash, person.client.profile.device_id) is None


def test_cut_comes_again_after_so_many_more_bytes() -> None:
    person = hand("generic", "cut@rx=10,back=0.1,times=2")
    for expected in (1, 2, 2):
        for _ in range(5):
            person.say(person.frame(INFO, sync=True))
        person.wait(0.2)
        assert person.client.link_losses == expected


def test_a_late_answer_does_not_come_out_of_a_new_port() -> None:
    person = hand("generic", "delay@frame=0,s=1,dir=tx", "cut@rx=12,back=0.1")
    person.say(person.frame(INFO, sync=True))
    person.say(bytes(6))
    assert person.client.link.value == "down"
    assert person.wait(5) == b""
    assert person.client.link.value == "up"


def test_wedge() -> None:
    person = hand("generic", "wedge@rx=6,back=2")
    person.say(person.frame(INFO, sync=True))
    assert person.client.link.value == "wedged"
    assert person.say(person.frame(INFO, sync=True)) == b""
    person.wait(2)
    assert person.client.link.value == "up"
    person.expect(INFO, sync=True)
    assert (executed(person, INFO), person.client.link_losses) == (2, 0)


def test_wedged_from_the_start() -> None:
    assert hand("generic", "wedge").client.link.value == "wedged"


# --- determinism -------------------------------------------------------------------------------------


def transcript(seed: int, *more: str) -> tuple[bytes, list[object], dict[str, int]]:
    person = hand(
        "generic",
        "drop@p=0.2",
        "corrupt@p=0.2",
        "noise@p=0.5",
        "lose@p=0.1",
        *more,
        seed=seed,
        flash_time=1.0,
    )
    said = b""
    for number in range(60):
        said += person.say(person.frame(START if number % 7 else INFO, sync=True)) + person.wait(2)
    return said, [(event.kind, event.at) for event in person.events], person.client.faults_fired


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)


def test_another_fault_does_not_move_the_others() -> None:
    plain = transcript(1)[2]
    more = transcript(1, "abort@command=5000")[2]
    assert {text: more[text] for text in plain} == plain

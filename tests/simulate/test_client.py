"""The device's life: power, boot, application, loader; and that it takes its time and is deaf meanwhile."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Unpack

import pytest

from firmwarden.protocol.mdfu.packet import Command
from firmwarden.simulate.application import Dialogue
from firmwarden.simulate.client import Mode
from firmwarden.simulate.profile import PROFILES
from support.hand import Choices, Hand, hand, update_file

INFO = Command.GET_CLIENT_INFO
START = Command.START_TRANSFER


def application(**settings: Unpack[Choices]) -> Hand:
    """Return a device that runs version 1.2.3."""
    settings["installed"] = update_file(version="1.2.3")
    return hand("generic", **settings)


# --- boot --------------------------------------------------------------------------------------------


def test_a_complete_application_is_started_and_known_by_its_file() -> None:
    person = application()
    client = person.client
    assert (client.mode, client.boots, client.started_partial) == (Mode.APPLICATION, 1, 0)
    assert client.running is not None
    assert client.running.version == "1.2.3"
    assert client.running.sha256 == sha256(update_file(version="1.2.3")).hexdigest()
    assert client.flash.wear == [0] * client.profile.flash.pages


def test_without_an_application_it_stays_in_its_loader() -> None:
    person = hand()
    assert (person.client.mode, person.client.running) == (Mode.LOADER, None)
    assert not person.client.complete


def test_it_hears_nothing_before_it_has_booted() -> None:
    person = hand(replace(PROFILES["generic"], boot_s=1.0))
    person.client.power_on(person.now)
    assert person.say(person.frame(INFO, sync=True)) == b""
    assert person.wait(2) == b""
    person.expect(INFO, sync=True)


def test_staying_in_the_loader_ends_with_an_update() -> None:
    person = application(stay_in_loader=True)
    assert person.client.mode is Mode.LOADER
    person.update(update_file(version="2.0.0"))
    assert person.client.running is not None
    assert person.client.running.version == "2.0.0"


def test_inv1_end_without_a_whole_image_starts_nothing_and_is_counted() -> None:
    person = hand()
    person.begin()
    person.send(update_file()[:2048])
    person.expect(Command.END_TRANSFER)
    person.wait(1)
    client = person.client
    assert (client.mode, client.boots, client.ended_partial, client.started_partial) == (Mode.LOADER, 2, 1, 0)


def test_inv1_an_application_that_was_not_accepted_as_a_whole_is_started_and_counted() -> None:
    """Every campaign asks this counter; a loader whose check can be deceived is what it is there to catch."""
    person = hand()
    person.begin()
    person.send(update_file()[:1024])
    whole = application().client.flash
    person.client.flash.pages = dict(whole.pages)
    person.client.flash.changes += 1
    person.expect(Command.END_TRANSFER)
    person.wait(1)
    client = person.client
    assert (client.mode, client.ended_partial, client.started_partial) == (Mode.APPLICATION, 1, 1)


@pytest.mark.parametrize("profile", ["pic8", "pic32"])
def test_end_resets_even_without_a_transfer(profile: str) -> None:
    person = hand(profile, installed=update_file(profile, "1.0.0"), stay_in_loader=True)
    person.expect(INFO, sync=True)
    person.expect(Command.END_TRANSFER)
    person.wait(1)
    assert (person.client.mode, person.client.boots) == (Mode.APPLICATION, 2)
    assert person.client.ended_partial == 0


def test_pic8_is_deaf_from_end_to_reset() -> None:
    person = hand("pic8", installed=update_file("pic8", "1.0.0"), stay_in_loader=True)
    person.expect(INFO, sync=True)
    person.expect(Command.END_TRANSFER)
    person.wait(0.024)
    assert "reset" not in person.kinds()
    assert person.say(person.frame(INFO, sync=True)) == b""
    person.wait(0.002)
    assert person.kinds()[-1] == "reset"


@pytest.mark.parametrize(("profile", "boots"), [("dspic", 2), ("generic", 1), ("pic8", 1), ("pic32", 1)])
def test_dspic_resets_when_it_finds_the_image_invalid(profile: str, boots: int) -> None:
    person = hand(profile)
    person.begin()
    assert person.expect(Command.GET_IMAGE_STATE).payload == b"\x02"
    person.wait(1)
    assert person.client.boots == boots


def test_dspic_resets_when_a_frame_underflows() -> None:
    person = hand("dspic")
    assert person.say_hex("56 00 9e") == ""
    assert person.client.mode is Mode.BOOTING
    assert hand("pic8").say_hex("56 00 9e") == "56 41 04 00 be fb 9e"


# --- the application ---------------------------------------------------------------------------------


def test_an_application_speaks_no_mdfu() -> None:
    person = application()
    assert person.say(person.frame(INFO, sync=True)) == b""
    assert person.wait(5) == b""
    assert person.client.commands.total() == 0


@pytest.mark.parametrize("step", [1, 3, 100])
def test_an_application_tells_its_version(step: int) -> None:
    person = application()
    question = b"\x00noise VERSION?\nVERSION?\n"
    said = b"".join(person.say(question[start : start + step]) for start in range(0, len(question), step))
    assert said == b"VERSION 1.2.3\n" * 2


@pytest.mark.parametrize(("ill_with", "answer"), [("1.2.3", b"ILL\n"), ("1.2.4", b"WELL\n"), ("", b"WELL\n")])
def test_an_application_tells_how_it_does(ill_with: str, answer: bytes) -> None:
    person = application(dialogue=Dialogue(ill_with=ill_with))
    assert person.say(b"STATUS?\nVERSION?\nSTATUS?\n") == answer + b"VERSION 1.2.3\n" + answer


def test_an_application_enters_the_loader_when_asked_and_stays_there() -> None:
    person = application()
    assert person.say(b"BOOTLOADER!\nVERSION?\n") == b"OK\n"
    person.wait(0)
    assert person.client.mode.value == "booting"
    person.wait(0.1)
    assert person.client.mode.value == "loader"
    assert person.wait(3600) == b""
    person.expect(INFO, sync=True)
    # Nothing was written: after another reset the application runs again.
    person.expect(Command.END_TRANSFER)
    person.wait(1)
    assert person.client.mode is Mode.APPLICATION


def test_an_application_that_goes_into_the_loader_hears_nothing_more() -> None:
    person = application(baud=9600, dialogue=Dialogue(loader_answer=b"." * 100))
    person.say(b"BOOTLOADER!\n")
    person.say(b"VERSION?\n")  # it has come before the answer is out
    assert person.wait(1) == b"." * 100
    assert person.client.mode is Mode.LOADER


def test_the_touch_works_in_the_application_only() -> None:
    person = application()
    person.client.touch(person.now)
    person.wait(0.1)
    assert person.client.mode is Mode.LOADER
    person.client.touch(person.now)
    assert (person.client.mode, person.client.boots) == (Mode.LOADER, 2)


def test_other_words() -> None:
    dialogue = Dialogue(
        version_query=b"v", version_answer="{version}|{version}", loader_request=b"", loader_answer=b"?"
    )
    person = application(dialogue=dialogue)
    assert person.say(b"BOOTLOADER!\nv") == b"1.2.3|1.2.3"
    assert person.client.mode is Mode.APPLICATION


# --- time --------------------------------------------------------------------------------------------


def test_erasing_takes_its_time_and_the_client_is_deaf() -> None:
    person = hand("generic", flash_time=1.0)
    person.expect(INFO, sync=True)
    frame = person.frame(START)
    assert person.say(frame) == b""
    # A repetition, half of it while it is deaf: its end is noise.
    person.wait(1.0)
    assert person.say(frame + frame[:3]) == b""
    person.wait(0.279)
    assert person.client.flash.erase_starts == 0
    assert person.wait(0.002) == bytes.fromhex("56 01 01 fe fe 9e")
    assert person.say(frame[3:]) == b""
    assert person.say(frame) == bytes.fromhex("56 01 01 fe fe 9e")
    assert person.client.commands[START] == 1


@pytest.mark.parametrize(
    ("profile", "start_s", "chunk_s"), [("dspic", 0.56, 0.0008), ("pic8", 0, 1.04), ("pic32", 0, 2.48)]
)
def test_erasing_happens_in_start_or_in_the_first_chunk(profile: str, start_s: float, chunk_s: float) -> None:
    person = hand(profile, flash_time=1.0)
    person.expect(INFO, sync=True)
    began = person.now
    person.expect(START)
    assert person.now - began == pytest.approx(start_s)
    began = person.now
    person.expect(Command.WRITE_CHUNK, update_file(profile)[: person.client.profile.buffer_size])
    assert person.now - began == pytest.approx(chunk_s)


def test_what_comes_behind_a_command_that_takes_time_is_lost() -> None:
    person = hand("generic", flash_time=1.0)
    both = person.frame(START, sync=True) + person.frame(INFO, number=1)
    assert person.say(both) == b""
    assert person.await_bytes() == bytes.fromhex("56 00 01 ff fe 9e")
    assert person.wait(10) == b""


def test_bytes_take_their_time_on_the_wire() -> None:
    person = hand("generic", baud=9600)
    byte_s = 10 / 9600
    began = person.now
    assert person.say(person.frame(INFO, sync=True)) == b""
    answer = person.await_bytes()
    assert len(answer) == 21
    assert person.now - began == pytest.approx((6 + 21) * byte_s)


def test_the_head_of_a_frame_that_met_deaf_ears_is_lost() -> None:
    person = hand("generic", baud=9600, flash_time=0.001)
    byte_s = 10 / 9600
    erase_s = 1.28 * 0.001
    person.say(person.frame(START, sync=True))
    person.wait(6 * byte_s)
    # Its first byte comes in while the client erases, its last one does not.
    person.say(person.frame(INFO, sync=True))
    assert erase_s > byte_s
    assert person.wait(1) == bytes.fromhex("56 00 01 ff fe 9e")
    assert person.client.commands[INFO] == 0

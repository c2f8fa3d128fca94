"""Sequence numbers, step by step (MDFU Protocol Specification 1.0.0, 3.8.4), and what holds after power-up."""

from __future__ import annotations

import pytest

from firmwarden.protocol.mdfu.packet import Command, NotExecutedCause, Status
from firmwarden.simulate.profile import PROFILES
from support.hand import Hand, hand

ALL = list(PROFILES)
DAMAGED = "56 03 03 11 22 00 00 9e"


def started(profile: str) -> Hand:
    """Return a client that has executed numbers 0 and 1."""
    person = hand(profile)
    person.begin()
    return person


@pytest.mark.parametrize("profile", ALL)
def test_damaged_frame_is_refused_with_the_number_wanted_next(profile: str) -> None:
    assert started(profile).say_hex(DAMAGED) == "56 42 04 00 bd fb 9e"


@pytest.mark.parametrize("profile", ALL)
def test_sync_is_executed_whatever_the_number(profile: str) -> None:
    person = started(profile)
    for number in (17, 17, 3):
        answer = person.ask(Command.GET_CLIENT_INFO, sync=True, number=number)
        assert answer is not None
        assert (answer.sequence, answer.status) == (number, Status.SUCCESS)
    assert person.client.commands[Command.GET_CLIENT_INFO] == 4
    answer = person.ask(Command.START_TRANSFER, number=4)
    assert answer is not None
    assert answer.status is Status.SUCCESS


@pytest.mark.parametrize("profile", ALL)
def test_the_number_wanted_next_is_executed_and_wraps(profile: str) -> None:
    person = started(profile)
    for number in [*range(2, 32), 0, 1]:
        answer = person.ask(Command.START_TRANSFER, number=number)
        assert answer is not None
        assert (answer.sequence, answer.status) == (number, Status.SUCCESS)
    assert person.client.commands[Command.START_TRANSFER] == 33


@pytest.mark.parametrize("profile", ALL)
def test_the_last_number_gets_the_stored_answer_and_is_not_executed(profile: str) -> None:
    person = started(profile)
    first = person.say(person.frame(0x77, number=2))
    # Not even another command: numbers alone are compared.
    again = person.say(person.frame(Command.START_TRANSFER, number=2))
    assert again == first == bytes.fromhex("56 02 02 fd fd 9e")
    assert person.client.commands[Command.START_TRANSFER] == 1


def test_a_stored_abort_is_repeated() -> None:
    person = started("pic8")
    first = person.say(person.frame(Command.WRITE_CHUNK, b"\0" * 271, number=2))
    assert first == bytes.fromhex("56 02 05 01 fc fa 9e")
    assert person.say(person.frame(Command.WRITE_CHUNK, b"\0" * 271, number=2)) == first
    assert person.client.commands[Command.WRITE_CHUNK] == 1


@pytest.mark.parametrize("profile", ALL)
def test_any_other_number_is_refused(profile: str) -> None:
    person = started(profile)
    for number in [*range(3, 32), 0]:
        answer = person.ask(Command.START_TRANSFER, number=number)
        assert answer is not None
        assert (answer.resend, answer.sequence) == (True, 2)
        assert answer.not_executed_cause is NotExecutedCause.SEQUENCE_NUMBER_INVALID
    assert person.client.commands[Command.START_TRANSFER] == 1


@pytest.mark.parametrize("profile", ["generic", "pic8", "dspic"])
def test_the_stored_answer_outlives_errors(profile: str) -> None:
    person = started(profile)
    stored = person.say(person.frame(Command.START_TRANSFER, number=2))
    person.say_hex(DAMAGED)
    person.say(person.frame(Command.START_TRANSFER, number=9))
    assert person.say(person.frame(Command.START_TRANSFER, number=2)) == stored


@pytest.mark.parametrize("profile", ALL)
def test_a_frame_in_the_middle_of_another_starts_anew(profile: str) -> None:
    assert started(profile).say_hex("56 02 03 11 56 02 02 fd fd 9e") == "56 02 01 fd fe 9e"


@pytest.mark.parametrize("profile", ALL)
def test_too_long_a_frame_is_refused_while_it_still_comes(profile: str) -> None:
    person = started(profile)
    size = PROFILES[profile].buffer_size
    frame = b"\x56\x02\x03" + bytes(size + 2)
    assert person.say(frame) == b""
    assert person.say(b"\0") == bytes.fromhex("56 42 04 01 bc fb 9e")
    assert person.say(bytes(100) + b"\x9e") == b""


# --- after power-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["pic8", "pic32"])
def test_number_0_repeats_nothing_on_clients_that_expect_1(profile: str) -> None:
    person = hand(profile)
    assert person.ask(Command.START_TRANSFER, number=0) is None
    answer = person.ask(Command.START_TRANSFER, number=1)
    assert answer is not None
    assert answer.status is Status.SUCCESS


@pytest.mark.parametrize("profile", ["dspic", "generic"])
def test_number_0_is_executed_on_clients_that_expect_it(profile: str) -> None:
    person = hand(profile)
    refused = person.ask(Command.START_TRANSFER, number=1)
    assert refused is not None
    assert (refused.resend, refused.sequence) == (True, 0)
    executed = person.ask(Command.START_TRANSFER, number=0)
    assert executed is not None
    assert executed.status is Status.SUCCESS
    assert person.client.flash.erase_starts == 1

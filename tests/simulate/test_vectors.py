"""Recorded traffic: what pymdfu's host was answered, and whole sessions of the three real clients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmwarden.protocol.mdfu.packet import Command
from firmwarden.simulate.profile import PROFILES, Profile
from support.hand import Hand, hand
from support.mdfu_vectors import CLIENT_INFOS, COMMANDS, INFO, RESPONSES

HOST = {vector.name: vector.wire for vector in COMMANDS}
CLIENT = {vector.name: vector.wire for vector in RESPONSES}


def small() -> Profile:
    """Return a client that tells of itself what the client of TV-1 to TV-12 told."""
    info = next(info for raw, info in CLIENT_INFOS if raw == INFO)
    return replace(PROFILES["generic"], info=info)


def test_tv_1_to_6_a_whole_update() -> None:
    person = hand(small())
    # The order of the parameters is free: ours come in the order of the real clients.
    own_info = person.say(HOST["TV-1"])
    assert sorted(own_info[3:-3]) == sorted(CLIENT["TV-1"][3:-3])
    for name in ("TV-2", "TV-3", "TV-4"):
        assert person.say(HOST[name]) == CLIENT[name]
    # Eleven bytes are no application.
    assert person.say(HOST["TV-5"]) == CLIENT["TV-5-invalid"]
    assert person.say(HOST["TV-6"]) == CLIENT["TV-6"]
    assert person.client.ended_partial == 1


def test_tv_7_damaged_command_then_again() -> None:
    person = hand(small())
    person.begin()
    assert person.say(HOST["TV-3"].replace(b"\x33\xff", b"\x33\xfe")) == CLIENT["TV-7-cause-0"]
    # The recorded damage breaks an escape, which makes the frame one byte longer than the buffer.
    damaged = HOST["TV-3"].replace(b"\xcc\xa9", b"\xcd\xa9", 1)
    assert person.say(damaged) == bytes.fromhex("56 42 04 01 bc fb 9e")
    assert person.say(HOST["TV-3"]) == CLIENT["TV-3"]


def test_tv_8_lost_response_is_replayed() -> None:
    person = hand(small(), "lose@chunk=0")
    person.begin()
    assert person.say(HOST["TV-3"]) == b""
    assert person.say(HOST["TV-3"]) == CLIENT["TV-3"]
    assert person.client.commands[Command.WRITE_CHUNK] == 1


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("abort@chunk=0,cause=address-error", "TV-9-address"),
        ("abort@chunk=0", "TV-9-no-cause"),
    ],
)
def test_tv_9_abort(fault: str, answer: str) -> None:
    person = hand(small(), fault)
    person.begin()
    assert person.say(HOST["TV-3"]) == CLIENT[answer]


def test_tv_10_wrong_number() -> None:
    person = hand(small())
    person.begin()
    assert person.say(HOST["TV-10"]) == CLIENT["TV-10"]


def test_tv_11_host_restarts_after_two_chunks() -> None:
    person = hand(small())
    info = person.say(HOST["TV-1"])
    person.say(HOST["TV-2"])
    assert person.say(HOST["TV-11-first"]) == CLIENT["TV-3"]
    assert person.say(HOST["TV-11-second"]) == CLIENT["TV-4"]
    assert person.say(HOST["TV-1"]) == info
    assert person.say(HOST["TV-2"]) == CLIENT["TV-2"]


def test_tv_12_numbers_wrap() -> None:
    person = hand(small())
    person.begin()
    person.number = 2
    while person.number != 31:
        person.expect(Command.WRITE_CHUNK, b"\0")
    for name in ("TV-12-31", "TV-12-0", "TV-12-1"):
        assert person.say(HOST[name]) == CLIENT[name]


def session(person: Hand, *dialogue: tuple[str, str]) -> None:
    for sent, received in dialogue:
        assert person.say_hex(sent) == received, sent


def test_tv_18_dspic() -> None:
    person = hand("dspic", "abort@command=4")
    info = CLIENT["TV-18-dspic-info"].hex(" ")
    session(
        person,
        ("56 80 01 7f fe 9e", info),
        ("56 00 01 ff fe 9e", info),
        ("56 01 02 fe fd 9e", "56 01 01 fe fe 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        ("56 03 02 00 00 9e", "56 43 04 00 bc fb 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        ("56 09 02 f6 fd 9e", "56 43 04 03 b9 fb 9e"),
        ("56 03 fc ff 9e", "56 43 04 02 ba fb 9e"),
        ("56 03 06 fc f9 9e", "56 03 02 fc fd 9e"),
        ("56 04 02 fb fd 9e", "56 04 05 fb fa 9e"),
    )
    person.wait(0)
    assert person.kinds()[-1] == "reset"


def test_tv_18_dspic_uart_line_error_inside_a_frame() -> None:
    person = hand("dspic", "line-error@frame=3")
    session(
        person,
        ("56 80 01 7f fe 9e", CLIENT["TV-18-dspic-info"].hex(" ")),
        ("56 01 02 fe fd 9e", "56 01 01 fe fe 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        ("56 03 02 fc fd 9e", "56 43 04 bc fb 9e 56 43 04 02 ba fb 9e"),
        ("56 03 02 fc fd 9e", "56 03 01 fc fe 9e"),
    )


def test_tv_18_pic32() -> None:
    person = hand("pic32", "abort@command=5,cause=address-error")
    info = CLIENT["TV-18-pic32cm-info"].hex(" ")
    session(
        person,
        ("56 80 01 7f fe 9e", info),
        # A damaged frame cuts the client info to one byte when it is repeated.
        ("56 01 02 00 00 9e", "56 41 04 00 be fb 9e"),
        ("56 00 01 ff fe 9e", "56 00 01 01 fe fe 9e"),
        ("56 80 01 7f fe 9e", info),
        ("56 01 02 fe fd 9e", "56 01 01 fe fe 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        # And makes a short answer one stale byte longer.
        ("56 03 02 00 00 9e", "56 43 04 00 bc fb 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 01 fc fe 9e"),
        ("56 03 02 fc fd 9e", "56 03 01 fc fe 9e"),
        # An address error is repeated as it was; the next number is executed normally.
        ("56 04 02 fb fd 9e", "56 04 05 03 f8 fa 9e"),
        ("56 04 02 fb fd 9e", "56 04 05 03 f8 fa 9e"),
        ("56 05 02 fa fd 9e", "56 05 01 fa fe 9e"),
    )


def test_tv_18_pic8() -> None:
    person = hand("pic8")
    # That one was built without its device's settings, hence its 527 bytes.
    info = CLIENT["TV-18-pic18-info"].hex(" ").replace("0f 02", "0f 01").replace("0e 06 9e", "0f 06 9e")
    session(
        person,
        ("56 80 01 7f fe 9e", info),
        ("56 01 02 fe fd 9e", "56 01 01 fe fe 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        ("56 03 02 00 00 9e", "56 43 04 00 bc fb 9e"),
        ("56 02 02 fd fd 9e", "56 02 01 fd fe 9e"),
        ("56 ff ff 9e", "56 3f 02 c0 fd 9e"),
    )

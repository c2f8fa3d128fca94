"""Strings as a host asks for them, and what real devices answer."""

from __future__ import annotations

import pytest

from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.descriptors import MalformedDescriptor
from firmwarden.protocol.dfu.strings import read_serial, read_string
from support.dfu_script import Script

FOURTH = "80 06 04 03 09 04 FF 00"
MAP = "40 00 46 00"
"""@F."""


def test_a_string_is_asked_for_in_english() -> None:
    script = Script(f"{FOURTH} -> 06 03 {MAP}")
    assert script.play(read_string(4)) == "@F"
    script.finish()


def test_what_has_no_string_is_not_asked_for() -> None:
    assert Script("").play(read_string(0)) == ""


def test_a_device_that_speaks_no_english_is_asked_in_its_own_language() -> None:
    script = Script(f"""
        {FOURTH} -> stall
        80 06 00 03 00 00 FF 00 -> 04 03 07 04
        80 06 04 03 07 04 FF 00 -> 06 03 {MAP}
    """)
    assert script.play(read_string(4)) == "@F"
    script.finish()


def test_a_length_that_always_promises_more_than_comes_is_forgiven() -> None:
    script = Script(f"{FOURTH} -> 0A 03 {MAP}\n" * 3)
    assert script.play(read_string(4)) == "@F"
    script.finish()


@pytest.mark.parametrize("short", ["ok", "06 03", "06 03 40", "06 03 40 00"])
def test_inv3_a_string_that_comes_short_is_asked_for_again(short: str) -> None:
    """One transfer that went wrong is not a device that says something else."""
    script = Script(f"{FOURTH} -> {short}\n{FOURTH} -> 06 03 {MAP}")
    assert script.play(read_string(4)) == "@F"
    script.finish()


def test_inv3_a_string_that_comes_short_each_time_otherwise_is_trouble_on_the_way() -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script(f"{FOURTH} -> 06 03\n{FOURTH} -> 06 03 40 00\n{FOURTH} -> 06 03").play(read_string(4))
    assert raised.value.cause.code is CauseCode.OUT_OF_STEP


@pytest.mark.parametrize(
    ("answer", "times"), [("ok", 3), ("06 02 40 00 46 00", 3), ("05 03 40 00 46", 1), ("07 03 40 00 46", 3)]
)
def test_inv8_what_is_no_string_is_refused(answer: str, times: int) -> None:
    script = Script(f"{FOURTH} -> {answer}\n" * times)
    with pytest.raises(MalformedDescriptor):
        script.play(read_string(4))
    script.finish()


@pytest.mark.parametrize(
    ("answer", "code"), [("gone", CauseCode.LINK_LOST), ("timeout", CauseCode.NO_ANSWER)]
)
def test_a_device_that_cannot_be_asked(answer: str, code: CauseCode) -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script(f"{FOURTH} -> {answer}").play(read_string(4))
    assert raised.value.cause.code is code


def test_a_serial_number_in_an_encoding_of_its_own() -> None:
    """GD32VF103: the size of its flash is in it."""
    script = Script(f"""
        80 06 00 01 00 00 12 00 -> 12 01 00 02 00 00 00 40 e9 28 89 01 00 10 01 02 03 01
        80 06 03 03 09 04 FF 00 -> 06 03 {b"3CBJ".hex(" ")}
    """)
    assert script.play(read_serial("utf-8")) == "3CBJ"
    script.finish()


def test_inv8_a_device_descriptor_that_is_cut_short_is_refused() -> None:
    with pytest.raises(MalformedDescriptor):
        Script("80 06 00 01 00 00 12 00 -> 12 01\n" * 3).play(read_serial("utf-8"))

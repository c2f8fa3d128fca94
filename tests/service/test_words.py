"""What the daemon tells, in sentences."""

from __future__ import annotations

import pytest

from firmwarden.service.words import cause_in_words, sentence
from support.memory_desk import LINK_LOST


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the port hung up", "The port hung up."),
        ("image valid, loader left", "Image valid, loader left."),
        ("refused: no such rate", "Refused: no such rate."),
        ("gone", "Gone."),
        ("It was.", "It was."),
        ("localhost:5559: Connection refused", "localhost:5559: Connection refused."),
        ("panel.local: not known", "panel.local: not known."),
        ("ports/panel-1: the port hung up", "ports/panel-1: the port hung up."),
        ("/dev/ttyACM0 vanished", "/dev/ttyACM0 vanished."),
        ("two.img is empty", "two.img is empty."),
    ],
)
def test_names_keep_their_small_letters(text: str, expected: str) -> None:
    assert sentence(text) == expected


def test_a_place_is_told_where_there_was_one() -> None:
    nowhere = cause_in_words({**LINK_LOST, "chunk": None, "offset": 0, "sequence": 0})
    assert nowhere[-1] == "/dev/ttyACM3 vanished."
    first_chunk = cause_in_words({**LINK_LOST, "chunk": 0, "offset": 0, "sequence": 2})
    assert first_chunk[-1] == "That was at chunk 0, sequence number 2, after 0 bytes of the image."
    no_chunks = cause_in_words({**LINK_LOST, "chunk": None, "offset": 30_720, "sequence": None})
    assert no_chunks[-1] == "That was after 30,720 bytes of the image."
    answered = cause_in_words({**LINK_LOST, "chunk": None, "offset": 0, "sequence": 1, "raw": "010501"})
    assert answered[-2:] == ["That was at sequence number 1.", "It answered 01 05 01."]

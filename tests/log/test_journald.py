"""What the journal gets, by a socket as it has one."""

from __future__ import annotations

import io
import os
import socket
import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.events import LogEvent
from firmwarden.log import journald
from support.journal import Journal, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = st.builds(
    "{}{}".format,
    st.sampled_from(string.ascii_uppercase),
    st.text(string.ascii_uppercase + string.digits + "_", max_size=63),
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(str(tmp_path / "socket"))
    with made.socket:
        yield made


@given(st.dictionaries(NAMES, st.text()))
def test_what_is_encoded_is_read_again(fields: dict[str, str]) -> None:
    read = dict(parse(journald.encode(fields)))
    assert read == {name: value.encode("utf-8", "backslashreplace") for name, value in fields.items()}


def test_bytes_are_as_the_protocol_writes_them() -> None:
    raw = journald.encode({"MESSAGE": "one", "FIRMWARDEN_EXCEPTION": "a=b\nc"})
    assert raw == b"MESSAGE=one\nFIRMWARDEN_EXCEPTION\n\x05\0\0\0\0\0\0\0a=b\nc\n"


def test_a_name_of_a_file_that_is_no_text_is_escaped() -> None:
    assert journald.encode({"A": os.fsdecode(b"\xff.toml")}) == b"A=\\udcff.toml\n"


def test_an_entry_arrives(journal: Journal) -> None:
    fields = {"MESSAGE": "done", "PRIORITY": "6", "OTHER": "two\nlines"}
    assert journald.send(fields, journal.address)
    assert journal.entries() == [fields]


def test_what_no_datagram_holds_arrives_as_a_sealed_file(journal: Journal) -> None:
    fields = {"MESSAGE": "done", "OTHER": "line\n" * 200_000}
    assert journald.send(fields, journal.address)
    assert journal.entries() == [fields]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_journal_that_is_full_is_not_waited_for(journal: Journal, size: int) -> None:
    fields = {"MESSAGE": "x" * size}
    while journald.send({"MESSAGE": "x"}, journal.address):
        pass
    before = open_files()
    assert not journald.send(fields, journal.address)
    assert open_files() == before
    assert journal.entries()
    assert journald.send(fields, journal.address)


def test_a_journal_that_is_not_there_raises_nothing(journal: Journal, tmp_path: Path) -> None:
    assert not journald.send({"MESSAGE": "x"}, str(tmp_path / "nowhere"))
    assert not journald.send({"MESSAGE": "x"}, "/" * 200)
    journal.socket.close()
    assert not journald.send({"MESSAGE": "x"}, journal.address)


def test_the_journal_is_behind_the_stream_that_it_was_said_to_be() -> None:
    one, other = socket.socketpair()
    with one, other, one.makefile("w") as stream, other.makefile("w") as elsewhere:
        about = os.fstat(one.fileno())
        said = {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"}
        assert journald.is_behind(stream, said)
        assert not journald.is_behind(elsewhere, said)
        assert not journald.is_behind(stream, {})
        assert not journald.is_behind(io.StringIO(), said)
    assert not journald.is_behind(stream, said)


def test_each_event_has_a_message_id_that_never_changes() -> None:
    ids = {event: journald.message_id(event) for event in LogEvent}
    assert len(set(ids.values())) == len(ids)
    # Written down once: catalogues and scripts out there know them.
    assert ids[LogEvent.ATTEMPT_FAILED] == "bcc4d358327155419d6d25d9d12e3acd"

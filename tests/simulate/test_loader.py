"""What devices take for an update file, and that nothing partial ever passes their check."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.mdfu.framing import checksum
from firmwarden.protocol.mdfu.packet import AbortCause, Command
from firmwarden.simulate.client import Mode
from firmwarden.simulate.firmware import find_application, make_application, make_update_file
from firmwarden.simulate.flash import Flash
from firmwarden.simulate.loader import TransferAborted, install, is_whole
from firmwarden.simulate.profile import PROFILES, Profile
from support.hand import hand, update_file

ALL = list(PROFILES)
BLOCKS = ["pic8", "pic32"]


def installed(profile: Profile, *pieces: bytes) -> Flash:
    flash = Flash(profile.flash)
    install(profile, b"".join(pieces), flash)
    return flash


def aborted_with(profile_name: str, *chunks: bytes) -> int | None:
    """Start a transfer of these chunks and return the cause with which the last is refused."""
    person = hand(profile_name)
    person.begin()
    for chunk in chunks[:-1]:
        person.expect(Command.WRITE_CHUNK, chunk)
    answer = person.ask(Command.WRITE_CHUNK, chunks[-1])
    assert answer is not None
    assert answer.status.name == "ABORT_FILE_TRANSFER"
    return answer.abort_cause


@pytest.mark.parametrize("profile_name", ALL)
def test_whole_update_runs_the_new_application(profile_name: str) -> None:
    person = hand(profile_name, installed=update_file(profile_name, "1.0.0"), stay_in_loader=True)
    person.update(update_file(profile_name, "2.0.0"))
    client = person.client
    assert client.mode is Mode.APPLICATION
    assert client.running is not None
    assert client.running.version == "2.0.0"
    assert (client.started_partial, client.ended_partial, client.flash.erase_starts) == (0, 0, 1)


@pytest.mark.parametrize("profile_name", ALL)
@given(data=st.data())
def test_inv1_a_file_that_is_not_whole_is_invalid(profile_name: str, data: st.DataObject) -> None:
    profile = PROFILES[profile_name]
    file = update_file(profile, size=2000)
    # Raw files end where the application ends; the last block of the others is filled up.
    chunks = -(-len(file) // profile.buffer_size)
    kept = data.draw(st.integers(0, chunks - 1), label="chunks")
    flash = installed(profile, file[: kept * profile.buffer_size])
    assert find_application(flash, profile.device_id) is None
    assert not is_whole(profile, flash)


@pytest.mark.parametrize("profile_name", ALL)
@given(data=st.data())
def test_inv1_a_changed_byte_is_found(profile_name: str, data: st.DataObject) -> None:
    profile = PROFILES[profile_name]
    flash = installed(profile, update_file(profile, size=1000))
    at = data.draw(st.integers(0, 999), label="offset")
    page, within = divmod(at, profile.flash.page_size)
    page_bytes = bytearray(flash.pages[page])
    page_bytes[within] ^= data.draw(st.integers(1, 255), label="bits")
    flash.pages[page] = bytes(page_bytes)
    assert find_application(flash, profile.device_id) is None


def test_inv1_an_application_made_of_two_files_is_told_from_a_whole_one() -> None:
    profile = PROFILES["generic"]
    file = update_file()
    flash = installed(profile, file[:1024])
    ideal = installed(profile, file)
    # The bytes come to be right, but nobody accepted them.
    flash.pages = dict(ideal.pages)
    assert find_application(flash, profile.device_id) is not None
    assert not is_whole(profile, flash)


def test_an_image_for_another_device_is_invalid_everywhere() -> None:
    for profile in PROFILES.values():
        other = replace(profile, device_id=profile.device_id + 1, abort_causes=frozenset())
        flash = Flash(profile.flash)
        for address, data in installed(other, make_update_file(other, "1.0.0", size=500)).pages.items():
            flash.pages[address] = data
        assert find_application(flash, other.device_id) is not None
        assert find_application(flash, profile.device_id) is None


@pytest.mark.parametrize(("size", "version"), [(79, "1"), (80, ""), (80, "x" * 33), (80, "1.0\xe9")])
def test_no_application_without_room_for_its_header(size: int, version: str) -> None:
    with pytest.raises(ValueError, match=r"at least 80 bytes|1 to 32 ASCII"):
        make_application(version, size=size, device_id=1)


def test_an_update_file_must_fit() -> None:
    with pytest.raises(ValueError, match="pic8 has room for 53248 bytes"):
        update_file("pic8", size=53249)
    install(PROFILES["pic8"], update_file("pic8", size=53248), Flash(PROFILES["pic8"].flash))


def test_the_same_arguments_give_the_same_file() -> None:
    assert update_file() == update_file()
    assert update_file() != update_file(version="2.0.1")
    assert update_file() != make_update_file(PROFILES["generic"], "2.0.0", size=4000, seed=1)


# --- what each family refuses ------------------------------------------------------------------------


def test_generic_tells_a_wrong_device_id() -> None:
    other = replace(PROFILES["generic"], device_id=2)
    file = make_update_file(other, "1.0.0", size=1000)
    assert aborted_with("generic", file[:512]) is AbortCause.INVALID_CLIENT_DEVICE_ID


def test_dspic_aborts_without_a_cause_and_finds_the_wrong_device_only_at_the_end() -> None:
    assert aborted_with("dspic", b"") is None
    other = replace(PROFILES["dspic"], device_id=2)
    person = hand("dspic")
    person.begin()
    person.send(make_update_file(other, "1.0.0", size=1000))
    assert person.expect(Command.GET_IMAGE_STATE).payload == b"\x02"


@pytest.mark.parametrize("profile_name", BLOCKS)
def test_block_clients_call_a_wrong_device_id_an_invalid_file(profile_name: str) -> None:
    other = replace(PROFILES[profile_name], device_id=2)
    file = make_update_file(other, "1.0.0", size=1000)
    assert aborted_with(profile_name, file[: other.buffer_size]) is AbortCause.INVALID_FILE


@pytest.mark.parametrize("profile_name", BLOCKS)
@pytest.mark.parametrize(
    ("offset", "field"),
    [
        (3, bytes((0, 9, 9))),  # format version
        (10, b"\x08\x00"),  # write size
        (12, b"\x00\x00\x00\x00"),  # start of the application
        (2, b"\x07"),  # block type
    ],
)
def test_block_clients_check_the_metadata(profile_name: str, offset: int, field: bytes) -> None:
    block = bytearray(update_file(profile_name)[: PROFILES[profile_name].buffer_size])
    block[offset : offset + len(field)] = field
    assert aborted_with(profile_name, bytes(block)) is AbortCause.INVALID_FILE


@pytest.mark.parametrize(
    ("profile_name", "version", "accepted"),
    [
        ("pic8", bytes((0, 4, 0)), True),
        ("pic8", bytes((9, 3, 0)), True),
        ("pic8", bytes((0, 2, 0)), False),
        ("pic32", bytes((5, 0, 1)), True),
        # This client has the comparison the wrong way round.
        ("pic32", bytes((0, 1, 1)), False),
    ],
)
def test_format_versions(profile_name: str, version: bytes, accepted: bool) -> None:
    person = hand(profile_name)
    person.begin()
    block = update_file(profile_name)[: person.client.profile.buffer_size]
    answer = person.ask(Command.WRITE_CHUNK, block[:3] + version + block[6:])
    assert answer is not None
    assert (answer.status.name == "SUCCESS") is accepted


def test_pic8_checks_the_unlock_keys_of_each_block() -> None:
    file = update_file("pic8")
    metadata, block = file[:271], bytearray(file[271:542])
    block[7] ^= 1
    assert aborted_with("pic8", metadata, bytes(block)) is AbortCause.INVALID_FILE
    metadata = metadata[:16] + bytes((metadata[16] ^ 1,)) + metadata[17:]
    assert aborted_with("pic8", metadata) is AbortCause.INVALID_FILE


@pytest.mark.parametrize("profile_name", BLOCKS)
def test_block_clients_want_the_metadata_first(profile_name: str) -> None:
    profile = PROFILES[profile_name]
    block = update_file(profile_name)[profile.buffer_size :][: profile.buffer_size]
    assert aborted_with(profile_name, block) is AbortCause.INVALID_FILE
    person = hand(profile_name)
    person.begin()
    person.send(update_file(profile_name))
    # A new start locks again.
    person.expect(Command.START_TRANSFER)
    answer = person.ask(Command.WRITE_CHUNK, block)
    assert answer is not None
    assert answer.abort_cause is AbortCause.INVALID_FILE
    assert person.client.flash.erase_starts == 1


@pytest.mark.parametrize("profile_name", BLOCKS)
@pytest.mark.parametrize("place", ["below", "behind", "between"])
def test_block_clients_check_addresses(profile_name: str, place: str) -> None:
    profile = PROFILES[profile_name]
    address = {
        "below": profile.flash.start - profile.flash.write_size,
        "behind": profile.flash.end,
        "between": profile.flash.start + 1,
    }[place]
    file = update_file(profile_name)
    metadata, block = (
        file[: profile.buffer_size],
        bytearray(file[profile.buffer_size :][: profile.buffer_size]),
    )
    struct.pack_into("<I", block, 3, address)
    assert aborted_with(profile_name, metadata, bytes(block)) is AbortCause.ADDRESS_ERROR


def test_block_clients_program_what_lies_behind_a_short_block() -> None:
    profile = PROFILES["pic8"]
    file = update_file("pic8", size=256)
    person = hand("pic8")
    person.begin()
    person.expect(Command.WRITE_CHUNK, file[:271])
    person.expect(Command.WRITE_CHUNK, file[271:400])
    written = person.client.flash.read(profile.flash.start, 256)
    assert written[:114] == file[286:400]
    # The frame's checksum, and zeros.
    assert written[114:116] == checksum(b"\x03\x03" + file[271:400]).to_bytes(2, "little")
    assert written[116:] == bytes(140)


@pytest.mark.parametrize("profile_name", ["generic", "dspic"])
def test_raw_clients_refuse_more_than_they_have_room_for(profile_name: str) -> None:
    profile = PROFILES[profile_name]
    flash = Flash(profile.flash)
    install(profile, bytes(profile.flash.size), flash)
    with pytest.raises(TransferAborted) as refused:
        install(profile, bytes(profile.flash.size + 1), flash)
    assert refused.value.cause == (AbortCause.ADDRESS_ERROR if profile_name == "generic" else None)


# --- a chunk that no START_TRANSFER preceded ---------------------------------------------------------


@pytest.mark.parametrize(
    ("profile_name", "cause"),
    [
        ("generic", AbortCause.GENERIC_CLIENT_ERROR),
        ("pic8", AbortCause.INVALID_FILE),
        ("pic32", AbortCause.INVALID_FILE),
    ],
)
def test_a_chunk_out_of_the_blue_is_refused(profile_name: str, cause: AbortCause) -> None:
    person = hand(profile_name)
    person.expect(Command.GET_CLIENT_INFO, sync=True)
    file = update_file(profile_name)
    chunk = file[: person.client.profile.buffer_size]
    if profile_name != "generic":
        chunk = file[person.client.profile.buffer_size :][: person.client.profile.buffer_size]
    answer = person.ask(Command.WRITE_CHUNK, chunk)
    assert answer is not None
    assert answer.abort_cause is cause


def test_inv1_dspic_writes_a_chunk_out_of_the_blue_and_its_check_finds_it() -> None:
    person = hand("dspic", installed=update_file("dspic", "1.0.0"), stay_in_loader=True)
    before = person.client.complete
    person.expect(Command.GET_CLIENT_INFO, sync=True)
    person.expect(Command.WRITE_CHUNK, bytes(128))
    assert (before, person.client.complete) == (True, False)
    assert person.expect(Command.GET_IMAGE_STATE).payload == b"\x02"

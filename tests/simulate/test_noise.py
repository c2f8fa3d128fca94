"""Whatever a host, a wire or bad luck does: the client does not break, and never starts a partial image."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.mdfu.packet import Command, MalformedPacket
from firmwarden.simulate.client import Mode
from firmwarden.simulate.profile import PROFILES
from support.hand import Hand, hand, update_file

FAULTS = [
    "drop@p=0.1",
    "corrupt@p=0.1",
    "duplicate@p=0.1",
    "delay@p=0.1,s=0.2",
    "line-error@p=0.1",
    "noise@p=0.2,bytes=4",
    "noise@every=0.3,times=5",
    "cut@rx=600,back=0.1,power=lost,times=always",
    "cut@tx=40,back=0.1,times=2",
    "cut@step=start-transfer,back=0.1,power=lost",
    "cut@chunk=1,back=0.1,power=lost,times=2",
    "wedge@rx=500,back=0.1",
    "mute@command=3,for=0.5",
    "lose@p=0.2",
    "reboot@chunk=2,when=after",
    "reboot@step=get-image-state",
    "abort@chunk=3,cause=42",
]

FILES = {name: (update_file(name, "1.0.0", 700), update_file(name, "2.0.0", 900)) for name in PROFILES}

STEPS = st.one_of(
    st.tuples(st.just("raw"), st.binary(max_size=60)),
    st.tuples(st.just("word"), st.sampled_from([b"BOOTLOADER!\n", b"VERSION?\n", b"\x56", b"\x9e", b"\xcc"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.1, 1.0, 5.0])),
    st.tuples(st.just("power"), st.none()),
    st.tuples(st.just("touch"), st.none()),
    st.tuples(st.just("command"), st.tuples(st.sampled_from(list(Command)), st.booleans())),
    st.tuples(st.just("file"), st.integers(0, 8)),
)


def ask(person: Hand, command: Command, payload: bytes = b"", *, sync: bool = False) -> None:
    # An answer that is repeated before there was one can be anything.
    with contextlib.suppress(MalformedPacket):
        person.ask(command, payload, sync=sync)


def play(person: Hand, profile: str, kind: str, value: object) -> None:
    client = person.client
    match kind, value:
        case (("raw" | "word"), bytes(data)):
            person.say(data)
        case "wait", float(seconds):
            person.wait(seconds)
        case "power", _:
            client.unplug(person.now, back_s=0.1, power_lost=True)
        case "touch", _:
            client.touch(person.now)
        case "command", (Command() as command, bool(sync)):
            ask(person, command, sync=sync)
        case "file", int(chunks):
            size = client.profile.buffer_size
            for offset in range(0, min(chunks * size, len(FILES[profile][1])), size):
                ask(person, Command.WRITE_CHUNK, FILES[profile][1][offset : offset + size])


@pytest.mark.parametrize("profile", list(PROFILES))
@given(
    steps=st.lists(STEPS, max_size=25),
    faults=st.lists(st.sampled_from(FAULTS), max_size=3),
    seed=st.integers(0, 9),
    flash_time=st.sampled_from([0.0, 0.01, 1.0]),
    baud=st.sampled_from([None, 115_200]),
)
def test_inv1_no_noise_starts_a_partial_image(
    profile: str,
    steps: list[tuple[str, object]],
    faults: list[str],
    seed: int,
    flash_time: float,
    baud: int | None,
) -> None:
    old, new = FILES[profile]
    person = hand(
        profile,
        *faults,
        installed=old,
        stay_in_loader=seed % 2 == 0,
        seed=seed,
        flash_time=flash_time,
        baud=baud,
    )
    client = person.client
    known = {"1.0.0": old, "2.0.0": new}
    for kind, value in steps:
        play(person, profile, kind, value)
        assert client.started_partial == 0
        if client.mode is Mode.APPLICATION:
            assert client.running is not None
            assert client.flash.source[: len(known[client.running.version])] == known[client.running.version]
    person.wait(100)
    assert client.started_partial == 0
    assert (client.mode is Mode.APPLICATION) <= client.complete

"""The link of each of sixteen devices is cut once, at a random place, half of the times with its power."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.packet import Command, CommandPacket, Status
from firmwarden.simulate.profile import PROFILES
from support.fleet import EACH, SIZE, Fleet
from support.gateway import image

if TYPE_CHECKING:
    from firmwarden.simulate.profile import Profile
    from support.gateway import Gateway

SAMPLES_PER_RUN: Final = 2 * EACH
ENTRY: Final = (b"BOOTLOADER!\n", b"OK\n")
STEPS: Final = ("start-transfer", "write-chunk", "get-image-state", "end-transfer")
NEAR: Final = 10
"""Bytes around a boundary that are near it."""


def traffic(profile: Profile) -> tuple[list[int], list[int]]:
    """Count the bytes that have gone to a device, and left it, at the end of each command of an undisturbed update."""
    content = image(size=SIZE, profile=profile.name)
    size = profile.buffer_size
    chunks = [content[offset : offset + size] for offset in range(0, len(content), size)]
    commands = [
        (Command.GET_CLIENT_INFO, b"", profile.info.encode()),
        (Command.START_TRANSFER, b"", b""),
        *((Command.WRITE_CHUNK, chunk, b"") for chunk in chunks),
        (Command.GET_IMAGE_STATE, b"", b"\1"),
        (Command.END_TRANSFER, b"", b""),
    ]
    sent, received = [len(ENTRY[0])], [len(ENTRY[1])]
    for number, (command, payload, answer) in enumerate(commands):
        packet = CommandPacket(sequence=number % 32, command=command, payload=payload, sync=not number)
        sent.append(len(encode_frame(packet.encode())))
        received.append(len(encode_frame(bytes((number % 32, Status.SUCCESS)) + answer)))
    return list(accumulate(sent)), list(accumulate(received))


def cut(rng: random.Random, profile: Profile) -> str:
    """Choose a place to cut: anywhere, around the start or the end of a transfer, or while a command works."""
    sent, received = traffic(profile)
    direction, ends = rng.choice((("rx", sent), ("tx", received)))
    match rng.choice(("anywhere", "anywhere", "start", "check", "end", "end", "working")):
        case "anywhere":
            at = rng.randint(1, ends[-1])
        case "start":
            at = rng.randint(max(ends[1] - NEAR, 1), ends[2] + NEAR)
        case "check":
            at = rng.randint(ends[-3] - NEAR, ends[-2])
        case "end":
            at = rng.randint(ends[-2], ends[-1])
        case _:
            at = 0
    place = f"{direction}={at}" if at else f"step={rng.choice(STEPS)}"
    return f"cut@{place},back={rng.uniform(0.05, 0.6):.2f},power={rng.choice(('kept', 'lost'))}"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_inv1_inv2_links_cut_anywhere(gateway: Gateway, seed: int, share: int) -> None:
    rng = random.Random(f"cut {seed}")
    profiles = (rng.choice(list(PROFILES)), rng.choice(list(PROFILES)))
    names = [f"{kind}-{number:04}" for number in range(1, EACH + 1) for kind in ("panel", "module")]
    cuts = {
        name: cut(rng, PROFILES[profiles[0] if name.startswith("panel") else profiles[1]])
        for name in names[:share]
    }
    print(profiles, *(f"{name} {fault}" for name, fault in cuts.items()), sep="\n")
    fleet = Fleet(gateway, profiles, faults=cuts)
    gateway.start()
    fleet.settle()
    assert not fleet.faults({name: int(name in cuts) for name in names})
    struck = {
        name: sum(device["faults"].values()) for rack in fleet.racks for name, device in rack.told().items()
    }
    assert struck == {name: int(name in cuts) for name in names}

"""One update, cut at every byte of both directions and at every command, on virtual time (invariants 1, 2 and 5).

The product's own parts are at work, from the channel to the store; only the port, the clock and the device are
simulated.  A cut takes the port away for half a second; with the power gone the device loses its RAM and a page
that is being written tears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState
from support.virtual_service import Story, assert_honest
from support.virtual_stories import CAMPAIGN, KINDS, POWER, story
from support.virtual_time import run

if TYPE_CHECKING:
    from firmwarden.simulate.profile import Profile

pytestmark = pytest.mark.slow


def undisturbed(kind: Profile, *, asks_version: bool = True) -> Story:
    told = story(kind, asks_version=asks_version)
    end = run(told.live)
    assert_honest(told, end)
    assert end.job.state is JobState.SUCCEEDED
    assert [attempt.number for attempt in end.attempts] == [1]
    return told


def survives(kind: Profile, fault: str, *, asks_version: bool = True) -> None:
    """Play the update with one fault; the device must end on the new image, and the record must say so."""
    told = story(kind, fault, asks_version=asks_version)
    try:
        end = run(told.live)
        assert_honest(told, end)
        if asks_version:
            assert end.job.state is JobState.SUCCEEDED
    except BaseException as exc:
        exc.add_note(f"{kind.name}: {fault}")
        raise


@pytest.mark.parametrize("name", KINDS)
def test_nothing_happens_without_a_fault(name: str) -> None:
    undisturbed(KINDS[name])


@pytest.mark.parametrize("power", POWER)
@pytest.mark.parametrize("name", KINDS)
def test_inv1_inv2_cut_at_every_command(name: str, power: str) -> None:
    commands = sum(undisturbed(KINDS[name]).port.client.commands.values())
    assert commands >= 5
    for number in range(commands + 1):
        survives(KINDS[name], f"cut@command={number},back=0.5,power={power}")


@pytest.mark.parametrize("power", POWER)
@pytest.mark.parametrize("direction", ["rx", "tx"])
@pytest.mark.parametrize("name", KINDS)
def test_inv1_inv2_cut_at_every_byte(name: str, direction: str, power: str, samples: int) -> None:
    port = undisturbed(KINDS[name]).port
    total = port.heard_bytes if direction == "rx" else port.said_bytes
    # The generic device in full, and of the others, whose chunks are longer, a sample unless this is a campaign.
    step = 1 if name == "generic" or samples >= CAMPAIGN else 11
    for offset in range(1, total + 1, step):
        survives(KINDS[name], f"cut@{direction}={offset},back=0.5,power={power}")


@pytest.mark.parametrize("power", POWER)
@pytest.mark.parametrize("direction", ["rx", "tx"])
@pytest.mark.parametrize("name", KINDS)
def test_inv2_without_a_version_to_ask_for_the_end_stays_honest(
    name: str, direction: str, power: str
) -> None:
    port = undisturbed(KINDS[name], asks_version=False).port
    total = port.heard_bytes if direction == "rx" else port.said_bytes
    # Where nothing but END_TRANSFER and its answer tells: some commands before the end, and a little beyond.
    for offset in range(max(total - 40, 1), total + 2):
        survives(KINDS[name], f"cut@{direction}={offset},back=0.5,power={power}", asks_version=False)

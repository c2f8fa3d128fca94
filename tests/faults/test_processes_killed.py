"""The daemon is killed at random moments of an update of sixteen devices, and started again each time."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.simulate.profile import PROFILES
from support.fleet import Fleet

if TYPE_CHECKING:
    from support.gateway import Gateway

SAMPLES_PER_RUN: Final = 5
LONGEST_S: Final = 2.0
"""Once it is ready, the daemon would be done in about this time."""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_inv1_inv2_inv5_killed_at_any_moment(gateway: Gateway, seed: int, share: int) -> None:
    rng = random.Random(f"kill {seed}")
    profiles = (rng.choice(list(PROFILES)), rng.choice(list(PROFILES)))
    fleet = Fleet(gateway, profiles, "--paced", 230_400, parallel=8)
    moments = [rng.uniform(0.0, LONGEST_S) for _ in range(share)]
    print(f"{profiles}, killed after {', '.join(f'{moment:.3f} s' for moment in moments)}")
    for number, moment in enumerate(moments):
        daemon = gateway.start() if number else gateway.launch()  # the first one while it starts
        time.sleep(moment if number else moment / 4)  # not for something to have happened: that is the sample
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    gateway.start()
    fleet.settle()
    assert not fleet.faults(dict.fromkeys(fleet.images, share))

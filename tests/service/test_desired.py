"""What a device should be given: the rules of "desired state", one by one and as properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import Cause, CauseCode, Device, DeviceId, Latch, LatchId, LatchScope, Release
from firmwarden.service.desired import ClassPolicy, Desired, desired, newest_first, tag
from firmwarden.versions import VersionTag, compare
from support.house import PANEL, release

ONE, TWO, THREE = release("1.0.0"), release("2.0.0"), release("3.0.0")
UNIT = Device(id=DeviceId("unit"), device_class=PANEL, key="serial:1")
RUNS_TWO = replace(UNIT, running_version="2.0.0", running_image=TWO.image, complete=True)
POLICY = ClassPolicy(name=PANEL)
DOWNGRADES = ClassPolicy(name=PANEL, allow_downgrade=True)
HOLDS = ClassPolicy(name=PANEL, unknown="hold")


def a_latch(scope: LatchScope, of: Release | None = None, device: str | None = "unit") -> Latch:
    return Latch(
        id=LatchId(1),
        scope=scope,
        device=None if device is None or scope is LatchScope.IMAGE else DeviceId(device),
        image=None if of is None else of.image,
        cause=Cause(code=CauseCode.INVALID_FILE),
        set_at=0.0,
    )


def pair(of: Release, device: str = "unit") -> Latch:
    return a_latch(LatchScope.PAIR, of, device)


@pytest.mark.parametrize(
    ("device", "releases", "latches", "policy", "expected", "reason"),
    [
        (UNIT, [], [], POLICY, None, "no release of its class"),
        (UNIT, [ONE, THREE, TWO], [], POLICY, THREE, "3.0.0 is the newest release of its class, and what it runs is"),
        (RUNS_TWO, [ONE, TWO, THREE], [], POLICY, THREE, "3.0.0 is the newest release of its class"),
        (RUNS_TWO, [ONE, TWO], [], POLICY, None, "the device runs it"),
        (RUNS_TWO, [ONE], [], POLICY, None, "older than the running 2.0.0, and its class allows no downgrade"),
        (RUNS_TWO, [ONE], [], DOWNGRADES, ONE, "1.0.0 is the newest release of its class"),
        (replace(RUNS_TWO, complete=False), [ONE], [], POLICY, ONE, "holds no complete image"),
        (replace(RUNS_TWO, complete=False), [TWO], [], POLICY, TWO, "holds no complete image"),
        (UNIT, [TWO], [], HOLDS, None, "what it runs is not known, and its class holds such devices"),
        (replace(UNIT, complete=False), [TWO], [], HOLDS, TWO, "holds no complete image"),
        # latches
        (RUNS_TWO, [TWO, THREE], [pair(THREE)], POLICY, None, "newest release that is not latched for it"),
        (UNIT, [TWO, THREE], [pair(THREE)], POLICY, TWO, "2.0.0 is the newest release that is not latched for it"),
        (UNIT, [THREE], [pair(THREE)], POLICY, None, "every release of its class is latched for it"),
        (UNIT, [TWO, THREE], [pair(THREE, "another")], POLICY, THREE, "newest release of its class"),
        (UNIT, [TWO, THREE], [a_latch(LatchScope.IMAGE, THREE)], POLICY, TWO, "not latched for it"),
        (UNIT, [TWO, THREE], [a_latch(LatchScope.DEVICE)], POLICY, None, "the device is latched: invalid-file"),
        (UNIT, [TWO], [a_latch(LatchScope.DEVICE, device="another")], POLICY, TWO, "newest release"),
        # pins
        (replace(UNIT, pinned="2.0.0"), [ONE, TWO, THREE], [], POLICY, TWO, "it is pinned to 2.0.0"),
        (replace(UNIT, pinned="9.0.0"), [ONE], [], POLICY, None, "9.0.0, which is not in the firmware directory"),
        (replace(UNIT, pinned="2.0.0"), [TWO], [pair(TWO)], POLICY, None, "pinned to 2.0.0, which is latched for it"),
        (replace(RUNS_TWO, pinned="1.0.0"), [ONE, TWO], [], POLICY, None, "its class allows no downgrade"),
        (replace(RUNS_TWO, pinned="1.0.0"), [ONE, TWO], [], DOWNGRADES, ONE, "it is pinned to 1.0.0"),
        (replace(RUNS_TWO, pinned="2.0.0"), [TWO, THREE], [], POLICY, None, "the device runs it"),
        # ranks
        (replace(UNIT, running_version="2.0.0"), [TWO], [], POLICY, None, "the device runs that version"),
        (replace(UNIT, running_version="spring"), [TWO], [], POLICY, None, "cannot be compared"),
        (
            replace(UNIT, running_version="spring", running_sequence=4),
            [release("winter", sequence=3)],
            [],
            POLICY,
            None,
            "winter is older than the running spring",
        ),
        (
            replace(UNIT, running_version="winter", running_sequence=3),
            [release("spring", sequence=4)],
            [],
            POLICY,
            release("spring", sequence=4),
            "spring is the newest",
        ),
    ],
)  # fmt: skip
def test_the_rules(
    device: Device,
    releases: list[Release],
    latches: list[Latch],
    policy: ClassPolicy,
    expected: Release | None,
    reason: str,
) -> None:
    wanted = desired(device, releases, latches, policy)
    assert wanted.release == expected
    assert reason in wanted.reason


def test_only_a_device_that_runs_what_it_should_is_settled() -> None:
    assert desired(RUNS_TWO, [TWO], [], POLICY).settled
    assert not desired(UNIT, [TWO], [pair(TWO)], POLICY).settled
    assert not desired(RUNS_TWO, [ONE], [], POLICY).settled
    assert Desired(None, "").settled is False


def test_what_a_latch_keeps_from_a_device_is_named() -> None:
    assert desired(RUNS_TWO, [TWO, THREE], [pair(THREE)], POLICY).stopped == THREE
    assert desired(UNIT, [TWO, THREE], [a_latch(LatchScope.DEVICE)], POLICY).stopped == THREE
    assert desired(RUNS_TWO, [TWO, THREE], [pair(THREE, "another")], POLICY).stopped is None
    assert desired(RUNS_TWO, [TWO], [a_latch(LatchScope.DEVICE)], POLICY).stopped is None


def test_what_a_refused_update_may_have_erased_is_written_again_but_nothing_older_is() -> None:
    doubtful = replace(RUNS_TWO, complete=None)
    again = desired(doubtful, [TWO, THREE], [pair(THREE)], POLICY, may_be_erased=True)
    assert again.release == TWO
    assert "may have erased it" in again.reason
    assert desired(doubtful, [ONE, THREE], [pair(THREE)], POLICY, may_be_erased=True).release is None


VERSIONS = st.sampled_from(["1.0.0", "1.0.1-rc.1", "1.0.1", "2.0.0", "10.0.0"])


@given(
    running=st.none() | VERSIONS,
    complete=st.sampled_from([None, True, False]),
    pinned=st.none() | VERSIONS,
    offered=st.lists(VERSIONS, unique=True),
    refused=st.lists(VERSIONS, unique=True),
    downgrades=st.booleans(),
    unknown=st.sampled_from(["update", "hold"]),
)
def test_never_a_downgrade_unless_allowed_and_never_what_is_latched(
    running: str | None,
    complete: bool | None,
    pinned: str | None,
    offered: list[str],
    refused: list[str],
    downgrades: bool,
    unknown: str,
) -> None:
    device = replace(UNIT, running_version=running, complete=complete, pinned=pinned)
    policy = ClassPolicy(
        name=PANEL, allow_downgrade=downgrades, unknown="hold" if unknown == "hold" else "update"
    )
    releases = [release(version) for version in offered]
    latches = [pair(release(version)) for version in refused]
    found = desired(device, releases, latches, policy).release
    if found is None:
        return
    assert found.version in offered
    assert found.version not in refused
    if pinned is not None:
        assert found.version == pinned
    else:
        assert found == newest_first(each for each in releases if each.version not in refused)[0]
    if complete is not False:
        assert running is not None or unknown == "update"
        if running is not None:
            assert compare(tag(found), VersionTag(running)) == 1 or downgrades

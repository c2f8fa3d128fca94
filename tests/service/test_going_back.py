"""To what a unit goes back that was called back from something, and when it does not."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import (
    Cause,
    CauseCode,
    Device,
    DeviceId,
    GoodImage,
    Latch,
    LatchId,
    LatchScope,
    Release,
)
from firmwarden.service.desired import ClassPolicy, desired
from firmwarden.service.floor import may_be_given
from firmwarden.service.going_back import going_back
from support.house import PANEL, content, living, release
from support.scripted import PARTIAL, Unit, fails

OLD, NEW, NEWER = (release(f"{number}.0.0", sequence=number) for number in (1, 2, 3))
POLICY = ClassPolicy(name=PANEL)
KEPT = GoodImage(version=OLD.version, sequence=OLD.sequence, image=OLD.image, size=OLD.size)
HALF_DONE = Device(
    id=DeviceId("unit"),
    device_class=PANEL,
    key="serial:1",
    floor=1,
    running_version=OLD.version,
    running_sequence=OLD.sequence,
    running_image=OLD.image,
    good=KEPT,
    complete=False,
)
RECALLED = Latch(
    id=LatchId(1),
    scope=LatchScope.IMAGE,
    device=None,
    image=NEW.image,
    cause=Cause(code=CauseCode.RECALLED),
    set_at=0.0,
)
REFUSED = replace(RECALLED, cause=Cause(code=CauseCode.INVALID_FILE))
WORN_OUT = replace(
    RECALLED,
    scope=LatchScope.DEVICE,
    device=HALF_DONE.id,
    image=None,
    cause=Cause(code=CauseCode.WRITE_ERROR),
)
ITS_OWN = replace(
    RECALLED,
    scope=LatchScope.PAIR,
    device=HALF_DONE.id,
    image=OLD.image,
    cause=Cause(code=CauseCode.UNHEALTHY),
)


def test_a_unit_with_half_of_what_was_called_back_goes_back_although_its_own_release_is_gone() -> None:
    wanted = going_back(HALF_DONE, desired(HALF_DONE, [NEW], [RECALLED], POLICY), [RECALLED], POLICY)
    assert wanted.release is not None
    assert wanted.release.image == OLD.image
    assert wanted.reason == (
        "1.0.0 is what it kept well with before, it holds no complete image, and 2.0.0 was called back"
    )


@pytest.mark.parametrize(
    ("device", "latches"),
    [
        (HALF_DONE, [REFUSED]),
        (HALF_DONE, [RECALLED, WORN_OUT]),
        (HALF_DONE, [RECALLED, ITS_OWN]),
        (replace(HALF_DONE, good=None), [RECALLED]),
        (replace(HALF_DONE, pinned="2.0.0"), [RECALLED]),
        (replace(HALF_DONE, complete=True), [RECALLED]),
        (replace(HALF_DONE, complete=None), [RECALLED]),
    ],
)
def test_but_not_where_something_else_stops_it_or_it_holds_an_image(
    device: Device, latches: list[Latch]
) -> None:
    wanted = desired(device, [NEW], latches, POLICY)
    assert wanted.release is None
    assert going_back(device, wanted, latches, POLICY) == wanted


@pytest.mark.anyio
async def test_a_unit_that_was_cut_is_not_left_dark_by_a_recall() -> None:
    unit = Unit()
    async with living({"panel-1": unit}) as house:
        house.drop(OLD.version)
        await house.quiet()
        unit.script.extend([fails(CauseCode.LINK_LOST)] * 2)
        house.drop(NEW.version)
        await anyio.sleep(1.0)
        assert unit.flash == PARTIAL
        await house.desk.recall(PANEL, reason="it forgets its calibration", who="ann")
        await house.quiet()
        assert unit.runs == content(OLD.version)


@pytest.mark.anyio
async def test_who_took_the_bad_release_out_first_is_told_that_another_is_called_back() -> None:
    async with living({"panel-1": Unit()}) as house:
        house.drop(NEW.version)
        await house.quiet()
        house.drop(OLD.version)
        await house.quiet()
        said = await house.desk.recall(PANEL, reason="it hums", who="ann")
        assert said == (
            "1.0.0 of panel is called back: no device is given it any more. 2.0.0, which others run, is newer and was "
            "not called back: for that it has to be in the firmware directory. "
            f"`firmwarden clear {release(OLD.version).image[:12]}` undoes this recall"
        )
        house.drop(OLD.version, NEW.version)
        await house.quiet()
        assert "others" not in await house.desk.recall(PANEL, reason="it hums", who="ann")


def test_what_is_newer_comes_first() -> None:
    wanted = desired(HALF_DONE, [NEW, NEWER], [RECALLED], POLICY)
    assert going_back(HALF_DONE, wanted, [RECALLED], POLICY).release == NEWER


def test_a_unit_that_is_ill_with_its_good_image_is_left_alone_as_long_as_it_holds_that() -> None:
    policy = replace(POLICY, roll_back=True, allow_downgrade=True)
    older = replace(NEWER, version="0.9.0", sequence=0)
    empty = replace(HALF_DONE, floor=None)
    for device, release_ in ((replace(empty, complete=True), None), (empty, older)):
        wanted = desired(device, [OLD, older], [ITS_OWN], policy)
        assert wanted.release == older
        assert going_back(device, wanted, [ITS_OWN], policy).release == release_


# --- whatever is recorded of a unit, and whatever lies there

NUMBERED = [release(f"{number}.0.0", sequence=number) for number in range(1, 6)]
SOME = st.none() | st.sampled_from(NUMBERED)
CODES = st.sampled_from([CauseCode.RECALLED, CauseCode.UNHEALTHY, CauseCode.INVALID_FILE])


def kept(of: Release | None) -> GoodImage | None:
    if of is None:
        return None
    return GoodImage(version=of.version, sequence=of.sequence, image=of.image, size=of.size)


@st.composite
def units(draw: st.DrawFn) -> Device:
    runs, chosen = draw(SOME), draw(SOME)
    pinned = None if chosen is None else chosen.version
    return replace(
        HALF_DONE,
        floor=draw(st.none() | st.integers(1, 5)),
        running_version=None if runs is None else runs.version,
        running_sequence=None if runs is None else runs.sequence,
        running_image=None if runs is None else runs.image,
        complete=draw(st.sampled_from([None, True, False])),
        good=kept(draw(SOME)),
        good_before=kept(draw(SOME)),
        pinned=pinned,
        may_go_back_to=draw(st.sampled_from([None, pinned])),
    )


@st.composite
def latch_of_some(draw: st.DrawFn) -> Latch:
    of, code = draw(st.sampled_from(NUMBERED)), draw(CODES)
    pair = code is CauseCode.UNHEALTHY or (code is CauseCode.INVALID_FILE and draw(st.booleans()))
    latch = replace(RECALLED, image=of.image, cause=Cause(code=code))
    return replace(latch, scope=LatchScope.PAIR, device=HALF_DONE.id) if pair else latch


LATCHES = st.lists(latch_of_some(), max_size=4)
POLICIES = st.builds(ClassPolicy, name=st.just(PANEL), roll_back=st.booleans(), allow_downgrade=st.booleans())


@st.composite
def shelves(draw: st.DrawFn) -> list[Release]:
    chosen = draw(st.lists(st.sampled_from(NUMBERED), unique=True))
    return [replace(each, downgrade=draw(st.booleans())) for each in chosen]


@given(device=units(), shelf=shelves(), latches=LATCHES, policy=POLICIES)
def test_inv8_nothing_stopped_is_given_and_below_the_floor_only_what_somebody_answers_for(
    device: Device, shelf: list[Release], latches: list[Latch], policy: ClassPolicy
) -> None:
    wanted = going_back(device, desired(device, shelf, latches, policy), latches, policy)
    release = wanted.release
    if release is None:
        assert wanted.reason
        return
    assert release.image not in {latch.image for latch in latches}
    assert device.complete is False or release.image != device.running_image
    if release in shelf:
        assert may_be_given(device, release)
        assert device.pinned in {None, release.version}
    else:
        assert device.pinned is None
        assert release.image in device.good_images
        assert any(latch.cause.code is not CauseCode.INVALID_FILE for latch in latches)


@given(device=units(), shelf=shelves(), latches=LATCHES, policy=POLICIES)
def test_a_unit_comes_to_rest_and_gets_nothing_twice(
    device: Device, shelf: list[Release], latches: list[Latch], policy: ClassPolicy
) -> None:
    """Else it would be written again and again, until the erases of the day are used up."""
    given_before = set()
    while True:
        wanted = going_back(device, desired(device, shelf, latches, policy), latches, policy).release
        if wanted is None:
            return
        assert wanted.image not in given_before
        given_before.add(wanted.image)
        floors = [floor for floor in (device.floor, wanted.sequence) if floor is not None]
        device = replace(
            device,
            running_version=wanted.version,
            running_sequence=wanted.sequence,
            running_image=wanted.image,
            complete=True,
            floor=max(floors, default=None),
            good=kept(wanted),
            good_before=device.good,
            may_go_back_to=None,
        )

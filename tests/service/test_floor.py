"""Anti-rollback: no unit is given what is below its floor, but by somebody's deliberate act.

Units here live through random histories: releases come, go and are replayed, people allow and withdraw, updates
succeed, fail and are cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firmwarden.model import (
    Cause,
    CauseCode,
    Device,
    DeviceId,
    GoodImage,
    JobState,
    Latch,
    LatchId,
    LatchScope,
)
from firmwarden.service.desired import ClassPolicy, desired, waiting_in_loader
from firmwarden.service.floor import allowing, below_in_words, may_be_given
from firmwarden.service.shelf import Shelf
from support.house import PANEL, living, release, virtual_time
from support.scripted import Unit, fails
from support.stored import NOON, bare_ledger, enroll

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from firmwarden.model import Release
    from firmwarden.service.views import WhyView
    from firmwarden.store.ledger import Ledger
    from support.house import House

pytestmark = pytest.mark.anyio

OLD, MIDDLE, NEW = (release(f"{number}.0.0", sequence=number) for number in (1, 2, 3))
UNNUMBERED = release("4.0.0")
UNIT = Device(id=DeviceId("unit"), device_class=PANEL, key="serial:1", floor=3)
RUNS_NEW = replace(UNIT, running_version="3.0.0", running_sequence=3, running_image=NEW.image, complete=True)
POLICY = ClassPolicy(name=PANEL)
DOWNGRADES = ClassPolicy(name=PANEL, allow_downgrade=True)


def good(of: Release) -> GoodImage:
    return GoodImage(version=of.version, sequence=of.sequence, image=of.image, size=of.size)


def latched(of: Release) -> Latch:
    cause = Cause(code=CauseCode.INVALID_FILE)
    return Latch(
        id=LatchId(1), scope=LatchScope.PAIR, device=UNIT.id, image=of.image, cause=cause, set_at=0.0
    )


def stopped(of: Release, code: CauseCode) -> Latch:
    """A latch that others set, or a person."""
    return replace(latched(of), scope=LatchScope.IMAGE, device=None, cause=Cause(code=code))


BROUGHT_BACK = replace(UNIT, good=good(OLD), running_image=OLD.image, running_version=OLD.version)


@pytest.mark.parametrize(
    ("device", "releases", "expected", "reason"),
    [
        (RUNS_NEW, [MIDDLE], None, "newest release of its class, but that has the sequence 2, and the device"),
        (RUNS_NEW, [UNNUMBERED], None, "but that has no sequence, and the device was confirmed with 3"),
        (UNIT, [OLD, MIDDLE], None, "newest release of its class, but that has the sequence 2, and the device"),
        (replace(RUNS_NEW, complete=False), [MIDDLE], None, "but that has the sequence 2, and the device was"),
        (replace(RUNS_NEW, complete=False), [MIDDLE, NEW], NEW, "holds no complete image"),
        (UNIT, [OLD, NEW], NEW, "3.0.0 is the newest release of its class"),
        (replace(UNIT, pinned="1.0.0"), [OLD, NEW], None, "it is pinned to 1.0.0, but that has the sequence 1"),
        # What somebody may say.
        (replace(RUNS_NEW, pinned="1.0.0", may_go_back_to="1.0.0"), [OLD, NEW], OLD, "it is pinned to 1.0.0"),
        (replace(RUNS_NEW, pinned="2.0.0", may_go_back_to="1.0.0"), [MIDDLE], None, "but that has the sequence 2"),
        (RUNS_NEW, [replace(OLD, downgrade=True)], replace(OLD, downgrade=True), "1.0.0 is the newest"),
        (RUNS_NEW, [replace(OLD, downgrade=True), NEW], None, "and the device runs it"),
        # A device that was brought back is not stuck, and nothing in between is for it.
        (replace(BROUGHT_BACK, complete=False), [OLD], OLD, "holds no complete image"),
        (replace(BROUGHT_BACK, complete=False), [OLD, MIDDLE], OLD, "the newest release that may be given to it"),
        (replace(BROUGHT_BACK, complete=True), [OLD, MIDDLE], None, "and the device runs it"),
        (replace(BROUGHT_BACK, complete=True), [OLD, MIDDLE, NEW], NEW, "3.0.0 is the newest release of its"),
        # Its own word, or a person's on what it runs, is no confirmation.
        (replace(BROUGHT_BACK, good=good(NEW), complete=False), [OLD], None, "but that has the sequence 1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", [POLICY, DOWNGRADES])
def test_inv8_nothing_below_the_floor(
    device: Device, releases: Sequence[Release], policy: ClassPolicy, expected: Release | None, reason: str
) -> None:
    wanted = desired(device, releases, [], policy)
    assert wanted.release == expected
    assert reason in wanted.reason


def test_what_a_person_may_allow_is_named_with_the_command() -> None:
    assert desired(RUNS_NEW, [MIDDLE], [], POLICY).older == MIDDLE
    assert desired(replace(RUNS_NEW, floor=None), [MIDDLE], [], POLICY).older == MIDDLE
    assert desired(RUNS_NEW, [MIDDLE, NEW], [latched(NEW)], POLICY).older == MIDDLE
    assert desired(RUNS_NEW, [NEW], [], POLICY).older is None
    assert desired(RUNS_NEW, [MIDDLE], [latched(MIDDLE)], POLICY).older is None, "the latch comes first"
    assert allowing(UNIT, MIDDLE) == "firmwarden pin unit 2.0.0 --allow-downgrade"
    assert allowing(UNIT, release("two; reboot")) == "firmwarden pin unit 'two; reboot' --allow-downgrade"


def test_below_the_floor_nothing_is_written_to_a_unit_in_its_loader_either() -> None:
    left = replace(RUNS_NEW, entered=True, running_version="2.0.0", running_image=MIDDLE.image)
    wanted = desired(left, [MIDDLE], [], POLICY)
    assert waiting_in_loader(left, wanted, [MIDDLE], []).stuck
    kept = replace(left, good=good(MIDDLE))
    wanted = desired(kept, [MIDDLE], [], POLICY)
    assert waiting_in_loader(kept, wanted, [MIDDLE], []).release == MIDDLE


@pytest.mark.parametrize("complete", [None, True, False])
def test_what_a_person_may_allow_a_unit_in_its_loader_is_named_too(*, complete: bool | None) -> None:
    left = replace(RUNS_NEW, entered=True, complete=complete)
    wanted = waiting_in_loader(left, desired(left, [MIDDLE], [], POLICY), [MIDDLE], [])
    assert (wanted.release, wanted.stuck, wanted.older) == (None, True, MIDDLE)


def test_what_others_refused_takes_nobody_back_to_a_signed_downgrade() -> None:
    back = replace(OLD, downgrade=True)
    refused, called_back = (stopped(NEW, code) for code in (CauseCode.INVALID_FILE, CauseCode.RECALLED))
    for device in (
        RUNS_NEW,
        replace(RUNS_NEW, running_version="2.0.0", running_sequence=2, running_image=None),
    ):
        wanted = desired(device, [back, NEW], [refused], POLICY)
        assert (wanted.release, wanted.older) == (None, back)
        assert "follows it only when nothing newer is offered" in wanted.reason
        assert desired(device, [back, NEW], [called_back], POLICY).release == back
        assert desired(device, [back], [refused], POLICY).release == back
    assert desired(replace(RUNS_NEW, pinned="1.0.0"), [back, NEW], [refused], POLICY).release == back
    assert desired(replace(RUNS_NEW, complete=False), [back, NEW], [refused], POLICY).release == back


def test_without_a_floor_the_class_decides() -> None:
    never_confirmed = replace(RUNS_NEW, floor=None)
    assert desired(never_confirmed, [MIDDLE], [], POLICY).release is None
    assert desired(never_confirmed, [MIDDLE], [], DOWNGRADES).release == MIDDLE
    allowed = replace(never_confirmed, pinned="2.0.0", may_go_back_to="2.0.0")
    assert desired(allowed, [MIDDLE], [], POLICY).release == MIDDLE
    assert desired(never_confirmed, [replace(MIDDLE, downgrade=True)], [], POLICY).release is not None


# --- over any history

NUMBERS = st.integers(1, 6)


class Life(RuleBasedStateMachine):
    """One unit in the store, with whatever releases lie there and whatever is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self._place: AbstractContextManager[Ledger] = bare_ledger()
        self.ledger = self._place.__enter__()
        self.id = enroll(self.ledger, 1)
        self.shelf: dict[int, Release] = {}
        self.allowed: str | None = None
        self.confirmed: list[Release] = []

    @initialize()
    def first(self) -> None:
        self.drop(3, flag=False)
        self.update("confirmed")

    @property
    def device(self) -> Device:
        device = self.ledger.device(self.id)
        assert device is not None
        return device

    @property
    def wanted(self) -> Release | None:
        releases = list(self.shelf.values())
        return desired(self.device, releases, self.ledger.latches(), DOWNGRADES).release

    @rule(number=NUMBERS, flag=st.booleans())
    def drop(self, number: int, *, flag: bool) -> None:
        self.shelf[number] = replace(release(f"{number}.0.0", sequence=number), downgrade=flag)

    @rule(number=NUMBERS)
    def withdraw(self, number: int) -> None:
        self.shelf.pop(number, None)

    @rule(number=st.none() | NUMBERS, allow=st.booleans())
    def pin(self, number: int | None, *, allow: bool) -> None:
        version = None if number is None else f"{number}.0.0"
        self.ledger.pin(self.id, version, may_go_back=allow)
        self.allowed = version if allow else None

    @precondition(lambda self: self.wanted is not None)
    @rule(end=st.sampled_from(["confirmed", "not well", "cut", "refused"]))
    def update(self, end: str) -> None:
        wanted = self.wanted
        assert wanted is not None
        job = self.ledger.create_job(self.id, wanted, NOON)
        attempt = self.ledger.claim(job.id, NOON)
        self.ledger.erase_starting(attempt.id, NOON)
        if end in {"confirmed", "not well"}:
            self.ledger.move(job.id, JobState.SUCCEEDED, now=NOON)
            self.ledger.set_running(
                self.id,
                version=wanted.version,
                sequence=wanted.sequence,
                image=wanted.image,
                evidence="END acknowledged",
                now=NOON,
            )
        else:
            self.ledger.move(job.id, JobState.FAILED, now=NOON)
        if end == "confirmed":
            self.ledger.keeps_well(self.id, good(wanted))
            self.ledger.raise_floor(self.id, wanted.sequence)
            self.confirmed.append(wanted)
            if self.allowed == wanted.version:
                self.allowed = None
        if end == "refused":
            self.ledger.latch(
                LatchScope.PAIR,
                device=self.id,
                image=wanted.image,
                cause=Cause(code=CauseCode.INVALID_FILE),
                attempt=None,
                now=NOON,
            )

    @rule()
    def forget(self) -> None:
        self.ledger.forget(self.id)
        assert enroll(self.ledger, 1) == self.id
        self.allowed = None

    @rule(number=NUMBERS)
    def be_told(self, number: int) -> None:
        told = release(f"{number}.0.0", sequence=number)
        self.ledger.set_running(
            self.id, version=told.version, sequence=number, image=told.image, evidence="told", now=NOON
        )

    @invariant()
    def never_below(self) -> None:
        highest = max((each.sequence or 0 for each in self.confirmed), default=None)
        assert self.device.floor == highest, "never lowered, and raised by nothing but a confirmation"
        wanted = self.wanted
        if wanted is None or highest is None or (wanted.sequence or 0) >= highest:
            return
        assert wanted.downgrade or wanted.version == self.allowed or wanted.image == self.confirmed[-1].image

    @invariant()
    def never_stuck(self) -> None:
        """What it was confirmed with last may be written again, as long as that is known."""
        device = self.device
        if device.good is not None:
            last = release(device.good.version, sequence=device.good.sequence)
            assert may_be_given(device, last)

    def teardown(self) -> None:
        self._place.__exit__(None, None, None)


def test_inv8_whatever_happens_no_unit_is_given_what_is_below_its_floor() -> None:
    run_state_machine_as_test(Life, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))


# --- the whole service


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def lay(house: House, *releases: Release) -> None:
    """Let the firmware directory hold these releases."""
    house.shelf = Shelf(releases=releases)
    house.warden.shelve(house.shelf.releases)


async def why(house: House) -> WhyView:
    await house.planned()
    return await house.desk.why((await house.device("panel-1")).id)


async def runs(house: House) -> tuple[str | None, int | None]:
    await house.quiet()
    device = await house.device("panel-1")
    return device.running_version, device.floor


async def test_inv8_a_replayed_release_is_refused_and_why_says_what_would_allow_it() -> None:
    async with living({"panel-1": Unit()}) as house:
        lay(house, NEW)
        assert await runs(house) == ("3.0.0", 3)
        lay(house, MIDDLE)
        told = await why(house)
        unit = (await house.device("panel-1")).id
        assert below_in_words(await house.device("panel-1"), MIDDLE) in told["should_run"]
        assert told["commands"] == [f"firmwarden pin {unit} 2.0.0 --allow-downgrade"]
        assert (told["device"]["floor"], told["device"]["may_go_back_to"]) == (3, None)
        assert len(await house.jobs("panel-1")) == 1


async def test_releases_say_at_how_many_an_older_one_comes_too_late() -> None:
    async with living({"panel-1": Unit(), "panel-2": Unit()}) as house:
        lay(house, OLD, MIDDLE, NEW)
        assert [view["reason"] for view in await house.desk.releases()] == [None] * 3, (
            "nothing is confirmed yet"
        )
        await house.quiet()
        unit = (await house.device("panel-1")).id
        await house.desk.pin(unit, MIDDLE.version, may_go_back=True, who="ann")
        await house.quiet()
        of_one = "1 device does not get it: it was confirmed with something newer"
        of_both = "2 devices do not get it: they were confirmed with something newer"
        told = {view["version"]: view["reason"] for view in await house.desk.releases()}
        assert told == {OLD.version: of_both, MIDDLE.version: of_one, NEW.version: None}


async def test_inv8_a_person_may_let_it_go_back_once_and_that_is_on_record() -> None:
    async with living({"panel-1": Unit()}) as house:
        lay(house, OLD, MIDDLE, NEW)
        assert await runs(house) == ("3.0.0", 3)
        unit = (await house.device("panel-1")).id
        said = await house.desk.pin(unit, "1.0.0", who="ann")
        assert f"`firmwarden pin {unit} 1.0.0 --allow-downgrade`" in said
        assert await runs(house) == ("3.0.0", 3)
        said = await house.desk.pin(unit, "1.0.0", may_go_back=True, who="ann")
        assert said == f"{unit} is pinned to 1.0.0, and may go back to it once"
        assert await runs(house) == ("1.0.0", 3), "the floor stays"
        assert (await house.device("panel-1")).may_go_back_to is None, "it is used up"
        acts = (await house.desk.history(unit, 5))["actions"]
        assert [(act["who"], act["detail"]) for act in acts] == [
            ("ann", "1.0.0, and may go back to it once"),
            ("ann", "1.0.0"),
        ]
        # What lies in between is not for it.
        lay(house, OLD, MIDDLE)
        await house.desk.pin(unit, None, who="ann")
        assert await runs(house) == ("1.0.0", 3)
        lay(house, OLD, MIDDLE, NEW)
        assert await runs(house) == ("3.0.0", 3)


async def test_another_pin_withdraws_what_was_allowed() -> None:
    async with living({"panel-1": Unit()}) as house:
        lay(house, NEW)
        assert await runs(house) == ("3.0.0", 3)
        unit = (await house.device("panel-1")).id
        await house.desk.pin(unit, "1.0.0", may_go_back=True, who="ann")
        assert (await why(house))["device"]["may_go_back_to"] == "1.0.0"
        await house.desk.pin(unit, "1.0.0", who="bob")
        lay(house, OLD, NEW)
        assert await runs(house) == ("3.0.0", 3)


async def test_a_signed_downgrade_is_followed_when_nothing_newer_is_there() -> None:
    async with living({"panel-1": Unit()}) as house:
        back = replace(OLD, downgrade=True)
        lay(house, back, NEW)
        assert await runs(house) == ("3.0.0", 3)
        lay(house, back)
        assert await runs(house) == ("1.0.0", 3)
        lay(house, OLD, MIDDLE)
        assert await runs(house) == ("1.0.0", 3)


async def test_inv8_what_failed_raises_no_floor() -> None:
    unit = Unit()
    async with living({"panel-1": unit}) as house:
        lay(house, MIDDLE)
        assert await runs(house) == ("2.0.0", 2)
        unit.script.append(fails(CauseCode.INVALID_FILE))
        lay(house, MIDDLE, NEW)
        assert await runs(house) == ("2.0.0", 2), "and it was given back what it was confirmed with"

"""Units whose applications tell their version in their descriptors: what that is taken for, and when."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.drivers.base import Step
from firmwarden.drivers.dfu_settings import VersionSource
from firmwarden.model import CauseCode, Device, JobState, Outcome, Phase, Sighting, UsbAddress, UsbFacts
from firmwarden.service.desired import ClassPolicy, desired
from firmwarden.service.identity import ClassRule, roll
from firmwarden.service.policy import Budgets
from firmwarden.service.running import OwnWord, own_word, take_word
from support.house import PANEL, content, living, release, states, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, must_wait
from support.stored import bare_ledger, enroll
from support.usb_house import APPLICATION, ROM, TellingUsbHouse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from firmwarden.model import Release
    from firmwarden.store.ledger import Ledger

DAY_S: Final = 86_400.0
SAYS_ONE: Final = "its product string says 1.0.0"


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


@asynccontextmanager
async def plugged(unit: Unit, *versions: str, path: Path | None = None) -> AsyncGenerator[TellingUsbHouse]:
    """Start the service around a unit that is seen again and again."""
    policies = [ClassPolicy(name=PANEL, settles_s=15.0)]
    async with (
        living({"panel-1": unit}, *versions, make=TellingUsbHouse, path=path, policies=policies) as house,
        anyio.create_task_group() as tasks,
    ):
        assert isinstance(house, TellingUsbHouse)
        tasks.start_soon(house.watch)
        yield house
        tasks.cancel_scope.cancel()


def runs(device: Device) -> tuple[str | None, str]:
    return device.running_version, device.running_evidence


# --- what is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "evidence"),
    [
        (VersionSource(field="product", expect=re.compile("Panel (.+)")), "its product string says 1.0.0"),
        (VersionSource(field="serial", expect=re.compile("-v(.+)")), "its serial number says 1.1.0"),
        (VersionSource(field="revision", expect=re.compile("(.+)")), "its device revision says 2.10"),
        (
            VersionSource(field="manufacturer", expect=re.compile("Acme (.+)")),
            "its manufacturer string says 3",
        ),
    ],
)
def test_what_an_application_tells(source: VersionSource, evidence: str) -> None:
    facts = UsbFacts(
        vendor_id=1,
        product_id=2,
        product="Panel 1.0.0",
        serial="7-v1.1.0",
        revision=0x0210,
        manufacturer="Acme 3",
    )
    word = own_word(source, facts)
    assert word is not None
    assert word.evidence == evidence
    assert evidence.endswith(word.version)


def test_inv2_only_what_can_be_nothing_but_an_application_tells_what_the_unit_runs() -> None:
    rule = ClassRule(
        name=PANEL,
        dfu=True,
        usb=APPLICATION,
        loader=ROM,
        place="usb-*",
        version=VersionSource(field="revision", expect=re.compile("(.+)")),
    )

    def seen(ids: tuple[int, int], rule: ClassRule) -> tuple[bool, OwnWord | None]:
        facts = UsbFacts(vendor_id=ids[0], product_id=ids[1], revision=0x0100, port="usb-1")
        sighting = Sighting(address=UsbAddress(topology="1-1"), usb=facts)
        (presence,) = roll([rule], [sighting], []).present
        return presence.running, presence.word

    assert seen(APPLICATION, rule) == (True, OwnWord("1.00", "its device revision says 1.00"))
    assert seen(APPLICATION, replace(rule, version=None)) == (True, None)
    assert seen(ROM, rule) == (False, None)
    # Its loader goes by the ids of the application: the revision may be the loader's.
    assert seen(APPLICATION, replace(rule, loader=APPLICATION)) == (False, None)
    assert seen(ROM, replace(rule, usb=ROM)) == (False, None)


# --- what follows -----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_unit_that_tells_the_newest_release_is_left_alone(
    logs: list[MutableMapping[str, Any]],
) -> None:
    unit = Unit(content("2.0.0"))
    async with plugged(unit, "2.0.0") as house:
        await house.quiet()
        await anyio.sleep(60.0)
        known = await house.device("panel-1")
        assert runs(known) == ("2.0.0", "its product string says 2.0.0")
        assert (known.running_image, known.complete) == (release("2.0.0").image, True)
        assert await house.jobs("panel-1") == []
        assert (unit.attempts, unit.erases) == (0, 0)
    (told,) = (entry for entry in logs if entry["event"] == "version-told")
    assert (told["release"], told["before"]) == ("2.0.0", None)


@pytest.mark.anyio
async def test_a_unit_that_tells_an_older_one_is_updated_once() -> None:
    async with plugged(Unit(content("1.0.0")), "2.0.0") as house:
        await house.quiet()
        await anyio.sleep(60.0)
        assert runs(await house.device("panel-1")) == ("2.0.0", "the unit acknowledged its end")
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED]


@pytest.mark.anyio
async def test_inv2_a_unit_that_comes_back_with_an_older_image_is_recorded_so_and_updated_anew() -> None:
    unit = Unit(content("1.0.0"))
    async with plugged(unit, "2.0.0") as house:
        await house.quiet()
        house.drop()
        await house.planned()
        unit.runs = unit.flash = content("1.0.0")
        await anyio.sleep(60.0)
        assert runs(await house.device("panel-1")) == ("1.0.0", SAYS_ONE)
        house.drop("2.0.0")
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * 2


@pytest.mark.anyio
async def test_inv3_a_unit_that_keeps_no_update_is_not_updated_for_ever() -> None:
    """A golden image comes up each time; what is in the other bank is not erased again, so nothing wears."""
    unit = Unit(content("1.0.0"))
    tries = Budgets().attempts

    async def fall_back() -> None:
        while True:
            await anyio.sleep(60.0)
            if unit.runs is not None:
                unit.runs = content("1.0.0")

    async with plugged(unit, "2.0.0") as house, anyio.create_task_group() as tasks:
        tasks.start_soon(fall_back)
        await anyio.sleep(DAY_S / 2.0)
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * tries
        id_ = (await house.device("panel-1")).id
        view = await house.desk.why(id_)
        assert view["runs"] == f"1.0.0 ({SAYS_ONE})."
        assert view["next"].startswith("Nothing within 24 hours of the first of its last updates to 2.0.0")
        assert view["commands"] == [f"firmwarden retry {id_}"]
        await house.desk.retry(id_, who="ann")
        await anyio.sleep(600.0)
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * (tries + 1)
        await anyio.sleep(DAY_S)
        assert len(await house.jobs("panel-1")) <= 2 * tries + 1
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(10.0)
        assert (await house.job("panel-1")).version == "3.0.0", "another release is another matter"
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_inv2_what_was_seen_before_the_end_of_an_attempt_says_nothing_about_it() -> None:
    async with living({"panel-1": Unit(content("1.0.0"))}, "2.0.0", make=TellingUsbHouse) as house:
        await house.quiet()
        await anyio.sleep(600.0)  # and nobody scans
        assert runs(await house.device("panel-1"))[0] == "2.0.0"
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED]


@pytest.mark.anyio
async def test_inv2_nothing_is_taken_for_known_while_an_attempt_is_under_way() -> None:
    unit = Unit(content("1.0.0"), script=[replace(fails(CauseCode.LINK_LOST, Step.PROBE), seconds=121.0)])
    async with plugged(unit, "2.0.0") as house:
        await house.until_running("panel-1")
        unit.runs = unit.flash = content("2.0.0")
        await anyio.sleep(60.0)
        assert runs(await house.device("panel-1")) == ("1.0.0", SAYS_ONE)
        await anyio.sleep(120.0)
        assert runs(await house.device("panel-1")) == ("2.0.0", "its product string says 2.0.0")
        assert states(await house.jobs("panel-1")) == [JobState.CANCELLED]
        assert unit.erases == 0


@pytest.mark.anyio
async def test_inv2_an_unknown_outcome_is_settled_by_the_question_alone() -> None:
    unit = Unit(content("1.0.0"), script=[Play(end="answer-lost")])
    async with plugged(unit, "2.0.0") as house:
        await anyio.sleep(60.0)
        assert unit.runs == content("2.0.0")
        known = await house.device("panel-1")
        assert (runs(known), known.complete) == (("1.0.0", SAYS_ONE), None)
        assert (await house.job("panel-1")).state is JobState.UNKNOWN
        unit.tells = True
        await house.quiet(3_600.0)
        assert runs(await house.device("panel-1")) == ("2.0.0", "the application tells its version")


@pytest.mark.anyio
async def test_inv1_a_unit_whose_update_was_cut_is_not_whole_because_it_runs(tmp_path: Path) -> None:
    unit = Unit(content("1.0.0"), script=[Play(at=Step.WRITE, hangs=True, deaf=True)])
    async with plugged(unit, "2.0.0", path=tmp_path / "state.db") as house:
        await house.until(lambda ledger: any(one.phase is Phase.WRITING for one in ledger.running_attempts()))
        await anyio.sleep(10.0)
    assert unit.flash == PARTIAL
    unit.runs = content("3.0.0")
    async with plugged(unit, path=tmp_path / "state.db") as house:
        await anyio.sleep(60.0)
        known = await house.device("panel-1")
        assert (runs(known), known.complete) == (("1.0.0", SAYS_ONE), False)
        house.drop("2.0.0")
        await house.quiet()
        assert runs(await house.device("panel-1")) == ("2.0.0", "the unit acknowledged its end")
        *_, left = unit.left
        assert left is not None
        assert left.phase is Phase.WRITING


@pytest.mark.anyio
async def test_inv3_what_a_unit_tells_after_a_latch_is_recorded_and_lifts_nothing() -> None:
    unit = Unit(content("1.0.0"), script=[fails(CauseCode.VERSION_MISMATCH, Step.LEAVE)])
    async with plugged(unit, "2.0.0") as house:
        await anyio.sleep(60.0)
        unit.runs = unit.flash = content("3.0.0")
        await anyio.sleep(60.0)
        known = await house.device("panel-1")
        assert (runs(known)[0], known.complete) == ("3.0.0", True)
        assert len(await house.latches()) == 1
        assert states(await house.jobs("panel-1")) == [JobState.FAILED]


@pytest.mark.anyio
async def test_a_unit_that_was_brought_out_of_its_application_is_seen_to_be_back() -> None:
    unit = Unit(content("1.0.0"), script=[must_wait()])
    async with plugged(unit) as house:
        house.drop("2.0.0")
        await anyio.sleep(10.0)
        job = (await house.job("panel-1")).id

        def entered(ledger: Ledger) -> None:
            """Do what a driver that was killed in its loader leaves."""
            attempt = ledger.claim(job, house.clock.wall())
            ledger.entering(attempt.id, house.clock.wall())
            ledger.unclaim(attempt.id, house.clock.wall())

        unit.runs = None
        await anyio.sleep(10.0)
        await house.store.run(entered)
        await house.planned()
        assert (await house.device("panel-1")).entered
        unit.runs = content("1.0.0")
        await anyio.sleep(1.0 + 2.0)
        assert not (await house.device("panel-1")).entered


@pytest.mark.anyio
async def test_inv5_nothing_is_written_as_long_as_nothing_is_new() -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    unit = Unit(b"panel spring")
    async with living({"panel-1": unit}, make=TellingUsbHouse, before_commit=count) as house:
        for told, versions in (("spring", []), ("spring", ["1.0.0"]), ("1.0.0", ["1.0.0"])):
            assert isinstance(house, TellingUsbHouse)
            unit.runs = f"panel {told}".encode()
            if versions:
                await house.desk.hold(None, reason="the count", who="ann")
            house.drop(*versions)
            await house.scan()
            await house.planned()
            before = commits
            for _ in range(50):
                await house.scan()
                await house.planned()
            assert commits == before


# --- what it is taken for -----------------------------------------------------------------------------------

SEASONS: Final = [
    release("spring", sequence=1),
    release("summer", sequence=2),
    release("autumn", sequence=3),
]


def taken(
    told: Sequence[str], releases: Sequence[Release], *, before: Release | None = None
) -> tuple[str | None, int | None, str]:
    """Tell one version after the other and return what is recorded in the end."""
    with bare_ledger() as ledger:
        id_ = enroll(ledger, 1)
        device = ledger.device(id_)
        assert device is not None
        if before is not None:
            device = ledger.set_running(
                id_,
                version=before.version,
                sequence=before.sequence,
                image=before.image,
                evidence="ours",
                now=0.0,
            )
        for version in told:
            word = OwnWord(version, f"it says {version}")
            device = take_word(ledger, device, word, job=None, releases=releases, now=0.0)
        return device.running_version, device.running_sequence, device.running_evidence


@pytest.mark.parametrize(
    ("told", "releases", "before", "recorded"),
    [
        (["1.0.0"], [], None, ("1.0.0", None, "it says 1.0.0")),
        (["1.0.0"], [release("2.0.0")], None, ("1.0.0", None, "it says 1.0.0")),
        (["summer"], SEASONS, None, ("summer", 2, "it says summer")),
        (["autumn"], SEASONS[:2], SEASONS[2], ("autumn", 3, "ours")),
        (["summer", "autumn"], SEASONS, SEASONS[2], ("autumn", 3, "it says autumn")),
        (["winter"], SEASONS, None, (None, None, "it says winter, and how that ranks")),
        (["winter"], SEASONS, SEASONS[1], (None, None, "it says winter, and how that ranks")),
        (["winter", "summer"], SEASONS, SEASONS[1], ("summer", 2, "it says summer")),
        (["v1.0.0"], [release("2.0.0")], None, (None, None, "it says v1.0.0, and how that ranks")),
    ],
)
def test_what_is_told_is_recorded_where_it_has_a_rank(
    told: list[str],
    releases: list[Release],
    before: Release | None,
    recorded: tuple[str | None, int | None, str],
) -> None:
    version, sequence, evidence = taken(told, releases, before=before)
    assert (version, sequence) == recorded[:2]
    assert evidence.startswith(recorded[2])


_versions = st.sampled_from(["1.0.0", "2.0.0", "spring", "summer", "winter"])
_shelves = st.sampled_from(
    [[], [release("1.0.0")], [release("1.0.0"), release("2.0.0")], SEASONS, SEASONS[:1]]
)
_ends = st.none() | st.tuples(st.sampled_from([Phase.WRITING, Phase.ENDING]), st.booleans())


@given(_versions | st.none(), _ends, _shelves, st.lists(_versions, min_size=1, max_size=3))
def test_inv2_a_word_is_taken_once_and_never_makes_a_cut_update_whole(
    before: str | None, end: tuple[Phase, bool] | None, releases: list[Release], told: list[str]
) -> None:
    with bare_ledger() as ledger:
        id_ = enroll(ledger, 1)
        if before is not None:
            ledger.set_running(id_, version=before, sequence=None, image=None, evidence="ours", now=0.0)
        if end is not None:
            _end(ledger, Device(id=id_, device_class=PANEL, key="serial:1"), *end)
        cut = ledger.unfinished(id_)
        for version in told:
            device = ledger.device(id_)
            assert device is not None
            word = OwnWord(version, f"it says {version}")
            once = take_word(ledger, device, word, job=None, releases=releases, now=1.0)
            assert take_word(ledger, once, word, job=None, releases=releases, now=2.0) == once
            if cut is not None and cut.phase is Phase.WRITING:
                assert once == device
                assert ledger.unfinished(id_) == cut
            elif device.complete is not False:
                assert once.complete
                assert once.running_version in {version, None}
                # Nobody waits for a rank that will never be known.
                wanted = desired(once, releases, [], ClassPolicy(name=PANEL))
                assert "cannot be compared" not in wanted.reason


def _end(ledger: Ledger, device: Device, phase: Phase, unclear: bool) -> None:
    """Leave an attempt that failed in a phase, and did or did not make it unclear what the unit holds."""
    job = ledger.create_job(device.id, release("2.0.0"), 0.0)
    attempt = ledger.claim(job.id, 0.0)
    ledger.erase_starting(attempt.id, 0.0)
    if phase is Phase.ENDING:
        ledger.ending(attempt.id, 0.0)
    ledger.finish(attempt.id, Outcome.FAILED, now=0.0)
    ledger.move(job.id, JobState.FAILED, now=0.0)
    if unclear:
        ledger.set_complete(device.id, complete=None)

"""The right time, in plannings and in the whole service: windows, files of workloads and conditions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, ClassName, JobState, Wait, WaitKind
from firmwarden.programs import Heard
from firmwarden.service.conditions import Condition
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.inhibitors import Inhibitor
from firmwarden.service.planner import Here, Planner
from firmwarden.service.rollout import Rule
from firmwarden.service.timing import BEING_ASKED, SPARE, Moment
from firmwarden.service.windows import Timetable, Window
from support.house import NOON, PANEL, living, release, virtual_time
from support.scripted import Play, Unit, fails
from support.stored import bare_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from typing import Any

    from firmwarden.model import DeviceId, Job
    from firmwarden.service.planner import Agenda
    from firmwarden.store.ledger import Ledger
    from support.house import House

MOTOR: Final = ClassName("motor")
BERLIN: Final = ZoneInfo("Europe/Berlin")
CLOSED: Final = Timetable((Window.parse("Fri 13:00-14:00"),), UTC)
"""At noon on a Friday, which is when tests begin."""
ASKS: Final = Condition(("/bin/may-update",))
YES: Final = Heard("", "", "", 0)
NO: Final = Heard("exit status 1: busy", "busy", "busy", 1)
BUSY: Final = Wait(
    kind=WaitKind.CONDITION, detail="the condition of its class says no: busy", until=NOON + 60.0
)
PAYING: Final = Wait(kind=WaitKind.HOLD, detail="its class is held by kiosk with /run/busy: a customer pays")


def during(*windows: str, zone: ZoneInfo | None = BERLIN, parallel: int | None = None) -> ClassPolicy:
    timetable = Timetable(tuple(map(Window.parse, windows)), zone)
    return ClassPolicy(name=PANEL, parallel=parallel, timetable=timetable)


def asking(parallel: int | None = None) -> ClassPolicy:
    return ClassPolicy(name=PANEL, condition=ASKS, parallel=parallel)


# --- one planning -----------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with bare_ledger() as bare:
        yield bare


def enroll(ledger: Ledger, *names: str, device_class: ClassName = PANEL) -> list[DeviceId]:
    return [
        ledger.enroll(device_class, f"serial:{name}", label="", port=name, serial=name, now=NOON).id
        for name in names
    ]


def plan(
    ledger: Ledger,
    policy: ClassPolicy,
    moment: Moment | None = None,
    *,
    parallel: int = 16,
    in_loader: frozenset[DeviceId] = frozenset(),
) -> Agenda:
    everybody = Here(
        present={device.id: 0.0 for device in ledger.devices()},
        conflicts={},
        paused={},
        busy=frozenset(),
        asking_rests={},
        in_loader=in_loader,
        moment=moment or Moment(),
    )
    planner = Planner(classes={PANEL: policy, MOTOR: ClassPolicy(name=MOTOR)}, parallel=parallel)
    releases = [release("2.0.0"), release("2.0.0", device_class=MOTOR)]
    return planner.plan(ledger, releases=releases, here=everybody, now=NOON)


def the_job(ledger: Ledger) -> Job:
    (job,) = ledger.open_jobs()
    return job


def test_a_file_of_a_workload_holds_its_class_alone(ledger: Ledger) -> None:
    enroll(ledger, "1")
    enroll(ledger, "2", device_class=MOTOR)
    agenda = plan(ledger, ClassPolicy(name=PANEL), Moment(inhibited={PANEL: PAYING}))
    assert list(agenda.waits.values()) == [PAYING]
    assert [job.device_class for job in agenda.run] == [MOTOR]


def test_a_person_s_hold_is_told_before_what_ends_by_itself(ledger: Ledger) -> None:
    (device,) = enroll(ledger, "1")
    moment = Moment(inhibited={PANEL: PAYING})
    policy = replace(during("Sun 00:00-01:00"), condition=ASKS)
    ledger.hold(device, "fair", "ann", NOON)
    assert plan(ledger, policy, moment).waits[the_job(ledger).id].detail == "the device is held by ann: fair"
    ledger.unhold(device, "ann")
    assert plan(ledger, policy, moment).waits[the_job(ledger).id] == PAYING
    agenda = plan(ledger, policy)
    assert agenda.waits[the_job(ledger).id].kind is WaitKind.WINDOW
    assert agenda.check == [], "nobody is asked about what cannot start anyway"


def test_the_service_wakes_up_when_a_window_opens(ledger: Ledger) -> None:
    enroll(ledger, "1")
    agenda = plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED))
    (wait,) = agenda.waits.values()
    assert (wait.kind, wait.until, agenda.wake_at) == (WaitKind.WINDOW, NOON + 3600.0, NOON + 3600.0)


def test_a_unit_that_nobody_can_use_as_it_is_does_not_wait_for_a_window(ledger: Ledger) -> None:
    (device,) = enroll(ledger, "1")
    ledger.set_complete(device, False)
    assert plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED)).run == [the_job(ledger)]
    ledger.set_complete(device, True)
    assert plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED)).run == []
    ledger.is_in_loader(device)
    agenda = plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED), in_loader=frozenset({device}))
    assert agenda.run == [the_job(ledger)]


def test_what_became_of_an_update_is_asked_at_any_time(ledger: Ledger) -> None:
    enroll(ledger, "1")
    plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED))
    attempt = ledger.claim(the_job(ledger).id, NOON)
    assert plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED)).waits == {}, "what runs goes on"
    ledger.move(attempt.job, JobState.UNKNOWN, now=NOON)
    assert plan(ledger, ClassPolicy(name=PANEL, timetable=CLOSED, condition=ASKS)).ask == [the_job(ledger)]


def test_a_condition_is_asked_before_a_start_and_its_yes_is_used_up(ledger: Ledger) -> None:
    (device,) = enroll(ledger, "1")
    agenda = plan(ledger, asking())
    job = the_job(ledger)
    assert agenda.waits == {job.id: BEING_ASKED}
    assert [(each.id, known.id) for each, known in agenda.check] == [(job.id, device)]
    agenda = plan(ledger, asking(), Moment(asked=frozenset({job.id})))
    assert (agenda.waits, agenda.check) == ({job.id: BEING_ASKED}, [])
    agenda = plan(ledger, asking(), Moment(answers={job.id: BUSY}))
    assert (agenda.waits, agenda.check, agenda.wake_at) == ({job.id: BUSY}, [], NOON + 60.0)
    agenda = plan(ledger, asking(), Moment(answers={job.id: None}))
    assert (agenda.run, agenda.waits, agenda.check) == ([job], {}, [])
    assert plan(ledger, asking()).waits == {job.id: BEING_ASKED}


def test_while_it_is_asked_anew_what_it_said_last_is_told(ledger: Ledger) -> None:
    enroll(ledger, "1")
    plan(ledger, asking())
    job = the_job(ledger)
    for moment in (Moment(said={job.id: BUSY}), Moment(asked=frozenset({job.id}), said={job.id: BUSY})):
        assert plan(ledger, asking(), moment).waits == {job.id: BUSY}


@pytest.mark.parametrize(("of_class", "of_all", "places"), [(None, 2, 2), (1, 16, 1), (3, 2, 2)])
def test_no_more_are_asked_about_than_may_start_and_a_few(
    ledger: Ledger, of_class: int | None, of_all: int, places: int
) -> None:
    enroll(ledger, *map(str, range(10)))
    agenda = plan(ledger, asking(of_class), parallel=of_all)
    assert len(agenda.check) == places + SPARE
    kinds = Counter(wait.kind for wait in agenda.waits.values())
    assert kinds == {WaitKind.CONDITION: 10}
    # Those that hang take nobody's turn.
    asked = frozenset(job.id for job, _ in agenda.check)
    agenda = plan(ledger, asking(of_class), Moment(asked=asked), parallel=of_all)
    assert agenda.check == []
    agenda = plan(ledger, asking(of_class), Moment(answers=dict.fromkeys(asked)), parallel=of_all)
    assert len(agenda.run) == places


# --- the whole service, on virtual time ---------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> object:
    return virtual_time()


def at(text: str) -> Callable[[House], None]:
    """Begin at an instant in UTC."""
    instant = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    return lambda house: house.set_clock(instant - house.clock.wall())


def read(house: House) -> str:
    return f"{datetime.fromtimestamp(house.clock.wall(), UTC):%Y-%m-%d %H:%M}"


async def started(house: House, name: str = "panel-1", within_s: float = 86_400.0) -> str:
    """Wait for an attempt, and return when it began, in UTC."""
    unit = house.units[name]
    with anyio.fail_after(within_s):
        while unit.attempts == 0:  # noqa: ASYNC110  a unit tells nobody
            await anyio.sleep(10.0)
    return read(house)


async def why(house: House, name: str = "panel-1") -> Mapping[str, Any]:
    await house.planned()
    return await house.desk.why((await house.device(name)).id)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("window", "begins", "expected"),
    [
        ("Mon-Fri 22:00-04:00", "2026-11-23 12:00", "2026-11-23 21:00"),
        # In spring the clock goes from 02:00 to 03:00 at 01:00 UTC.
        ("Sun 02:30-05:00", "2026-03-28 20:00", "2026-03-29 01:00"),
        ("Sun 04:00-05:00", "2026-03-28 20:00", "2026-03-29 02:00"),
        # In autumn it goes from 03:00 back to 02:00 at 01:00 UTC.
        ("Sun 02:30-05:00", "2026-10-24 20:00", "2026-10-25 00:30"),
        ("Sun 02:30-05:00", "2026-10-25 01:01", "2026-10-25 01:30"),
        ("Sun 04:00-05:00", "2026-10-24 20:00", "2026-10-25 03:00"),
    ],
)
async def test_an_update_starts_when_its_window_opens(window: str, begins: str, expected: str) -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[during(window)], change=at(begins)) as house:
        view = await why(house)
        assert view["device"]["job"]["wait"]["kind"] == "window"
        assert view["device"]["job"]["wait"]["until"].startswith(expected.replace(" ", "T"))
        assert await started(house) == expected
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


@pytest.mark.anyio
async def test_a_window_that_closes_breaks_nothing_off_and_lets_nothing_new_begin(
    logs: list[MutableMapping[str, Any]],
) -> None:
    units = {name: Unit(script=[Play(seconds=400.0)]) for name in ("panel-1", "panel-2")}
    policy = during("Sun 02:15-02:45", parallel=1)
    async with living(units, "2.0.0", policies=[policy], change=at("2026-10-25 00:40")) as house:
        await anyio.sleep(600.0)
        first, second = sorted(units, key=lambda name: -units[name].attempts)
        assert (await house.job(first)).state is JobState.RUNNING
        assert (await house.job(second)).state is JobState.QUEUED
        # The clock goes back, and the same window comes again.
        assert await started(house, second) == "2026-10-25 01:15"
        await house.quiet(7200.0)
        assert [unit.attempts for unit in units.values()] == [1, 1]
    waited = [entry for entry in logs if entry["event"] == "job-waiting" and entry["wait"] == "window"]
    assert len(waited) == 1


@pytest.mark.anyio
async def test_an_attempt_that_failed_is_not_tried_again_outside_of_the_window() -> None:
    lost = fails_after(Step.PROBE, 400.0)
    units = {"panel-1": Unit(script=[lost])}
    policy = during("Sun 02:15-02:45")
    async with living(units, "2.0.0", policies=[policy], change=at("2026-06-07 00:40")) as house:
        await started(house)
        await anyio.sleep(3600.0)
        assert (await house.job("panel-1")).state is JobState.QUEUED
        assert units["panel-1"].attempts == 1
        assert (await why(house))["device"]["job"]["wait"]["kind"] == "window"


@pytest.mark.anyio
async def test_a_unit_that_was_left_half_written_is_finished_though_the_window_closed() -> None:
    units = {"panel-1": Unit(script=[fails_after(Step.WRITE, 400.0)])}
    policy = during("Sun 02:15-02:45")
    async with living(units, "2.0.0", policies=[policy], change=at("2026-06-07 00:40")) as house:
        await started(house)
        await house.until(lambda ledger: not ledger.open_jobs(), 3600.0)
        assert read(house) < "2026-06-07 01:30"
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED
        assert units["panel-1"].attempts == 2


def fails_after(step: Step, seconds: float) -> Play:
    return replace(fails(CauseCode.LINK_LOST, step), seconds=seconds)


@pytest.mark.anyio
async def test_the_zone_of_the_machine_is_taken_as_it_is_now() -> None:
    units = {"panel-1": Unit()}
    policy = during("Mon-Sun 14:00-15:00", zone=None)
    async with living(units, "2.0.0", policies=[policy], change=at("2026-06-07 12:00")) as house:
        await anyio.sleep(600.0)
        assert (await why(house))["device"]["job"]["wait"]["until"].startswith("2026-06-07T14:00")
        house.zone = BERLIN  # two hours ahead in summer
        await started(house, within_s=41.0)
        await house.quiet()


@pytest.mark.anyio
async def test_a_clock_that_is_set_into_a_window_opens_it() -> None:
    units = {"panel-1": Unit()}
    policy = during("Mon-Sun 14:00-15:00", zone=None)
    async with living(units, "2.0.0", policies=[policy], change=at("1970-01-01 00:01")) as house:
        await anyio.sleep(600.0)
        assert units["panel-1"].attempts == 0
        at("2026-06-07 14:30")(house)
        await started(house, within_s=41.0)
        await house.quiet()


@pytest.mark.anyio
async def test_a_reload_may_open_a_window() -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[during("Sun 02:00-03:00")]) as house:
        await house.planned()
        assert units["panel-1"].attempts == 0
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        await house.quiet()
        assert units["panel-1"].attempts == 1


@pytest.mark.anyio
async def test_a_class_waits_until_somebody_has_looked_for_the_file_of_its_workload() -> None:
    policy = ClassPolicy(name=PANEL, inhibitor=Inhibitor(Path("/nonexistent/busy")))
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[policy]) as house:
        view = await why(house)
        assert view["device"]["job"]["wait"]["kind"] == "hold"
        assert "/nonexistent/busy, with which a workload may hold its class, was not looked" in view["next"]
        async with anyio.create_task_group() as tasks:
            house.warden.timekeeper.inhibitors.look(tasks)
        await house.quiet()
        assert units["panel-1"].attempts == 1


# --- conditions ---------------------------------------------------------------------------------------------------


def answering(*answers: Heard, takes_s: float = 0.0) -> Callable[[House], None]:
    """Let a program give these answers, the last one again and again."""
    left = list(answers)

    async def answer(_: Mapping[str, str]) -> Heard:
        await anyio.sleep(takes_s)
        return left.pop(0) if len(left) > 1 else left[0]

    return lambda house: setattr(house, "answer", answer)


@pytest.mark.anyio
async def test_a_condition_is_asked_once_for_each_start() -> None:
    units = {f"panel-{number}": Unit() for number in (1, 2, 3)}
    async with living(units, "2.0.0", policies=[asking(1)], change=answering(YES, takes_s=1.0)) as house:
        await house.quiet(600.0)
        assert all(unit.attempts == 1 for unit in units.values())
        starts = Counter(about["FIRMWARDEN_DEVICE"] for about in house.asked)
        assert len(starts) == 3
        # What could not start at once, for one runs at a time, was asked about again.
        assert max(starts.values()) <= 3


@pytest.mark.anyio
async def test_it_is_asked_again_for_the_next_attempt() -> None:
    units = {"panel-1": Unit(script=[fails_after(Step.WRITE, 1.0)])}
    async with living(units, "2.0.0", policies=[asking()], change=answering(YES)) as house:
        await house.quiet(600.0)
        assert (units["panel-1"].attempts, len(house.asked)) == (2, 2)


@pytest.mark.anyio
async def test_a_device_waits_as_long_as_the_condition_says_no(logs: list[MutableMapping[str, Any]]) -> None:
    units = {"panel-1": Unit()}
    change = answering(NO, NO, NO, YES)
    async with living(units, "2.0.0", policies=[asking()], change=change) as house:
        await house.planned()
        view = await why(house)
        assert view["device"]["job"]["wait"]["kind"] == "condition"
        assert "the condition of its class says no: busy" in view["next"]
        assert f"firmwarden retry {view['device']['id']}" in view["commands"]
        assert (await house.desk.status())["waits"] == [{"kind": "condition", "jobs": 1}]
        (waiting,) = await house.desk.waits()
        assert waiting["wait"]["detail"] == "the condition of its class says no: busy"
        began = house.clock.boot()
        await started(house)
        assert 175.0 <= house.clock.boot() - began <= 191.0
        await house.quiet()
    assert [entry["detail"] for entry in logs if entry["event"] == "condition-unmet"] == [BUSY.detail]
    assert not [entry for entry in logs if entry["event"] == "job-waiting"]


@pytest.mark.anyio
async def test_a_person_who_retries_has_it_asked_at_once() -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[asking()], change=answering(NO, YES)) as house:
        await house.planned()
        await anyio.sleep(1.0)
        text = await house.desk.retry((await house.device("panel-1")).id, who="ann")
        assert text.endswith("is asked again")
        await started(house, within_s=15.0)
        await house.quiet()


@pytest.mark.anyio
async def test_a_reload_has_it_asked_anew() -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[asking()], change=answering(NO, YES)) as house:
        await house.planned()
        await anyio.sleep(1.0)
        house.warden.configure({PANEL: asking()}, 16, {})
        house.warden.poke()
        await started(house, within_s=15.0)
        await house.quiet()


@pytest.mark.anyio
async def test_inv6_a_program_that_hangs_for_one_device_holds_up_no_other() -> None:
    units = {f"panel-{number}": Unit() for number in range(12)}
    async with living(units, policies=[asking(2)]) as house:
        hanging = (await house.device("panel-0")).id

        async def answer(about: Mapping[str, str]) -> Heard:
            if about["FIRMWARDEN_DEVICE"] != hanging:
                return YES
            await anyio.sleep(10.0)
            return Heard("took longer than 10 s and was ended", "")

        house.answer = answer
        house.drop("2.0.0")
        await house.planned()
        await house.until(lambda ledger: len(ledger.open_jobs()) == 1)
        assert (await house.job("panel-0")).state is JobState.QUEUED
        assert "10 s and was ended" in (await why(house, "panel-0"))["next"] or house.clock.boot() < 10.0


@pytest.mark.anyio
async def test_a_device_whose_condition_says_no_is_no_canary() -> None:
    units = {f"panel-{number}": Unit() for number in range(4)}
    policy = replace(asking(), rollout=Rule(first=1, soak_s=60.0, waves=(100,), stop_at=0))
    async with living(units, policies=[policy]) as house:
        willing = False

        async def answer(about: Mapping[str, str]) -> Heard:
            """Say no to whoever is the first canary."""
            return YES if willing or about != house.asked[0] else NO

        house.answer = answer
        house.drop("2.0.0")
        await house.until(lambda ledger: len(ledger.open_jobs()) == 1, 600.0)
        assert sorted(unit.attempts for unit in units.values()) == [0, 1, 1, 1]
        willing = True
        await house.quiet(600.0)
        assert [unit.attempts for unit in units.values()] == [1, 1, 1, 1]


@pytest.mark.anyio
async def test_devices_that_take_turns_at_a_condition_that_says_no_fill_no_log(
    logs: list[MutableMapping[str, Any]],
) -> None:
    units = {f"panel-{number}": Unit() for number in range(5)}
    policy = replace(asking(), rollout=Rule(first=1, soak_s=60.0, waves=(50, 100), stop_at=0))
    async with living(units, "2.0.0", policies=[policy], change=answering(NO)) as house:
        await anyio.sleep(4 * 3600.0)
        assert len(house.asked) > 240
    waits = [(entry["job"], entry["detail"]) for entry in logs if entry["event"] == "job-waiting"]
    assert waits
    assert set(Counter(waits).values()) == {1}


@pytest.mark.anyio
async def test_a_yes_about_a_device_that_has_gone_starts_nothing() -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0", policies=[asking()], change=answering(YES, takes_s=5.0)) as house:
        await house.planned()
        await house.unplug("panel-1")
        await anyio.sleep(60.0)
        assert (units["panel-1"].attempts, len(house.asked)) == (0, 1)
        await house.plug("panel-1")
        await house.quiet(600.0)
        assert (units["panel-1"].attempts, len(house.asked)) == (1, 2)


@pytest.mark.anyio
async def test_while_the_service_stops_nobody_is_asked() -> None:
    units = {"panel-1": Unit()}
    async with living(units, policies=[asking()], change=answering(YES)) as house:
        await house.planned()
        with anyio.fail_after(5.0):
            assert await house.warden.stop(1.0)
        house.drop("2.0.0")
        await house.planned()
        await anyio.sleep(60.0)
        assert house.asked == []

"""The service's loop with scripted units: retries, budgets, pauses, canaries; one unit never holds up others."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Progress, Step
from firmwarden.model import CauseCode, ClassName, JobState, LatchScope, LinkStats, Outcome, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.hooks import Hook
from firmwarden.service.policy import Budgets
from support.house import NOON, PANEL, content, living, release, states, virtual_time
from support.scripted import PARTIAL, Play, ScriptedDriver, Unit, fails, held

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    from firmwarden.drivers.base import Journal
    from firmwarden.model import Job
    from support.house import House

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
LOST = fails(CauseCode.LINK_LOST)
DEAF = fails(CauseCode.NO_ANSWER, Step.PROBE)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def with_budgets(**budgets: float) -> list[ClassPolicy]:
    return [ClassPolicy(name=PANEL, budgets=Budgets(**budgets))]  # type: ignore[arg-type]


async def test_a_release_reaches_every_device() -> None:
    units = {f"panel-{number}": Unit() for number in range(5)}
    async with living(units, "1.0.0", "2.0.0") as house:
        await house.quiet()
        for name, unit in units.items():
            assert unit.runs == content("2.0.0")
            assert unit.attempts == 1
            device = await house.device(name)
            assert (device.running_version, device.complete) == ("2.0.0", True)
            assert device.running_evidence == "the unit acknowledged its end"


async def test_a_device_that_runs_its_release_is_left_alone() -> None:
    units = {"panel-1": Unit()}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        house.warden.poke()
        await anyio.sleep(3_600)
        assert units["panel-1"].attempts == 1


async def test_inv8_what_is_withdrawn_during_a_planning_is_not_begun() -> None:
    unit = Unit()
    armed: list[House] = []

    def before_commit() -> None:
        if armed:
            armed.pop().drop()

    async with living({"panel-1": unit}, before_commit=before_commit) as house:
        await house.quiet()
        armed.append(house)
        house.drop("2.0.0")
        await house.quiet()
        assert not armed
        assert unit.attempts == 0
        assert (await house.job("panel-1")).state is JobState.CANCELLED
        house.drop("2.0.0")
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def call_back(house: House) -> None:
    await house.desk.recall(PANEL, reason="it bricks", who="ann")


async def hold(house: House) -> None:
    await house.desk.hold((await house.device("panel-1")).id, reason="calibration", who="ann")


async def hold_all(house: House) -> None:
    await house.desk.hold(None, reason="calibration", who="ann")


async def pin(house: House) -> None:
    await house.desk.pin((await house.device("panel-1")).id, "1.0.0", who="ann")


async def tell(house: House) -> None:
    await house.desk.adopt((await house.device("panel-1")).id, old=None, running="2.0.0", who="ann")


@pytest.mark.parametrize("order", [call_back, hold, hold_all, pin, tell])
@pytest.mark.parametrize("asked", [False, True])
async def test_what_is_ordered_in_the_moment_before_something_begins_is_heard(
    order: Callable[[House], Awaitable[None]], asked: bool
) -> None:
    unit = Unit(script=[Play(end="answer-lost")] if asked else [])
    async with living({"panel-1": unit}) as house:
        worker = house.warden.worker
        begins: Callable[..., Awaitable[None]] = worker.ask if asked else worker.update
        begun: list[tuple[int, int]] = []

        async def after_the_order(*planned: object) -> None:
            setattr(worker, begins.__name__, begins)
            await order(house)
            await begins(*planned)
            begun.append((unit.attempts, unit.questions))

        setattr(worker, begins.__name__, after_the_order)
        house.drop("2.0.0")
        await anyio.sleep(600.0)
        assert begun == [(int(asked), 0)]
        assert unit.attempts == int(asked)


async def test_back_off_doubles_until_the_attempts_are_used_up() -> None:
    unit = Unit(script=[LOST] * 9)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet(3_600)
        starts = [attempt.started_at for attempt in await house.attempts("panel-1")]
        pauses = [round(later - earlier) for earlier, later in pairwise(starts)]
        assert pauses == [2, 4, 8, 16]
        job = await house.job("panel-1")
        assert job.state is JobState.FAILED
        assert job.cause is not None
        assert job.cause.code is CauseCode.TRANSPORT_EXHAUSTED
        assert await house.latches() == []


async def test_a_day_of_back_off_never_exceeds_its_longest() -> None:
    unit = Unit(script=[DEAF] * 5_000)
    async with living({"panel-1": unit}, "2.0.0", policies=with_budgets(attempts=10_000)) as house:
        await house.quiet(3 * DAY_S)
        attempts = await house.store.run(lambda ledger: ledger.attempts(None, 1_000))
        starts = [attempt.started_at for attempt in reversed(attempts)]
        longest = max(later - earlier for earlier, later in pairwise(starts))
        assert longest == pytest.approx(900.0, abs=1.0)
        assert starts[-1] - NOON == pytest.approx(DAY_S, rel=0.02), "the time budget ends it"
        assert 96 < len(starts) < 110


async def test_attempts_that_take_long_use_the_time_up_as_well() -> None:
    unit = Unit(script=[Play(at=Step.WRITE, fails=LOST.fails, seconds=180.0)] * 10)
    async with living({"panel-1": unit}, "2.0.0", policies=with_budgets(presence_s=540.0)) as house:
        await house.quiet(DAY_S)
        assert len(await house.attempts("panel-1")) == 2, "two steps of three minutes each, twice"
        assert (await house.job("panel-1")).state is JobState.FAILED


async def test_being_held_for_longer_than_the_time_budget_uses_none_of_it() -> None:
    unit = Unit(script=[LOST])
    async with living({"panel-1": unit}) as house:
        await house.desk.hold(None, reason="fair", who="ann")
        house.drop("2.0.0")
        await anyio.sleep(1.1 * DAY_S)
        assert unit.attempts == 0
        await house.desk.unhold(None, who="ann")
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


async def test_absence_uses_nothing_up() -> None:
    unit = Unit(script=[LOST] * 4)
    async with living({"panel-1": unit}, policies=with_budgets(presence_s=60.0)) as house:
        house.drop("2.0.0")
        await house.until(lambda ledger: any(job.attempts == 1 for job in ledger.open_jobs()))
        await house.unplug("panel-1")
        await anyio.sleep(DAY_S / 4)
        waits = [wait.kind for wait in house.warden.agenda.waits.values()]
        assert waits == [WaitKind.ABSENT]
        await house.plug("panel-1")
        await house.quiet(120.0)
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


@pytest.mark.parametrize("how", ["plugged anew", "a day later"])
async def test_a_used_up_device_is_tried_again_when(how: str) -> None:
    unit = Unit(script=[DEAF] * 5)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet(60.0)
        await anyio.sleep(DAY_S / 2)
        assert unit.attempts == 5
        if how == "plugged anew":
            await house.unplug("panel-1")
            await anyio.sleep(1.0)
            await house.plug("panel-1")
        else:
            await anyio.sleep(DAY_S / 2 + 60.0)
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert states(await house.jobs("panel-1")) == [JobState.FAILED, JobState.SUCCEEDED]


@pytest.mark.parametrize("years", [-30.0, 30.0])
async def test_a_clock_that_was_set_holds_nothing_for_years(years: float) -> None:
    """Neither a back-off nor the pause after a used-up budget, nor the pause before a held port."""
    units = {
        "panel-1": Unit(script=[DEAF] * 5),
        "panel-2": Unit(script=[DEAF] * 4),
        "panel-3": Unit(script=[held()] * 9),
    }
    async with living(units, "2.0.0") as house:
        await anyio.sleep(33.0)
        house.set_clock(years * 365 * DAY_S)
        await anyio.sleep(600.0)
        assert [unit.runs == content("2.0.0") for unit in units.values()] == [True, True, True]


async def test_inv3_a_verdict_is_never_tried_again_by_itself() -> None:
    unit = Unit(script=[fails(CauseCode.WRONG_DEVICE_ID, offset=0)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        await anyio.sleep(1.1 * DAY_S)
        await house.unplug("panel-1")
        await anyio.sleep(60.0)
        await house.plug("panel-1")
        await anyio.sleep(60.0)
        assert unit.attempts == 1
        (latch,) = await house.latches()
        assert (latch.scope, latch.image) == (LatchScope.PAIR, release("2.0.0").image)
        assert latch.cause.raw == b"\x01"
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0"), "the latch does not concern another image"


async def test_inv3_a_broken_flash_gets_no_image_at_all() -> None:
    unit = Unit(script=[fails(CauseCode.ERASE_ERROR, offset=0)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(DAY_S / 4)
        assert unit.attempts == 1
        assert (await house.latches())[0].scope is LatchScope.DEVICE
        assert (await house.device("panel-1")).complete is False


async def test_inv3_only_a_person_lifts_a_latch_and_starts_anew() -> None:
    unit = Unit(script=[fails(CauseCode.CLIENT_ERROR)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        device = (await house.device("panel-1")).id
        await house.desk.clear(device, who="ann")
        await anyio.sleep(DAY_S / 4)
        assert unit.attempts == 1, "a lifted latch alone is no wish to try again"
        await house.desk.retry(device, who="ann")
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_a_stray_verdict_gets_one_fresh_attempt_even_with_no_budget_left() -> None:
    stray = fails(CauseCode.INVALID_FILE, offset=512, chunk=3, sequence=1)
    units = {"panel-1": Unit(script=[stray]), "panel-2": Unit(script=[stray, stray])}
    async with living(units, "2.0.0", policies=with_budgets(attempts=1)) as house:
        await house.quiet()
        assert units["panel-1"].runs == content("2.0.0")
        assert units["panel-2"].attempts == 2
        assert [latch.scope for latch in await house.latches()] == [LatchScope.PAIR]


async def test_a_suspect_image_is_tried_by_one_device_at_a_time_and_latched_by_the_second() -> None:
    refuses = fails(CauseCode.INVALID_FILE, offset=0, chunk=0, sequence=2)
    units = {f"panel-{number}": Unit(script=[Play(seconds=10.0)]) for number in range(6)}
    async with living(units) as house:
        await house.plug_only("panel-0")
        units["panel-0"].script[0] = refuses
        house.drop("2.0.0")
        await house.quiet_but_absent()
        ids = {name: (await house.device(name)).id for name in units}
        first, second, *others = sorted(ids.keys() - {"panel-0"}, key=lambda name: ids[name])
        units[second].script[0] = Play(at=Step.WRITE, fails=refuses.fails, seconds=10.0)
        await house.plug_only(*units)
        while not units[second].attempts:
            assert len(house.warden.worker.runs) <= 1
            await anyio.sleep(1.0)
        await house.quiet(600.0)
        assert sorted(latch.scope for latch in await house.latches()) == ["image", "pair", "pair"]
        assert units[first].runs == content("2.0.0")
        assert [units[name].attempts for name in others] == [0, 0, 0]
        house.drop("2.0.0", "3.0.0")
        await house.quiet(600.0)
        assert {unit.runs for unit in units.values()} == {content("3.0.0")}


async def test_a_canary_says_what_it_waits_for() -> None:
    units = {"panel-1": Unit(script=[fails(CauseCode.ADDRESS_ERROR, offset=0)])}
    units |= {f"panel-{number}": Unit(script=[Play(seconds=60.0)]) for number in (2, 3)}
    async with living(units) as house:
        await house.plug_only("panel-1")
        house.drop("2.0.0")
        await house.quiet_but_absent()
        await house.plug_only(*units)
        await anyio.sleep(1.0)
        assert [wait.kind for wait in house.warden.agenda.waits.values()] == [WaitKind.CANARY]
        await house.quiet(600.0)
        assert units["panel-3"].runs == units["panel-2"].runs == content("2.0.0")


async def test_erases_a_day_are_a_budget_across_jobs() -> None:
    unit = Unit(script=[LOST] * 5)
    async with living({"panel-1": unit}, "2.0.0", policies=with_budgets(erases_a_day=3)) as house:
        await anyio.sleep(120.0)
        assert unit.erases == 3
        (wait,) = house.warden.agenda.waits.values()
        assert wait.kind is WaitKind.WEAR
        assert wait.until == NOON + DAY_S / 2, "midnight"
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(120.0)
        assert unit.erases == 3, "a new job is no new budget"
        await house.quiet(DAY_S)
        assert unit.runs == content("3.0.0")
        assert unit.erases == await house.wear("panel-1") == 6


async def test_erases_a_life_end_it() -> None:
    unit = Unit(script=[LOST] * 5)
    async with living({"panel-1": unit}, "2.0.0", policies=with_budgets(erases_a_life=2)) as house:
        await anyio.sleep(1.1 * DAY_S)
        (wait,) = house.warden.agenda.waits.values()
        assert (unit.erases, wait.kind, wait.until) == (2, WaitKind.WEAR, None)


async def test_a_held_port_is_waited_for_and_uses_no_attempt_up() -> None:
    unit = Unit(script=[held()] * 50)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(20 * 60.0)
        (wait,) = house.warden.agenda.waits.values()
        assert wait.kind is WaitKind.PORT_HELD
        assert "ModemManager (process 7)" in wait.detail
        assert wait.until is not None
        assert wait.until - house.clock.wall() <= 60.0
        assert await house.attempts("panel-1") == []
        assert 15 < unit.attempts < 30
        unit.script.clear()
        await house.quiet(61.0)
        (attempt,) = await house.attempts("panel-1")
        assert (attempt.number, attempt.outcome) == (1, Outcome.SUCCEEDED)


async def test_a_wait_that_comes_back_is_told_again_only_after_an_attempt_or_a_retry(
    logs: list[MutableMapping[str, Any]],
) -> None:
    def told() -> list[str]:
        return [entry["wait"] for entry in logs if entry["event"] == "job-waiting"]

    unit = Unit(script=[LOST])
    async with living({"panel-1": unit}) as house:
        await house.desk.hold(None, reason="fair", who="ann")
        house.drop("2.0.0")
        await house.planned()
        for _ in range(3):
            await house.unplug("panel-1")
            await house.planned()
            await house.plug("panel-1")
            await house.planned()
        assert told() == ["hold", "absent"]
        await house.desk.retry((await house.device("panel-1")).id, who="ann")
        await house.unplug("panel-1")
        await house.planned()
        await house.plug("panel-1")
        await house.planned()
        assert told()[2:] == ["absent", "hold"]
        await house.desk.unhold(None, who="ann")
        await anyio.sleep(1.0)
        assert unit.attempts == 1
        await house.desk.hold(None, reason="fair", who="ann")
        await house.planned()
        assert told()[4:] == ["back-off", "hold"]


async def test_plugging_a_device_anew_ends_the_pause_before_a_held_port() -> None:
    unit = Unit(script=[held()] * 20)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(300.0)
        unit.script.clear()
        await house.unplug("panel-1")
        await house.plug("panel-1")
        await house.quiet(1.0)
        assert unit.runs == content("2.0.0")


async def test_a_port_that_is_lost_to_another_in_the_middle_is_recorded() -> None:
    """A driver that meets the holder only after the erase began cannot claim that nothing was tried."""
    unit = Unit(script=[Play(at=Step.WRITE, fails=held().fails)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        attempts = await house.attempts("panel-1")
        assert [attempt.outcome for attempt in attempts] == [Outcome.INTERRUPTED, Outcome.SUCCEEDED]
        assert attempts[0].erase_starts == 1


async def test_a_newer_release_supersedes_what_waits_and_leaves_what_runs() -> None:
    units = {"panel-1": Unit(script=[Play(seconds=30.0)]), "panel-2": Unit(script=[DEAF])}
    async with living(units, "2.0.0") as house:
        await anyio.sleep(1.0)
        house.drop("2.0.0", "3.0.0")
        await house.quiet(600.0)
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED, JobState.SUCCEEDED]
        assert states(await house.jobs("panel-2")) == [JobState.SUPERSEDED, JobState.SUCCEEDED]
        assert {unit.runs for unit in units.values()} == {content("3.0.0")}


async def test_a_withdrawn_release_ends_its_job_and_dropping_it_again_is_a_new_wish() -> None:
    unit = Unit(script=[DEAF])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until(lambda ledger: any(job.attempts for job in ledger.open_jobs()))
        await anyio.sleep(0.5)
        house.drop()
        await house.quiet()
        job = await house.job("panel-1")
        assert job.state is JobState.CANCELLED
        assert job.cause is not None
        assert job.cause.code is CauseCode.WITHDRAWN
        house.drop("2.0.0")
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_no_more_updates_run_at_once_than_allowed() -> None:
    motor = ClassName("motor")
    units = {f"panel-{number}": Unit(script=[Play(seconds=10.0)]) for number in range(6)}
    units |= {f"motor-{number}": Unit(script=[Play(seconds=10.0)]) for number in range(4)}
    policies = [ClassPolicy(name=PANEL), ClassPolicy(name=motor, parallel=1)]
    async with living(units, policies=policies) as house:
        house.warden.configure({ClassName(policy.name): policy for policy in policies}, 4, {})
        house.drop("2.0.0")
        house.drop("2.0.0", device_class=motor)
        most, most_motors = 0, 0
        while any(unit.runs != content("2.0.0", name[:5]) for name, unit in units.items()):
            running = [run.job.device_class for run in house.warden.worker.runs.values()]
            most, most_motors = max(most, len(running)), max(most_motors, running.count(motor))
            await anyio.sleep(1.0)
        assert (most, most_motors) == (4, 1)


# --- unknown outcomes -------------------------------------------------------------------------------------


async def test_inv2_an_unknown_outcome_is_settled_when_the_application_tells() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    unit.tells = True
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.SUCCEEDED
        assert attempt.evidence == "the application tells its version"
        assert (unit.erases, unit.questions) == (1, 1)
        outcomes = [conclusion.outcome for conclusion, _ in house.conclusions]
        assert outcomes == [Outcome.UNKNOWN, Outcome.SUCCEEDED]


async def test_inv2_a_loader_that_is_still_there_is_told_to_end_again() -> None:
    unit = Unit(script=[Play(end="lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert unit.started == [content("2.0.0")]
        assert unit.erases == 1, "the image is there: it is not written anew"
        assert (await house.device("panel-1")).running_version == "2.0.0"


async def test_inv2_an_image_that_did_not_hold_is_a_failure_then() -> None:
    unit = Unit(script=[Play(end="lost")])
    unit.answers.append(Play(at=Step.CONFIRM, fails=fails(CauseCode.IMAGE_INVALID).fails))
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.FAILED
        assert (await house.job("panel-1")).state is JobState.FAILED
        assert [latch.scope for latch in await house.latches()] == [LatchScope.PAIR]
        assert (await house.device("panel-1")).complete is False


async def test_inv2_silence_stays_unknown_and_is_asked_a_bounded_number_of_times() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(DAY_S)
        assert unit.questions == 5
        job = await house.job("panel-1")
        assert job.state is JobState.UNKNOWN
        (wait,) = house.warden.agenda.waits.values()
        assert "asked 5 times" in wait.detail
        assert wait.until is None
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.UNKNOWN
        assert "image valid, loader left" in attempt.evidence
        assert attempt.stats.commands > 5, "the counters of the questions are added"
        unit.tells = True
        await house.unplug("panel-1")
        await anyio.sleep(5.0)
        await house.plug("panel-1")
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


async def test_an_unknown_outcome_is_asked_about_however_few_attempts_are_allowed() -> None:
    unit = Unit(script=[Play(end="lost")])
    async with living({"panel-1": unit}, "2.0.0", policies=with_budgets(attempts=1)) as house:
        await house.quiet()
        assert unit.questions == 1


@pytest.mark.parametrize("code", [CauseCode.LINK_LOST, CauseCode.OPEN_FAILED, CauseCode.RETRIES_EXHAUSTED])
async def test_inv2_a_question_that_fails_in_transport_settles_nothing(code: CauseCode) -> None:
    unit = Unit(script=[Play(end="lost")])
    unit.answers.append(fails(code, Step.CONFIRM))
    unit.answers.append(Play(at=Step.CONFIRM, fails=held().fails))
    unit.answers.append(Play(at=Step.CONFIRM, fails=RuntimeError("a defect")))
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet(600.0)
        assert unit.questions == 4
        assert unit.started == [content("2.0.0")]
        assert len(await house.attempts("panel-1")) == 1


async def test_a_newer_release_supersedes_an_unknown_outcome() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(DAY_S / 4)
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
        assert states(await house.jobs("panel-1")) == [JobState.SUPERSEDED, JobState.SUCCEEDED]
        assert unit.runs == content("3.0.0")


async def test_an_unknown_outcome_is_found_out_even_when_its_release_was_withdrawn() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(60.0)
        house.drop()
        unit.tells = True
        await house.unplug("panel-1")
        await house.plug("panel-1")
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


async def test_a_hook_is_told_an_outcome_once() -> None:
    hook = Hook(command=("true",))
    unit = Unit(script=[LOST, Play(end="answer-lost")])
    unit.answers.extend([Play(end="lost")] * 3)
    unit.tells = True
    async with living(
        {"panel-1": unit},
        "2.0.0",
        change=lambda house: house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {PANEL: hook}),
    ) as house:
        await house.quiet(600.0)
        told = [conclusion.outcome for conclusion, given in house.conclusions if given is hook]
        assert told == [Outcome.FAILED, Outcome.UNKNOWN, Outcome.SUCCEEDED]
        assert len(house.conclusions) == 6


# --- completeness and downgrades ----------------------------------------------------------------------------


async def test_a_device_without_a_complete_image_may_get_an_older_one() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        unit.script.append(fails(CauseCode.CLIENT_ERROR, offset=512))
        house.drop("1.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("1.0.0")
        assert PARTIAL not in unit.started


async def test_a_device_that_refused_the_first_byte_is_not_downgraded() -> None:
    """Two verdicts of that kind in a row prove no more than one."""
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        refused = fails(CauseCode.WRONG_DEVICE_ID, offset=0)
        unit.script.extend([refused, refused])
        house.drop("1.0.0", "3.0.0")
        await house.quiet()
        house.drop("1.0.0", "4.0.0")
        await house.quiet()
        assert unit.attempts == 3
        assert (await house.device("panel-1")).complete is None


async def test_a_refusal_of_the_first_byte_makes_no_half_written_image_whole() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        unit.script.append(fails(CauseCode.CLIENT_ERROR, offset=512))
        unit.script.append(fails(CauseCode.WRONG_DEVICE_ID, offset=0))
        house.drop("1.0.0", "3.0.0", "4.0.0")
        await house.quiet()
        assert unit.runs == content("1.0.0")


async def test_a_version_that_is_not_the_release_s_proves_a_complete_image_all_the_same() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        unit.script.extend([LOST, fails(CauseCode.VERSION_MISMATCH, Step.LEAVE)])
        house.drop("1.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0"), "no older one is written over what runs"
        assert (await house.device("panel-1")).complete is None


# --- one bad device -----------------------------------------------------------------------------------------


async def test_inv6_a_driver_that_crashes_stops_no_other_device(
    logs: list[MutableMapping[str, Any]],
) -> None:
    units = {"panel-1": Unit(script=[Play(at=Step.WRITE, fails=ZeroDivisionError())] * 9), "panel-2": Unit()}
    async with living(units, "2.0.0") as house:
        await house.quiet(600.0)
        assert units["panel-2"].runs == content("2.0.0")
        attempts = await house.attempts("panel-1")
        assert [attempt.cause.code for attempt in attempts if attempt.cause] == [CauseCode.DEFECT] * 5
    crashes = [entry for entry in logs if entry["event"] == "worker-crashed"]
    assert len(crashes) == 5
    assert all(entry["log_level"] == "error" for entry in crashes)


class Miscounting(ScriptedDriver):
    """Cannot say what it did."""

    @property
    def stats(self) -> LinkStats:
        raise ZeroDivisionError


class Hiding(ScriptedDriver):
    """Cannot say how far it is."""

    @property
    def progress(self) -> Progress:
        raise ZeroDivisionError


@pytest.mark.parametrize("defective", [None, Miscounting, Hiding])
async def test_inv6_a_defect_of_ours_stops_no_other_device(defective: type[ScriptedDriver] | None) -> None:
    units = {"panel-1": Unit(script=[Play(seconds=1.0)] * 20), "panel-2": Unit()}
    units["panel-1"].tells = True

    def make(_job: Job, journal: Journal) -> ScriptedDriver:
        if defective is None:
            raise ZeroDivisionError
        return defective(units["panel-1"], journal)

    async with living(units) as house:
        house.drivers["panel-1"] = make
        house.drop("2.0.0")
        await anyio.sleep(30.0)
        assert units["panel-2"].runs == content("2.0.0")
        assert units["panel-1"].attempts <= 6, "not in a tight loop"
        del house.drivers["panel-1"]
        await house.quiet(600.0)
        assert units["panel-1"].runs == content("2.0.0"), "nothing is left claimed"


async def test_inv6_a_slow_device_delays_no_other() -> None:
    units = {f"panel-{number}": Unit() for number in range(8)}
    units["panel-0"].script.append(Play(at=Step.WRITE, hangs=True))
    async with living(units, "2.0.0") as house:
        await house.until(
            lambda ledger: sum(job.state is JobState.SUCCEEDED for job in ledger.jobs(limit=9)) == 7, 1.0
        )
        house.drop("2.0.0", "3.0.0")
        await house.until(
            lambda ledger: sum(job.state is JobState.SUCCEEDED for job in ledger.jobs(limit=20)) == 14, 1.0
        )


async def test_a_class_that_leaves_the_configuration_lets_its_attempt_end() -> None:
    units = {
        "panel-1": Unit(script=[Play(seconds=10.0)]),
        "panel-2": Unit(script=[Play(seconds=10.0, end="lost")]),
    }
    async with living(units, "2.0.0") as house:
        await house.until_running("panel-1")
        house.warden.configure({}, 16, {})
        await anyio.sleep(120.0)
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED
        assert (await house.job("panel-2")).state is JobState.UNKNOWN
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        house.warden.poke()
        await house.quiet()
        assert units["panel-2"].runs == content("2.0.0")


async def test_progress_is_told_while_an_attempt_lasts() -> None:
    unit = Unit(script=[Play(seconds=2.0)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        house.warden.feed.close()
        items = [item async for item in house.warden.feed.read(0)]
        steps = [item["data"]["step"] for item in items if item["kind"] == "progress"]
        assert steps == ["probe", "write", "verify", "leave"]

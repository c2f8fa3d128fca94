"""One attempt: what is on disk when, what persons may do meanwhile, and a store that fails."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import AttemptFailed, NotFound, Refused, StoreError
from firmwarden.model import Cause, CauseCode, JobState, LatchScope, Outcome, Phase, TcpAddress
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.orders import orders_for
from firmwarden.service.policy import Budgets
from firmwarden.service.worker import AttemptJournal
from firmwarden.store.store import Store
from support.house import PANEL, content, living, release, states, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, held, phase_at

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any

    from support.house import House

pytestmark = pytest.mark.anyio

ON_BOTH = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(virtual_time(), id="trio"), pytest.param("asyncio", id="asyncio")]
)
VERDICT = fails(CauseCode.WRITE_ERROR, offset=512)
QUICK = [ClassPolicy(name=PANEL, budgets=Budgets(back_off_s=0.05))]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


class Faults:
    """A disk that can be full; counts the commits that it let through."""

    def __init__(self) -> None:
        self.full = False
        self.fails_at: int | None = None
        """The number of one commit that fails, from 0."""
        self.commits = 0

    def before_commit(self) -> None:
        if self.full or self.commits == self.fails_at:
            self.fails_at = None
            raise StoreError("the disk is full")
        self.commits += 1


# --- on both backends, the store in its thread on asyncio -----------------------------------------------------


@ON_BOTH
async def test_an_update_is_concluded(anyio_backend: object, tmp_path: Path) -> None:
    units = {"panel-1": Unit(script=[fails(CauseCode.LINK_LOST)]), "panel-2": Unit(script=[VERDICT])}
    inline = anyio_backend != "asyncio"
    async with living(units, "2.0.0", policies=QUICK, path=tmp_path / "db", inline=inline) as house:
        await house.quiet()
        assert units["panel-1"].runs == content("2.0.0")
        assert [attempt.outcome for attempt in await house.attempts("panel-1")] == [
            Outcome.FAILED,
            Outcome.SUCCEEDED,
        ]
        assert [latch.scope for latch in await house.latches()] == [LatchScope.DEVICE]


@ON_BOTH
async def test_inv6_a_crash_is_concluded_and_others_go_on(anyio_backend: object) -> None:
    units = {"panel-1": Unit(script=[Play(fails=KeyError("oops"))]), "panel-2": Unit()}
    async with living(units, "2.0.0", policies=QUICK, inline=anyio_backend != "asyncio") as house:
        await house.quiet()
        assert {unit.runs for unit in units.values()} == {content("2.0.0")}


@ON_BOTH
@pytest.mark.parametrize("at", [Step.PROBE, Step.WRITE, Step.LEAVE])
async def test_inv5_what_is_broken_off_by_the_end_of_the_daemon_is_concluded(
    anyio_backend: object, tmp_path: Path, at: Step
) -> None:
    unit = Unit(script=[Play(at=at, hangs=True, deaf=True)])
    inline = anyio_backend != "asyncio"
    async with living({"panel-1": unit}, "2.0.0", path=tmp_path / "db", inline=inline) as house:
        await house.until_running("panel-1")
        await until_phase(house, phase_at(at))
    store = await Store.open(tmp_path / "db", inline=inline)
    (attempt,) = await store.run(lambda ledger: ledger.attempts(None, 9))
    (job,) = await store.run(lambda ledger: ledger.jobs(limit=9))
    await store.aclose()
    ending = at is Step.LEAVE
    assert attempt.outcome is (Outcome.UNKNOWN if ending else Outcome.INTERRUPTED)
    assert attempt.cause is not None
    assert attempt.cause.code is CauseCode.STOPPING
    assert job.state is (JobState.UNKNOWN if ending else JobState.QUEUED)


async def until_phase(house: House, phase: Phase) -> None:
    await house.until(lambda ledger: [each.phase for each in ledger.running_attempts()] == [phase])


# --- what is on disk when -------------------------------------------------------------------------------------


class Watched(Unit):
    """Looks at the database when it is touched, as a power cut in that moment would find it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.found: list[tuple[str, str, int, int | None]] = []

    def erase(self) -> None:
        self._look()
        super().erase()

    def start(self) -> None:
        self._look()
        super().start()

    def _look(self) -> None:
        with sqlite3.connect(self._path) as connection:
            self.found += connection.execute(
                "SELECT attempts.phase, jobs.state, wear.starts, devices.complete FROM attempts "
                "JOIN jobs ON jobs.id = attempts.job JOIN wear USING (device) "
                "JOIN devices ON devices.id = jobs.device"
            ).fetchall()
        connection.close()


async def test_inv5_the_intent_is_on_disk_before_the_device_is_touched(tmp_path: Path) -> None:
    unit = Watched(tmp_path / "db")
    async with living({"panel-1": unit}, "2.0.0", path=tmp_path / "db") as house:
        await house.quiet()
    assert unit.found == [("writing", "running", 1, 0), ("ending", "running", 1, 0)]


@pytest.mark.parametrize(
    ("script", "detaches", "most"),
    [
        ([], False, 4),
        ([], True, 5),
        ([VERDICT], False, 3),
        ([Play(end="lost")], False, 5),
        ([fails(CauseCode.NO_ANSWER, Step.PROBE)], False, 6),
    ],
    ids=["success", "success in a loader", "verdict", "unknown and settled", "failure and success"],
)
async def test_an_attempt_costs_at_most_six_commits(script: list[Play], detaches: bool, most: int) -> None:
    faults = Faults()
    unit = Unit(script=script)
    unit.detaches = detaches
    async with living({"panel-1": unit}, before_commit=faults.before_commit) as house:
        await house.planned()
        before = faults.commits
        house.drop("2.0.0")
        await house.quiet()
        assert faults.commits - before == most + 1, "one made the job"


async def test_a_damaged_image_is_never_written() -> None:
    unit = Unit()
    async with living({"panel-1": unit}) as house:
        house.images.damaged.add(release("2.0.0").image)
        house.drop("2.0.0")
        await house.quiet(600.0)
        attempts = await house.attempts("panel-1")
        assert {attempt.cause.code for attempt in attempts if attempt.cause} == {CauseCode.IMAGE_UNAVAILABLE}
        assert (len(attempts), unit.attempts, unit.erases) == (5, 0, 0)


async def test_interrupted_attempts_use_no_attempt_up_but_wear() -> None:
    unit = Unit(script=[Play(at=Step.WRITE, fails=held().fails)] * 5 + [fails(CauseCode.LINK_LOST)] * 4)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet(600.0)
        assert unit.runs == content("2.0.0")
        attempts = await house.attempts("panel-1")
        assert [attempt.outcome for attempt in attempts] == (
            [Outcome.INTERRUPTED] * 5 + [Outcome.FAILED] * 4 + [Outcome.SUCCEEDED]
        )
        assert await house.wear("panel-1") == unit.erases == 10


# --- cancel ---------------------------------------------------------------------------------------------------


async def test_a_cancel_before_the_erase_takes_effect_at_once() -> None:
    unit = Unit(script=[Play(at=Step.PROBE, hangs=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until_running("panel-1")
        job = await house.job("panel-1")
        said = await house.desk.cancel(job.id, who="ann")
        assert "before anything is erased" in said
        await house.quiet(1.0)
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.CANCELLED
        ended = await house.job("panel-1")
        assert ended.state is JobState.CANCELLED
        assert ended.cause is not None
        assert ended.cause.detail == "cancelled by ann"
        assert unit.erases == 0
        await anyio.sleep(40_000.0)
        assert unit.attempts == 1, "a cancelled job is not made again"


@pytest.mark.parametrize("at", [Step.WRITE, Step.VERIFY, Step.LEAVE])
async def test_a_cancel_after_the_erase_began_is_refused(at: Step) -> None:
    unit = Unit(script=[Play(at=at, hangs=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await until_phase(house, phase_at(at))
        await anyio.sleep(1.0)
        job = await house.job("panel-1")
        with pytest.raises(Refused, match="an erase has begun"):
            await house.desk.cancel(job.id, who="ann")
        assert (await house.desk.history(None, 9))["actions"] == [], "what was refused was not done"
        await anyio.sleep(60.0)
        assert (await house.job("panel-1")).state is JobState.RUNNING
        assert unit.latest is not None
        unit.latest.request_stop()


@pytest.mark.parametrize(
    "play",
    [Play(fails=fails(CauseCode.NO_ANSWER).fails), held(), Play(fails=KeyError("oops"))],
    ids=["link", "port held", "crash"],
)
async def test_a_granted_cancel_outlives_a_fault(play: Play) -> None:
    """It must not come to nothing because the link failed before the safe point."""
    unit = Unit(script=[Play(fails=play.fails, seconds=5.0, deaf=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until_running("panel-1")
        job = await house.job("panel-1")
        await house.desk.cancel(job.id, who="ann")
        await anyio.sleep(600.0)
        assert (await house.job("panel-1")).state is JobState.CANCELLED
        assert unit.attempts == 1


async def test_inv3_a_verdict_outdoes_a_cancel() -> None:
    unit = Unit(script=[Play(fails=fails(CauseCode.PROTOCOL_TOO_NEW).fails, seconds=5.0, deaf=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until_running("panel-1")
        job = await house.job("panel-1")
        await house.desk.cancel(job.id, who="ann")
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.FAILED
        assert [latch.scope for latch in await house.latches()] == [LatchScope.DEVICE]


async def test_a_waiting_job_is_cancelled_where_it_stands() -> None:
    unit = Unit(script=[fails(CauseCode.NO_ANSWER, Step.PROBE)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until(lambda ledger: any(job.not_before for job in ledger.open_jobs()))
        job = await house.job("panel-1")
        assert await house.desk.cancel(job.id, who="ann") == f"job {job.id} is cancelled"
        await anyio.sleep(600.0)
        assert unit.attempts == 1
        with pytest.raises(Refused, match="has ended already: cancelled"):
            await house.desk.cancel(job.id, who="ann")
        with pytest.raises(NotFound):
            await house.desk.cancel(99, who="ann")


@pytest.mark.parametrize("wish", ["cancel", "retry", "forget", "supersede"])
@pytest.mark.parametrize("end", ["success", "verdict", "silence", "port held"])
async def test_whatever_a_person_wants_while_a_device_is_asked_its_answer_is_recorded(
    wish: str, end: str
) -> None:
    unit = Unit(script=[Play(end="lost")])
    answer = {
        "success": None,
        "verdict": fails(CauseCode.IMAGE_INVALID).fails,
        "silence": fails(CauseCode.LINK_LOST).fails,
        "port held": held().fails,
    }[end]
    unit.answers.append(Play(at=Step.CONFIRM, fails=answer, seconds=30.0))
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(5.0)
        assert unit.questions == 1
        job = await house.job("panel-1")
        if wish == "cancel":
            await house.desk.cancel(job.id, who="ann")
        elif wish == "retry":
            await house.desk.retry(job.device, who="ann")
        elif wish == "supersede":
            house.drop("2.0.0", "3.0.0")
        else:
            await house.unplug("panel-1")
            await house.desk.forget(job.device, who="ann")
        await anyio.sleep(60.0)
        assert not house.warden.worker.runs
        attempts = await house.store.run(lambda ledger: ledger.job_attempts(job.id))
        if wish == "forget":
            assert attempts == []
        else:
            expected = {"success": Outcome.SUCCEEDED, "verdict": Outcome.FAILED}
            assert attempts[0].outcome is expected.get(end, attempts[0].outcome)
        if wish == "cancel":
            assert (await house.jobs("panel-1"))[0].state is JobState.CANCELLED
        elif wish == "retry" and end != "verdict":
            assert unit.runs == content("2.0.0")
            assert unit.erases == (1 if end == "success" else 2), "only what did not work is written anew"
        elif wish == "supersede":
            assert unit.runs == content("3.0.0")


async def test_nothing_begins_for_a_job_that_changed_since_it_was_planned() -> None:
    units = {"panel-1": Unit(), "panel-2": Unit(script=[Play(end="answer-lost")])}
    async with living(units, "2.0.0") as house:
        await house.until(lambda ledger: any(job.state is JobState.UNKNOWN for job in ledger.open_jobs()))
        await house.desk.hold(None, reason="fair", who="ann")
        planned = await house.job("panel-2")
        await house.desk.cancel(planned.id, who="ann")
        address = TcpAddress(host="panel-2", port=4000)
        orders = await house.store.run(lambda ledger: orders_for(ledger, planned))
        await house.warden.worker.ask(planned, address, orders)
        await house.warden.worker.update(planned, address, 0.0, orders)
        assert (units["panel-2"].attempts, units["panel-2"].questions) == (1, 0)
        await house.unplug("panel-2")
        await house.desk.forget(planned.device, who="ann")
        await house.warden.worker.ask(planned, address, orders)
        await house.warden.worker.update(planned, address, 0.0, orders)
        assert (units["panel-2"].attempts, units["panel-2"].questions) == (1, 0)


async def test_the_erase_is_announced_before_it_is_on_disk() -> None:
    """Whoever cancels while that commit is under way comes too late."""
    seen = []

    def look() -> None:
        seen.append(None if journal is None else journal.untouched)

    journal: AttemptJournal | None = None
    async with living({"panel-1": Unit()}, before_commit=look) as house:
        await house.planned()
        device = (await house.device("panel-1")).id
        now = house.clock.wall()
        job = await house.store.run(lambda ledger: ledger.create_job(device, release("2.0.0"), now))
        attempt = await house.store.run(lambda ledger: ledger.claim(job.id, now))
        journal = AttemptJournal(house.store, house.clock, attempt, None, entered=False)
        assert journal.untouched
        await journal.erase_starting()
        assert seen[-1] is False
        journal.cancelled = Cause(code=CauseCode.CANCELLED)
        with pytest.raises(AttemptFailed, match="cancelled"):
            await journal.erase_starting()


# --- hold -----------------------------------------------------------------------------------------------------


async def test_a_hold_lets_what_runs_end_and_starts_nothing() -> None:
    units = {"panel-1": Unit(script=[Play(seconds=10.0)]), "panel-2": Unit()}
    async with living(units) as house:
        await house.desk.hold((await house.device("panel-2")).id, reason="on loan", who="ann")
        house.drop("2.0.0")
        await house.until_running("panel-1")
        await house.desk.hold(None, reason="fair", who="ann")
        await anyio.sleep(3_600.0)
        assert units["panel-1"].runs == content("2.0.0")
        house.drop("2.0.0", "3.0.0")
        await house.desk.unhold((await house.device("panel-2")).id, who="ann")
        await anyio.sleep(3_600.0)
        assert (units["panel-1"].attempts, units["panel-2"].attempts) == (1, 0)
        await house.desk.unhold(None, who="ann")
        await house.quiet()
        assert {unit.runs for unit in units.values()} == {content("3.0.0")}


# --- stop -----------------------------------------------------------------------------------------------------


async def test_a_stop_lets_a_transfer_finish_within_its_grace() -> None:
    unit = Unit(script=[Play(seconds=5.0)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await until_phase(house, Phase.WRITING)
        assert await house.warden.stop(60.0)
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED


async def test_a_stop_after_the_grace_breaks_off_between_commands() -> None:
    unit = Unit(script=[Play(at=Step.WRITE, hangs=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await until_phase(house, Phase.WRITING)
        began = anyio.current_time()
        assert await house.warden.stop(60.0)
        assert anyio.current_time() - began == pytest.approx(60.0, abs=0.1)
        (attempt,) = await house.attempts("panel-1")
        assert (attempt.outcome, attempt.cause and attempt.cause.code) == (
            Outcome.INTERRUPTED,
            CauseCode.STOPPING,
        )
        job = await house.job("panel-1")
        assert (job.state, job.not_before) == (JobState.QUEUED, None)


async def test_a_second_signal_shortens_the_grace_to_nothing() -> None:
    unit = Unit(script=[Play(at=Step.WRITE, hangs=True)])
    async with living({"panel-1": unit}, "2.0.0") as house, anyio.create_task_group() as tasks:
        await until_phase(house, Phase.WRITING)
        began = anyio.current_time()

        async def again() -> None:
            await anyio.sleep(3.0)
            house.warden.hurry_stop()

        tasks.start_soon(again)
        assert await house.warden.stop(60.0)
        assert anyio.current_time() - began == pytest.approx(3.0, abs=0.1)


async def test_a_stop_does_not_wait_for_what_has_not_begun_to_erase() -> None:
    units = {"panel-1": Unit(script=[Play(at=Step.PROBE, hangs=True)]), "panel-2": Unit()}
    async with living(units, "2.0.0") as house:
        await house.until_running("panel-1")
        began = anyio.current_time()
        assert await house.warden.stop(60.0)
        assert anyio.current_time() - began < 1.0
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(3_600.0)
        assert units["panel-1"].erases == 0
        assert units["panel-2"].runs == content("2.0.0"), "nothing is started any more"
        assert (await house.job("panel-1")).state is JobState.QUEUED


async def test_a_command_that_never_ends_is_left_to_the_caller() -> None:
    unit = Unit(script=[Play(at=Step.WRITE, hangs=True, deaf=True)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await until_phase(house, Phase.WRITING)
        began = anyio.current_time()
        assert not await house.warden.stop(10.0)
        assert anyio.current_time() - began == pytest.approx(22.0, abs=0.1)


# --- a store that fails ---------------------------------------------------------------------------------------


SCRIPTS = {
    "success": ([Play()], JobState.SUCCEEDED, []),
    "verdict": ([VERDICT, VERDICT], JobState.FAILED, [LatchScope.DEVICE]),
    "unknown": ([Play(end="lost")], JobState.SUCCEEDED, []),
    "port held": ([held()], JobState.SUCCEEDED, []),
    "port lost": ([Play(at=Step.WRITE, fails=held().fails)], JobState.SUCCEEDED, []),
}


@pytest.mark.parametrize(("script", "state", "scopes"), SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("number", range(7))
async def test_inv5_no_outcome_is_lost_when_a_commit_fails(
    script: list[Play], state: JobState, scopes: list[LatchScope], number: int
) -> None:
    faults = Faults()
    unit = Unit(script=script)
    async with living({"panel-1": unit}, before_commit=faults.before_commit) as house:
        await house.planned()
        faults.fails_at = faults.commits + number
        house.drop("2.0.0")
        await house.until(lambda ledger: any(job.state.final for job in ledger.jobs(limit=1)), 600.0)
        await anyio.sleep(3_600.0)
        assert (await house.job("panel-1")).state is state
        assert [latch.scope for latch in await house.latches()] == scopes
        assert PARTIAL not in unit.started
        assert await house.wear("panel-1") >= unit.erases
        if scopes:
            assert unit.erases <= 1, "the verdict was final"
        attempts = await house.attempts("panel-1")
        assert all(attempt.outcome is not Outcome.RUNNING for attempt in attempts)


async def test_inv5_a_verdict_outlasts_a_full_disk(logs: list[MutableMapping[str, Any]]) -> None:
    faults = Faults()
    unit = Unit(script=[Play(at=Step.WRITE, fails=VERDICT.fails, seconds=10.0)])
    async with living({"panel-1": unit}, "2.0.0", before_commit=faults.before_commit) as house:
        await until_phase(house, Phase.WRITING)
        faults.full = True
        await anyio.sleep(1_800.0)
        assert len([entry for entry in logs if entry["event"] == "store-failed"]) == 1, (
            "said once, not every 5 s"
        )
        faults.full = False
        await house.quiet()
        assert [latch.scope for latch in await house.latches()] == [LatchScope.DEVICE]
        assert unit.attempts == 1


async def test_no_update_starts_on_a_full_disk_and_the_status_says_so() -> None:
    faults = Faults()
    unit = Unit()
    async with living({"panel-1": unit}, before_commit=faults.before_commit) as house:
        await house.planned()
        faults.full = True
        house.drop("2.0.0")
        await anyio.sleep(3_600.0)
        assert unit.attempts == 0
        assert (await house.desk.status())["problems"] == ["the disk is full"]
        faults.full = False
        await anyio.sleep(11.0)
        assert unit.runs == content("2.0.0")
        assert (await house.desk.status())["problems"] == []


async def test_a_full_disk_between_job_and_claim_is_told_too() -> None:
    faults = Faults()
    unit = Unit()
    async with living({"panel-1": unit}, before_commit=faults.before_commit) as house:
        await house.desk.hold(None, reason="fair", who="ann")
        house.drop("2.0.0")
        await house.planned()
        await house.desk.unhold(None, who="ann")
        faults.full = True
        await anyio.sleep(30.0)
        assert unit.attempts == 0
        assert (await house.desk.status())["problems"] == ["the disk is full"]
        faults.full = False
        await anyio.sleep(11.0)
        assert unit.runs == content("2.0.0")


async def test_a_device_tells_what_it_waits_for_while_nothing_can_be_written() -> None:
    faults = Faults()
    async with living({"panel-1": Unit()}, before_commit=faults.before_commit) as house:
        await house.planned()
        faults.full = True
        house.drop("2.0.0")
        await anyio.sleep(60.0)
        device = (await house.device("panel-1")).id
        said = (await house.desk.why(device))["next"]
        assert said == "Nothing, until what is done can be written down again: the disk is full."
        faults.full = False
        await house.quiet()
        assert "written down" not in (await house.desk.why(device))["next"]


async def test_trouble_that_comes_and_goes_is_told_once_and_its_end_when_it_lasts(
    logs: list[MutableMapping[str, Any]],
) -> None:
    faults = Faults()
    unit = Unit()
    async with living({"panel-1": unit}, "1.0.0", before_commit=faults.before_commit) as house:
        await house.quiet()
        house.drop("1.0.0", "2.0.0")
        for _ in range(100):
            # A few bytes are free now and then, too few for an attempt.
            faults.fails_at = faults.commits + 1
            await anyio.sleep(5.0)
        told = [entry["event"] for entry in logs if entry["event"] in {"store-failed", "store-works"}]
        assert told == ["store-failed"]
        faults.fails_at = None
        await house.quiet()
        await anyio.sleep(120.0)
        told = [entry["event"] for entry in logs if entry["event"] in {"store-failed", "store-works"}]
        assert told == ["store-failed", "store-works"]
        assert unit.runs == content("2.0.0")


async def test_inv3_a_full_disk_uses_up_no_budget_of_the_device() -> None:
    faults = Faults()
    unit = Unit(script=[Play(seconds=10.0)] * 6)
    policies = [ClassPolicy(name=PANEL, budgets=Budgets(attempts=2))]
    async with living({"panel-1": unit}, policies=policies, before_commit=faults.before_commit) as house:
        await house.planned()
        house.drop("2.0.0")
        for number in range(1, 6):
            while len(await house.attempts("panel-1")) < number:  # noqa: ASYNC110  the store tells nobody
                await anyio.sleep(1.0)
            faults.full = True  # the intent to erase cannot be written
            await anyio.sleep(30.0)
            assert unit.erases == 0
            faults.full = False
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED
        assert await house.wear("panel-1") == unit.erases == 1
        attempts = await house.attempts("panel-1")
        assert [attempt.cause and attempt.cause.code for attempt in attempts] == [
            *[CauseCode.STATE_UNWRITABLE] * 5,
            None,
        ]


async def test_inv5_a_verdict_is_kept_when_the_daemon_ends_while_the_store_fails(tmp_path: Path) -> None:
    faults = Faults()
    unit = Unit(script=[Play(at=Step.WRITE, fails=VERDICT.fails, seconds=10.0)])
    path = tmp_path / "db"
    async with living({"panel-1": unit}, "2.0.0", path=path, before_commit=faults.before_commit) as house:
        await until_phase(house, Phase.WRITING)
        faults.full = True
        await anyio.sleep(21.0)
        faults.full = False
    async with living({"panel-1": unit}, "2.0.0", path=path) as house:
        await house.quiet()
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.FAILED
        assert [latch.scope for latch in await house.latches()] == [LatchScope.DEVICE]
        assert states(await house.jobs("panel-1")) == [JobState.FAILED]
        assert unit.attempts == 1

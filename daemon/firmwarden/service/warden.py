"""The service's loop: plan when something changed, start what may run, wait for the next change.

Everything else tells it what is new (who is here, which releases lie there, what a person wants) and pokes it.
It owns the tasks that run attempts, one for each device that is being updated, so one bad device holds up nobody
else (invariant 6).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from firmwarden.errors import MustWait, PortHeld, StoreError
from firmwarden.events import CATALOGUE, LogEvent
from firmwarden.model import Cause, CauseCode, JobState, Outcome, Wait, WaitKind
from firmwarden.programs import hear_program
from firmwarden.service.aftercare import Aftercare
from firmwarden.service.clock import Reckoning
from firmwarden.service.hand_over import HandOver
from firmwarden.service.orders import orders_for
from firmwarden.service.pauses import Pauses
from firmwarden.service.planner import Agenda, Here, Planner
from firmwarden.service.policy import Budgets
from firmwarden.service.port_owner import owner_of
from firmwarden.service.recovery import close
from firmwarden.service.timekeeper import Timekeeper
from firmwarden.service.waits_logged import WaitsLogged
from firmwarden.service.worker import Worker
from firmwarden.service.zones import machine_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import tzinfo

    from anyio.abc import TaskGroup

    from firmwarden.model import Address, ClassName, DeviceId, Job, JobId, Release
    from firmwarden.service.aftercare import Examine
    from firmwarden.service.clock import Clock
    from firmwarden.service.conclude import Conclusion
    from firmwarden.service.conditions import Ask
    from firmwarden.service.desired import ClassPolicy
    from firmwarden.service.feed import Feed
    from firmwarden.service.health import HealthRule
    from firmwarden.service.hooks import Hook
    from firmwarden.service.orders import Orders
    from firmwarden.service.port_owner import Owner
    from firmwarden.service.registry import Registry
    from firmwarden.service.worker import Images, MakeDriver
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()

LONGEST_SLEEP_S: Final = 30.0
"""The loop looks again at least so often: the wall clock may jump, and sleeping does not count suspend."""
WATCH_EVERY_S: Final = 600.0
"""How often it is noted for how long wear was watched that is dated in the future: a few commits an hour, and those
only where a clock was ahead."""
STORE_AGAIN_S: Final = 5.0
"""Pause after a planning that the store refused."""
LAST_COMMAND_S: Final = 12.0
"""How long a stop waits for the answer to a command that is under way: all known clients answer within 10 s."""
PROGRESS_EVERY_S: Final = 0.25
"""How often progress is sampled while somebody may be watching."""


class Warden:
    """Plans and runs; its public attributes are what the desk shows."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        images: Images,
        make_driver: MakeDriver,
        feed: Feed,
        clock: Clock,
        dice: Callable[[], float],
        classes: Mapping[ClassName, ClassPolicy],
        parallel: int,
        hooks: Mapping[ClassName, Hook] | None = None,
        on_conclusion: Callable[[Conclusion, Hook | None], None] | None = None,
        examine: Examine | None = None,
        zone: Callable[[], tzinfo] = machine_zone,
        ask: Ask = hear_program,
    ) -> None:
        """Take what the service is made of.

        Args:
            store: what lasts.
            registry: who is here.
            images: verified bytes of images.
            make_driver: makes the driver of a class for one attempt.
            feed: gets samples of progress.
            clock: reads time.
            dice: uniform in [0, 1), for the jitter.
            classes: what the configuration says of each class.
            parallel: updates at once.
            hooks: commands that get the outcomes, by class.
            on_conclusion: told of every conclusion.
            examine: finds out more of a unit that was updated than can be seen.
            zone: reads the time zone of this machine.
            ask: runs the program of a condition.
        """
        self._store = store
        self.registry = registry
        self.feed = feed
        self.clock = clock
        self.reckoning = Reckoning(clock)
        """By which holds last for their time."""
        self.pauses = Pauses(clock, dice)
        self._poked = anyio.Event()
        self._generation = 0
        """See ``plan_anew``."""
        self.timekeeper = Timekeeper(clock, self.poke, zone=zone, ask=ask)
        """Who knows when the time is right."""
        self.configure(classes, parallel, hooks or {})
        self._on_conclusion = on_conclusion
        self.worker = Worker(
            store=store,
            images=images,
            make_driver=make_driver,
            budgets=lambda job: self.budgets(job.device_class),
            clock=clock,
            dice=dice,
            concluded=self._concluded,
            soaks=lambda job: self.health_rule(job.device_class) is not None,
        )
        self.hand_over = HandOver(store, clock, self._owner_by_name)
        """Who has to leave a port before a device there is spoken to."""
        self.aftercare = Aftercare(store=store, clock=clock, warden=self, examine=examine)
        """Who looks after the units that were updated."""
        self.releases: Sequence[Release] | None = None
        """The accepted releases; None until the first scan of the directory is done."""
        self.agenda = Agenda()
        """Of the latest planning."""
        self.stopping = False
        self._busy: dict[DeviceId, Address] = {}
        """Devices that are being updated or asked, each with where that began."""
        self.looked_at: dict[DeviceId, Address] = {}
        """Devices on which nothing is started, because somebody looks after them there."""
        self._ended: dict[DeviceId, float] = {}
        """Boot clock at the end of the last attempt or question."""
        self._waits_logged = WaitsLogged()
        self._tried_s: dict[JobId, float] = {}
        self.began: Final = clock.boot()
        self.releases_as_of = self.agenda_as_of = self.began
        """Boot clock when the latest good scan of the directory was taken, and when the latest planning was stored."""
        self._watched_at = self.began
        self._planned_at = anyio.current_time()
        self.planned = anyio.Event()
        """Set after the next planning, and then another one: as long as it goes on, the loop and the store move."""
        self._idle = anyio.Event()
        self._hurried = anyio.Event()

    def configure(
        self, classes: Mapping[ClassName, ClassPolicy], parallel: int, hooks: Mapping[ClassName, Hook]
    ) -> None:
        """Put another configuration in force; attempts under way go on by theirs.

        Whatever a driver left to a person may be mended by it.
        """
        self.pauses.all_over()
        self.planner = Planner(classes=classes, parallel=parallel)
        self.timekeeper.configure(classes)
        self._hooks = hooks
        self.plan_anew()

    # --- what others tell -----------------------------------------------------------------------------

    def poke(self) -> None:
        """Plan again soon: something changed."""
        self._poked.set()

    def plan_anew(self) -> None:
        """Plan again soon, and begin nothing that was planned before: what has changed may forbid it.

        For what does not stand in the store, and for what may stop a whole rollout.  What people order does, and each
        job looks there before it begins: orders may come more often than an owner takes to leave its port.
        """
        self._generation += 1
        self.poke()

    def shelve(self, releases: Sequence[Release]) -> None:
        """Take the accepted releases of a scan."""
        self.releases_as_of = self.clock.boot()
        if releases != self.releases:
            self.releases = releases
            self.plan_anew()

    def plugged(self, devices: Sequence[DeviceId]) -> None:
        """Take note that devices came (back): whatever was waited for may be over."""
        self.pauses.plugged(devices)
        self.poke()

    def look_again(self, device: DeviceId) -> None:
        """Take note that a person wants a device to be looked at again, whatever keeps it waiting here."""
        self.pauses.over(device)
        self._waits_logged.forget(device)
        self.timekeeper.ask_again(device)

    @property
    def store_problem(self) -> str:
        """Why nothing can be written down, and so nothing starts; empty where it can."""
        return self._store.problem

    @property
    def busy(self) -> int:
        """How many devices are being updated or asked."""
        return len(self._busy)

    # --- the loop --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plan and run until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self.hand_over.run)
                tasks.start_soon(self.aftercare.run)
                while True:
                    self._poked = anyio.Event()
                    await self._plan(tasks)
                    self.planned.set()
                    self.planned = anyio.Event()
                    with anyio.move_on_after(self._pause_s()):
                        await self._poked.wait()
        finally:
            await self.hand_over.close()

    async def stop(self, grace_s: float) -> bool:
        """Start nothing new, let what is running finish within ``grace_s``, then stop between commands.

        Returns whether everything ended by itself; what did not is for the caller to cancel.
        """
        self.stopping = True
        self.plan_anew()
        cause = Cause(code=CauseCode.STOPPING, detail="the daemon is stopping")
        for run in list(self.worker.runs.values()):
            if run.journal.untouched:
                run.stop(cause)
        with anyio.move_on_after(grace_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._impatience, tasks)
                await self._quiet()
                tasks.cancel_scope.cancel()
        for run in list(self.worker.runs.values()):
            run.stop(cause)
        with anyio.move_on_after(LAST_COMMAND_S):
            await self._quiet()
        return not self._busy

    def hurry_stop(self) -> None:
        """Let a stop that is under way not wait for its grace."""
        self._hurried.set()

    async def _impatience(self, tasks: TaskGroup) -> None:
        await self._hurried.wait()
        tasks.cancel_scope.cancel()

    async def _quiet(self) -> None:
        """Wait until nothing runs."""
        while self._busy:
            self._idle = anyio.Event()
            await self._idle.wait()

    def _pause_s(self) -> float:
        if self.store_problem or self.worker.trouble.told:
            return STORE_AGAIN_S
        wake_at = self.agenda.wake_at
        if wake_at is None:
            return LONGEST_SLEEP_S
        return min(max(wake_at - self.clock.wall(), 0.01), LONGEST_SLEEP_S)

    async def _plan(self, tasks: TaskGroup) -> None:
        if self.releases is None or not self.registry.scanned:
            return
        now = self.clock.wall()
        self._count_back_off()
        here = replace(self.here(), moment=self.timekeeper.moment())
        generation = self._generation
        releases = self.releases
        planner = self.planner
        may_start = not self.stopping
        trouble = self.store_problem

        watched_s = self.clock.boot() - self._watched_at
        set_by_s = self.reckoning.set_by()

        def work(ledger: Ledger) -> tuple[Agenda, dict[JobId, Orders | None]]:
            _keep_time(ledger, now, watched_s, set_by_s)
            if trouble:
                ledger.try_writing()  # a planning that changes nothing would not find out
            agenda = planner.plan(ledger, releases=releases, here=here, now=now, may_start=may_start)
            return agenda, {job.id: orders_for(ledger, job) for job in (*agenda.run, *agenda.ask)}

        try:
            agenda, orders = await self._store.run(work)
        except StoreError as exc:
            self.worker.trouble.failed(str(exc))
            return
        self.worker.trouble.worked()
        self.reckoning.follow(set_by_s)
        if watched_s >= WATCH_EVERY_S:
            self._watched_at += watched_s
        for event, keys in agenda.notes:
            getattr(log, CATALOGUE[event].level)(event, **keys)
        self._waits_logged.tell(agenda.waits, before=self.agenda.waits, owners=agenda.owners)
        self.agenda = agenda
        self.agenda_as_of = self.clock.boot()
        if self._generation != generation:
            return
        for job in (*agenda.run, *agenda.ask):
            address = self.registry.address(job.device)
            if address is not None and job.device not in self.looked_at:
                self._busy[job.device] = address
                tried_s = self._tried_s.pop(job.id, 0.0)
                tasks.start_soon(
                    self._one, job, address, tried_s, orders[job.id], generation, name=f"job {job.id}"
                )
        self._tried_s = {job: tried for job, tried in self._tried_s.items() if job in agenda.waits}
        self.timekeeper.ask(tasks, agenda.check, self.registry.address)

    def here(self) -> Here:
        """Who is here, as of now."""
        registry = self.registry

        def is_fresh(device: DeviceId) -> bool:
            return self._ended.get(device, -inf) < registry.as_of

        return Here(
            present=self.registry.plugged_at,
            conflicts=self.registry.conflicts_of_known,
            paused=self.pauses.before_attempts | self._behind_others(),
            busy=self._busy.keys() | self.looked_at,
            asking_rests=self.pauses.before_questions,
            running={device: word for device, word in registry.running.items() if is_fresh(device)},
            in_loader=frozenset(filter(is_fresh, registry.in_loader)),
        )

    @property
    def in_use(self) -> dict[Address, DeviceId]:
        """Where devices are spoken to."""
        return {address: device for device, address in (self._busy | self.looked_at).items()}

    def _behind_others(self) -> dict[DeviceId, Wait]:
        """What devices wait for at whose address another one is spoken to.

        It is the same unit, to which a reload gave another identity meanwhile; nobody but us keeps a TCP address apart.
        """
        in_use = self.in_use
        waits = {}
        for device in self.registry.plugged_at if in_use else ():
            address = self.registry.address(device)
            user = None if address is None else in_use.get(address)
            if user not in {None, device}:
                detail = f"its port is held by Firmwarden itself, which speaks to {user} there"
                waits[device] = Wait(kind=WaitKind.PORT_HELD, detail=detail)
        return waits

    def _count_back_off(self) -> None:
        """Add the time since the last planning to the jobs that spent it between two attempts, their device here.

        Only that, and the attempts themselves, is time of trying.  Whoever waited for a person, a slot or the flash's
        budget must not find the time used up at the first fault; nor whoever was suspended, so it goes by a clock that
        stands still then.
        """
        now = anyio.current_time()
        elapsed, self._planned_at = now - self._planned_at, now
        for job, wait in self.agenda.waits.items():
            if wait.kind is WaitKind.BACK_OFF and wait.until is not None:
                self._tried_s[job] = self._tried_s.get(job, 0.0) + elapsed

    # --- one attempt -----------------------------------------------------------------------------------

    async def _one(
        self, job: Job, address: Address, tried_s: float, orders: Orders | None, generation: int
    ) -> None:
        try:
            async with (
                self.hand_over.lent(self.owner(job.device_class)),
                anyio.create_task_group() as tasks,
            ):
                if not self._may_begin(job, generation):
                    return
                self._waits_logged.forget(job.device)
                tasks.start_soon(self._sample, job)
                try:
                    if job.state is JobState.UNKNOWN:
                        await self.worker.ask(job, address, orders)
                    else:
                        await self.worker.update(job, address, tried_s, orders)
                finally:
                    self._ended[job.device] = self.clock.boot()
                tasks.cancel_scope.cancel()
        except* PortHeld as group:
            self.pauses.port_held(job.device, str(group.exceptions[0]))
        except* MustWait as group:
            for reason in group.exceptions:
                if isinstance(reason, MustWait):
                    self.pauses.must_wait(job.device, reason, settles_s=self._settles_s(job.device_class))
        except* StoreError as group:
            # Nothing was begun.
            self.worker.trouble.failed(str(group.exceptions[0]))
            await anyio.sleep(STORE_AGAIN_S)
        except* Exception as group:
            # A defect of ours.  To die of it would break off every other transfer, again after each restart.
            log.exception(
                LogEvent.WORKER_CRASHED, device=job.device, job=job.id, detail=repr(group.exceptions)
            )
            await self._close_crashed(job)
            await anyio.sleep(STORE_AGAIN_S)
        finally:
            del self._busy[job.device]
            self._idle.set()
            self.poke()

    def _may_begin(self, job: Job, generation: int) -> bool:
        """Whether what was planned still holds: its port may have been waited for since, for half a minute."""
        return (
            generation == self._generation
            and job.device not in self.registry.conflicts_of_known
            and job.device_class not in self.timekeeper.inhibitors.waits()
        )

    async def _close_crashed(self, job: Job) -> None:
        """Close what a defect left open, as recovery does; where the store fails too it is left to the next start."""

        def work(ledger: Ledger) -> None:
            for attempt in ledger.running_attempts():
                if attempt.job == job.id:
                    close(ledger, attempt, "a defect in Firmwarden ended it", self.clock.wall())

        with suppress(StoreError):
            await self._store.run(work)

    async def _sample(self, job: Job) -> None:
        """Publish how far the attempt is, as long as it runs."""
        last = None
        while True:
            await anyio.sleep(PROGRESS_EVERY_S)
            run = self.worker.runs.get(job.device)
            if run is not None and run.driver.progress != last:
                last = run.driver.progress
                self.feed.publish(
                    "progress",
                    {
                        "device": job.device,
                        "job": job.id,
                        "attempt": run.journal.attempt.id,
                        "release": job.version,
                        "step": last.step.value,
                        "done": last.done,
                        "total": last.total,
                    },
                )

    def _concluded(self, conclusion: Conclusion) -> None:
        device = conclusion.job.device
        asked = conclusion.attempt.outcome is Outcome.UNKNOWN
        self.pauses.over(device)
        if conclusion.latches:
            self.plan_anew()  # others may be about to be given the same image, in a rollout that stops for it
        if conclusion.outcome is Outcome.UNKNOWN:
            device_class = conclusion.job.device_class
            self.pauses.unanswered(
                device,
                self.budgets(device_class),
                asked=asked,
                settles_s=self._settles_s(device_class),
            )
        else:
            self.pauses.answered(device)
        if self._on_conclusion is not None:
            no_news = asked and conclusion.outcome is Outcome.UNKNOWN
            hook = None if no_news else self._hooks.get(conclusion.job.device_class)
            self._on_conclusion(conclusion, hook)

    def _settles_s(self, device_class: ClassName) -> float:
        policy = self.planner.classes.get(device_class)
        return 0.0 if policy is None else policy.settles_s

    # --- what others ask ------------------------------------------------------------------------------

    @property
    def under_way(self) -> AbstractSet[DeviceId]:
        """Devices that may be on the way into their loader or back: those with an attempt, or just sent back by one."""
        return self._busy.keys() | self.looked_at | self.pauses.coming_back

    def budgets(self, device_class: ClassName) -> Budgets:
        """What transport trouble may cost a class; a reload may have dropped it while its job runs."""
        policy = self.planner.classes.get(device_class)
        return Budgets() if policy is None else policy.budgets

    def owner(self, device_class: ClassName) -> Owner | None:
        """Who else uses the ports of a class, and can be asked to leave them."""
        policy = self.planner.classes.get(device_class)
        return None if policy is None else policy.hand_over

    def _owner_by_name(self, key: str) -> Owner:
        return owner_of(key, filter(None, map(self.owner, self.planner.classes)))

    def look_at(self, device: DeviceId, address: Address) -> None:
        """Start nothing on a device until ``let_go``: somebody looks after it."""
        self.looked_at[device] = address

    def let_go(self, device: DeviceId) -> None:
        """Start on a device what may be started."""
        del self.looked_at[device]
        self.poke()

    def health_rule(self, device_class: ClassName) -> HealthRule | None:
        """What the units of a class have to show after an update."""
        policy = self.planner.classes.get(device_class)
        return None if policy is None else policy.health

    def releases_of(self, device_class: ClassName) -> list[Release]:
        """The accepted releases of a class."""
        return [release for release in self.releases or () if release.device_class == device_class]


def _keep_time(ledger: Ledger, now: float, watched_s: float, set_by_s: float) -> None:
    """Let what is stored with an instant age while the service watches, and follow a wall clock that was set."""
    if watched_s >= WATCH_EVERY_S:
        ledger.watch_wear(now, watched_s)
    if set_by_s:
        ledger.move_holds(set_by_s)
        ledger.move_soaks(set_by_s)

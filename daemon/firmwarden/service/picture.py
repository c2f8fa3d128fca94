"""What answers are made of: what the store says of all devices, and what only the running process knows beside that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from firmwarden.model import JobState, WaitKind
from firmwarden.service.desired import tag
from firmwarden.service.facts import has_outrun
from firmwarden.service.holding import concerning, in_words
from firmwarden.service.telling import hold_view, instant, instant_or_none, job_view, wear_view

if TYPE_CHECKING:
    from firmwarden.model import Device, Job, Latch, Wait, Wear
    from firmwarden.service.facts import Facts
    from firmwarden.service.rollout import Progress
    from firmwarden.service.views import DeviceView, JobView, PlanView, ProbationView, WearView
    from firmwarden.service.warden import Warden

_FOR_A_PERSON: Final = frozenset({WaitKind.FAILSAFE, WaitKind.IDENTITY, WaitKind.PASSED_OVER})


def for_a_person(kind: WaitKind, *, ends: bool) -> bool:
    """Whether a wait is for what only a person can do; ``ends``: it ends by itself."""
    return kind in _FOR_A_PERSON or (kind is WaitKind.WEAR and not ends)


class Picture:
    """All devices at one moment."""

    def __init__(self, warden: Warden, facts: Facts) -> None:
        """Take what is known: facts, and who knows the rest."""
        self._warden = warden
        self.facts = facts
        self._latched = {latch.image for latch in facts.latches}
        """By whomever."""
        self.open_jobs: list[Job] = [job for job in facts.jobs.values() if not job.state.final]

    def wait(self, job: Job | None) -> Wait | None:
        """What keeps a job waiting, by the latest planning."""
        return None if job is None else wait_of(self._warden, job)

    def waits_for_a_person(self, job: Job) -> bool:
        """Whether a job waits for what only a person can do, and no conflict tells of it."""
        wait = self.wait(job)
        return (
            wait is not None
            and for_a_person(wait.kind, ends=wait.until is not None)
            and job.device not in self._warden.registry.conflicts_of_known
        )

    def going_out(self, job: Job | None) -> Progress | None:
        """The rollout that keeps a job waiting."""
        wait = self.wait(job)
        if wait is None or job is None or wait.kind is not WaitKind.CANARY:
            return None
        asked = (job.device_class, job.image)
        return next(
            (
                each
                for each in self._warden.agenda.rollouts
                if (each.rollout.device_class, each.rollout.image) == asked
                and job.device not in each.admitted
            ),
            None,
        )

    def latches(self, device: Device) -> list[Latch]:
        """The latches that stop a device; not those on what it has left behind."""
        wanted = self._warden.agenda.desired.get(device.id)
        stopped = None if wanted is None else wanted.stopped
        might_be_given = [
            each
            for each in self._warden.releases_of(device.device_class)
            if each.image in self._latched
            and (each == stopped or each.downgrade or not has_outrun(device, tag(each)))
        ]
        return self.facts.latches_on(device, might_be_given)

    def is_given_up(self, device: Device) -> bool:
        """Whether the last job of a device failed and no latch says why nothing more is tried."""
        job = self.facts.jobs.get(device.id)
        return (
            job is not None
            and job.state is JobState.FAILED
            and job.version != device.running_version
            and not self.latches(device)
        )

    def device_view(self, device: Device, wear: Wear) -> DeviceView:
        """Tell a device."""
        registry = self._warden.registry
        wanted = self._warden.agenda.desired.get(device.id)
        job = self.facts.jobs.get(device.id)
        holds = concerning(self.facts.holds, device.id)
        release = None if wanted is None else wanted.release
        keeps = device.running_version if wanted is None or wanted.settled else None
        desired_version = release.version if release is not None else keeps
        return {
            "id": device.id,
            "label": device.label,
            "device_class": device.device_class,
            "identity": device.key,
            "port": device.port,
            "serial": device.serial,
            "present": device.id in registry.plugged_at,
            "conflict": registry.conflicts_of_known.get(device.id),
            "running_version": device.running_version,
            "running_image": device.running_image,
            "running_evidence": device.running_evidence,
            "complete": device.complete,
            "desired_version": desired_version,
            "desired_reason": "not decided yet" if wanted is None else wanted.reason,
            "stopped_version": None if wanted is None or wanted.stopped is None else wanted.stopped.version,
            "pinned": device.pinned,
            "floor": device.floor,
            "may_go_back_to": device.may_go_back_to,
            "held": in_words(holds),
            "holds": [hold_view(hold) for hold in holds],
            "good_version": None if device.good is None else device.good.version,
            "probation": self.probation_view(device),
            "port_lent": self._warden.hand_over.stopped_for(self._warden.owner(device.device_class)) or None,
            "latched": bool(self.latches(device)),
            "job": None if job is None else told_job(self._warden, job),
            "wear": told_wear(self._warden, device, wear),
            "first_seen": instant(device.first_seen),
            "last_seen": instant(device.last_seen),
        }

    def probation_view(self, device: Device) -> ProbationView | None:
        """Tell how a device that was updated shows that it keeps well, where it has yet to."""
        probation = self.facts.probations.get(device.id)
        rule = self._warden.health_rule(device.device_class)
        if probation is None or rule is None:
            return None
        standing = self._warden.aftercare.standing(probation, rule)
        return {
            "version": probation.version,
            "began_at": instant(probation.began_at),
            "soaked_s": round(standing.course.soaked_s, 3),
            "soak_s": rule.soak_s,
            "until": instant_or_none(standing.ends_at),
            "detail": standing.detail,
        }

    def plan_view(self, device: Device) -> PlanView:
        """Tell what would happen to a device now, and why not."""
        wanted = self._warden.agenda.desired.get(device.id)
        job = self.facts.jobs.get(device.id)
        wait = self.wait(job)
        decision: Literal["update", "nothing", "wait", "stopped", "running"] = "nothing"
        version = None
        if job is not None and not job.state.final:
            version = job.version
            if job.state is JobState.RUNNING:
                decision, reason = "running", f"job {job.id} is under way"
            elif wait is not None:
                decision, reason = "wait", wait.detail
            else:
                decision, reason = "update", f"job {job.id} starts next"
        elif wanted is None:
            reason = "not decided yet"
        elif wanted.release is not None:
            decision, version = "stopped", wanted.release.version
            reason = wanted.reason + ("" if job is None else f"; job {job.id} ended {job.state.value}")
        else:
            decision = "stopped" if self.latches(device) else "nothing"
            reason = wanted.reason
        return {
            "device": device.id,
            "label": device.label,
            "decision": decision,
            "version": version,
            "reason": reason,
        }


def wait_of(warden: Warden, job: Job) -> Wait | None:
    """What keeps a job waiting, by the latest planning."""
    return None if job.state.final else warden.agenda.waits.get(job.id)


def told_job(warden: Warden, job: Job) -> JobView:
    """Tell a job, with what it waits for or how far it is."""
    run = warden.worker.runs.get(job.device) if job.state is JobState.RUNNING else None
    return job_view(
        job,
        budgets=warden.budgets(job.device_class),
        wait=wait_of(warden, job),
        progress=None if run is None else run.driver.progress,
    )


def told_wear(warden: Warden, device: Device, wear: Wear) -> WearView:
    """Tell the wear of a device beside what its class allows."""
    return wear_view(wear, warden.budgets(device.device_class))

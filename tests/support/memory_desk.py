"""A desk that keeps everything in memory: a small fleet whose state the actions really change."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal

import anyio

from firmwarden.errors import BadManifest, NotFound, Refused, StoreError, Unavailable
from firmwarden.images.bundle import unpack
from firmwarden.images.cas import hash_of
from firmwarden.images.manifest import parse_manifest
from firmwarden.service.feed import Feed
from support.figures import some_figures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.service.figures import FiguresView
    from firmwarden.service.views import (
        ActionView,
        AttemptView,
        CauseView,
        DeviceView,
        DeviceWearView,
        FeedItem,
        HealthView,
        HistoryView,
        JobView,
        LatchView,
        PlanView,
        PowerCutView,
        ReadyView,
        ReleaseView,
        RolloutMemberView,
        RolloutView,
        StatusView,
        WaitingView,
        WhyView,
    )

NOW = "2026-03-01T12:00:00Z"
EARLIER = "2026-03-01T11:57:00Z"
SEVERAL_DAYS_AGO = "2026-02-25T09:00:00Z"
IMAGE_A = "aa" * 32
IMAGE_B = "bb" * 32

WRONG_DEVICE: CauseView = {
    "code": "wrong-device-id",
    "detail": "abort cause 2 in answer to chunk 0",
    "meaning": "the device says that the file is for another device",
    "raw": "4a0502",
    "offset": 0,
    "chunk": 0,
    "sequence": 3,
}
LINK_LOST: CauseView = {
    "code": "link-lost",
    "detail": "/dev/ttyACM3 vanished",
    "meaning": "the port or the connection went away in the middle",
    "raw": "",
    "offset": 65_536,
    "chunk": 128,
    "sequence": 12,
}
EXHAUSTED: CauseView = {**LINK_LOST, "code": "transport-exhausted", "meaning": "the budget is used up"}


def a_job(**changes: object) -> JobView:
    job: JobView = {
        "id": 7,
        "device": "panel-1",
        "device_class": "front-panel",
        "version": "2.4.0",
        "image": IMAGE_B,
        "state": "queued",
        "created_at": EARLIER,
        "updated_at": EARLIER,
        "attempts": 0,
        "attempts_budget": 5,
        "wait": None,
        "progress": None,
        "cause": None,
    }
    job.update(changes)  # type: ignore[typeddict-item]
    return job


def an_attempt(**changes: object) -> AttemptView:
    attempt: AttemptView = {
        "id": 21,
        "job": 7,
        "device": "panel-1",
        "number": 1,
        "version": "2.4.0",
        "image": IMAGE_B,
        "started_at": EARLIER,
        "ended_at": "2026-03-01T11:57:12Z",
        "phase": "writing",
        "outcome": "failed",
        "cause": LINK_LOST,
        "evidence": "",
        "erase_starts": 1,
        "stats": {"commands": 130, "resends": 3, "timeouts": 3, "damaged": 0, "strays": 1},
    }
    attempt.update(changes)  # type: ignore[typeddict-item]
    return attempt


def a_rollout(**changes: object) -> RolloutView:
    rollout: RolloutView = {
        "device_class": "front-panel",
        "version": "2.4.0",
        "image": IMAGE_B,
        "state": "canary",
        "standing": "soaks on 2 canaries",
        "until": "2026-03-01T12:20:00Z",
        "next": "",
        "wave": 0,
        "waves": 2,
        "places": 2,
        "devices": 24,
        "tried": 2,
        "well": 2,
        "failed": 0,
        "began_at": EARLIER,
        "wave_at": EARLIER,
        "changed_by": "",
        "reason": "",
    }
    rollout.update(changes)  # type: ignore[typeddict-item]
    return rollout


def a_member(**changes: object) -> RolloutMemberView:
    member: RolloutMemberView = {
        "device": "panel-1",
        "label": "north wall",
        "version": "2.4.0",
        "stage": "good",
        "wave": None,
        "present": True,
    }
    member.update(changes)  # type: ignore[typeddict-item]
    return member


def a_device(**changes: object) -> DeviceView:
    device: DeviceView = {
        "id": "panel-1",
        "label": "",
        "device_class": "front-panel",
        "identity": "port:1-1.4:0",
        "port": "/dev/serial/by-id/usb-Acme_Panel_1-if00",
        "serial": "",
        "present": True,
        "conflict": None,
        "running_version": "2.3.1",
        "running_image": IMAGE_A,
        "running_evidence": "the device acknowledged its end",
        "complete": True,
        "desired_version": "2.4.0",
        "desired_reason": "it is the newest release of its class",
        "stopped_version": None,
        "pinned": None,
        "floor": None,
        "may_go_back_to": None,
        "held": None,
        "holds": [],
        "good_version": "2.3.1",
        "probation": None,
        "port_lent": None,
        "latched": False,
        "job": None,
        "wear": {"today": 1, "today_budget": 10, "life": 12, "life_budget": 1000},
        "first_seen": SEVERAL_DAYS_AGO,
        "last_seen": NOW,
    }
    device.update(changes)  # type: ignore[typeddict-item]
    return device


class MemoryDesk:
    """Implements ``firmwarden.control.desk.Desk``."""

    def __init__(self, *devices: DeviceView) -> None:
        self.fleet = {device["id"]: device for device in devices or (a_device(),)}
        self.shelf: list[ReleaseView] = [
            {
                "manifest": "front-panel-2.4.0.toml",
                "state": "accepted",
                "device_class": "front-panel",
                "version": "2.4.0",
                "sequence": None,
                "image": IMAGE_B,
                "size": 131_072,
                "signed_by": "vendor-2026",
                "reason": None,
                "latched": False,
            },
            {
                "manifest": "front-panel-2.5.0.toml",
                "state": "refused",
                "device_class": "front-panel",
                "version": "2.5.0",
                "sequence": None,
                "image": None,
                "size": None,
                "signed_by": None,
                "reason": "the image has 1000 bytes, the manifest says 131072: is it still being copied?",
                "latched": False,
            },
        ]
        self.log: list[JobView] = []
        self.tried: list[AttemptView] = []
        self.actions: list[ActionView] = []
        self.power_cuts: list[PowerCutView] = []
        self.doubted = False
        self.latched: list[LatchView] = []
        self.held: str | None = None
        self.unsigned_classes: list[str] = []
        self.going_out: list[RolloutView] = []
        self.in_it: list[RolloutMemberView] = []
        self.problems: list[str] = []
        self.store_problem = ""
        self.numbers = some_figures()
        self.defect = False
        self.scanned = True
        self.readers = 0
        """Of the feed, now."""
        self.whys = 0
        """Answered so far."""
        self.ring = Feed()

    # --- questions ---

    async def status(self) -> StatusView:
        await anyio.lowlevel.checkpoint()
        if self.store_problem:
            raise StoreError(self.store_problem)
        if self.defect:
            raise ZeroDivisionError
        jobs = [job for device in self.fleet.values() if (job := device["job"])]
        return {
            "version": "0.1.0",
            "started_at": SEVERAL_DAYS_AGO,
            "state": "ready",
            "devices": len(self.fleet),
            "present": sum(device["present"] for device in self.fleet.values()),
            "conflicts": [
                {"ports": [device["port"]], "detail": device["conflict"]}
                for device in self.fleet.values()
                if device["conflict"]
            ],
            "running": sum(job["state"] == "running" for job in jobs),
            "waiting": sum(job["state"] == "queued" for job in jobs),
            "waits": [
                {"kind": kind, "jobs": count}
                for kind, count in Counter(job["wait"]["kind"] for job in jobs if job["wait"]).items()
            ],
            "unknown": sum(job["state"] == "unknown" for job in jobs),
            "latches": len(self.latched),
            "failed": sum(job["state"] == "failed" for job in jobs),
            "on_probation": sum(device["probation"] is not None for device in self.fleet.values()),
            "waiting_for_you": sum(
                job["wait"] is not None and job["wait"]["kind"] == "failsafe" for job in jobs
            ),
            "held": self.held,
            "holds": [],
            "releases": sum(each["state"] == "accepted" for each in self.shelf),
            "refused_releases": sum(each["state"] == "refused" for each in self.shelf),
            "unsigned_classes": self.unsigned_classes,
            "rollouts": self.going_out,
            "problems": self.problems,
            "last_event": self.ring.last_id,
        }

    async def health(self) -> HealthView:
        await anyio.lowlevel.checkpoint()
        if self.store_problem:
            raise StoreError(self.store_problem)
        return {"state": "alive", "store_s": 0.001}

    async def ready(self) -> ReadyView:
        await anyio.lowlevel.checkpoint()
        if not self.scanned:
            raise Unavailable("the first scans are not done yet")
        return {"state": "ready"}

    async def devices(self) -> list[DeviceView]:
        await anyio.lowlevel.checkpoint()
        return list(self.fleet.values())

    async def releases(self) -> list[ReleaseView]:
        await anyio.lowlevel.checkpoint()
        return self.shelf

    async def rollouts(self) -> list[RolloutView]:
        await anyio.lowlevel.checkpoint()
        return self.going_out

    async def rollout(self, device_class: str) -> list[RolloutMemberView]:
        await anyio.lowlevel.checkpoint()
        self._known_class(device_class)
        return self.in_it

    async def jobs(self, limit: int) -> list[JobView]:
        await anyio.lowlevel.checkpoint()
        return self.log[:limit]

    async def attempts(self, device: str | None, limit: int) -> list[AttemptView]:
        await anyio.lowlevel.checkpoint()
        wanted = self._device(device)["id"] if device is not None else None
        return [each for each in self.tried if wanted in (None, each["device"])][:limit]

    async def latches(self) -> list[LatchView]:
        await anyio.lowlevel.checkpoint()
        return self.latched

    async def waits(self) -> list[WaitingView]:
        await anyio.lowlevel.checkpoint()
        return [
            {
                "job": job["id"],
                "device": device["id"],
                "label": device["label"],
                "device_class": device["device_class"],
                "version": job["version"],
                "wait": wait,
            }
            for device in self.fleet.values()
            if (job := device["job"]) is not None and (wait := job["wait"]) is not None
        ]

    async def wear(self) -> list[DeviceWearView]:
        await anyio.lowlevel.checkpoint()
        return [
            {
                "device": device["id"],
                "label": device["label"],
                "device_class": device["device_class"],
                "wear": device["wear"],
            }
            for device in self.fleet.values()
        ]

    async def history(self, device: str | None, limit: int) -> HistoryView:
        await anyio.lowlevel.checkpoint()
        wanted = self._device(device)["id"] if device is not None else None
        return {
            "attempts": [each for each in self.tried if wanted in (None, each["device"])][:limit],
            "actions": [each for each in self.actions if wanted in (None, each["target"])][:limit],
        }

    async def why(self, device: str) -> WhyView:
        await anyio.lowlevel.checkpoint()
        found = self._device(device)
        self.whys += 1
        return {
            "device": found,
            "should_run": f"{found['desired_version']}: {found['desired_reason']}.",
            "runs": f"{found['running_version']}: {found['running_evidence']}.",
            "latches": [latch for latch in self.latched if latch["device"] == found["id"]],
            "attempts": [each for each in self.tried if each["device"] == found["id"]],
            "next": "Nothing, until the latch is cleared." if found["latched"] else "It is updated now.",
            "power_cuts": self.power_cuts,
            "doubted": self.doubted,
            "commands": [f"firmwarden clear {found['id']}"] if found["latched"] else [],
        }

    async def plan(self) -> list[PlanView]:
        await anyio.lowlevel.checkpoint()
        return [
            {
                "device": device["id"],
                "label": device["label"],
                "decision": "stopped" if device["latched"] else "update",
                "version": device["desired_version"],
                "reason": device["desired_reason"],
            }
            for device in self.fleet.values()
        ]

    async def figures(self) -> FiguresView:
        await anyio.lowlevel.checkpoint()
        if self.store_problem:
            raise StoreError(self.store_problem)
        return self.numbers

    # --- wishes ---

    async def retry(self, device: str, *, who: str) -> str:
        found = self._device(device)
        if found["latched"]:
            raise Refused(
                f"{found['id']} is stopped by its own verdict. Clear it first: firmwarden clear {found['id']}"
            )
        if found["job"] is not None and found["job"]["state"] == "running":
            raise Refused(f"{found['id']} is being updated right now (job {found['job']['id']})")
        await self._act(who, "retry", found["id"])
        found["job"] = a_job(id=8, device=found["id"])
        return f"Job 8 for {found['id']} is tried now."

    async def clear(self, target: str, *, who: str) -> str:
        lifted = [latch for latch in self.latched if target in (latch["device"], latch["image"])]
        if not lifted:
            raise NotFound(f"No latch concerns {target!r}.")
        await self._act(who, "clear", target)
        self.latched = [latch for latch in self.latched if latch not in lifted]
        return f"{len(lifted)} latch lifted."

    async def cancel(self, job: int, *, who: str) -> str:
        for device in self.fleet.values():
            if device["job"] and device["job"]["id"] == job:
                if device["job"]["state"] == "running":
                    raise Refused(f"Job {job} cannot be cancelled: the erase has begun.")
                await self._act(who, "cancel", str(job))
                device["job"]["state"] = "cancelled"
                return f"Job {job} is cancelled."
        raise NotFound(f"There is no job {job}.")

    async def hold(
        self,
        device: str | None,
        *,
        reason: str,
        for_s: float | None = None,
        owner: str | None = None,
        who: str,
    ) -> str:
        target = "all" if device is None else self._device(device)["id"]
        for_time = "" if for_s is None else f" for {for_s:g} s"
        await self._act(who, "hold", target, reason + for_time + (f" by {owner}" if owner else ""))
        if device is None:
            self.held = reason
        else:
            self.fleet[target]["held"] = reason
        return f"Nothing more is started on {target}."

    async def unhold(self, device: str | None, *, owner: str | None = None, who: str) -> str:
        target = "all" if device is None else self._device(device)["id"]
        await self._act(who, "unhold", target, owner or "")
        if device is None:
            self.held = None
        else:
            self.fleet[target]["held"] = None
        return f"Updates of {target} go on."

    async def pin(self, device: str, version: str | None, *, may_go_back: bool = False, who: str) -> str:
        found = self._device(device)
        await self._act(who, "pin", found["id"], f"{version}{' or older' if may_go_back else ''}")
        found["pinned"] = version
        return f"{found['id']} is to run {version or 'the newest release'}."

    async def adopt(self, device: str, *, old: str | None, running: str | None, who: str) -> str:
        found = self._device(device)
        await self._act(who, "adopt", found["id"], f"old={old} running={running}")
        if old is not None:
            gone = self._device(old)
            found["first_seen"] = gone["first_seen"]
            del self.fleet[gone["id"]]
        else:
            found["running_version"] = running
        return f"{found['id']} is recorded so."

    async def forget(self, device: str, *, who: str) -> str:
        found = self._device(device)
        await self._act(who, "forget", found["id"])
        del self.fleet[found["id"]]
        return f"{found['id']} is forgotten."

    async def resume(self, device_class: str, *, who: str) -> str:
        self._known_class(device_class)
        stopped = [each for each in self.going_out if each["state"] == "stopped"]
        if not stopped:
            raise Refused(f"no rollout of {device_class} has stopped")
        await self._act(who, "resume", device_class)
        for each in stopped:
            each["state"] = "canary"
        return f"the rollout of {device_class} goes on."

    async def recall(self, device_class: str, *, reason: str, who: str) -> str:
        self._known_class(device_class)
        await self._act(who, "recall", device_class, reason)
        for each in self.going_out:
            each["state"] = "recalled"
        return f"the newest release of {device_class} is called back."

    def _known_class(self, name: str) -> None:
        if name not in {device["device_class"] for device in self.fleet.values()}:
            raise NotFound(f"there is no class {name!r}")

    async def upload(
        self, manifest: bytes, image: bytes, signature: bytes | None, *, name: str, who: str
    ) -> ReleaseView:
        said = parse_manifest(manifest, name)
        if hash_of(image) != said.sha256:
            raise BadManifest(f"{said.image} has another sha256")
        if any(each["manifest"] == name for each in self.shelf):
            raise Refused(f"{name} is there already, with other content.")
        await self._act(who, "upload", name)
        self.shelf.append(
            {
                "manifest": name,
                "state": "accepted",
                "device_class": said.device,
                "version": said.version,
                "sequence": said.sequence,
                "image": said.sha256,
                "size": said.size,
                "signed_by": None if signature is None else "vendor",
                "reason": None,
                "latched": False,
            }
        )
        return self.shelf[-1]

    async def upload_bundle(self, content: bytes, *, name: str, who: str) -> list[ReleaseView]:
        return [
            await self.upload(each.content, each.image, each.signature, name=each.full_name, who=who)
            for each in unpack(content, name)
        ]

    # --- the feed ---

    def publish(self, kind: Literal["log", "progress"], **data: object) -> None:
        self.ring.publish(kind, data)

    async def feed(self, after: int | None, device: str | None) -> AsyncGenerator[FeedItem, None]:
        await anyio.lowlevel.checkpoint()
        return self._read(after, None if device is None else self._device(device)["id"])

    async def _read(self, after: int | None, device: str | None) -> AsyncGenerator[FeedItem, None]:
        self.readers += 1
        try:
            async with aclosing(self.ring.read(after, device)) as items:
                async for item in items:
                    yield item
        finally:
            self.readers -= 1

    def recent(self) -> list[FeedItem]:
        return self.ring.recent()

    def _device(self, name: str) -> DeviceView:
        found = [
            device
            for device in self.fleet.values()
            if name == device["label"] or (name and device["id"].startswith(name))
        ]
        exact = [device for device in found if device["id"] == name]
        if len(exact or found) > 1:
            raise Refused(f"{name!r} may be {' or '.join(device['id'] for device in found)}.")
        if not found:
            raise NotFound(f"No device is called {name!r}. `firmwarden devices` shows them.")
        return (exact or found)[0]

    async def _act(self, who: str, what: str, target: str, detail: str = "") -> None:
        await anyio.lowlevel.checkpoint()
        self.actions.insert(0, {"at": NOW, "who": who, "what": what, "target": target, "detail": detail})

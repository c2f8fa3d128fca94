"""A rack as one meets it: twenty-four boards of four products, most of them well, some under way, some in trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from support.memory_desk import (
    IMAGE_A,
    IMAGE_B,
    LINK_LOST,
    WRONG_DEVICE,
    MemoryDesk,
    a_device,
    a_job,
    an_attempt,
)

if TYPE_CHECKING:
    from firmwarden.service.views import CauseView, DeviceView, ReleaseView, WhyView

HUB: Final = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1"
DAY: Final = 86_400.0
STOPPED: Final = "panel-0003"
"""The device that refused its image."""

_WRITE_ERROR: CauseView = {
    "code": "write-error",
    "detail": "abort cause 5 in answer to chunk 61",
    "meaning": "the device could not program its flash",
    "raw": "4d0305",
    "offset": 31_232,
    "chunk": 61,
    "sequence": 30,
}


def ago(seconds: float) -> str:
    """An instant, as views have it."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PageRack(MemoryDesk):
    """The desk of the rack."""

    def __init__(self) -> None:
        super().__init__(*_devices())
        self.problems = ["the firmware directory has 2 % of its space left"]
        self.shelf = _releases()
        self.tried = [
            an_attempt(
                id=212,
                number=2,
                job=61,
                device=STOPPED,
                started_at=ago(1_500),
                ended_at=ago(1_492),
                cause=_WRITE_ERROR,
                stats={"commands": 67, "resends": 0, "timeouts": 0, "damaged": 0, "strays": 0},
            ),
            an_attempt(
                id=211,
                number=1,
                job=61,
                device=STOPPED,
                started_at=ago(1_560),
                ended_at=ago(1_530),
                cause={**LINK_LOST, "detail": f"{HUB}.3:1.0 vanished"},
            ),
            an_attempt(
                id=118,
                number=1,
                job=32,
                device=STOPPED,
                version="2.3.1",
                image=IMAGE_A,
                started_at=ago(23 * DAY),
                ended_at=ago(23 * DAY - 14),
                phase="ending",
                outcome="succeeded",
                cause=None,
                evidence="it tells version 2.3.1",
                stats={"commands": 262, "resends": 0, "timeouts": 0, "damaged": 0, "strays": 0},
            ),
        ]
        self.latched = [
            {
                "id": 4,
                "scope": "device",
                "device": STOPPED,
                "image": None,
                "cause": _WRITE_ERROR,
                "set_at": ago(1_492),
                "clear": f"firmwarden clear {STOPPED}",
            }
        ]
        self.actions = [
            {
                "at": ago(1_520),
                "who": "meera",
                "what": "retry",
                "target": STOPPED,
                "detail": "",
            },
            {
                "at": ago(23 * DAY),
                "who": "meera",
                "what": "adopt",
                "target": STOPPED,
                "detail": "running 2.2.0",
            },
        ]
        self.power_cuts = [
            {
                "step": "probe",
                "does": "ask the loader what it is",
                "if_interrupted": "the old image runs",
            },
            {
                "step": "write",
                "does": "erase and write the image",
                "if_interrupted": "the loader stays, and the update begins anew",
            },
            {
                "step": "leave",
                "does": "start the new image",
                "if_interrupted": "the new image runs",
            },
        ]
        self._log()

    async def why(self, device: str) -> WhyView:
        why = await super().why(device)
        if why["device"]["id"] == STOPPED:
            why["runs"] = (
                "No complete image: an erase was begun and no update was finished since; before that 2.3.1 "
                "(it told version 2.3.1)."
            )
            why["next"] = "Nothing, until a person lifts the latch: it keeps every image from this device."
        return why

    def _log(self) -> None:
        for seconds, level, event, keys in (
            (1_562, "info", "release-accepted", {"manifest": "front-panel-2.4.0.toml", "release": "2.4.0"}),
            (
                1_561,
                "info",
                "job-created",
                {"device": STOPPED, "job": 61, "detail": "2.4.0 is the newest release"},
            ),
            (1_560, "info", "attempt-started", {"device": STOPPED, "job": 61, "attempt": 211, "number": 1}),
            (
                1_530,
                "warning",
                "attempt-failed",
                {
                    "device": STOPPED,
                    "job": 61,
                    "cause": "link-lost",
                    "detail": f"{HUB}.3:1.0 vanished",
                    "next": "retry",
                },
            ),
            (1_529, "info", "device-gone", {"device": STOPPED, "port": f"{HUB}.3:1.0"}),
            (1_522, "info", "device-appeared", {"device": STOPPED, "port": f"{HUB}.3:1.0"}),
            (1_520, "info", "action-taken", {"who": "meera", "action": "retry", "target": STOPPED}),
            (1_500, "info", "attempt-started", {"device": STOPPED, "job": 61, "attempt": 212, "number": 2}),
            (
                1_492,
                "error",
                "latch-set",
                {
                    "device": STOPPED,
                    "job": 61,
                    "scope": "device",
                    "cause": "write-error",
                    "detail": _WRITE_ERROR["detail"],
                },
            ),
            (
                700,
                "warning",
                "release-refused",
                {
                    "manifest": "io-module-3.2.0.toml",
                    "reason": "the image is not complete: is it still being copied?",
                },
            ),
            (
                95,
                "info",
                "attempt-started",
                {"device": "module-0002", "job": 70, "attempt": 230, "number": 1},
            ),
            (
                21,
                "info",
                "update-succeeded",
                {"device": "panel-0001", "job": 59, "evidence": "it tells version 2.4.0"},
            ),
        ):
            self.ring.publish("log", {"event": event, "level": level, "timestamp": ago(seconds), **keys})


def _devices() -> list[DeviceView]:
    panels = [_panel(number) for number in range(1, 9)]
    modules = [_module(number) for number in range(1, 11)]
    drives = [
        a_device(
            id=f"drive-000{number}",
            label=f"drive {number}",
            device_class="motor-drive",
            identity=f"serial:MD2-{number:04}",
            serial=f"MD2-{number:04}",
            port=f"/dev/serial/by-id/usb-Acme_Drive_MD2-{number:04}-if02",
            running_version="1.9.4",
            desired_version="1.9.4",
            present=number < 4,
            last_seen=ago(0 if number < 4 else 5 * 3600),
        )
        for number in range(1, 5)
    ]
    unprotected = {
        "kind": "failsafe",
        "detail": "a power cut in the update could leave no loader, and nothing declared prevents it",
        "until": None,
    }
    meters = [
        a_device(
            id=f"meter-000{number}",
            device_class="meter",
            identity=f"serial:{number}F0041",
            port=f"usb-1-1.4.{number}",
            running_version=runs,
            desired_version="5.1.0",
            job=a_job(id=80, device="meter-0001", version="5.1.0", wait=unprotected) if number == 1 else None,
        )
        for number, runs in ((1, "5.0.2"), (2, "5.1.0"))
    ]
    return [*drives, *panels, *modules, *meters]


def _panel(number: int) -> DeviceView:
    name = f"panel-000{number}"
    panel: dict[str, object] = {
        "id": name,
        "label": f"panel {'north' if number < 5 else 'south'} {number}",
        "identity": f"port:usb-0000:00:14.0-1.{number}-if0",
        "port": f"{HUB}.{number}:1.0",
        "running_version": "2.4.0",
        "running_image": IMAGE_B,
        "running_evidence": "it tells version 2.4.0",
        "wear": {"today": 1, "today_budget": 10, "life": 30 + 7 * number, "life_budget": 1000},
        "first_seen": ago(40 * DAY),
        "last_seen": ago(0),
    }
    if name == STOPPED:
        panel.update(
            running_version="2.3.1",
            running_image=IMAGE_A,
            running_evidence="it told version 2.3.1",
            complete=False,
            latched=True,
            job=a_job(id=61, device=name, state="failed", attempts=2, cause=_WRITE_ERROR),
        )
    if number == 8:
        panel["held"] = "meera: on loan to the fair"
    if number in {4, 5}:
        panel.update(
            running_version="2.3.1",
            running_image=IMAGE_A,
            running_evidence="it told version 2.3.1",
            job=a_job(
                id=60 + number,
                device=name,
                state="running",
                attempts=1,
                progress={"step": "write", "done": 131_072 * number // 7, "total": 131_072},
            ),
        )
    if number == 7:
        panel.update(
            running_version="2.3.1",
            job=a_job(
                id=67,
                device=name,
                attempts=2,
                wait={"kind": "back-off", "detail": "after link-lost", "until": ago(-48)},
                cause=LINK_LOST,
            ),
        )
    return a_device(**panel)


def _module(number: int) -> DeviceView:
    name = f"module-{number:04}"
    module: dict[str, object] = {
        "id": name,
        "device_class": "io-module",
        "identity": f"port:tcp-10.0.0.7:{4000 + number}",
        "port": f"tcp-10.0.0.7:{4000 + number}",
        "running_version": "3.1.0",
        "desired_version": "3.1.0",
        "last_seen": ago(0),
    }
    if number == 2:
        job = a_job(id=70, device=name, version="3.1.0", state="running", attempts=1)
        module.update(
            running_version="3.0.2", job={**job, "progress": {"step": "verify", "done": 0, "total": 0}}
        )
    if number == 6:
        module.update(running_version=None, desired_version="3.1.0", held="meera: customer demo until Friday")
    if number == 9:
        cause = {**WRONG_DEVICE, "detail": "abort cause 2 in answer to chunk 0"}
        job = a_job(id=71, device=name, version="3.1.0", state="failed", attempts=1, cause=cause)
        module.update(latched=True, running_version="3.0.2", job=job)
    return a_device(**module)


def _releases() -> list[ReleaseView]:
    def release(
        name: str, version: str, size: int | None, image: str | None, reason: str | None = None
    ) -> ReleaseView:
        return {
            "manifest": f"{name}-{version}.toml",
            "state": "refused" if reason else "accepted",
            "device_class": name,
            "version": version,
            "sequence": None,
            "image": image and image * 32,
            "size": size,
            "signed_by": None,
            "reason": reason,
            "latched": False,
        }

    copied = "the image has 12288 bytes, the manifest says 49152: is it still being copied?"
    another = "the image is not the one that the manifest was made for: its sha256 is another"
    return [
        release("front-panel", "2.3.1", 130_112, "aa"),
        release("front-panel", "2.4.0", 131_072, "bb"),
        release("io-module", "3.1.0", 48_640, "3c"),
        release("io-module", "3.2.0", None, None, copied),
        release("meter", "5.1.0", 212_992, "5e"),
        release("motor-drive", "1.9.4", 90_112, "19"),
        release("motor-drive", "2.0.0-rc.1", None, None, another),
    ]

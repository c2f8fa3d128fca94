"""Units and what they are known to run.

A unit's id is made once, from its class and the key it was first seen with, and stays when the key changes: it
is what people type and what history, wear and latches hang on.  A row is never deleted, but when it turned out
to be the same unit as another (``adopt``).
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from typing import Final

from firmwarden.errors import Refused
from firmwarden.model import ClassName, Device, DeviceId, ImageHash, JobState
from firmwarden.store.probations import ProbationEnd, Probations
from firmwarden.store.rows import device_of

_ID_LENGTH: Final = 6
"""30 bits: two of a thousand units would share an id in one fleet of two thousand; the later one's is then longer."""


class Devices(Probations):
    """The part of the ledger about devices."""

    def devices(self) -> list[Device]:
        """List every device that was not forgotten, by class and id."""
        return [
            device_of(row)
            for row in self._all("SELECT * FROM devices WHERE NOT forgotten ORDER BY device_class, id")
        ]

    def device(self, id: DeviceId) -> Device | None:  # noqa: A002  the word of the model
        """Look a device up; None when there is none or it was forgotten."""
        row = self._first("SELECT * FROM devices WHERE id = ? AND NOT forgotten", id)
        return None if row is None else device_of(row)

    def enroll(
        self, device_class: ClassName, key: str, *, label: str, port: str, serial: str, now: float
    ) -> Device:
        """Record a unit seen for the first time, or take a forgotten one back with its id, wear and latches."""
        known = self._first("SELECT * FROM devices WHERE device_class = ? AND key = ?", device_class, key)
        if known is not None and not known["forgotten"]:
            raise ValueError(f"{device_class} {key} is enrolled already, as {known['id']}")
        if known is not None:
            id_ = DeviceId(known["id"])
            self._do("UPDATE devices SET forgotten = 0 WHERE id = ?", id_)
        else:
            id_ = self._new_id(device_class, key)
            self._do(
                "INSERT INTO devices (id, device_class, key, label, port, serial, first_seen, last_seen) "
                "VALUES (?, ?, ?, '', '', '', ?, ?)",
                id_, device_class, key, now, now,
            )  # fmt: skip
        return self.seen(id_, port=port, serial=serial, label=label, now=now)

    def seen(self, id: DeviceId, *, port: str, serial: str, label: str, now: float) -> Device:  # noqa: A002
        """Record where a unit is now."""
        return self._change(id, port=port, serial=serial, label=label, last_seen=now)

    def displaced(self, id: DeviceId, port: str) -> None:  # noqa: A002
        """Record that a unit is no longer at ``port``, if it was last seen there: another one is."""
        self._do("UPDATE devices SET port = '' WHERE id = ? AND port = ?", id, port)

    def take_place(self, id: DeviceId, port: str) -> Device:  # noqa: A002
        """Record a person's word that a unit is at ``port``, and no other that was last seen there.

        Raises:
            Refused: it goes by its port, and another unit goes by that one.
        """
        device = self._present(id)
        key = device.key
        if key.startswith("port:"):
            key = f"port:{port}"
            other = self._first(
                "SELECT id FROM devices WHERE device_class = ? AND key = ? AND id <> ?",
                device.device_class, key, id,
            )  # fmt: skip
            if other is not None:
                raise Refused(
                    f"{other['id']} goes by {port}, or did until it was forgotten, and {id} is another unit"
                )
        self._do("UPDATE devices SET port = '' WHERE port = ?", port)
        return self._change(id, key=key, port=port)

    def adopt(self, new: DeviceId, old: DeviceId) -> Device:
        """Declare that two records are one unit: ``old`` goes on, where and as what ``new`` was seen.

        Jobs, attempts, wear, latches and history of both are then ``old``'s.  What ``new`` is known to run counts,
        where anything is known: it was found out later.

        Raises:
            Refused: they cannot be one unit, or one of them is being written to.
        """
        if new == old:
            raise Refused(f"{new} cannot adopt itself")
        replacement, device = self._present(new), self._present(old)
        if replacement.device_class != device.device_class:
            raise Refused(
                f"{new} is a {replacement.device_class}, {old} a {device.device_class}: they are not one unit"
            )
        for id_ in (new, old):
            self._refuse_while_running(id_)
        knows = replacement.running_version is not None or replacement.complete is not None
        running = replacement if knows else device
        self.hand_on_probation(new, old, counts=knows)
        if replacement.good is not None and (knows or device.good is None):
            self.keeps_well(old, replacement.good)
        self._absorb(new, old, device.device_class)
        return self._change(
            old,
            key=replacement.key,
            label=replacement.label,
            port=replacement.port,
            serial=replacement.serial,
            running_version=running.running_version,
            running_sequence=running.running_sequence,
            running_image=running.running_image,
            running_evidence=running.running_evidence,
            complete=running.complete,
            entered=replacement.entered or device.entered,
            pinned=device.pinned or replacement.pinned,
            floor=max(
                (floor for floor in (device.floor, replacement.floor) if floor is not None), default=None
            ),
            may_go_back_to=(device if device.pinned else replacement).may_go_back_to,
            first_seen=min(device.first_seen, replacement.first_seen),
            last_seen=replacement.last_seen,
        )

    def set_running(
        self,
        id: DeviceId,  # noqa: A002
        *,
        version: str | None,
        sequence: int | None,
        image: ImageHash | None,
        evidence: str,
        now: float,
    ) -> Device:
        """Record what a unit runs and how we know; it then holds a complete image, and is out of its loader."""
        return self._change(
            id,
            running_version=version,
            running_sequence=sequence,
            running_image=image,
            running_evidence=evidence,
            complete=True,
            entered=False,
            last_seen=now,
        )

    def set_complete(self, id: DeviceId, complete: bool | None) -> Device:  # noqa: A002, FBT001  None is not known
        """Record whether a unit holds a complete image."""
        return self._change(id, complete=complete)

    def is_in_loader(self, id: DeviceId) -> Device:  # noqa: A002
        """Record a person's word that a unit is in its loader, with all that it ran."""
        return self._change(id, entered=True)

    def is_back(self, id: DeviceId) -> Device:  # noqa: A002
        """Record that a unit was seen running its application: it is not in the loader into which it was brought."""
        return self._change(id, entered=False)

    def pin(self, id: DeviceId, version: str | None, *, may_go_back: bool = False) -> Device:  # noqa: A002
        """Keep a unit at a version, or with None let it follow the newest release.

        Args:
            id: of the unit.
            version: that it is to run.
            may_go_back: whether it may go back to that version, once; what was allowed before is taken back.
        """
        self._present(id)
        return self._change(id, pinned=version, may_go_back_to=version if may_go_back else None)

    def raise_floor(self, id: DeviceId, sequence: int | None) -> None:  # noqa: A002
        """Record that a unit was confirmed with what it is recorded to run.

        Nothing below ``sequence`` is given to it any more, and leave to go back to that version is used up.
        """
        self._do(
            "UPDATE devices SET floor = coalesce(max(floor, ?), ?, floor), "
            "may_go_back_to = nullif(may_go_back_to, running_version) WHERE id = ?",
            sequence, sequence, id,
        )  # fmt: skip

    def forget(self, id: DeviceId) -> None:  # noqa: A002
        """Drop a unit with its jobs, attempts and hold.

        Its wear, latches and floor stay, for the silicon does not forget: a unit that comes back with the same key
        gets its id, wear, latches and floor again.

        Raises:
            Refused: there is no such device, or it is being written to.
        """
        self._present(id)
        self._refuse_while_running(id)
        self._do("DELETE FROM jobs WHERE device = ?", id)
        self._do("DELETE FROM folded WHERE device = ?", id)
        self._do("DELETE FROM holds WHERE device = ?", id)
        self.end_probation(id, ProbationEnd.OVERTAKEN)
        self.keeps_nothing(id)
        self._change(
            id,
            running_version=None,
            running_sequence=None,
            running_image=None,
            running_evidence="",
            complete=None,
            entered=False,
            pinned=None,
            may_go_back_to=None,
        )
        self._do("UPDATE devices SET forgotten = 1 WHERE id = ?", id)

    def _absorb(self, source: DeviceId, target: DeviceId, device_class: ClassName) -> None:
        """Hand everything recorded for ``source`` to ``target`` and remove ``source``."""
        # A pair has one open job at most, and the target's has the longer history.
        superseded = self._do(
            "UPDATE jobs SET state = 'superseded' WHERE device = ? AND state IN ('queued', 'unknown') AND image IN "
            "(SELECT image FROM jobs WHERE device = ? AND state IN ('queued', 'unknown'))",
            source, target,
        )  # fmt: skip
        for _ in range(superseded):
            self._count_job(device_class, JobState.SUPERSEDED)
        for table in ("jobs", "latches"):
            self._do(f"UPDATE {table} SET device = ? WHERE device = ?", target, source)  # noqa: S608  a constant
        self._do("UPDATE actions SET target = ? WHERE target = ?", target, source)
        self._do(
            "INSERT INTO wear SELECT ?, day, starts, watched_s FROM wear WHERE device = ? ON CONFLICT (device, day) "
            "DO UPDATE SET starts = starts + excluded.starts, watched_s = min(watched_s, excluded.watched_s)",
            target, source,
        )  # fmt: skip
        self._do(
            "INSERT INTO folded SELECT ?, outcome, attempts FROM folded WHERE device = ? "
            "ON CONFLICT (device, outcome) DO UPDATE SET attempts = attempts + excluded.attempts",
            target, source,
        )  # fmt: skip
        self._do(
            "UPDATE OR IGNORE holds SET device = ? WHERE device = ?", target, source
        )  # of each owner one
        for table in ("wear", "folded", "holds"):
            self._do(f"DELETE FROM {table} WHERE device = ?", source)  # noqa: S608
        self._do("DELETE FROM devices WHERE id = ?", source)

    def _refuse_while_running(self, id_: DeviceId) -> None:
        row = self._first("SELECT id FROM jobs WHERE device = ? AND state = 'running'", id_)
        if row is not None:
            raise Refused(f"{id_} is being updated by job {row['id']}; wait for its end, or cancel it")

    def _present(self, id_: DeviceId) -> Device:
        device = self.device(id_)
        if device is None:
            raise Refused(f"there is no device {id_}; `firmwarden devices` lists them")
        return device

    def _change(self, id_: DeviceId, **columns: object) -> Device:
        names = ", ".join(f"{name} = ?" for name in columns)
        self._do(f"UPDATE devices SET {names} WHERE id = ?", *columns.values(), id_)  # noqa: S608  our own names
        device = self.device(id_)
        if device is None:
            raise LookupError(f"no device {id_}")
        return device

    def _new_id(self, device_class: ClassName, key: str) -> DeviceId:
        digest = hashlib.sha256(f"{device_class}\0{key}".encode()).digest()
        text = b32encode(digest).decode("ascii").rstrip("=").lower()
        for length in range(_ID_LENGTH, len(text) + 1):
            if self._first("SELECT 1 FROM devices WHERE id = ?", text[:length]) is None:
                return DeviceId(text[:length])
        raise AssertionError("two identities with one SHA-256")

"""Many simulated devices in one process.

Everything happens in callbacks of one event loop; a device that has nothing to do costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Final, Self, assert_never

from firmwarden.simulate.client import SimClient
from firmwarden.simulate.ports import PtyPort, PtyWatcher, TcpPort
from firmwarden.simulate.report import replace_text, write_report
from firmwarden.simulate.settings import PtyPlaces, TcpPlaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.ports import Port
    from firmwarden.simulate.settings import DeviceSettings, SimulatorSettings

_REPORT_PAUSE_S: Final = 0.1
"""A report holds all devices: with many of them it is written when this has passed, not at each event."""

_FLASH_EVENTS: Final = frozenset({"start", "erase", "image-state", "end", "cut", "boot"})
"""After these the flash is saved, where it is: a simulator that is killed must not come back with an image that was
erased before."""


class Simulator:
    """All devices of one process; used as a context manager.

    Args:
        settings: what to simulate.
        notify: is told, as plain data, what happens to each device.
    """

    def __init__(
        self, settings: SimulatorSettings, notify: Callable[[dict[str, object]], None] = lambda _event: None
    ) -> None:
        self.ports: list[Port] = []
        self._settings = settings
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._watcher: PtyWatcher | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._made_directory: Path | None = None

    async def __aenter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._settings.report is not None:
            write_report(self._settings.report, self.ports)

    def _open(self) -> None:
        places = self._settings.places
        if isinstance(places, PtyPlaces):
            if not places.directory.exists():
                places.directory.mkdir(parents=True)
                self._made_directory = places.directory
            self._watcher = PtyWatcher(self._loop)
        for number, device in enumerate(self._settings.devices):
            self._add(device, number)
        for port in self.ports:
            port.open()
        self._notify(
            {
                "event": "ready",
                "devices": [
                    {"name": port.client.settings.name, "address": port.address} for port in self.ports
                ],
            }
        )
        for port in self.ports:
            port.power_on()
        self._write_report()

    def _add(self, device: DeviceSettings, number: int) -> None:
        def happened(event: SimEvent) -> None:
            self._happened(client, event)

        client = SimClient(device, happened)
        saved = self._flash_file(client)
        if saved is not None and saved.exists():
            client.flash.load(json.loads(saved.read_text()))
        places = self._settings.places
        match places:
            case PtyPlaces(directory=directory):
                assert self._watcher is not None  # noqa: S101  (made for these places)
                link = directory / device.name
                self.ports.append(PtyPort(client, self._loop, happened, link=link, watcher=self._watcher))
            case TcpPlaces(host=host, first_port=first):
                port = first and first + number
                self.ports.append(TcpPort(client, self._loop, happened, host=host, port=port))
            case unreachable:
                assert_never(unreachable)

    def _flash_file(self, client: SimClient) -> Path | None:
        directory = self._settings.flash_directory
        return directory and directory / f"{client.settings.name}.flash.json"

    def _save_flash(self, client: SimClient) -> None:
        path = self._flash_file(client)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(client.flash.save()))

    def _happened(self, client: SimClient, event: SimEvent) -> None:
        line = {"event": event.kind, "device": client.settings.name, "t": round(event.at - self._began_at, 6)}
        self._notify({**line, **event.details})
        if event.kind in _FLASH_EVENTS:
            self._save_flash(client)
        if self._settings.report is not None and self._report_timer is None:
            self._report_timer = self._loop.call_later(_REPORT_PAUSE_S, self._write_report)

    def _write_report(self) -> None:
        self._report_timer = None
        if self._settings.report is not None:
            write_report(self._settings.report, self.ports)

    def _close(self) -> None:
        for port in self.ports:
            port.close()
            self._save_flash(port.client)
        if self._report_timer is not None:
            self._report_timer.cancel()
        if self._watcher is not None:
            self._watcher.close()
        if self._made_directory is not None:
            # Unless somebody put something into it.
            with contextlib.suppress(OSError):
                self._made_directory.rmdir()

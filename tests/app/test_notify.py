"""What the service manager is told, by a socket as systemd has one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import pytest
from trio.testing import MockClock

from firmwarden.app.notify import ServiceManager, show_life

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> object:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Ear:
    """The manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)

    def heard(self) -> list[dict[str, str]]:
        """Return what was said since the last time, each datagram as its variables."""
        found: list[dict[str, str]] = []
        while True:
            try:
                datagram = self.socket.recv(4096).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in datagram.split("\n")))


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(str(tmp_path / "notify"))
    with made.socket:
        yield made


@pytest.fixture
def manager(ear: Ear) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": ear.socket.getsockname(), "WATCHDOG_USEC": "60000000"})


class Service:
    """Plans when it is poked, as long as it is not stuck."""

    def __init__(self) -> None:
        self.planned = anyio.Event()
        self.stuck = False

    def poke(self) -> None:
        if not self.stuck:
            self.planned.set()
            self.planned = anyio.Event()


def test_each_step_of_a_life_is_told(ear: Ear, manager: ServiceManager) -> None:
    manager.ready("devices here: 3")
    manager.reloading()
    manager.alive("devices here: 4")
    manager.stopping("stopping", 90.5)
    ready, reloading, alive, stopping = ear.heard()
    assert ready == {"READY": "1", "STATUS": "devices here: 3"}
    assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert alive == {"WATCHDOG": "1", "STATUS": "devices here: 4"}
    assert stopping == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "90500000", "STATUS": "stopping"}


def test_words_of_several_lines_set_no_other_variable(ear: Ear, manager: ServiceManager) -> None:
    manager.alive("two problems:\nSTOPPING=1\n")
    assert ear.heard() == [{"WATCHDOG": "1", "STATUS": "two problems: STOPPING=1"}]


def test_an_abstract_address_is_understood() -> None:
    ear = Ear("\0firmwarden-test-notify")
    with ear.socket:
        ServiceManager({"NOTIFY_SOCKET": "@firmwarden-test-notify"}).ready("well")
        assert ear.heard() == [{"READY": "1", "STATUS": "well"}]


def test_without_a_manager_nothing_is_said() -> None:
    manager = ServiceManager({})
    assert not manager.listens
    manager.ready("well")


def test_a_manager_that_is_gone_or_does_not_listen_stops_nobody(ear: Ear, manager: ServiceManager) -> None:
    for _ in range(10_000):  # more than any queue takes
        manager.alive("well")
    assert ear.heard()
    ear.socket.close()
    manager.alive("well")


@pytest.mark.anyio
async def test_life_is_shown_twice_as_often_as_asked_for(ear: Ear, manager: ServiceManager) -> None:
    with anyio.move_on_after(301):
        await show_life(manager, Service(), lambda: "well")
    assert ear.heard() == [{"WATCHDOG": "1", "STATUS": "well"}] * 10


@pytest.mark.anyio
async def test_a_planning_is_told_at_once(ear: Ear, manager: ServiceManager) -> None:
    service = Service()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(show_life, manager, service, lambda: "well")
        await anyio.sleep(1)
        service.poke()
        await anyio.sleep(1)
        assert len(ear.heard()) == 1
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_service_that_is_stuck_shows_no_life(ear: Ear, manager: ServiceManager) -> None:
    service = Service()
    service.stuck = True
    with anyio.move_on_after(86_400):
        await show_life(manager, service, lambda: "well")
    assert ear.heard() == []

"""The socket that systemd holds for the service: nobody fails because the service is just being restarted."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.cli import client
from firmwarden.cli.client import DEFAULT_SOCKET, Unreachable
from lab.service import SOCKET_UNIT, UNIT, systemctl
from lab.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.service import Service

CLIENTS: Final = 5


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes its time in here."""
    monkeypatch.setattr(client, "ANSWER_S", PATIENCE_S)


def test_whoever_asks_while_it_starts_or_restarts_waits(service: Service) -> None:
    service.configure()
    with service.socket(), ThreadPoolExecutor(CLIENTS) as clients:

        def ask(count: int) -> list[Future[object]]:
            return [clients.submit(service.client.get, "health") for _ in range(count)]

        assert service.property("ActiveState") == "inactive"
        answered(ask(1))
        processes = {service.property("MainPID")}
        os.kill(int(service.property("MainPID")), signal.SIGKILL)
        answered(ask(CLIENTS))
        processes.add(service.property("MainPID"))
        restart = clients.submit(systemctl, "restart", UNIT)
        until(lambda: service.property("ActiveState") != "active" or restart.done(), "a restart")
        answered(ask(CLIENTS - 1))
        restart.result()
        processes.add(service.property("MainPID"))
        assert len(processes) == 3
        service.stop()
        assert DEFAULT_SOCKET.exists()
    assert not DEFAULT_SOCKET.exists()


def answered(waiting: Iterable[Future[object]]) -> None:
    """Wait for all of them; one that failed raises."""
    for each in waiting:
        each.result()


def test_a_configuration_that_is_refused_is_not_tried_for_ever(service: Service) -> None:
    service.configure("nonsense")
    with service.socket("TriggerLimitBurst=2"):
        with pytest.raises(Unreachable):
            service.client.get("health")
        until(lambda: service.property("Result", SOCKET_UNIT) == "trigger-limit-hit", "the end of it")
        assert service.journal().count("refused whole") <= 2
        # The service makes its own now.
        service.configure()
        service.start()
        service.client.get("health")

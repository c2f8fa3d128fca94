"""The socket that systemd holds for the service: nobody fails because the service is just being restarted."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.cli import client
from firmwarden.cli.client import DEFAULT_SOCKET, Unreachable
from lab.service import SOCKET_UNIT, UNIT, systemctl
from lab.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from lab.service import Service

CLIENTS: Final = 5


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes its time in here."""
    monkeypatch.setattr(client, "ANSWER_S", PATIENCE_S)


def test_whoever_asks_while_it_restarts_waits(service: Service) -> None:
    service.configure()
    with service.socket(), ThreadPoolExecutor(CLIENTS) as clients:
        service.start()
        first = service.property("MainPID")
        os.kill(int(first), signal.SIGKILL)
        asked = [clients.submit(service.client.get, "health") for _ in range(CLIENTS)]
        for each in asked:
            each.result()
        second = service.property("MainPID")
        restart = clients.submit(systemctl, "restart", UNIT)
        until(lambda: service.property("ActiveState") == "deactivating", "a restart")
        asked = [clients.submit(service.client.get, "health") for _ in range(CLIENTS - 1)]
        for each in (*asked, restart):
            each.result()
        assert len({first, second, service.property("MainPID")}) == 3


def test_a_question_starts_it_and_a_stop_of_both_leaves_nothing(service: Service) -> None:
    service.configure()
    with service.socket():
        assert service.property("ActiveState") == "inactive"
        service.client.get("health")
        service.stop()
        assert DEFAULT_SOCKET.exists()
    assert not DEFAULT_SOCKET.exists()


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

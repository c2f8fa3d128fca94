"""A real Prometheus asks a real daemon, with the rules that are shipped."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prometheus_client.parser import text_string_to_metric_families as parse

from support.gateway import NEW, OLD, device_class, image
from support.pages import DOCS
from support.processes import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.gateway import Gateway
    from support.processes import Process

T = TypeVar("T")

RULES: Final = DOCS / "how-to" / "alerts" / "firmwarden.rules.yml"


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        raw: bytes = answer.read()
        return raw


def address(daemon: Process) -> int:
    return int(str(daemon.said("listening")[-1]["address"]).rpartition(":")[2])


def samples(port: int) -> dict[tuple[str, ...], float]:
    """What a scrape tells, by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(get(port, "/metrics").decode())
        for sample in family.samples
    }


@contextmanager
def prometheus(gateway: Gateway, port: int) -> Iterator[int]:
    """Run one that asks every half a second; gives its own port."""
    shutil.copy(RULES, gateway.place)
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [RULES.name],
        "scrape_configs": [
            {"job_name": "firmwarden", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }
    file = gateway.place / "prometheus.yml"
    file.write_text(json.dumps(config), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        own: int = free.getsockname()[1]
    options = [f"--config.file={file}", f"--storage.tsdb.path={gateway.place / 'tsdb'}"]
    command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{own}"]
    with (
        (gateway.place / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log) as process,
    ):
        try:
            yield own
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def ask(port: int, path: str) -> Any:  # noqa: ANN401  (JSON)
    try:
        return json.loads(get(port, f"/api/v1/{path}"))["data"]
    except OSError:  # it has just been started
        return None


def until(condition: Callable[[], T | None]) -> T:
    """Ask Prometheus again and again; it tells nobody by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_latched_device_is_told_until_it_is_cleared(gateway: Gateway) -> None:
    rack = gateway.rack(
        "panel", "--count", 2, "--version", OLD, "--fault", "2:abort@chunk=5,cause=write-error"
    )
    gateway.configure(device_class("panel", rack.match), listen="127.0.0.1:0")
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    with prometheus(gateway, address(daemon)) as port:

        def told() -> list[str] | None:
            """What is said of latched devices; None while nothing is known."""
            found = ask(port, "alerts")
            return found and [
                alert["annotations"]["summary"]
                for alert in found["alerts"]
                if (alert["labels"]["alertname"], alert["state"]) == ("FirmwardenDeviceLatched", "firing")
            ]

        daemon.wait_for("latch-set")
        (summary,) = until(told)
        assert summary.startswith(f"1 device(s) of class panel on 127.0.0.1:{address(daemon)} are stopped")
        assert gateway.command("clear", gateway.id("panel-0002")).returncode == 0
        until(lambda: told() == [])
        rules = ask(port, "rules")
        health = {rule["health"] for group in rules["groups"] for rule in group["rules"]}
        assert health == {"ok"}


def test_counts_outlast_a_restart_and_a_device_that_is_forgotten(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match), listen="127.0.0.1:0")
    gateway.drop("panel", NEW, image())
    gateway.start()
    gateway.runs("panel-0001", NEW)
    before = samples(address(gateway.daemon))
    assert before["firmwarden_attempts_total", "", "panel", "succeeded"] == 1.0
    assert before["firmwarden_devices", "panel", "up-to-date"] == 1.0
    assert before["firmwarden_erase_starts_total", "panel"] == 1.0
    assert before["firmwarden_link_sent_bytes_total", "panel"] > len(image())
    assert before["firmwarden_attempt_duration_seconds_sum", "panel", "succeeded"] > 0.1
    gateway.daemon.stop()
    gateway.start()
    assert counters(samples(address(gateway.daemon))) == counters(before)
    device = gateway.id("panel-0001")
    rack.report()
    gateway.daemon.wait_for("device-gone")
    assert gateway.command("forget", device).returncode == 0
    after = samples(address(gateway.daemon))
    assert counters(after) == counters(before)
    assert sum(number for key, number in after.items() if key[0] == "firmwarden_devices") == 0.0


def counters(told: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {
        key: number
        for key, number in told.items()
        if key[0].startswith("firmwarden_") and key[0].endswith(("_total", "_count", "_bucket", "_sum"))
    }

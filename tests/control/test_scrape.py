"""What Prometheus gets, and that its own tools have nothing to say against it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from firmwarden.control.metrics import DURATION, METRICS
from support.memory_desk import MemoryDesk
from support.programs import program
from support.served import Served, served
from support.wire_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prometheus_client import Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock", tcp=True) as running:
        yield running


def samples(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """Each by its name and its labels."""
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_metric_is_told_with_its_labels(api: Served) -> None:
    answer = ask(api, "GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    families = {family.name: family for family in parse_text(answer.raw.decode())}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert family.samples, metric.name
        assert {frozenset(sample.labels) for sample in family.samples} == {frozenset(metric.labels)}
        assert {sample.name for sample in family.samples} == {metric.name}
    assert families[DURATION.name].type == "histogram"
    assert families.keys() == {
        *(metric.name.removesuffix("_total") for metric in METRICS),
        DURATION.name,
    }


def test_numbers_are_those_of_the_desk(api: Served) -> None:
    found = samples(parse_text(ask(api, "GET", "/metrics").raw.decode()))
    panel = "device_class=front-panel"
    assert (
        found.items()
        >= {
            ("firmwarden_build_info", "version=0.1.0"): 1.0,
            ("firmwarden_ready",): 1.0,
            ("firmwarden_uptime_seconds",): 3600.5,
            ("firmwarden_planning_age_seconds",): 7.5,
            ("firmwarden_devices", panel, "state=up-to-date"): 20.0,
            # What there is none of is told too, or an alert could not tell it from a daemon that says nothing.
            ("firmwarden_devices", panel, "state=failed"): 0.0,
            ("firmwarden_latches", panel, "scope=pair"): 1.0,
            ("firmwarden_latches", "device_class=", "scope=image"): 1.0,
            ("firmwarden_releases", panel, "state=accepted"): 2.0,
            ("firmwarden_releases", "device_class=", "state=refused"): 1.0,
            ("firmwarden_attempts_total", "cause=", panel, "outcome=succeeded"): 12.0,
            ("firmwarden_attempts_total", "cause=link-lost", panel, "outcome=failed"): 5.0,
            ("firmwarden_attempts_retried_total", "cause=link-lost", panel): 4.0,
            ("firmwarden_outcomes_settled_total", panel, "outcome=succeeded"): 1.0,
            ("firmwarden_jobs_ended_total", "cause=transport-exhausted", panel, "state=failed"): 1.0,
            ("firmwarden_link_sent_bytes_total", panel): 210_000.0,
            ("firmwarden_wear_day_budget_used_ratio", panel): 0.3,
        }.items()
    )


def test_the_process_tells_of_itself(api: Served) -> None:
    found = samples(parse_text(ask(api, "GET", "/metrics").raw.decode()))
    assert found["process_cpu_seconds_total",] > 0.1
    assert 10 * 2**20 < found["process_resident_memory_bytes",] < 2**34
    assert 5 < found["process_open_fds",] < found["process_max_fds",]


def test_the_histogram_adds_up(api: Served) -> None:
    found = samples(parse_text(ask(api, "GET", "/metrics").raw.decode()))
    labels = ("device_class=front-panel", "outcome=succeeded")
    buckets = {
        key[2].removeprefix("le="): value
        for key, value in found.items()
        if key[0] == f"{DURATION.name}_bucket"
    }
    assert list(buckets.values()) == [0, 0, 0, 9, 9, 11, 11, 11, 11, 11, 11, 12]
    assert (buckets["5"], buckets["10"], buckets["30"], buckets["1800"], buckets["+Inf"]) == (
        0,
        9,
        11,
        11,
        12,
    )
    assert found[f"{DURATION.name}_count", *labels] == 12.0
    assert found[f"{DURATION.name}_sum", *labels] == 2113.75


def test_openmetrics_comes_to_those_who_ask_for_it(api: Served) -> None:
    answer = ask(api, "GET", "/metrics", headers={"accept": f"{OPENMETRICS},text/plain;q=0.5"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    text = answer.raw.decode()
    assert text.endswith("# EOF\n")
    plain = ask(api, "GET", "/metrics").raw.decode()

    def ours(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
        # The bounds of the histogram are written in another way.
        names = samples(families).items()
        return {key: value for key, value in names if not key[0].startswith(("process_", DURATION.name))}

    written = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    assert ours(written) == ours(parse_text(plain))


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain; version=",
        "application/openmetrics-text; version=x.y",
        f"{OPENMETRICS}; escaping=no",
    ],
)
def test_whatever_is_accepted_something_comes(api: Served, accept: str) -> None:
    assert ask(api, "GET", "/metrics", headers={"accept": accept}).status == 200


@pytest.mark.slow
def test_prometheus_finds_nothing_to_complain_about(api: Served) -> None:
    text = ask(api, "GET", "/metrics").raw
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_anybody_who_may_read_gets_it_over_tcp_and_nobody_may_write_it(api: Served) -> None:
    assert ask(api, "GET", "/metrics", tcp=True).status == 200
    assert ask(api, "HEAD", "/metrics", tcp=True).raw == b""
    assert ask(api, "POST", "/metrics").status == 405
    assert ask(api, "GET", "/metrics?name=x").json["detail"].startswith("Unknown parameter `name`")


def test_a_store_that_cannot_be_used_is_said(api: Served, desk: MemoryDesk) -> None:
    desk.store_problem = "full"
    answer = ask(api, "GET", "/metrics")
    assert (answer.status, answer.kind) == (503, "application/problem+json")


def test_without_the_library_it_is_said_how_to_get_it(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = ask(api, "GET", "/metrics")
    assert (answer.status, answer.json["type"]) == (501, "not-installed")
    assert "pip install 'firmwarden[metrics]'" in answer.json["detail"]


def test_the_library_is_imported_by_the_first_scrape() -> None:
    code = "import firmwarden.app.daemon, sys; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

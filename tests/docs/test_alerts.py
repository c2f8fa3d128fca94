"""The alerts that are shipped are valid, are told when they should be, and what they say is true."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from firmwarden.cli.root import main
from firmwarden.control.metrics import DURATION, METRICS
from firmwarden.events import LogEvent
from firmwarden.model import RolloutState, WaitKind
from firmwarden.service.figures import DeviceState, ReleaseState
from support.pages import DOCS
from support.programs import program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALERTS: Final = DOCS / "how-to" / "alerts"
RULES_FILE: Final = ALERTS / "firmwarden.rules.yml"
RULES: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES_FILE.read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
HERE: Final = {"job": "firmwarden", "instance": "gw"}
PANEL: Final = {**HERE, "device_class": "panel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series, minute by minute, and what is to be told of them after so many."""

    series: Mapping[str, str]
    """By name and labels; the job and the instance are added."""
    quiet_at: int
    """Minutes after which it is not told yet, or any more."""
    told_at: int
    labels: Mapping[str, str] = field(default_factory=lambda: HERE)
    summary: str


CASES: Final = {
    "FirmwardenDown": Case(
        series={"up{}": "1 0x20"},
        quiet_at=5,
        told_at=6,
        summary="Firmwarden on gw does not answer, so nothing is updated and nothing is told.",
    ),
    "FirmwardenNotReady": Case(
        series={"firmwarden_ready{}": "0x20"},
        quiet_at=9,
        told_at=10,
        summary="Firmwarden on gw has not finished its first scans, so no update starts.",
    ),
    "FirmwardenRestarts": Case(
        series={"firmwarden_uptime_seconds{}": "0 60 0 60 0 60 0 60 0 60"},
        quiet_at=7,
        told_at=8,
        summary="Firmwarden on gw was started anew 4 times within an hour.",
    ),
    "FirmwardenPlannerStuck": Case(
        series={"firmwarden_ready{}": "1x20", "firmwarden_planning_age_seconds{}": "0+60x20"},
        quiet_at=5,
        told_at=6,
        summary="Firmwarden on gw has planned nothing for 6m 0s; it does every 30 seconds.",
    ),
    "FirmwardenScanStuck": Case(
        series={
            "firmwarden_device_scan_age_seconds{}": "1x40",
            "firmwarden_release_scan_age_seconds{}": "0+60x40",
        },
        quiet_at=15,
        told_at=16,
        summary="Firmwarden on gw has not looked at its ports or at its firmware directory for 16m 0s.",
    ),
    "FirmwardenProblem": Case(
        series={"firmwarden_problems{}": "0x4 2x10 0x9"},
        quiet_at=9,
        told_at=10,
        summary="Firmwarden on gw tells 2 problem(s) to mend, such as a full disk or a refused configuration.",
    ),
    "FirmwardenDeviceLatched": Case(
        series={
            'firmwarden_devices{device_class="panel",state="latched"}': "0 3x9",
            'firmwarden_devices{device_class="panel",state="up-to-date"}': "7x9",
        },
        quiet_at=0,
        told_at=1,
        labels={**PANEL, "state": "latched"},
        summary="3 device(s) of class panel on gw are stopped by a latch; nothing is tried again by itself.",
    ),
    "FirmwardenImageLatched": Case(
        series={
            'firmwarden_releases{device_class="panel",state="accepted"}': "2x9",
            'firmwarden_releases{device_class="panel",state="latched"}': "0 1x9",
        },
        quiet_at=0,
        told_at=1,
        labels={**PANEL, "state": "latched"},
        summary="A release for class panel on gw was refused by several devices, or called back, and is given to no "
        "other.",
    ),
    "FirmwardenRolloutStopped": Case(
        series={
            'firmwarden_rollouts{device_class="panel",state="waves"}': "1 0x9",
            'firmwarden_rollouts{device_class="panel",state="stopped"}': "0 1x9",
        },
        quiet_at=0,
        told_at=1,
        labels={**PANEL, "state": "stopped"},
        summary="The rollout of a release for class panel on gw has stopped: too many devices failed, or its image is "
        "latched.",
    ),
    "FirmwardenUpdateFailed": Case(
        series={'firmwarden_devices{device_class="panel",state="failed"}': "1x20"},
        quiet_at=4,
        told_at=5,
        labels={**PANEL, "state": "failed"},
        summary="1 device(s) of class panel on gw could not be updated: transfers failed until their budget was "
        "used up, or a latch was lifted and nothing was retried.",
    ),
    "FirmwardenDeviceWithoutImage": Case(
        series={'firmwarden_devices{device_class="panel",state="incomplete"}': "1x20"},
        quiet_at=14,
        told_at=15,
        labels={**PANEL, "state": "incomplete"},
        summary="1 device(s) of class panel on gw hold no complete image, and there is no release to give them.",
    ),
    "FirmwardenOutcomeUnknown": Case(
        series={'firmwarden_unknown_outcome_age_seconds{device_class="panel"}': "0+60x90 0"},
        quiet_at=60,
        told_at=61,
        labels=PANEL,
        summary="For 1h 1m 0s it has not been known whether an update of a device of class panel on gw succeeded.",
    ),
    "FirmwardenWaitsForPerson": Case(
        series={'firmwarden_jobs_waiting_for_person{device_class="panel"}': "2x20"},
        quiet_at=9,
        told_at=10,
        labels=PANEL,
        summary="2 update(s) of class panel on gw wait for what only a person can do.",
    ),
    "FirmwardenConflict": Case(
        series={"firmwarden_conflicts{}": "1x20"},
        quiet_at=9,
        told_at=10,
        summary="Of 1 port(s) on gw it is not clear which unit is behind them; nothing is written there.",
    ),
    "FirmwardenWearDay": Case(
        series={'firmwarden_wear_day_budget_used_ratio{device_class="panel"}': "0.9 1x9"},
        quiet_at=0,
        told_at=1,
        labels=PANEL,
        summary="A device of class panel on gw has used up the erases of today and waits for tomorrow.",
    ),
    "FirmwardenWearLife": Case(
        series={'firmwarden_wear_life_budget_used_ratio{device_class="panel"}': "0.8 0.85x9"},
        quiet_at=0,
        told_at=1,
        labels=PANEL,
        summary="A device of class panel on gw has used 85% of the erases of its life.",
    ),
    "FirmwardenPoorLink": Case(
        series={
            'firmwarden_attempts_retried_total{device_class="panel",cause="link-lost"}': "0+1x240",
            'firmwarden_attempts_retried_total{device_class="panel",cause="no-answer"}': "5x240",
        },
        quiet_at=5,
        told_at=60,
        labels=PANEL,
        summary="60 attempts at devices of class panel on gw failed in transport within a day.",
    ),
    "FirmwardenReleaseRefused": Case(
        series={
            'firmwarden_releases{device_class="panel",state="refused"}': "1x20",
            'firmwarden_releases{state="refused"}': "2x20",
            'firmwarden_releases{device_class="panel",state="accepted"}': "9x20",
        },
        quiet_at=9,
        told_at=10,
        summary="3 release(s) in the firmware directory of gw are refused.",
    ),
    "FirmwardenUnsigned": Case(
        series={'firmwarden_signature_required{device_class="panel"}': "0x120"},
        quiet_at=59,
        told_at=60,
        labels=PANEL,
        summary="Class panel on gw takes releases without a signature: whoever can write to the firmware directory "
        "decides what its devices run.",
    ),
    "FirmwardenHeldLong": Case(
        series={"firmwarden_held{}": "0x1500", 'firmwarden_devices_held{device_class="panel"}': "1x1500"},
        quiet_at=1439,
        told_at=1440,
        summary="Updates on gw have been held for a day; was that forgotten?",
    ),
}


def promtool(*arguments: str | Path) -> str:
    """Run it; what it says belongs to the test's output when it finds fault."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def at_home(series: str) -> str:
    """Add the job and the instance."""
    return series.replace("{", '{job="firmwarden",instance="gw",', 1).replace(",}", "}")


def unit_test(name: str, case: Case) -> dict[str, object]:
    """Write a case as promtool wants it."""
    rule = RULES[name]
    told = {
        "exp_labels": {**case.labels, "severity": rule["labels"]["severity"]},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": at_home(series), "values": values} for series, values in case.series.items()
        ],
        "alert_rule_test": [
            {"alertname": name, "eval_time": f"{case.quiet_at}m", "exp_alerts": []},
            {"alertname": name, "eval_time": f"{case.told_at}m", "exp_alerts": [told]},
        ],
    }


def test_rules_and_configuration_are_valid() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", RULES_FILE)
    promtool("check", "config", ALERTS / "prometheus.yml")


@pytest.mark.slow
def test_each_alert_is_told_when_it_should_be_and_not_before(tmp_path: Path) -> None:
    assert CASES.keys() == RULES.keys()
    tests = {
        "rule_files": [str(RULES_FILE)],
        "tests": [unit_test(name, case) for name, case in CASES.items()],
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps(tests), "utf-8")  # JSON is YAML
    promtool("test", "rules", file)


@pytest.mark.slow
def test_a_gateway_that_is_well_is_told_nothing_of(tmp_path: Path) -> None:
    """The numbers of one with devices at rest, and of a restart in between."""
    series = {at_home("up{}"): "1x30 0x2 1x1500"}
    for metric in METRICS:
        if metric.kind == "gauge" and not metric.labels:
            series[at_home(f"{metric.name}{{}}")] = (
                "1x1533" if metric.name == "firmwarden_ready" else "0x1533"
            )
    for state in DeviceState:
        number = 20 if state in {DeviceState.UP_TO_DATE, DeviceState.WAITING, DeviceState.BEHIND} else 0
        series[at_home(f'firmwarden_devices{{device_class="panel",state="{state}"}}')] = f"{number}x1533"
    for kind in WaitKind:
        series[at_home(f'firmwarden_waits{{device_class="panel",kind="{kind}"}}')] = "1x1533"
    series[at_home('firmwarden_releases{device_class="panel",state="accepted"}')] = "2x1533"
    tests = {
        "rule_files": [str(RULES_FILE)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {"alertname": name, "eval_time": "1530m", "exp_alerts": []} for name in RULES
                ],
            }
        ],
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps(tests), "utf-8")
    promtool("test", "rules", file)


def test_alerts_ask_for_metrics_and_words_that_there_are() -> None:
    states = {*DeviceState, *ReleaseState, *RolloutState}
    known = {metric.name for metric in METRICS} | {DURATION.name}
    for name, rule in RULES.items():
        asked = set(re.findall(r"\bfirmwarden_\w+", rule["expr"]))
        assert asked <= known, name
        assert asked or rule["expr"].startswith("up{"), name
        assert set(re.findall(r'state="([^"]+)"', rule["expr"])) <= states, name


def test_alerts_name_commands_events_and_pages_that_there_are() -> None:
    for name, rule in RULES.items():
        do = rule["annotations"]["do"]
        commands = re.findall(r"\bfirmwarden ([a-z]+)", do)
        assert commands or "systemctl status firmwarden" in do, name
        assert set(commands) <= set(main.commands), name
        assert set(re.findall(r"FIRMWARDEN_EVENT=(\S+)", do)) <= set(LogEvent), name
        page, _, anchor = rule["annotations"]["page"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
        assert anchor == "" or anchor in anchors, name


def test_the_page_lists_every_alert() -> None:
    page = (DOCS / "how-to" / "alerting.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(Firmwarden\w+)`", page, re.MULTILINE)) == RULES.keys()

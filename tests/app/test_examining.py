"""What is found out of a unit by the configuration of its class: its answer, and what the operator's program says."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.app.examining import Examiner, health_rule
from firmwarden.config import load
from firmwarden.errors import CannotTell, LinkError
from firmwarden.model import ClassName, Device, DeviceId, SerialAddress, UsbAddress
from firmwarden.service.health import HealthRule

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden import config as cfg

PANEL: Final = ClassName("front-panel")
DEVICE: Final = Device(
    id=DeviceId("k3f9q2"),
    device_class=PANEL,
    key="port:/dev/ttyACM0",
    label="panel-7",
    running_version="2.0.0",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def classes(tmp_path: Path, *keys: str, driver: str = "mdfu") -> dict[ClassName, cfg.DeviceClass]:
    """Read a class with these keys."""
    match = 'usb = "1209:0001"' if driver == "dfu" else 'path = "/dev/ttyACM*"'
    file = tmp_path / "firmwarden.toml"
    lines = ("[[device]]", f'name = "{PANEL}"', f'driver = "{driver}"', f"match = {{ {match} }}", *keys, "")
    file.write_text("\n".join(lines), encoding="utf-8")
    return {ClassName(each.name): each for each in load(file).devices}


def test_the_rule_of_a_class(tmp_path: Path) -> None:
    assert health_rule(classes(tmp_path)[PANEL]) is None
    assert health_rule(classes(tmp_path, "health = {}")[PANEL]) == HealthRule(
        soak_s=600.0, return_within_s=60.0
    )
    checks = 'query = { send = "?", expect = "!" }, command = ["/bin/true"]'
    keys = f'health = {{ soak = "2s", return_within = "5s", {checks} }}'
    assert health_rule(classes(tmp_path, keys)[PANEL]) == HealthRule(
        soak_s=2.0, return_within_s=5.0, asks=True, runs=True
    )
    told = "dfu = { version = { from = 'product', expect = 'v(.*)' } }"
    rule = health_rule(classes(tmp_path, "health = {}", 'image_format = "dfuse"', told, driver="dfu")[PANEL])
    assert rule is not None
    assert rule.tells_version


@pytest.mark.anyio
async def test_the_program_is_told_of_the_device(tmp_path: Path) -> None:
    program = tmp_path / "is-well"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "sys.exit(' '.join(os.environ['FIRMWARDEN_' + key] for key in "
        "('DEVICE', 'LABEL', 'CLASS', 'PORT', 'VERSION')))\n"
    )
    program.chmod(0o755)
    health = f"health = {{ command = [{json.dumps(str(program))}] }}"
    examiner = Examiner(lambda: classes(tmp_path, health))
    wrong = await examiner.run(DEVICE, SerialAddress(path="/dev/ttyACM0"), "2.0.0")
    assert wrong == f"{program}: exit status 1: k3f9q2 panel-7 front-panel /dev/ttyACM0 2.0.0"


@pytest.mark.anyio
async def test_a_program_that_is_well(tmp_path: Path) -> None:
    examiner = Examiner(lambda: classes(tmp_path, 'health = { command = ["true"] }'))
    assert await examiner.run(DEVICE, UsbAddress(topology="1-2"), "2.0.0") == ""


@pytest.mark.anyio
async def test_inv2_a_program_that_is_not_there_says_nothing_of_the_device(tmp_path: Path) -> None:
    examiner = Examiner(lambda: classes(tmp_path, 'health = { command = ["/nowhere/is-well"] }'))
    with pytest.raises(CannotTell, match="/nowhere/is-well: cannot be run: No such file"):
        await examiner.run(DEVICE, SerialAddress(path="/dev/ttyACM0"), "2.0.0")


@pytest.mark.anyio
async def test_a_port_that_does_not_open_is_for_the_caller_to_judge(tmp_path: Path) -> None:
    examiner = Examiner(lambda: classes(tmp_path, 'health = { query = { send = "?", expect = "!" } }'))
    with pytest.raises(LinkError):
        await examiner.ask(DEVICE, SerialAddress(path=os.fspath(tmp_path / "ttyACM0")), "2.0.0")


@pytest.mark.anyio
@pytest.mark.parametrize("keys", [(), ("health = {}",)])
async def test_what_a_reload_took_away_is_not_found_out(tmp_path: Path, keys: tuple[str, ...]) -> None:
    for examiner in (Examiner(lambda: classes(tmp_path, *keys)), Examiner(dict)):
        port = SerialAddress(path=os.fspath(tmp_path / "ttyACM0"))
        assert await examiner.ask(DEVICE, port, "2.0.0") == ""
        assert await examiner.run(DEVICE, port, "2.0.0") == ""
        assert await examiner.ask(replace(DEVICE, label=""), UsbAddress(topology="1-2"), "2.0.0") == ""

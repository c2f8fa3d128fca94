"""Owners of ports: units of systemd, asked with systemctl, and whatever two commands stop and start."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.service.port_owner import CommandOwner, OwnerStays, UnitOwner, owner_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SYSTEMCTL = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "asked").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
verb = next(each for each in sys.argv[1:] if not each.startswith("-"))
answer = json.loads((here / "answers").read_text())[verb]
print(answer[0])
sys.exit(answer[1])
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that says what it is told to; in its directory, what it was asked."""
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def answers(systemctl: Path, **said: tuple[str, int]) -> None:
    (systemctl / "answers").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        ("active", True),
        ("reloading", True),
        ("activating", True),
        ("inactive", False),
        ("failed", False),
        ("deactivating", False),
    ],
)
async def test_a_unit_is_to_be_stopped_where_it_was_to_run(systemctl: Path, state: str, runs: bool) -> None:
    answers(systemctl, show=(f"LoadState=loaded\nActiveState={state}", 0))
    assert await UnitOwner("gpsd.service").runs() is runs
    asked = (systemctl / "asked").read_text()
    assert asked == "--no-ask-password show --property=LoadState,ActiveState -- gpsd.service\n"


@pytest.mark.parametrize("load", ["not-found", "masked", "bad-setting", "error"])
async def test_a_unit_that_could_not_be_started_again_is_not_stopped(systemctl: Path, load: str) -> None:
    answers(systemctl, show=(f"LoadState={load}\nActiveState=active", 0))
    with pytest.raises(OwnerStays, match=f"systemd calls it {load}, and could not start it again"):
        await UnitOwner("gpsd.service").runs()


async def test_a_systemctl_that_says_nothing_useful_is_not_believed(systemctl: Path) -> None:
    answers(systemctl, show=("", 0))
    with pytest.raises(OwnerStays, match="systemd calls it nothing"):
        await UnitOwner("gpsd.service").runs()


async def test_what_systemctl_complains_of_is_told(systemctl: Path) -> None:
    denied = "Failed to stop gpsd.service: Access denied"
    answers(systemctl, stop=(denied, 4), start=("", 0))
    owner = UnitOwner("gpsd.service")
    with pytest.raises(OwnerStays, match=f"systemctl stop: exit status 4: {denied}"):
        await owner.stop()
    await owner.start()


@pytest.mark.parametrize(("state", "back"), [("active", True), ("failed", False), ("activating", False)])
async def test_a_unit_that_may_not_be_started_is_back_where_it_runs(
    systemctl: Path, state: str, back: bool
) -> None:
    answers(systemctl, start=("Access denied", 4), show=(f"LoadState=loaded\nActiveState={state}", 0))
    if back:
        await UnitOwner("gpsd.service").start()
    else:
        with pytest.raises(OwnerStays, match="systemctl start: exit status 4: Access denied"):
            await UnitOwner("gpsd.service").start()


async def test_a_system_without_systemd_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OwnerStays, match="systemctl show: cannot be run: No such file or directory"):
        await UnitOwner("gpsd.service").runs()


def sh(program: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", program


async def test_commands_stop_and_start(tmp_path: Path) -> None:
    here = tmp_path / "here"
    owner = CommandOwner(sh(f"rm {here}"), sh(f"touch {here}"))
    await owner.start()
    assert await owner.runs()
    await owner.stop()
    assert not here.exists()
    with pytest.raises(OwnerStays, match="/bin/sh: exit status 1: "):
        await owner.stop()


def test_an_owner_is_called_what_reads_well_in_a_sentence() -> None:
    assert UnitOwner("gpsd.service").title == "gpsd.service"
    owner = CommandOwner(("/usr/bin/reader", "leave it", "now"), ("/usr/bin/reader", "go on"))
    assert owner.title == "the program behind `/usr/bin/reader 'leave it' now`"


async def test_inv6_a_command_that_hangs_is_ended_in_time() -> None:
    owner = CommandOwner(sh("sleep 60"), sh(""), patience_s=0.2)
    with pytest.raises(OwnerStays, match=r"took longer than 0\.2 s and was ended"):
        await owner.stop()


async def test_inv5_an_owner_is_made_again_from_its_name_in_the_store() -> None:
    for owner in (UnitOwner("serial-getty@ttyS0.service"), CommandOwner(("a b", '"'), ("c", "[d]", ""))):
        assert owner_of(owner.key, ()) == owner
        patient = replace(owner, patience_s=300.0)
        assert owner_of(owner.key, (UnitOwner("other.service"), patient)) is patient

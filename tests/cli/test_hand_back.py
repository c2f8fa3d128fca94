"""``hand-back`` as a unit runs it when the daemon is gone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from firmwarden.app.places import STATE_FILE
from firmwarden.store.lock import lock
from support.backups import in_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A class whose owner shows whether it is there by a file."""
    (tmp_path / "state").mkdir()
    file = tmp_path / "firmwarden.toml"
    file.write_text(f"""
[firmwarden]
firmware_dir = "{tmp_path}/firmware"
state_dir = "{tmp_path}/state"
[[device]]
name = "panel"
driver = "mdfu"
match = {{ path = "/dev/ttyUSB0" }}
hand_over = {{ stop = ["/bin/rm", "{tmp_path}/guard"], start = ["/bin/touch", "{tmp_path}/guard"] }}
""")
    return file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def owner(tmp_path: Path, start: str = "/bin/touch") -> str:
    return json.dumps([["/bin/rm", f"{tmp_path}/guard"], [start, f"{tmp_path}/guard"]])


def test_inv5_whoever_a_dead_daemon_left_stopped_is_started_once(
    run_alone: Run, config: Path, state: Path, tmp_path: Path
) -> None:
    in_state(state, lambda ledger: ledger.hand_over(owner(tmp_path), 1_700_000_000.0))
    assert run_alone("hand-back", "--config", f"{config}").exit_code == 0
    assert (tmp_path / "guard").exists()
    assert in_state(state, lambda ledger: ledger.handed_over()) == {}
    (tmp_path / "guard").unlink()
    assert run_alone("hand-back", "--config", f"{config}").exit_code == 0
    assert not (tmp_path / "guard").exists(), "who stopped it now was somebody else"


def test_inv5_an_owner_that_left_the_configuration_is_started_too(
    run_alone: Run, config: Path, state: Path, tmp_path: Path
) -> None:
    in_state(state, lambda ledger: ledger.hand_over(owner(tmp_path), 1_700_000_000.0))
    config.write_text(config.read_text().partition("[[device]]")[0])
    assert run_alone("hand-back", "--config", f"{config}").exit_code == 0
    assert (tmp_path / "guard").exists()


def test_inv5_who_cannot_be_started_stays_noted(
    run_alone: Run, config: Path, state: Path, tmp_path: Path
) -> None:
    in_state(state, lambda ledger: ledger.hand_over(owner(tmp_path, "/bin/false"), 1_700_000_000.0))
    done = run_alone("hand-back", "--config", f"{config}")
    assert done.exit_code == 1
    assert "port-not-returned" in done.output
    assert "/bin/false: exit status 1" in done.output
    assert len(in_state(state, lambda ledger: ledger.handed_over())) == 1


def test_nothing_is_made_where_there_is_no_state(run_alone: Run, config: Path, state: Path) -> None:
    assert run_alone("hand-back", "--config", f"{config}").exit_code == 0
    assert list(state.iterdir()) == []


def test_a_running_daemon_is_left_to_do_it_itself(
    run_alone: Run, config: Path, state: Path, tmp_path: Path
) -> None:
    in_state(state, lambda ledger: ledger.hand_over(owner(tmp_path), 1_700_000_000.0))
    held = lock(state / STATE_FILE)
    try:
        done = run_alone("hand-back", "--config", f"{config}")
    finally:
        os.close(held)
    assert done.exit_code == 1
    assert not (tmp_path / "guard").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_inv8_root_runs_no_command_that_another_user_put_into_the_state(
    run_alone: Run, config: Path, state: Path, tmp_path: Path
) -> None:
    in_state(state, lambda ledger: ledger.hand_over(owner(tmp_path), 1_700_000_000.0))
    os.chown(state, 65_534, -1)
    done = run_alone("hand-back", "--config", f"{config}")
    assert done.exit_code == 1
    assert "`sudo -u nobody firmwarden hand-back`" in " ".join(done.output.split())
    assert not (tmp_path / "guard").exists()


def test_inv8_a_configuration_that_is_refused_says_so(run_alone: Run, config: Path) -> None:
    config.write_text("[firmwarden")
    done = run_alone("hand-back", "--config", f"{config}")
    assert done.exit_code == 1
    assert f"{config}" in done.output

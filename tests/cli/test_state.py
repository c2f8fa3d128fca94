"""``backup`` and ``restore`` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmwarden.app.places import STATE_FILE
from firmwarden.model import Rollout, RolloutState
from firmwarden.store.lock import lock
from support.backups import in_state, make_state
from support.gateway import PROGRAM
from support.stored import NOON, PANEL, image

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    make_state(tmp_path / "state")
    file = tmp_path / "firmwarden.toml"
    file.write_text(
        f'[firmwarden]\nfirmware_dir = "{tmp_path}/firmware"\nstate_dir = "{tmp_path}/state"\n'
        f'socket = "{tmp_path}/control.sock"\n'
    )
    return file


def test_what_was_being_rolled_out_is_named_with_what_lets_it_go_on(
    run_alone: Run, config: Path, tmp_path: Path
) -> None:
    goes_out = Rollout(
        device_class=PANEL,
        image=image(1),
        version="1.0.0",
        state=RolloutState.CANARY,
        began_at=NOON,
        wave_at=NOON,
    )
    in_state(tmp_path / "state", lambda ledger: ledger.keep_rollout(goes_out))
    run_alone("backup", f"{tmp_path}/b.tar", "--config", f"{config}")
    done = run_alone("restore", f"{tmp_path}/b.tar", "--config", f"{config}")
    assert "look at `firmwarden rollout`, then `firmwarden resume panel`." in " ".join(done.output.split())


def test_there_and_back(run_alone: Run, config: Path, tmp_path: Path) -> None:
    done = run_alone("backup", f"{tmp_path}/b.tar", "--config", f"{config}")
    assert done.exit_code == 0
    assert " ".join(done.output.split()) == f"{tmp_path}/b.tar has the state of 1 device and 2 images."
    done = run_alone("restore", f"{tmp_path}/b.tar", "--config", f"{config}")
    assert done.exit_code == 0
    assert done.output.startswith("Restored a backup of 20")
    assert "- Closed 1 job that waited or ran then." in done.output
    assert f"- The state of before is in {tmp_path}/state/before-restore-" in " ".join(done.output.split())
    (action, _) = in_state(tmp_path / "state", lambda ledger: ledger.actions(5))
    assert (action.what, action.target) == ("restore", "all")
    assert action.who


def test_json(run_alone: Run, config: Path, tmp_path: Path) -> None:
    done = run_alone("backup", f"{tmp_path}/b.tar", "--json", "--config", f"{config}")
    said = json.loads(done.output)
    assert (said["event"], said["devices"], said["images"], said["missing_images"]) == (
        "backup-finished",
        1,
        2,
        [],
    )
    (tmp_path / "state" / STATE_FILE).unlink()
    for log in (tmp_path / "state").glob(f"{STATE_FILE}-*"):
        log.unlink()
    done = run_alone("restore", f"{tmp_path}/b.tar", "--json", "--config", f"{config}")
    told = json.loads(done.output)
    assert (told["event"], told["made_at"], told["not_known"], told["aside"]) == (
        "restore-finished",
        said["made_at"],
        1,
        None,
    )


def test_a_lost_state_is_told(run_alone: Run, config: Path, tmp_path: Path) -> None:
    run_alone("backup", f"{tmp_path}/b.tar", "--config", f"{config}")
    for file in (tmp_path / "state").glob(f"{STATE_FILE}*"):
        file.unlink()
    done = run_alone("restore", f"{tmp_path}/b.tar", "--config", f"{config}")
    said = " ".join(done.output.split())
    assert "What 1 of them runs is not known any more" in said
    assert "worn flash and latches too, is lost" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("backup", "{place}/firmwarden.toml"), "exists already"),
        (("backup", "{place}/nowhere/b.tar"), "No such file or directory"),
        (("restore", "{place}/firmwarden.toml"), "firmwarden.toml is refused: it is cut off"),
        (("restore", "{place}/nowhere.tar"), "No such file or directory"),
        (("restore", "{place}"), "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_said(
    run_alone: Run, config: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    done = run_alone(*(each.format(place=tmp_path) for each in arguments), "--config", f"{config}")
    assert done.exit_code == 1
    assert reason in " ".join(done.output.split())
    assert in_state(tmp_path / "state", lambda ledger: len(ledger.actions(5))) == 1


def test_beside_the_daemon_nothing_is_restored(run_alone: Run, config: Path, tmp_path: Path) -> None:
    run_alone("backup", f"{tmp_path}/b.tar", "--config", f"{config}")
    descriptor = lock(tmp_path / "state" / STATE_FILE)
    try:
        done = run_alone("restore", f"{tmp_path}/b.tar", "--config", f"{config}")
    finally:
        os.close(descriptor)
    assert done.exit_code == 1
    assert "another firmwarden uses this state directory" in " ".join(done.output.split())


@pytest.mark.slow
def test_through_a_pipe_and_what_root_restores_is_the_daemons(config: Path, tmp_path: Path) -> None:
    owner = 65_534 if os.getuid() == 0 else os.getuid()
    # Not below the directory of the tests, into which root lets nobody.
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        shutil.move(tmp_path / "state", state)
        if os.getuid() == 0:
            for each in (Path(name), state, *state.rglob("*")):
                os.chown(each, owner, -1)
        config.write_text(config.read_text().replace(f"{tmp_path}/state", f"{state}"))
        backup = subprocess.run(
            [*PROGRAM, "backup", "-", "--config", config], stdout=subprocess.PIPE, check=True
        )
        subprocess.run([*PROGRAM, "restore", "-", "--config", config], input=backup.stdout, check=True)
        assert {each.stat().st_uid for each in state.rglob("*")} == {owner}
        assert in_state(state, lambda ledger: ledger.actions(1)[0].what) == "restore"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be others")
def test_inv8_root_follows_no_link_that_the_daemons_user_left_in_the_state(
    run_alone: Run, config: Path, tmp_path: Path
) -> None:
    run_alone("backup", f"{tmp_path}/b.tar", "--config", f"{config}")
    state, kept = tmp_path / "state", tmp_path / "kept"
    kept.mkdir()
    (kept / "shadow").write_text("of root")
    os.chown(state, 65_534, -1)

    def restore() -> int:
        return run_alone("restore", f"{tmp_path}/b.tar", "--config", f"{config}").exit_code

    (state / "images" / "link").symlink_to(kept / "shadow")
    assert restore() == 0
    (state / "images").rename(state / "moved")
    (state / "images").symlink_to(kept)
    assert restore() == 1
    (state / "images").unlink()
    (state / "moved").rename(state / "images")
    (state / f"{STATE_FILE}.lock").unlink()
    (state / f"{STATE_FILE}.lock").symlink_to(kept / "shadow")
    assert restore() == 1
    assert [path.name for path in kept.iterdir()] == ["shadow"]
    assert {path.stat().st_uid for path in (kept, kept / "shadow")} == {0}
    assert (kept / "shadow").read_text() == "of root"


def test_a_terminal_gets_no_backup(config: Path) -> None:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [*PROGRAM, "backup", "-", "--config", config],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 1
    assert "no text for a terminal" in done.stderr

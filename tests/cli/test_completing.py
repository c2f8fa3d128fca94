"""What is offered while somebody types, in the words of each shell."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import get_completion_class

from firmwarden.cli import main
from firmwarden.cli.root import LAZY, SECTIONS
from support.memory_desk import IMAGE_B, WRONG_DEVICE, MemoryDesk, a_device, a_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.served import Served

    Offered = Callable[..., list[str]]

BASH = shutil.which("bash") or "bash"


@pytest.fixture
def offered(api: Served, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Complete the last word as a shell would have it."""
    monkeypatch.setenv("FIRMWARDEN_SOCKET", str(api.path))

    def complete(*words: str, shell: str = "bash") -> list[str]:
        monkeypatch.setenv("COMP_WORDS", shlex.join(["firmwarden", *words]))
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
        kind = get_completion_class(shell)
        assert kind is not None
        return kind(main, {}, "firmwarden", "_FIRMWARDEN_COMPLETE").complete().splitlines()

    return complete


def test_commands_are_offered_without_importing_them(offered: Offered) -> None:
    names = [command.name for commands in SECTIONS.values() for command in commands]
    assert offered("") == [f"plain,{name}" for name in (*names, *LAZY)]
    assert offered("un") == ["plain,unhold"]
    assert offered("simulate", "m") == ["plain,mdfu"]
    assert offered("--v") == ["plain,--version"]


@pytest.mark.parametrize(
    "words",
    [
        ("why", ""),
        ("history", ""),
        ("retry", ""),
        ("retry", "--wait", ""),
        ("pin", ""),
        ("adopt", ""),
        ("adopt", "panel-1", ""),
        ("forget", ""),
    ],
)
def test_devices_are_offered_by_id_and_by_label(offered: Offered, desk: MemoryDesk, words: list[str]) -> None:
    desk.fleet["panel-1"]["label"] = "north-wall"
    assert offered(*words) == ["plain,panel-1", "plain,lamp-2", "plain,north-wall"]
    assert offered(*words[:-1], "n") == ["plain,north-wall"]


@pytest.mark.parametrize("command", ["hold", "unhold"])
def test_all_is_offered_to_a_hold(offered: Offered, command: str) -> None:
    assert offered(command, "") == ["plain,all", "plain,panel-1", "plain,lamp-2"]


def test_jobs_that_may_be_cancelled(offered: Offered, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["job"] = a_job(id=12)
    desk.fleet["lamp-2"]["job"] = a_job(id=13, state="failed")
    assert offered("cancel", "") == ["plain,12"]


def test_what_is_latched(offered: Offered, desk: MemoryDesk) -> None:
    desk.latched = [
        {
            "id": number,
            "scope": scope,
            "device": device,
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:59:00Z",
            "clear": "",
        }
        for number, (scope, device) in enumerate([("pair", "panel-1"), ("image", None)])
    ]
    assert offered("clear", "") == ["plain,panel-1", f"plain,{IMAGE_B[:12]}"]


def test_versions_there_are_for_the_device(offered: Offered, desk: MemoryDesk) -> None:
    desk.shelf[1]["device_class"] = "lamp"
    assert offered("pin", "panel-1", "") == ["plain,none", "plain,2.4.0"]
    assert offered("adopt", "panel-1", "--running", "2") == ["plain,2.4.0", "plain,2.5.0"]
    assert offered("pin", "nobody", "") == []


def test_other_shells_are_told_what_it_is(offered: Offered, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["label"] = "north\nwall\t$(reboot)"
    assert offered("why", "p", shell="fish") == [r"plain,panel-1	north\nwall\t$(reboot), front-panel"]
    assert offered("why", "p", shell="zsh") == ["plain", "panel-1", r"north\nwall\t$(reboot), front-panel"]


def test_a_label_that_a_shell_takes_for_more_than_a_word_is_left_to_its_id(
    offered: Offered, desk: MemoryDesk
) -> None:
    for label in ("north wall", "$(reboot)", "*", "a;b", "a\nplain,b", "it's", "-v é"):
        desk.fleet["panel-1"]["label"] = label
        assert offered("why", "") == ["plain,panel-1", "plain,lamp-2"]


def test_a_daemon_that_does_not_answer_is_no_news(
    offered: Offered, api: Served, desk: MemoryDesk, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    desk.defect = True
    desk.store_problem = "the disk is full"
    nowhere = str(tmp_path / "nowhere.sock")
    assert offered("why", "--socket", nowhere, "") == []
    assert offered("why", "--config", nowhere, "") == []
    api.stop()
    for words in (("why", ""), ("pin", "panel-1", ""), ("cancel", ""), ("clear", "")):
        assert offered(*words) == []
    assert capfd.readouterr() == ("", "")


def test_a_daemon_that_hangs_is_not_waited_for(
    offered: Offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        monkeypatch.setattr("firmwarden.cli.completing.ANSWER_S", 0.01)
        assert offered("why", "--socket", str(tmp_path / "silent.sock"), "") == []


def test_in_a_real_bash(api: Served, desk: MemoryDesk, tmp_path: Path) -> None:
    """With its own quoting, word breaks and globbing."""
    desk.fleet["star"] = a_device(id="star-3", label="*")
    command = tmp_path / "firmwarden"
    command.write_text(f"#!{sys.executable}\nfrom firmwarden.cli import main\nmain()\n")
    command.chmod(0o755)
    script = """
        eval "$(_FIRMWARDEN_COMPLETE=bash_source firmwarden)"
        [[ $(complete -p firmwarden) == *_firmwarden_completion* ]] || echo "not registered"
        COMP_WORDS=(firmwarden why ""); COMP_CWORD=2
        _firmwarden_completion firmwarden
        printf '<%s>' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [BASH, "--norc", "-c", script],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FIRMWARDEN_SOCKET": str(api.path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("<panel-1><lamp-2><star-3>", "")

"""Files of workloads: what holds a class, for how long, and what a strange file does to nobody."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.model import ClassName, Wait, WaitKind
from firmwarden.service.inhibitors import SLOW_S, Inhibitor, Inhibitors, Seen, look

if TYPE_CHECKING:
    from pathlib import Path

PANEL: Final = ClassName("panel")
MOTOR: Final = ClassName("motor")
US: Final = pwd.getpwuid(os.geteuid()).pw_name
NOON: Final = 1_700_000_000.0


class HandClock:
    """Goes when a test moves it; real threads look at files meanwhile."""

    def __init__(self) -> None:
        self.wall_s, self.boot_s = NOON, 1000.0

    def wall(self) -> float:
        return self.wall_s

    def boot(self) -> float:
        return self.boot_s

    def go(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds


class Bench:
    """One class with a file, for ten minutes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = HandClock()
        self.changes = 0
        self.inhibitors = Inhibitors(self.clock, self._count)
        self.inhibitors.configure({PANEL: Inhibitor(path, 600.0)})

    def _count(self) -> None:
        self.changes += 1

    async def look(self) -> Wait | None:
        """Look once, and return what the class waits for."""
        async with anyio.create_task_group() as tasks:
            self.inhibitors.look(tasks)
        return self.inhibitors.waits().get(PANEL)

    def touch(self, text: str = "a customer is paying", *, ago_s: float = 0.0) -> None:
        """Write the file, by a clock that goes ``ago_s`` after ours."""
        self.path.write_text(text)
        at = self.clock.wall() - ago_s
        os.utime(self.path, (at, at))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "busy")


# --- what is seen of a file -----------------------------------------------------------------------------------


def test_the_first_line_is_the_reason_and_the_owner_of_the_file_whose_hold_it_is(tmp_path: Path) -> None:
    file = tmp_path / "busy"
    assert look(file) is None
    assert look(file / "below a file that is none") is None
    file.write_text("  a customer is paying \nat till 3\n")
    seen = look(file)
    assert seen is not None
    assert (seen.owner, seen.reason) == (US, "a customer is paying")
    file.touch()
    touched = look(file)
    assert touched is not None
    assert touched.touched != seen.touched


@pytest.mark.parametrize("content", [b"", b"\n\n", b"   \nlater"])
def test_a_file_need_not_say_why(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "busy").write_bytes(content)
    seen = look(tmp_path / "busy")
    assert seen is not None
    assert seen.reason == "no reason given"


def test_an_owner_without_a_name_is_told_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(user: int) -> object:
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    (tmp_path / "busy").touch()
    seen = look(tmp_path / "busy")
    assert seen is not None
    assert seen.owner == f"user {os.geteuid()}"


def test_inv8_what_a_file_says_is_short_and_acts_on_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "busy").write_bytes(b"\x1b[2J\xff" + b"x" * 1_000_000)
    seen = look(tmp_path / "busy")
    assert seen is not None
    assert seen.reason.startswith("\\x1b[2J\ufffdxxx")
    assert len(seen.reason) == 200


def test_inv8_what_is_no_file_holds_and_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "busy"
    os.mkfifo(place)
    assert_holds(place, "it is a pipe, not a regular file")
    place.unlink()
    place.symlink_to("/etc/passwd")
    assert_holds(place, "it is a symbolic link, not a regular file")
    place.unlink()
    place.mkdir()
    assert_holds(place, "it is a directory, not a regular file")
    place.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        assert_holds(place, "it is a socket, not a regular file")


def assert_holds(place: Path, reason: str) -> None:
    seen = look(place)
    assert seen is not None
    assert seen.reason == reason


def test_a_reason_that_cannot_be_read_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "busy").touch()
    monkeypatch.setattr(os, "open", refuses)
    assert_holds(tmp_path / "busy", "its reason cannot be read: Permission denied")


# --- how long it counts ---------------------------------------------------------------------------------------

pytestmark = pytest.mark.anyio


async def test_a_class_is_held_until_somebody_has_looked(bench: Bench) -> None:
    wait = bench.inhibitors.waits()[PANEL]
    assert (wait.kind, wait.until) == (WaitKind.HOLD, None)
    assert "was not looked at yet" in wait.detail
    assert await bench.look() is None
    assert bench.changes == 1


async def test_a_file_holds_its_class_and_lets_go_when_it_goes(bench: Bench) -> None:
    bench.touch()
    assert await bench.look() == Wait(
        kind=WaitKind.HOLD,
        detail=f"its class is held by {US} with {bench.path}: a customer is paying",
        until=bench.clock.wall() + 600.0,
    )
    assert (await bench.look(), bench.changes) == (await bench.look(), 1), "nothing new, so nobody is told"
    bench.path.unlink()
    assert await bench.look() is None
    assert bench.changes == 2


async def test_a_file_that_nobody_touches_any_more_ends_by_itself(bench: Bench) -> None:
    bench.touch()
    await bench.look()
    bench.clock.go(599.0)
    assert await bench.look() is not None
    bench.touch()
    bench.clock.go(599.0)
    assert await bench.look() is not None, "it was touched"
    bench.clock.go(1.0)
    assert await bench.look() is None


async def test_one_of_long_ago_does_not_hold_at_all(bench: Bench) -> None:
    bench.touch(ago_s=3600.0)
    assert await bench.look() is None


async def test_one_of_a_clock_that_is_ahead_counts_no_longer_than_any_other(bench: Bench) -> None:
    bench.touch(ago_s=-86_400.0)
    wait = await bench.look()
    assert wait is not None
    assert wait.until == bench.clock.wall() + 600.0


async def test_a_clock_that_is_set_makes_no_hold_longer_or_shorter(bench: Bench) -> None:
    bench.touch()
    await bench.look()
    bench.clock.wall_s -= 86_400.0
    bench.clock.go(599.0)
    wait = await bench.look()
    assert wait is not None
    assert wait.until == bench.clock.wall() + 1.0
    bench.clock.go(1.0)
    assert await bench.look() is None


async def test_what_cannot_be_looked_at_holds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    assert await bench.look() is None
    with monkeypatch.context() as patch:
        patch.setattr(type(bench.path), "lstat", refuses)
        wait = await bench.look()
    assert wait == Wait(
        kind=WaitKind.HOLD,
        detail=f"{bench.path}, with which a workload may hold its class, cannot be looked at: Permission denied",
    )
    assert await bench.look() is None
    assert bench.changes == 3


async def test_inv6_a_place_that_does_not_answer_holds_its_class_and_no_other(tmp_path: Path) -> None:
    clock, answers = HandClock(), threading.Event()

    def slow(path: Path) -> Seen | None:
        if path.name == "remote":
            answers.wait(20.0)
        return look(path)

    inhibitors = Inhibitors(clock, lambda: None, seen_at=slow)
    inhibitors.configure({PANEL: Inhibitor(tmp_path / "remote"), MOTOR: Inhibitor(tmp_path / "local")})
    try:
        async with anyio.create_task_group() as tasks:
            inhibitors.look(tasks)
            with anyio.fail_after(20.0):
                while MOTOR in inhibitors.waits():  # noqa: ASYNC110  until its thread has looked
                    await anyio.sleep(0.01)
            clock.go(SLOW_S + 1.0)
            inhibitors.look(tasks)  # the other one is not looked at twice at once
            assert inhibitors.waits()[PANEL].detail.endswith("may hold its class, does not answer")
            answers.set()
    finally:
        answers.set()
    assert inhibitors.waits() == {}


async def test_a_reload_keeps_what_was_seen_of_a_file_that_stays(bench: Bench, tmp_path: Path) -> None:
    bench.touch()
    before = await bench.look()
    bench.inhibitors.configure({PANEL: Inhibitor(bench.path, 600.0), MOTOR: Inhibitor(tmp_path / "other")})
    assert bench.inhibitors.waits()[PANEL] == before
    assert "not looked at yet" in bench.inhibitors.waits()[MOTOR].detail
    bench.inhibitors.configure({PANEL: Inhibitor(bench.path, 60.0)})
    assert "not looked at yet" in bench.inhibitors.waits()[PANEL].detail
    bench.inhibitors.configure({})
    assert bench.inhibitors.waits() == {}


async def test_files_are_looked_at_again_and_again(bench: Bench) -> None:
    with anyio.fail_after(20.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.inhibitors.run, lambda: 0.01)
            for count in (1, 2, 3):
                while bench.changes < count:  # noqa: ASYNC110  the thread tells nobody else
                    await anyio.sleep(0.01)
                if bench.path.exists():
                    bench.path.unlink()
                else:
                    bench.touch()
            tasks.cancel_scope.cancel()

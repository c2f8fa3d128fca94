"""What the demo tells while it watches, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.cli.demo.role import Role
from firmwarden.cli.demo.stage import Stage
from firmwarden.cli.demo.telling import Telling
from support.memory_desk import MemoryDesk, a_device

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from support.served import Served


def test_it_tells_all_that_brought_about_what_it_waited_for(
    api: Served, desk: MemoryDesk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The daemon's answers are ahead of its stream of events."""
    desk.fleet = {name: a_device(id=name, port=name) for name in ("a", "b", "c")}
    cast = [Role(name=f"meter-{name}", story="") for name in desk.fleet]
    telling = Telling(Stage(tmp_path), cast, {name: f"meter-{name}" for name in desk.fleet})
    for name in desk.fleet:
        waits = {"event": "job-waiting", "device": name, "wait": "window", "detail": "none is open"}
        api.call(lambda data=waits: desk.publish("log", **data))
    telling.watch(until=lambda: True, patience_s=30.0)
    assert capsys.readouterr().out.splitlines() == [
        f"meter-{name}  waits: none is open" for name in desk.fleet
    ]

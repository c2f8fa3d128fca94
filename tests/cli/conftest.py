"""A daemon's API for the command line to talk to, and the command line in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from firmwarden.cli import main
from support.memory_desk import MemoryDesk, a_device
from support.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., Result]


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk(a_device(id="panel-1", label="north wall"), a_device(id="lamp-2"))


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock") as running:
        yield running


@pytest.fixture
def run_alone(tmp_path: Path) -> Run:
    """Run the command line where there is no daemon."""

    def invoke(*arguments: str) -> Result:
        environment = {"FIRMWARDEN_SOCKET": str(tmp_path / "control.sock"), "COLUMNS": "200"}
        result = CliRunner().invoke(main, arguments, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def run(api: Served, run_alone: Run) -> Run:
    """Run the command line beside a daemon."""
    assert api.path.exists()
    return run_alone

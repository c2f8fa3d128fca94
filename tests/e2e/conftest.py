"""A gateway for each test; everything here is as slow as real processes are."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.gateway import LOADER, Gateway, Rack, image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.processes import Process

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(90))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Process, Rack | None]]]:
    """Updates that are given up after a minute: nobody listens, or nobody answers any more after END_TRANSFER."""
    made = Gateway(tmp_path_factory.mktemp("minutes"))
    new = made.place / "new.img"
    new.write_bytes(image())
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    quiet = made.rack("quiet", *LOADER, "--fault", "cut@step=end-transfer,back=0.2")
    yield {
        "exhausted": (made.begin("update", new, "--tcp", closed, "--json"), None),
        "unknown": (made.begin("update", new, "--serial", quiet.addresses["quiet-0001"], "--json"), quiet),
    }
    made.close()


@pytest.fixture(scope="session", autouse=True)
def _start_the_minutes_first(request: pytest.FixtureRequest) -> None:
    """Begin with what takes long, so that in the end nobody waits for it."""
    if any("minutes" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("minutes")

"""The status page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.chromium import Visits, chromium
from support.memory_desk import MemoryDesk
from support.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_HERE = Path(__file__).parent

expect.set_options(
    timeout=20_000
)  # what is waited for takes a second at most; a machine under load takes longer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(90))


# Not for the whole session: playwright keeps an event loop in the thread of the tests while its browser lives.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    with Visits(browser) as made:
        yield made


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def gateway_page(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock", tcp=True) as running:
        yield running

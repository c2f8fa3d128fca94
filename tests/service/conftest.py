"""Every test of the service also tests that its log keeps to the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from firmwarden.events import CATALOGUE, LogEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the service logs, as data."""
    with capture_logs() as entries:
        yield entries
    for entry in entries:
        known = CATALOGUE[LogEvent(entry["event"])]
        assert entry["log_level"] == known.level, entry
        assert entry.keys() - {"event", "log_level", "exc_info"} <= set(known.keys), entry

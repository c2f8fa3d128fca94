"""How often each reader was tried, as a table at the end of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_EXAMPLES: Final = pytest.StashKey[dict[str, int]]()


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> dict[str, int]:
    """How many inputs each target was given."""
    return request.config.stash.setdefault(_EXAMPLES, {})


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say after a campaign what it tried."""
    if config.getoption("--fuzz-minutes"):
        terminalreporter.section("inputs tried")
        for name, count in config.stash.get(_EXAMPLES, {}).items():
            terminalreporter.write_line(f"{count:>10} {name}")

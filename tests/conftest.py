"""What every test shares: the default backend, hypothesis profiles, and the rule that CI skips nothing."""

import faulthandler
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

_IN_CI = bool(os.environ.get("CI"))

# Deadlines and "too slow" judge the machine rather than the code, and ours is shared with other work.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same commit gives the same verdict; new examples are found on laptops.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
# For the other Pythons, which run what was judged already.
settings.register_profile("few", settings.get_profile("ci"), max_examples=10)
settings.load_profile("ci" if _IN_CI else "dev")


# What our programs print must not depend on the terminal in which the tests run.
for _variable in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(_variable, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make campaign` ask for more of what `make test` only samples."""
    parser.addoption("--samples", type=int, default=40, help="cuts and kills to try in tests/faults")
    parser.addoption(
        "--fuzz-minutes", type=float, default=0, help="how long to go on in tests/fuzz, in total"
    )


@pytest.fixture(scope="session")
def samples(request: pytest.FixtureRequest) -> int:
    """How many randomly placed cuts or kills a fault test tries."""
    count = request.config.getoption("--samples")
    assert isinstance(count, int)
    return count


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Run on asyncio unless a module says otherwise: the daemon does.

    Drivers and service are also tested on trio, whose clock can be faked; those modules override this.
    """
    return "asyncio"


_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error, which is a file of pytest's while a test runs."""
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Watch over the teardown of a test that failed, too: pytest calls its watchdog off at the first failure.

    A thread that such a test leaves waiting would otherwise hold up the whole run for good.
    """
    seconds = float(node.config.getini("faulthandler_timeout"))
    faulthandler.dump_traceback_later(seconds, file=node.config.stash[_STDERR], exit=True)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _IN_CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped or expected to fail, which CI does not accept: {report.longrepr}"
        # pytest would go on calling it an expected failure.
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped or xfailed test into a failure in CI: a check that does not run checks nothing."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself as a whole."""
    report = yield
    _refuse_skip(report)
    return report

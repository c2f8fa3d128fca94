"""A gateway for the tests that run real processes, and seeds for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread the samples over runs: each has a seed, its number, and its share of them."""
    if "share" not in metafunc.fixturenames:
        return
    per_run: int = metafunc.module.SAMPLES_PER_RUN
    samples: int = metafunc.config.getoption("--samples")
    shares = [min(per_run, samples - start) for start in range(0, samples, per_run)]
    metafunc.parametrize(
        ("seed", "share"), list(enumerate(shares)), ids=[f"seed{seed}" for seed in range(len(shares))]
    )


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.close()

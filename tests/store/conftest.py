"""A ledger to try."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stored import bare_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.store.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with bare_ledger() as ledger:
        yield ledger

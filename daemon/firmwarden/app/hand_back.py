"""Starts whoever a daemon that is gone has left stopped, for a daemon that may not come back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from firmwarden.app import wiring
from firmwarden.app.places import STATE_FILE
from firmwarden.errors import Refused
from firmwarden.service.clock import SystemClock
from firmwarden.service.hand_over import HandOver
from firmwarden.service.people import name_of
from firmwarden.service.port_owner import owner_of
from firmwarden.store.store import Store

if TYPE_CHECKING:
    from firmwarden.config import Config


def hand_back(config: Config) -> bool:
    """Start again who is noted as stopped, once, and return whether nobody is any more; the log tells of each.

    Raises:
        Refused: the state is another user's.
        StoreError: the state cannot be used, or a daemon does.
    """
    database = config.settings.state_dir / STATE_FILE
    if not database.exists():
        return True

    async def work() -> bool:
        owner = config.settings.state_dir.stat().st_uid
        if owner != os.geteuid():
            # The commands may be known from the state alone: run by root they would be whatever its owner put there.
            name = await name_of(owner)
            raise Refused(
                f"the state is that of {name}, who alone may do that: `sudo -u {name} firmwarden hand-back`"
            )
        store = await Store.open(database)
        try:
            owners = [policy.hand_over for policy in wiring.policies(config).values() if policy.hand_over]
            hand_over = HandOver(store, SystemClock(), lambda key: owner_of(key, owners))
            await hand_over.recall()
            await hand_over.close()
            return not hand_over.problems
        finally:
            await store.aclose()

    return anyio.run(work)

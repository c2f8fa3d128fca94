"""The real daemon with one more task in its event loop, which notes how late it is woken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import anyio

from firmwarden import config, log
from firmwarden.app.daemon import Daemon
from firmwarden.service.feed import Feed
from firmwarden.transport.usb import real_usb

_EVERY_S: Final = 0.005


async def _tick(late_s: list[float]) -> None:
    due = anyio.current_time()
    while True:
        due += _EVERY_S
        await anyio.sleep_until(due)
        now = anyio.current_time()
        late_s.append(now - due)
        due = max(due, now - _EVERY_S)


async def _run(path: Path, late_s: list[float]) -> int:
    settings = config.load(path)
    feed = Feed()
    log.configure(settings.settings.log_level.value, publish=lambda event: feed.publish("log", event))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tick, late_s)
        status = await Daemon(path, settings, feed, real_usb(), {}).run()
        tasks.cancel_scope.cancel()
    return status


def main() -> int:
    """Run the daemon until a signal, then write down the lateness of every tick in seconds."""
    report, option, path = sys.argv[1:]
    assert option == "--config"
    late_s: list[float] = []
    try:
        return anyio.run(_run, Path(path), late_s)
    finally:
        Path(report).write_text(json.dumps(late_s), encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())

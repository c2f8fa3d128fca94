"""The daemon: reads the configuration, builds the service, runs it until a signal, and takes it down in order.

The order of starting: the store (what a kill left open is closed first), the control socket, then the watchers;
nothing is planned before the first scans of devices and releases are done.  The order of stopping: nothing new is
started, running transfers get their grace, then the watchers, the event streams and the store.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from anyio import to_thread

from firmwarden import __version__, config, log
from firmwarden.app import wiring
from firmwarden.app.activation import inherited_sockets
from firmwarden.app.admission import Admission
from firmwarden.app.examining import Examiner
from firmwarden.app.notify import ServiceManager, show_life
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.app.watching import Watching
from firmwarden.control.server import serve
from firmwarden.errors import BadConfig, SocketUnavailable, StoreError
from firmwarden.events import LogEvent
from firmwarden.images.cas import ImageStore
from firmwarden.protocol.mdfu.host import speaks_by_now
from firmwarden.service.clock import SystemClock
from firmwarden.service.desk import Desk
from firmwarden.service.feed import RUNS, Feed
from firmwarden.service.hooks import Hook, run_hook
from firmwarden.service.incoming import Incoming
from firmwarden.service.intake import Intake
from firmwarden.service.outcome import outcome_message
from firmwarden.service.pulse import Pulse
from firmwarden.service.recovery import log_recovered, recover
from firmwarden.service.registry import Registry
from firmwarden.service.warden import LAST_COMMAND_S, Warden
from firmwarden.store.store import Store
from firmwarden.transport.usb import real_usb

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from firmwarden.model import ImageHash
    from firmwarden.service.conclude import Conclusion
    from firmwarden.transport.usb import UsbBus

logger = structlog.get_logger()

_CLOSING_S: Final = 60.0
"""How long a stop may take after the last command: a transfer to a USB device is waited for, and the longest, the mass
erase of a big flash, takes 40 s."""


def run_daemon(config_path: Path, usb: UsbBus | None = None) -> int:
    """Run the daemon until a signal; returns its exit status.

    Args:
        config_path: the configuration.
        usb: a simulated USB instead of this machine's.
    """
    try:
        settings = config.load(config_path)
    except BadConfig as exc:
        sys.stderr.write(f"{exc}\nfirmwarden: not started, because {config_path} is refused whole\n")
        return 2
    feed = Feed(run=random.randrange(1, RUNS))  # noqa: S311  nobody gains by guessing it
    log.configure(settings.settings.log_level.value, publish=lambda event: feed.publish("log", event))
    try:
        daemon = Daemon(config_path, settings, feed, usb or real_usb(), inherited_sockets(os.environ))
        return anyio.run(daemon.run)
    except* (StoreError, SocketUnavailable) as group:
        for leaf in _leaves(group):
            sys.stderr.write(f"firmwarden: {leaf}\n")
    return 1


class StoredImages:
    """Reads images off the event loop, with places of its own so that nothing else waits for the disk."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self._limiter = anyio.CapacityLimiter(2)

    async def load(self, image: ImageHash) -> bytes:
        """Read and verify; see ``ImageStore.load``."""
        return await to_thread.run_sync(self._images.load, image, limiter=self._limiter)


class Daemon:
    """Everything that runs, and what a reload changes."""

    def __init__(
        self,
        config_path: Path,
        settings: config.Config,
        feed: Feed,
        usb: UsbBus,
        inherited: Mapping[str, Sequence[socket.socket]],
    ) -> None:
        self._config_path = config_path
        self._config = settings
        self._feed = feed
        self._usb = usb
        self._inherited = inherited
        self._classes = {each.name: each for each in settings.devices}
        self._config_problem = ""
        self._clock = SystemClock()
        self._started = self._clock.boot()
        self._on_terminal = sys.stderr.isatty()
        self._manager = ServiceManager(os.environ)

    async def run(self) -> int:
        """Run until a signal.

        Raises:
            StoreError: the state cannot be used.
            SocketUnavailable: the control socket cannot be opened.
        """
        settings = self._config.settings
        logger.info(LogEvent.DAEMON_STARTING, version=__version__, config=str(self._config_path))
        _tell_unsigned(self._config)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            images = ImageStore(settings.state_dir / IMAGES_DIR)
            await to_thread.run_sync(_prepare, settings, images)
            store = await Store.open(settings.state_dir / STATE_FILE)
            try:
                clock = self._clock
                log_recovered(await store.run(lambda ledger: recover(ledger, clock.wall(), speaks_by_now)))
                self._admission = Admission(settings, self._inherited)
                async with anyio.create_task_group() as tasks:
                    self._build(tasks, store, images)
                    await self._admission.configure(settings)
                    await tasks.start(serve, self._desk, self._admission.access, self._admission.listeners)
                    self._admission.tell()
                    self._watching.start(tasks)
                    tasks.start_soon(self._warden.run)
                    tasks.start_soon(self._pulse.run)
                    tasks.start_soon(self._tell_ready)
                    async for number in signals:
                        if number == signal.SIGHUP and not self._terminal_is_gone():
                            self._manager.reloading()
                            await self._reload()
                            if self._watching.first_scans.is_set():
                                self._manager.ready(self._status())
                        else:
                            break
                    await self._stop(signal.Signals(number), tasks, signals)
            finally:
                with anyio.CancelScope(shield=True):
                    await store.aclose()
        logger.info(LogEvent.DAEMON_STOPPED)
        return 0

    def _build(self, tasks: TaskGroup, store: Store, images: ImageStore) -> None:
        settings = self._config.settings
        registry = Registry(
            store=store,
            clock=self._clock,
            rules=wiring.rules(self._config),
            labels=wiring.labels(self._config),
        )
        self._warden = Warden(
            store=store,
            registry=registry,
            images=StoredImages(images),
            make_driver=wiring.driver_maker(lambda: self._classes, self._usb),
            feed=self._feed,
            clock=self._clock,
            dice=random.random,
            classes=wiring.policies(self._config),
            parallel=settings.parallel,
            hooks=wiring.hooks(self._config),
            on_conclusion=lambda conclusion, hook: _call_hook(tasks, conclusion, hook),
            examine=Examiner(lambda: self._classes),
        )
        intake = Intake(settings.firmware_dir, images, wiring.criteria(self._config), self._clock)
        self._watching = Watching(
            self._config,
            usb=self._usb,
            registry=registry,
            warden=self._warden,
            intake=intake,
            images=images,
            store=store,
        )
        self._pulse = Pulse(store, self._clock)
        self._desk = Desk(
            store=store,
            warden=self._warden,
            shelf=lambda: self._watching.shelf,
            problems=self._problems,
            pulse=self._pulse,
            incoming=Incoming(settings.firmware_dir, intake, self._watching.look_at_releases),
        )

    def _problems(self) -> list[str]:
        problems = (self._config_problem, *self._admission.problems, *self._watching.problems())
        return [problem for problem in problems if problem]

    async def _tell_ready(self) -> None:
        await self._watching.first_scans.wait()
        logger.info(
            LogEvent.DAEMON_READY,
            devices=len(self._warden.registry.plugged_at),
            releases=len(self._watching.shelf.releases),
            startup_s=round(self._clock.boot() - self._started, 3),
        )
        self._manager.ready(self._status())
        if self._manager.listens:
            await show_life(self._manager, self._warden, self._status)

    def _status(self) -> str:
        problems = self._problems()
        if self._warden.store_problem:
            problems.insert(0, self._warden.store_problem)
        if problems:
            return problems[0]
        return (
            f"devices here: {len(self._warden.registry.plugged_at)}, "
            f"being updated: {self._warden.busy}, releases: {len(self._watching.shelf.releases)}"
        )

    def _terminal_is_gone(self) -> bool:
        """Tell whether SIGHUP has its first meaning: whoever started the daemon by hand has closed the terminal."""
        return self._on_terminal and not sys.stderr.isatty()

    async def _reload(self) -> None:
        """Put another configuration in force; a bad one changes nothing and is reported."""
        try:
            new = await to_thread.run_sync(config.load, self._config_path)
        except BadConfig as exc:
            self._config_problem = (
                f"the configuration was refused at the last reload: {'; '.join(exc.problems)}"
            )
            logger.error(LogEvent.CONFIG_REFUSED, config=str(self._config_path), problems=list(exc.problems))
            return
        fixed = config.needs_restart(self._config, new)
        if fixed:
            self._config_problem = (
                f"a restart is needed for a change of {', '.join(fixed)}; nothing was changed"
            )
            logger.error(
                LogEvent.CONFIG_REFUSED, config=str(self._config_path), problems=[self._config_problem]
            )
            return
        self._config_problem = ""
        self._config = new
        self._classes = {each.name: each for each in new.devices}
        log.configure(new.settings.log_level.value, publish=lambda event: self._feed.publish("log", event))
        self._warden.configure(wiring.policies(new), new.settings.parallel, wiring.hooks(new))
        self._watching.configure(new)
        await self._admission.configure(new.settings)
        logger.info(LogEvent.CONFIG_RELOADED, config=str(self._config_path), classes=len(new.devices))
        _tell_unsigned(new)

    async def _stop(self, number: signal.Signals, tasks: TaskGroup, signals: object) -> None:
        """Stop in order; a second signal shortens the grace to nothing."""
        grace = self._config.settings.grace
        logger.info(
            LogEvent.DAEMON_STOPPING, signal=number.name, running=len(self._warden.worker.runs), grace_s=grace
        )
        self._manager.stopping(
            f"stopping; what is under way has {grace:g} s to finish", grace + LAST_COMMAND_S + _CLOSING_S
        )
        async with anyio.create_task_group() as impatience:
            impatience.start_soon(self._hear_again, signals)
            clean = await self._warden.stop(grace)
            impatience.cancel_scope.cancel()
        if not clean:
            logger.info(
                LogEvent.DAEMON_STOPPING, detail="what is under way does not end; its link is closed now"
            )
        self._feed.close()
        tasks.cancel_scope.cancel()

    async def _hear_again(self, signals: object) -> None:
        async for number in signals:  # type: ignore[attr-defined]  # anyio's receiver has no public name
            if number != signal.SIGHUP:
                self._warden.hurry_stop()


def _tell_unsigned(settings: config.Config) -> None:
    """Warn of what may be given to devices unsigned."""
    for device_class in settings.devices:
        if not device_class.require_signature:
            logger.warning(LogEvent.SIGNATURE_NOT_REQUIRED, device_class=device_class.name)


def _prepare(settings: config.Settings, images: ImageStore) -> None:
    """Make the directories of the state.

    Raises:
        StoreError: they cannot be made.
    """
    try:
        settings.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        images.open()
    except OSError as exc:
        raise StoreError(
            f"the state directory {settings.state_dir} cannot be used: {exc.strerror}; let the daemon's user write "
            "there, or set another state_dir"
        ) from exc


def _call_hook(tasks: TaskGroup, conclusion: Conclusion, hook: Hook | None) -> None:
    """Start the operator's command for an outcome; a retry is none."""
    message = outcome_message(conclusion)
    if hook is not None and message is not None:
        tasks.start_soon(lambda: run_hook(hook, message, device=conclusion.job.device))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for each in group.exceptions:
        leaves += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return leaves

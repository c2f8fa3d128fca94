"""Ports on which simulated devices are met: ptys with stable links to them, and TCP sockets.

A port moves bytes between a file descriptor and a device, wakes the device when it asks for it, and vanishes and
comes back as the device says.  It decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import termios
import tty
from abc import ABC, abstractmethod
from fcntl import ioctl
from typing import TYPE_CHECKING, Final

from asyncinotify import Inotify, Mask

from firmwarden.simulate.client import SimEvent
from firmwarden.simulate.line import Link

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from asyncinotify import Watch

    from firmwarden.simulate.client import SimClient

_READ_SIZE: Final = 65_536
_OUTPUT_SPEED: Final = 5
"""Index in what `termios.tcgetattr` returns."""


class Port(ABC):
    """One device's way to the outside.

    Args:
        client: the device.
        loop: whose clock is the device's time.
        notify: is told when somebody opens or leaves the port.
    """

    def __init__(
        self, client: SimClient, loop: asyncio.AbstractEventLoop, notify: Callable[[SimEvent], None]
    ) -> None:
        self.client = client
        self.opens = 0
        """How often somebody opened it, or connected to it."""
        self._loop = loop
        self._notify = notify
        self._there = False
        self._losses = client.link_losses
        self._fd: int | None = None
        self._reading: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """What a host is to open."""

    def open(self) -> None:
        """Make the port."""
        self._there = True
        self._appear()

    def power_on(self) -> None:
        """Switch the device on."""
        self.client.power_on(self._loop.time())
        self._settle()

    def close(self) -> None:
        """Remove every trace."""
        if self._timer is not None:
            self._timer.cancel()
        if self._there:
            self._vanish()
            self._there = False

    @abstractmethod
    def _appear(self) -> None:
        """Make the port."""

    @abstractmethod
    def _vanish(self) -> None:
        """Remove the port, whoever has it open."""

    @abstractmethod
    def _hung_up(self) -> None:
        """Note that the host is gone."""

    def _opened(self) -> None:
        self.opens += 1
        self._notify(SimEvent("opened", self._loop.time(), {}))

    def _closed(self) -> None:
        self._notify(SimEvent("closed", self._loop.time(), {}))

    def _move_bytes(self, fd: int | None) -> None:
        """Have this descriptor as the one to the host, or none."""
        self._fd = fd
        # A wedged port is read by nobody.
        wanted = fd if self.client.link is Link.UP else None
        if wanted == self._reading:
            return
        if self._reading is not None:
            self._loop.remove_reader(self._reading)
        if wanted is not None:
            self._loop.add_reader(wanted, self._readable, wanted)
        self._reading = wanted

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hung_up()
            return
        self._write(self.client.feed(data, self._loop.time()))
        self._settle()

    def _wake(self) -> None:
        wake_at = self.client.wake_at
        self._timer = None
        # A loop's timers may be early by the resolution of its clock.
        now = self._loop.time() if wake_at is None else max(self._loop.time(), wake_at)
        self._write(self.client.poll(now))
        self._settle()

    def _write(self, data: bytes) -> None:
        if data and self._fd is not None:
            # What a host does not fetch is lost, as in a UART that overruns; and it may be gone by now.
            with contextlib.suppress(OSError):
                os.write(self._fd, data)

    def _settle(self) -> None:
        """Follow the device: is its port there, is it read, when does it want to be woken."""
        client = self.client
        if client.link_losses != self._losses:
            self._losses = client.link_losses
            self._vanish()
            self._there = False
        if not self._there and client.link is not Link.DOWN:
            self._appear()
            self._there = True
        if (self._reading is not None) != (client.link is Link.UP):
            self._move_bytes(self._fd)
        wake_at = client.wake_at
        if self._timer is not None and self._timer.when() != wake_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and wake_at is not None:
            self._timer = self._loop.call_at(wake_at, self._wake)


class PtyWatcher:
    """Tells ptys when they are opened and closed, which a master cannot see while a slave is held open.

    And one is held: otherwise every close would hang the master up, and the loop would spin until the next open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inotify = Inotify(sync_timeout=0)
        self._ports: dict[Watch, PtyPort] = {}
        # By callback, not by task: in one turn of the loop a close is to be seen before the bytes that came after it.
        loop.add_reader(self._inotify.fd, self._read)

    def watch(self, port: PtyPort, node: str) -> Watch:
        """Begin to tell a port of what happens to its node."""
        watch = self._inotify.add_watch(node, Mask.OPEN | Mask.CLOSE)
        self._ports[watch] = port
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop telling."""
        del self._ports[watch]
        self._inotify.rm_watch(watch)

    def close(self) -> None:
        """Watch nothing any more; all ports are gone."""
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def _read(self) -> None:
        left: list[PtyPort] = []
        for event in self._inotify:
            port = None if event.watch is None else self._ports.get(event.watch)
            if port is None:
                continue
            if event.mask & Mask.OPEN:
                port.opened()
            elif event.mask & Mask.CLOSE and port.closed():
                left.append(port)
        for port in left:
            port.abandoned()


class PtyPort(Port):
    """A pty, and a link to it that has the same name each time."""

    def __init__(
        self,
        client: SimClient,
        loop: asyncio.AbstractEventLoop,
        notify: Callable[[SimEvent], None],
        *,
        link: Path,
        watcher: PtyWatcher,
    ) -> None:
        super().__init__(client, loop, notify)
        self._link = link
        self._watcher = watcher
        self._watch: Watch | None = None
        self._slave: int | None = None
        self._node = ""
        self._holders = 0
        self._heard = False

    @property
    def address(self) -> str:
        """The link."""
        return str(self._link)

    def opened(self) -> None:
        """Note that somebody opened the port."""
        self._holders += 1
        self._opened()

    def closed(self) -> bool:
        """Note that somebody closed the port; tell whether it was the last one."""
        self._holders -= 1
        return not self._holders

    def abandoned(self) -> None:
        """Be as a real port is after its last close, unless it was opened again already."""
        if self._slave is None:
            return
        touched = termios.tcgetattr(self._slave)[_OUTPUT_SPEED] == termios.B1200
        if not self._holders:
            self._heard = False
            # What nobody fetched is gone, and so is a claim to have the port alone: a killed host cannot undo it.
            termios.tcflush(self._slave, termios.TCIFLUSH)
            ioctl(self._slave, termios.TIOCNXCL)
            self._closed()
        if touched:
            self.client.touch(self._loop.time())
            self._settle()

    def _appear(self) -> None:
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(master, False)
        self._node = os.ttyname(self._slave)
        self._holders = 0
        self._heard = False
        self._watch = self._watcher.watch(self, self._node)
        self._move_bytes(master)
        # In one step, so that nobody meets a half-made link or none.
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        fresh.symlink_to(self._node)
        fresh.replace(self._link)

    def _vanish(self) -> None:
        # Another simulator may have put its own in this place.
        with contextlib.suppress(OSError):
            if str(self._link.readlink()) == self._node:
                self._link.unlink()
        master = self._fd
        self._move_bytes(None)
        if self._watch is not None:
            self._watcher.forget(self._watch)
            self._watch = None
        for fd in (self._slave, master):
            if fd is not None:
                os.close(fd)
        self._slave = None

    def _hung_up(self) -> None:
        # Cannot be while a slave is held; if it is, there is nothing more to read.
        self._move_bytes(None)

    def _readable(self, fd: int) -> None:
        # Bytes may be seen before the open that they followed.
        self._heard = True
        super()._readable(fd)

    def _write(self, data: bytes) -> None:
        # A port that nobody has open keeps nothing for the next one.
        if self._holders or self._heard:
            super()._write(data)


class TcpPort(Port):
    """A listening socket; one host at a time, as device servers have it."""

    def __init__(
        self,
        client: SimClient,
        loop: asyncio.AbstractEventLoop,
        notify: Callable[[SimEvent], None],
        *,
        host: str,
        port: int,
    ) -> None:
        super().__init__(client, loop, notify)
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def _appear(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family)
        listener.settimeout(0)
        # A free port that was asked for stays the device's after a loss.
        self._port = listener.getsockname()[1]
        self._loop.add_reader(listener, self._accept, listener)
        self._listener = listener

    def _vanish(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self._hung_up()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            # It left before it was let in.
            return
        if self._connection is not None:
            connection.close()
            return
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._move_bytes(connection.fileno())
        self._opened()

    def _hung_up(self) -> None:
        self._move_bytes(None)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._closed()

"""Links over serial ports; the only module that knows pyserial and pyserial-asyncio.

What these libraries do in the event loop is too dangerous for one loop with many devices, and is kept out of it:

* A port is opened and closed in a thread of its own; either can block for seconds.
* pyserial-asyncio is handed a ``_Handle`` instead of the port, which reads and writes by one system call that cannot
  block.  Its ``flush`` does nothing: waiting for the output to drain would stop the loop.
* A write is tried at once; waiting for the port to become writable first costs a third of the time of a chunk.
* Closing is an abort, and drops what the driver still holds: a kernel can wait 30 s for it otherwise.

*Exclusive*: by flock, which pyserial's users honour, and by TIOCEXCL, which refuses every later open except root's.
Programs of old that take a port by a lock file are believed.  These locks would also stop a new link while an old
one is still being closed in its thread; so it is known what is open here, and nobody else is blamed for it.

*Control lines*: Linux raises DTR and RTS with every opening, which nothing can prevent; boards with a capacitor from
DTR to reset notice only when they were low before.  So HUPCL is taken off: closing leaves them as they are, and a
later opening, to confirm an update, does not reset the board.  Nothing here moves them unless asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
import termios
import threading
from typing import TYPE_CHECKING, Final

import serial
import serial_asyncio

from firmwarden.errors import LinkError, OpenFailed, PortHeld
from firmwarden.transport.channel import Channel
from firmwarden.transport.holders import who_holds
from firmwarden.transport.lockfiles import locked_by
from firmwarden.transport.nodes import node_of
from firmwarden.transport.permissions import group_hint
from firmwarden.transport.threads import in_own_thread, start_thread
from firmwarden.transport.usbport import name_now

if TYPE_CHECKING:
    from firmwarden.model import SerialAddress
    from firmwarden.transport.nodes import Node

_MARGIN_S: Final = 0.05
"""USB adapters hand over what they received every 16 ms unless told otherwise, and a host is late at times."""

BLOCKED_S: Final = 10.0
"""How long a call into a driver is waited for: twice what Linux allows for one control transfer on the USB."""

_BAUD_TOLERANCE: Final = 0.03
"""A UART samples its tenth bit rightly while both rates differ by less than about 5 %; the device errs too."""

_HELD: Final = frozenset({errno.EBUSY, errno.EAGAIN})
"""TIOCEXCL and flock of somebody else."""

# From linux/asm-generic/ioctls.h; Python's termios lacks them.
_TIOCGEXCL: Final = 0x80045440
_TCGETS2: Final = 0x802C542A
_TERMIOS2_OUTPUT_SPEED: Final = 10
"""Index of c_ospeed in struct termios2, counted in ints."""


async def open_serial(address: SerialAddress) -> Channel:
    """Open a port.

    Raises:
        PortHeld: somebody else has it.
        OpenFailed: it is not there, not permitted, no serial port, cannot do the baud rate, or its driver hangs.
    """
    try:
        async with asyncio.timeout(BLOCKED_S):
            handle = await in_own_thread(lambda: _open(address), discard=_Handle.shut)
    except TimeoutError as exc:
        raise OpenFailed(f"{address}: its driver hangs while it is opened") from exc
    channel = _SerialChannel(address, handle)
    # Hands over without waiting for anything, so nothing can come between that would lose the port.
    transport, _channel = await serial_asyncio.connection_for_serial(
        asyncio.get_running_loop(), lambda: channel, handle
    )
    channel.connection_made(transport)
    return channel


class _Claims:
    """The ports that this process has open, is opening or is still closing."""

    def __init__(self) -> None:
        self._nodes: set[Node | None] = set()
        self._lock = threading.Lock()

    def take(self, path: str) -> Node | None:
        """Claim the port behind a name, for one opening; None where there is none.

        Raises:
            OpenFailed: it is claimed already; it may be free soon.
        """
        node = node_of(path)
        with self._lock:
            if node in self._nodes:
                raise OpenFailed(f"{path} is still open in this process")
            if node is not None:
                self._nodes.add(node)
        return node

    def give_back(self, node: Node | None) -> None:
        """Let another opening have it."""
        with self._lock:
            self._nodes.discard(node)


_claims: Final = _Claims()


class _Handle:
    """What pyserial-asyncio's transport needs of a port."""

    def __init__(self, port: serial.Serial, node: Node | None) -> None:
        self.timeout: float | None = 0
        self.write_timeout: float | None = 0
        self.closed = asyncio.Event()
        self.port = port
        self.in_use = threading.Lock()
        """Held by threads that use the port: closing must not give its number to another port under their hands."""
        self._node = node
        self._descriptor = port.fileno()
        self._broken = False

    def fileno(self) -> int:
        return self._descriptor

    def read(self, size: int) -> bytes:
        """Return what is there; raises SerialException on a hang-up."""
        try:
            data = os.read(self._descriptor, size)
        except BlockingIOError:
            return b""
        except OSError as exc:
            self._broken = True
            raise serial.SerialException(exc.errno, os.strerror(exc.errno or 0)) from exc
        if not data:
            self._broken = True
            raise serial.SerialException(errno.EIO, "the port hung up")
        return data

    def write(self, data: bytes) -> int:
        """Write what the driver takes, for the transport.

        A broken port swallows everything: the transport would otherwise go on trying, and reading tells the news.
        """
        try:
            return len(data) if self._broken else self.write_now(data)
        except OSError:
            self._broken = True
            return len(data)

    def write_now(self, data: bytes) -> int:
        """Write what the driver takes; raises OSError."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def flush(self) -> None:
        """Do nothing; see the module's text."""

    def close(self) -> None:
        """Close the port in a thread; ``closed`` tells when it is done."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            self.shut()
            with contextlib.suppress(RuntimeError):  # the loop is closed, at the end of the process
                loop.call_soon_threadsafe(self.closed.set)

        start_thread(work)

    def shut(self) -> None:
        """Close the port here and now."""
        with self.in_use:
            _close_port(self.port)
        _claims.give_back(self._node)


class _SerialChannel(Channel):
    def __init__(self, address: SerialAddress, handle: _Handle) -> None:
        super().__init__(handle.port.name or address.path, baud=address.baud, margin_s=_MARGIN_S)
        self._handle = handle
        self._closed = handle.closed

    def connection_lost(self, exc: Exception | None) -> None:
        # The port itself is closed a little later, in its thread, which sets `_closed`.
        self._lose(exc)

    async def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        self._check()

        def work() -> None:
            with self._handle.in_use:
                if dtr is not None:
                    self._handle.port.dtr = dtr
                if rts is not None:
                    self._handle.port.rts = rts

        try:
            async with asyncio.timeout(BLOCKED_S):
                await in_own_thread(work)
        except TimeoutError as exc:
            raise LinkError(f"{self.name}: its driver hangs while the control lines are set") from exc
        except (OSError, termios.error) as exc:
            raise LinkError(f"{self.name}: the control lines cannot be set: {exc}") from exc

    def _put(self, transport: asyncio.Transport, data: bytes) -> None:
        sent = 0
        if not transport.get_write_buffer_size():
            try:
                sent = self._handle.write_now(data)
            except OSError as exc:
                self._break(exc)
                self._check()
        if sent < len(data):
            transport.write(data[sent:])


def _open(address: SerialAddress) -> _Handle:
    path = name_now(address)
    node = _claims.take(path)
    try:
        return _Handle(_open_port(path, address.baud), node)
    except BaseException:
        _claims.give_back(node)
        raise


def _open_port(path: str, baud: int) -> serial.Serial:
    holder = locked_by(path)
    if holder is not None:
        raise PortHeld(path, holder)
    try:
        port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
        try:
            _take(port, baud)
        except BaseException:
            _close_port(port)
            raise
    except ValueError as exc:  # pyserial's word for a rate that the driver refuses
        raise OpenFailed(f"{path}: {baud} baud is refused: {exc}") from exc
    except (OSError, termios.error) as exc:
        code = exc.errno if isinstance(exc, OSError) else exc.args[0]
        if code in _HELD:
            raise PortHeld(path, who_holds(path)) from exc
        if code == errno.EACCES:
            raise OpenFailed(f"{path}: permission denied{group_hint(path)}") from exc
        if code == errno.EPERM:
            # What no node's mode says: a sandbox, whoever we are.
            raise OpenFailed(
                f"{path}: the sandbox forbids it; under systemd, DeviceAllow in the unit lists what it allows"
            ) from exc
        raise OpenFailed(f"{path}: {os.strerror(code) if code else exc}") from exc
    return port


def _take(port: serial.Serial, baud: int) -> None:
    descriptor = port.fileno()
    if _is_exclusive(descriptor):
        # Only root gets as far as this.
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    fcntl.ioctl(descriptor, termios.TIOCEXCL)

    attributes = termios.tcgetattr(descriptor)
    attributes[2] &= ~termios.HUPCL
    # With pyserial's 0 an idle port would read as empty, which is what a port that hung up does.
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)

    given = _actual_baud(descriptor)
    if given is not None and abs(given - baud) > baud * _BAUD_TOLERANCE:
        raise ValueError(f"the port would run at {given}")
    with contextlib.suppress(ValueError):  # few drivers have it
        port.set_low_latency_mode(True)


def _is_exclusive(descriptor: int) -> bool:
    try:
        answer = fcntl.ioctl(descriptor, _TIOCGEXCL, bytes(4))
    except OSError:  # MIPS and PowerPC number it otherwise
        return False
    return bool(struct.unpack("i", answer)[0])


def _actual_baud(descriptor: int) -> int | None:
    """Return the rate that the driver settled on, where it tells."""
    try:
        answer = fcntl.ioctl(descriptor, _TCGETS2, bytes(64))
    except OSError:
        return None
    speed: int = struct.unpack("16i", answer)[_TERMIOS2_OUTPUT_SPEED]
    return speed or None


def _close_port(port: serial.Serial) -> None:
    # A port that is gone refuses all of it.
    with contextlib.suppress(OSError, termios.error):
        fcntl.ioctl(port.fileno(), termios.TIOCNXCL)
    with contextlib.suppress(OSError, termios.error):
        port.reset_output_buffer()
    with contextlib.suppress(OSError):
        port.close()

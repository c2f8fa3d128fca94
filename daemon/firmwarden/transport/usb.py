"""Control pipes to USB devices; the only module that knows pyusb and libusb.

pyusb is used at its back-end interface, below its ``Device``: that one claims interfaces unasked, reads descriptors to
select an alternate setting, has a time-out of its own, and closes in the garbage collector's time.

* A call into libusb blocks.  Each is made in a thread, which is waited for also when the task is cancelled: a transfer
  cannot be taken back, and might write flash later.  It ends with its own time-out.
* Each device has a limiter of its own, with one place: its transfers are a strict sequence, and a device that hangs
  holds up nobody else (invariant 6).
* There is one context of libusb for the whole process, which is never closed.

*Alternate settings* are selected by a plain request; for the kernel the first one stays in use.  libusb has a call for
it, which in libusb 1.0.26, that of Debian 12, ends in an abort of the whole process when the device has gone (libusb
issue 1199).  What the kernel would do at that call is about endpoints, and a DFU interface has none.  And where the
kernel knows of another setting, it selects the first one again when the interface is released
(drivers/usb/core/driver.c, usb_unbind_interface): closing would ask something of the device.

Sources: libusb 1.0 API reference, "Synchronous device I/O" and "Device handling and enumeration"; pyusb,
usb/backend/__init__.py, IBackend; Linux kernel, drivers/usb/core/devio.c.
"""

from __future__ import annotations

import contextlib
import errno
import math
import threading
from array import array
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import usb.backend.libusb1
import usb.core
from anyio import CapacityLimiter, to_thread

from firmwarden.errors import OpenFailed, PortHeld
from firmwarden.protocol.dfu.conversation import Control, Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.transport.holders import who_holds
from firmwarden.transport.link import OPEN_PATIENCE_S
from firmwarden.transport.permissions import group_hint
from firmwarden.transport.usb_sysfs import SysfsLister

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.protocol.dfu.conversation import Reply, SelectAlternate
    from firmwarden.transport.usb_link import UsbSeen

_Untyped = Any
"""A back-end of pyusb's, or what it gave."""

_PAUSE_S: Final = 0.1

_FROM_DEVICE: Final = 0x80
"""Bit of bmRequestType (USB 2.0, 9.3)."""
_TO_INTERFACE: Final = 0x01
"""bmRequestType of a standard request."""
_SET_INTERFACE: Final = 11
"""USB 2.0, table 9-4."""
_SELECT_TIMEOUT_S: Final = 5.0
"""As the kernel has it (USB_CTRL_SET_TIMEOUT)."""

_LIBUSB_FAILED: Final = (usb.core.USBError, NotImplementedError)
"""The second is pyusb's word for LIBUSB_ERROR_NOT_SUPPORTED."""

_TROUBLE: Final = {
    errno.EPIPE: Trouble.STALL,
    errno.ETIMEDOUT: Trouble.TIMED_OUT,
    errno.ENODEV: Trouble.GONE,
}


class UsbLister(Protocol):
    """Tells what is plugged in, without opening it; may block."""

    def list(self) -> tuple[UsbSeen, ...]:
        """Return every device but hubs; for one thread at a time."""

    def look(self, topology: str) -> UsbSeen | None:
        """Return what is at a place now, None when nothing is or it is just coming."""


class UsbBus:
    """All buses of a machine, real or simulated."""

    def __init__(self, lister: UsbLister, backend: Callable[[], _Untyped]) -> None:
        """Touch nothing yet.

        Args:
            lister: tells what is there.
            backend: gives pyusb's back-end when the first device is opened, None when there is none.
        """
        self._lister = lister
        self._make_backend = backend
        self._backend: _Untyped = None
        self._lock = threading.Lock()

    def scan(self) -> tuple[UsbSeen, ...]:
        """Return every device but hubs; blocks, and is not for two threads at once.

        Raises:
            OSError: the scan could not be done, so nothing is known.
        """
        return self._lister.list()

    async def look(self, topology: str) -> UsbSeen | None:
        """See ``UsbPorts``."""
        # sysfs waits for a device that is being reset, so everybody waits in a thread of his own.
        try:
            return await to_thread.run_sync(self._lister.look, topology, limiter=CapacityLimiter(1))
        except OSError:  # out of descriptors or memory: whoever waits for a device goes on waiting
            return None

    async def open(self, seen: UsbSeen, interface: int, *, patience_s: float = OPEN_PATIENCE_S) -> _Link:
        """See ``UsbPorts``; tries a little longer while the device stays there."""
        limiter = CapacityLimiter(1)
        give_up_at = anyio.current_time() + patience_s
        while True:
            try:
                backend, handle = await to_thread.run_sync(self._open, seen, interface, limiter=limiter)
            except PortHeld:
                raise
            except OpenFailed:
                # sysfs shows a device before udev has set its rights, and libusb hears of it after that.
                if anyio.current_time() >= give_up_at or not await self._is_there(seen):
                    raise
            else:
                return _Link(seen, backend, handle, limiter)
            await anyio.sleep(_PAUSE_S)

    async def _is_there(self, seen: UsbSeen) -> bool:
        now = await self.look(seen.facts.topology)
        return now is not None and now.address == seen.address

    def _open(self, seen: UsbSeen, interface: int) -> tuple[_Untyped, _Untyped]:
        # By itself pyusb would make two contexts for two threads, and close one under the other's hands.
        with self._lock:
            self._backend = backend = self._backend or self._make_backend()
        if backend is None:
            raise OpenFailed("libusb cannot be found; on Debian it is in the package libusb-1.0-0")
        place = seen.facts.topology
        try:
            for device in backend.enumerate_devices():
                if _is_at(backend.get_device_descriptor(device), seen):
                    break
            else:
                raise OpenFailed(
                    f"{place}: the device that was seen there is gone, or libusb has not heard of it"
                )
            handle = backend.open_device(device)
            try:
                _take(backend, handle, seen, interface)
            except BaseException:
                backend.close_device(handle)
                raise
        except _LIBUSB_FAILED as exc:
            raise _refusal(exc, seen, interface) from exc
        return backend, handle


def real_usb() -> UsbBus:
    """Return the buses of this machine."""
    return UsbBus(SysfsLister(), usb.backend.libusb1.get_backend)


class _Link:
    """An open device; see ``UsbLink``."""

    def __init__(self, seen: UsbSeen, backend: _Untyped, handle: _Untyped, limiter: CapacityLimiter) -> None:
        self._seen = seen
        self._backend = backend
        self._handle = handle
        self._limiter = limiter

    @property
    def seen(self) -> UsbSeen:
        """What was opened."""
        return self._seen

    async def transfer(self, ask: Control) -> Reply:
        """Make a control transfer."""
        return await self._call(lambda: self._transfer(ask))

    async def select(self, ask: SelectAlternate) -> Reply:
        """Select an alternate setting."""
        setup = Setup(
            request_type=_TO_INTERFACE,
            request=_SET_INTERFACE,
            value=ask.setting,
            index=ask.interface,
            length=0,
        )
        return await self.transfer(Control(setup, _SELECT_TIMEOUT_S))

    async def reset(self) -> None:
        """Reset the port.  libusb says "not found" when another device is there afterwards: that was the purpose."""
        await self._call(lambda: self._backend.reset_device(self._handle) or b"")

    async def aclose(self) -> None:
        """Close it; waits for a transfer that is still under way."""
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._close, limiter=self._limiter)

    async def _call(self, work: Callable[[], Reply]) -> Reply:
        def guarded() -> Reply:
            if self._handle is None:
                return Trouble.GONE
            try:
                return work()
            except usb.core.USBError as exc:
                return _TROUBLE.get(exc.errno, Trouble.BROKEN)
            except NotImplementedError:
                return Trouble.BROKEN

        return await to_thread.run_sync(guarded, limiter=self._limiter)

    def _transfer(self, ask: Control) -> Reply:
        setup = ask.setup
        inward = bool(setup.request_type & _FROM_DEVICE)
        data = array("B", bytes(setup.length) if inward else ask.data)
        moved = self._backend.ctrl_transfer(
            self._handle,
            setup.request_type,
            setup.request,
            setup.value,
            setup.index,
            data,
            max(1, math.ceil(ask.timeout_s * 1000)),  # 0 would be for ever
        )
        if inward:
            return data[:moved].tobytes()
        return b"" if moved == len(data) else Trouble.BROKEN

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(*_LIBUSB_FAILED):
                self._backend.close_device(handle)


def _is_at(descriptor: _Untyped, seen: UsbSeen) -> bool:
    bus, _, ports = seen.facts.topology.partition("-")
    return (
        descriptor.bus == int(bus)
        and ".".join(str(port) for port in descriptor.port_numbers or ()) == ports
        and descriptor.address == seen.address
        and (descriptor.idVendor, descriptor.idProduct) == (seen.facts.vendor_id, seen.facts.product_id)
    )


def _take(backend: _Untyped, handle: _Untyped, seen: UsbSeen, interface: int) -> None:
    # Selecting the configuration that is in use already would reset the functions of other drivers.
    if backend.get_configuration(handle) == 0:
        backend.set_configuration(handle, seen.configuration[5] if seen.configuration else 1)
    # Of a composite device this interface alone is ours: its serial port, say, stays with the kernel.
    if backend.is_kernel_driver_active(handle, interface):
        backend.detach_kernel_driver(handle, interface)
    backend.claim_interface(handle, interface)


def _refusal(exc: Exception, seen: UsbSeen, interface: int) -> OpenFailed:
    place = seen.facts.topology
    node = f"/dev/bus/usb/{int(place.partition('-')[0]):03}/{seen.address:03}"
    match exc:
        case usb.core.USBError(errno=errno.EBUSY):
            return PortHeld(f"interface {interface} of {place}", who_holds(node))
        case usb.core.USBError(errno=errno.EACCES):
            cure = group_hint(node) or (
                "; the udev rule 60-firmwarden-dfu.rules lets members of the group firmwarden open DFU devices"
            )
            return OpenFailed(f"{node}: permission denied{cure}")
        case usb.core.USBError(errno=errno.ENODEV):
            return OpenFailed(f"{place}: the device went while it was opened")
        case usb.core.USBError(errno=errno.ENOENT):
            return OpenFailed(f"{place}: there is no interface {interface}")
        case _:
            return OpenFailed(f"{place}: {exc}")

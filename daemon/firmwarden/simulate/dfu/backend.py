"""Simulated devices for pyusb: a backend beside libusb's, without USB.

A program that takes its backend as an argument cannot tell the difference: the same calls, the same errors with the
same numbers.  The devices are those of a `SimBus`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import usb.backend
import usb.core

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.simulate.dfu.identity import CONFIGURATION, INTERFACE

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from firmwarden.simulate.dfu.bus import Seen, SimBus

_FROM_DEVICE: Final = 0x80
_FULL_SPEED: Final = 2

# libusb's code, errno and text.
_NO_DEVICE: Final = (-4, 19, "No such device (it may have been disconnected)")
_NOT_FOUND: Final = (-5, 2, "Entity not found")
_BUSY: Final = (-6, 16, "Resource busy")
_ERRORS: Final = {
    Trouble.STALL: (-9, 32, "Pipe error"),
    Trouble.GONE: _NO_DEVICE,
    Trouble.BROKEN: (-1, 5, "Input/Output Error"),
}
_TIMED_OUT: Final = (-7, 110, "Operation timed out")

_SET_CONFIGURATION, _GET_CONFIGURATION, _SET_INTERFACE = 9, 8, 11

_DEVICE_FIELDS: Final = (
    ("bLength", 1),
    ("bDescriptorType", 1),
    ("bcdUSB", 2),
    ("bDeviceClass", 1),
    ("bDeviceSubClass", 1),
    ("bDeviceProtocol", 1),
    ("bMaxPacketSize0", 1),
    ("idVendor", 2),
    ("idProduct", 2),
    ("bcdDevice", 2),
    ("iManufacturer", 1),
    ("iProduct", 1),
    ("iSerialNumber", 1),
    ("bNumConfigurations", 1),
)
_CONFIGURATION_FIELDS: Final = (
    ("bLength", 1),
    ("bDescriptorType", 1),
    ("wTotalLength", 2),
    ("bNumInterfaces", 1),
    ("bConfigurationValue", 1),
    ("iConfiguration", 1),
    ("bmAttributes", 1),
    ("bMaxPower", 1),
)
_INTERFACE_FIELDS: Final = (
    ("bLength", 1),
    ("bDescriptorType", 1),
    ("bInterfaceNumber", 1),
    ("bAlternateSetting", 1),
    ("bNumEndpoints", 1),
    ("bInterfaceClass", 1),
    ("bInterfaceSubClass", 1),
    ("bInterfaceProtocol", 1),
    ("iInterface", 1),
)


class _Handle:
    """An opened device."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.claimed: set[int] = set()
        self.is_open = True


class SimBackend(usb.backend.IBackend):  # type: ignore[misc]  # pyusb is untyped
    """What ``usb.core.find(backend=...)`` takes."""

    def __init__(self, bus: SimBus) -> None:
        super().__init__()
        self._bus = bus
        self._handles: list[_Handle] = []

    # --- what there is ---------------------------------------------------------------------------------------

    def enumerate_devices(self) -> Iterator[Seen]:
        """Yield what is on the bus."""
        yield from self._bus.devices()

    def get_parent(self, dev: Seen) -> None:
        """Tell of no hub: they are not simulated."""
        del dev

    def get_device_descriptor(self, dev: Seen) -> SimpleNamespace:
        """Return what the kernel keeps of a device, also after it has gone."""
        descriptor = _fields(dev.identity.device(), _DEVICE_FIELDS)
        descriptor.bus, descriptor.address, descriptor.speed = self._bus.number, dev.address, _FULL_SPEED
        descriptor.port_numbers, descriptor.port_number = dev.port, dev.port[-1]
        return descriptor

    def get_configuration_descriptor(self, dev: Seen, config: int) -> SimpleNamespace:
        """Return a configuration descriptor with what comes before its first interface."""
        if config:
            raise IndexError(f"Invalid configuration index {config}")
        found, *_ = _parts(dev.identity.configuration())
        return found

    def get_interface_descriptor(self, dev: Seen, intf: int, alt: int, config: int) -> SimpleNamespace:
        """Return an interface descriptor with what comes behind it."""
        del config
        _, *interfaces = _parts(dev.identity.configuration())
        numbers = sorted({each.bInterfaceNumber for each in interfaces})
        if intf >= len(numbers):
            raise IndexError(f"Invalid interface index {intf}")
        alternates = [each for each in interfaces if each.bInterfaceNumber == numbers[intf]]
        if alt >= len(alternates):
            raise IndexError(f"Invalid alternate setting index {alt}")
        return alternates[alt]

    # --- handles -----------------------------------------------------------------------------------------------

    def open_device(self, dev: Seen) -> _Handle:
        """Open a device."""
        if not self._bus.is_there(dev):
            raise _error(_NO_DEVICE)
        handle = _Handle(dev)
        self._handles.append(handle)
        return handle

    def close_device(self, dev_handle: _Handle) -> None:
        """Close it, with all that was claimed."""
        dev_handle.claimed.clear()
        dev_handle.is_open = False
        self._handles.remove(dev_handle)

    def set_configuration(self, dev_handle: _Handle, config_value: int) -> None:
        """Choose a configuration, which nobody may be using."""
        if any(each.claimed for each in self._handles if each.seen == dev_handle.seen):
            raise _error(_BUSY)
        self._transfer(dev_handle, 0x00, _SET_CONFIGURATION, config_value, 0)

    def get_configuration(self, dev_handle: _Handle) -> int:
        """Return the configuration that is chosen; the kernel chose the first when the device came."""
        return 1 if self._bus.is_there(dev_handle.seen) else 0

    def set_interface_altsetting(self, dev_handle: _Handle, intf: int, altsetting: int) -> None:
        """Choose an alternate setting."""
        if intf not in dev_handle.claimed:
            raise _error(_NOT_FOUND)
        self._transfer(dev_handle, 0x01, _SET_INTERFACE, altsetting, intf)

    def claim_interface(self, dev_handle: _Handle, intf: int) -> None:
        """Claim an interface for a handle, alone."""
        if not self._bus.is_there(dev_handle.seen):
            raise _error(_NO_DEVICE)
        others = (each for each in self._handles if each is not dev_handle and each.seen == dev_handle.seen)
        if any(intf in each.claimed for each in others):
            raise _error(_BUSY)
        dev_handle.claimed.add(intf)

    def release_interface(self, dev_handle: _Handle, intf: int) -> None:
        """Release it."""
        if not self._bus.is_there(dev_handle.seen):
            raise _error(_NO_DEVICE)
        if intf not in dev_handle.claimed:
            raise _error(_NOT_FOUND)
        dev_handle.claimed.remove(intf)

    # --- transfers -----------------------------------------------------------------------------------------------

    def ctrl_transfer(  # noqa: PLR0917  # as pyusb calls it
        self,
        dev_handle: _Handle,
        request_type: int,
        request: int,
        value: int,
        index: int,
        data: array[int],
        timeout: int,
    ) -> int:
        """Make a control transfer; what comes is put into `data`."""
        length = len(data) * data.itemsize
        inward = bool(request_type & _FROM_DEVICE)
        reply = self._transfer(
            dev_handle,
            request_type,
            request,
            value,
            index,
            length=length,
            data=b"" if inward else data.tobytes(),
            timeout_s=timeout / 1000 if timeout else None,
        )
        if not inward:
            return length
        for at, byte in enumerate(reply):
            data[at] = byte
        return len(reply)

    def reset_device(self, dev_handle: _Handle) -> None:
        """Reset the port; an error says that the device is another one now."""
        if not self._bus.reset(dev_handle.seen):
            raise _error(_NOT_FOUND)

    def is_kernel_driver_active(self, dev_handle: _Handle, intf: int) -> bool:
        """Tell of no driver: none is simulated."""
        del dev_handle, intf
        return False

    def _transfer(
        self,
        handle: _Handle,
        request_type: int,
        request: int,
        value: int,
        index: int,
        *,
        length: int = 0,
        data: bytes = b"",
        timeout_s: float | None = None,
    ) -> bytes:
        setup = Setup(request_type=request_type, request=request, value=value, index=index, length=length)
        reply = self._bus.control(handle.seen, setup, data, timeout_s)
        if reply is Trouble.TIMED_OUT:
            code, number, text = _TIMED_OUT
            raise usb.core.USBTimeoutError(text, code, number)
        if isinstance(reply, Trouble):
            raise _error(_ERRORS[reply])
        return reply


def _error(what: tuple[int, int, str]) -> Exception:
    code, number, text = what
    error: Exception = usb.core.USBError(text, code, number)
    return error


def _fields(raw: bytes, fields: tuple[tuple[str, int], ...]) -> SimpleNamespace:
    values: dict[str, int] = {}
    offset = 0
    for name, size in fields:
        values[name] = int.from_bytes(raw[offset : offset + size], "little")
        offset += size
    return SimpleNamespace(**values)


def _parts(configuration: bytes) -> list[SimpleNamespace]:
    """Split a configuration: it and its interfaces, each with the descriptors that follow it as pyusb has them."""
    found: list[SimpleNamespace] = []
    while configuration:
        raw, configuration = configuration[: configuration[0]], configuration[configuration[0] :]
        if raw[1] == CONFIGURATION:
            found.append(_fields(raw, _CONFIGURATION_FIELDS))
            found[-1].extra_descriptors = []
        elif raw[1] == INTERFACE:
            found.append(_fields(raw, _INTERFACE_FIELDS))
            found[-1].extra_descriptors = []
        else:
            found[-1].extra_descriptors += raw
    return found

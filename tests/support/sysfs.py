"""A made-up machine for scans: a tree as sysfs has it, and nodes that are real character devices (ptys)."""

from __future__ import annotations

import os
import pty
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

XHCI = "pci0000:00/0000:00:14.0/usb1"


@dataclass(kw_only=True)
class Machine:
    """Built by ``machine()``; its ``sys_root`` and ``dev_root`` are handed to the scan."""

    sys_root: Path
    dev_root: Path
    _ptys: dict[str, tuple[int, int]] = field(default_factory=dict)
    _inodes: int = 0

    def usb_serial(  # the facts of one adapter
        self,
        tty: str,
        *,
        bus: str = XHCI,
        topology: str = "1-1",
        interface: int = 0,
        port_number: int = 0,
        attributes: Mapping[str, bytes] | None = None,
    ) -> None:
        """Plug in a converter with a driver of the usb-serial family, e.g. an FT232R."""
        where = f"{self._usb_interface(bus, topology, interface, attributes or FT232)}/{tty}"
        self._file(f"{where}/port_number", f"{port_number}\n".encode())
        self._tty(tty, where)

    def cdc_acm(
        self,
        tty: str,
        *,
        bus: str = XHCI,
        topology: str = "1-1",
        interface: int = 0,
        attributes: Mapping[str, bytes] | None = None,
    ) -> None:
        """Plug in one function of a CDC-ACM device."""
        self._tty(tty, self._usb_interface(bus, topology, interface, attributes or FT232))

    def usb_device(
        self,
        topology: str,
        *,
        bus: str = XHCI,
        address: int = 1,
        active: bytes = b"1\n",
        attributes: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Plug in any device; returns its directory."""
        where = self._usb_device(bus, topology, {**USB_DEVICE, **(attributes or {})})
        self._file(f"{where}/devnum", f"{address}\n".encode())
        self._file(f"{where}/bConfigurationValue", active)
        self._file(f"{where}/{topology}:1.0/bInterfaceNumber", b"00\n")
        self._register(f"bus/usb/devices/{topology}", where)
        self._register(f"bus/usb/devices/{topology}:1.0", f"{where}/{topology}:1.0")
        return self.sys_root / "devices" / where

    def usb_unplug(self, topology: str) -> None:
        """Pull a device out."""
        devices = self.sys_root / "bus/usb/devices"
        shutil.rmtree((devices / topology).resolve())
        for entry in (topology, f"{topology}:1.0"):
            (devices / entry).unlink()

    def uart(self, tty: str, device: str, *, kind: int | None = None) -> None:
        """Have a serial port of the board itself; ``kind`` is what ``type`` says, 0 for a slot without a chip."""
        self._tty(tty, device)
        if kind is not None:
            self._file(f"{device}/tty/{tty}/type", f"{kind}\n".encode())

    def virtual(self, tty: str) -> None:
        """Have a terminal without a device behind it, e.g. ``tty1``."""
        where = f"virtual/tty/{tty}"
        self._file(f"{where}/dev", b"4:1\n")
        self._register(f"class/tty/{tty}", where)

    def unplug(self, tty: str) -> None:
        """Take away a tty and what is below its USB device."""
        entry = self.sys_root / "class/tty" / tty
        real = entry.resolve()
        entry.unlink()
        shutil.rmtree(next((p for p in real.parents if (p / "idVendor").exists()), real), ignore_errors=True)
        (self.dev_root / tty).unlink()
        for descriptor in self._ptys.pop(tty):
            os.close(descriptor)

    def link(self, name: str, tty: str) -> Path:
        """Give a node one more name below ``dev_root``."""
        path = self.dev_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self.dev_root / tty)
        return path

    def node(self, name: str) -> Path:
        """Have a pty behind a link below ``dev_root``, unknown to sysfs."""
        path = self.dev_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ptys[name] = pty.openpty()
        path.symlink_to(os.ttyname(self._ptys[name][1]))
        return path

    def attribute(self, tty: str, name: str) -> Path:
        """The file of an attribute of the USB device that a tty belongs to."""
        real = (self.sys_root / "class/tty" / tty).resolve()
        return next(p for p in real.parents if (p / "idVendor").exists()) / name

    def close(self) -> None:
        """Close every pty."""
        for pair in self._ptys.values():
            for descriptor in pair:
                os.close(descriptor)
        self._ptys.clear()

    def _usb_interface(self, bus: str, topology: str, interface: int, attributes: Mapping[str, bytes]) -> str:
        device = self._usb_device(bus, topology, attributes)
        self._file(f"{device}/{topology}:1.{interface}/bInterfaceNumber", f"{interface:02x}\n".encode())
        return f"{device}/{topology}:1.{interface}"

    def _usb_device(self, bus: str, topology: str, attributes: Mapping[str, bytes]) -> str:
        number, _, ports = topology.partition("-")
        steps = ports.split(".")
        hubs = "/".join(f"{number}-{'.'.join(steps[: depth + 1])}" for depth in range(len(steps)))
        device = f"{bus}/{hubs}"
        for name, value in attributes.items():
            self._file(f"{device}/{name}", value)
        return device

    def _tty(self, tty: str, device: str) -> None:
        where = f"{device}/tty/{tty}"
        self._file(f"{where}/dev", b"188:0\n")
        (self.sys_root / "devices" / where / "device").symlink_to("../..")
        self._register(f"class/tty/{tty}", where)
        self.node(tty)

    def _register(self, name: str, where: str) -> None:
        entry = self.sys_root / name
        entry.parent.mkdir(parents=True, exist_ok=True)
        # The kernel never uses the inode number of such an entry again; a file system may do so at once,
        # but not while something else has it.
        self._inodes += 1
        keep = self.sys_root.parent / f"inode-{self._inodes}"
        keep.symlink_to(f"{'../' * name.count('/')}devices/{where}")
        os.link(keep, entry, follow_symlinks=False)

    def _file(self, path: str, content: bytes) -> None:
        file = self.sys_root / "devices" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


FT232 = {
    "idVendor": b"0403\n",
    "idProduct": b"6001\n",
    "bcdDevice": b"0600\n",
    "serial": b"A50285BI\n",
    "manufacturer": b"FTDI\n",
    "product": b"FT232R USB UART\n",
}
WITHOUT_SERIAL = {
    "idVendor": b"1a86\n",
    "idProduct": b"7523\n",
    "bcdDevice": b"0264\n",
    "product": b"USB Serial\n",
}
PANEL = {
    "idVendor": b"04d8\n",
    "idProduct": b"000a\n",
    "bcdDevice": b"0100\n",
    "serial": b"P-0017\n",
    "manufacturer": b"Acme\n",
    "product": b"Panel\n",
}


def usb_configuration(number: int, body: bytes = b"") -> bytes:
    """Make a configuration descriptor and what follows it."""
    return bytes((9, 2, *(9 + len(body)).to_bytes(2, "little"), 1, number, 0, 0xC0, 50)) + body


USB_DEVICE = {
    "idVendor": b"0483\n",
    "idProduct": b"df11\n",
    "bcdDevice": b"2200\n",
    "bDeviceClass": b"00\n",
    "serial": b"357A36583530\n",
    "manufacturer": b"STMicroelectronics\n",
    "product": b"STM32  BOOTLOADER\n",
    "descriptors": bytes((18, 1, *bytes(16))) + usb_configuration(1),
}


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """Make a machine without any port below ``directory``."""
    made = Machine(sys_root=directory / "sys", dev_root=directory / "dev")
    (made.sys_root / "class/tty").mkdir(parents=True)
    made.dev_root.mkdir()
    try:
        yield made
    finally:
        made.close()

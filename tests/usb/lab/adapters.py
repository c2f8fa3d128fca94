"""Serial ports that come and go on a USB of the machine: QEMU's adapter, and the kernel's CDC-ACM gadget."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lab.monitor import Monitor
from lab.waiting import until

BY_ID: Final = Path("/dev/serial/by-id")
_GADGETS: Final = Path("/sys/kernel/config/usb_gadget")
_ENGLISH: Final = "0x409"


class UsbSerial:
    """An FT232 as QEMU has it, on the machine's xHCI controller: 0403:6001, udev calls it QEMU_USB_SERIAL."""

    IDS: Final = "0403:6001"

    def __init__(self, serial: str, wire: int = 0) -> None:
        self.serial = serial
        self.far_end = f"/dev/virtio-ports/wire{wire}"
        self._wire = f"wire{wire}"
        self._name = f"adapter-{wire}"
        self._plugged = False

    def plug(self, port: int) -> None:
        """Plug it into a port of the controller."""
        with Monitor() as monitor:
            monitor.do(
                "device_add",
                driver="usb-serial",
                id=self._name,
                bus="usb.0",
                port=str(port),
                chardev=self._wire,
                serial=self.serial,
                **{"always-plugged": True},
            )
        self._plugged = True
        until(self.nodes, f"a tty of {self.serial}")

    def unplug(self) -> None:
        """Pull it out, and wait until the kernel has seen that."""
        if self._plugged:
            nodes = self.nodes()
            with Monitor() as monitor:
                monitor.do("device_del", id=self._name)
            self._plugged = False
            until(lambda: not any(node.exists() for node in nodes), f"the end of {self.serial}")

    def nodes(self) -> list[Path]:
        """List its by-id names: none, or one."""
        return list(BY_ID.glob(f"*_{self.serial}-if*"))

    close = unplug


class Gadget:
    """A CDC-ACM device with ids and serial number of our choice, on one of the controllers of dummy_hcd.

    Sources: Linux kernel, Documentation/usb/gadget_configfs.rst; drivers/usb/gadget/udc/dummy_hcd.c.
    """

    IDS: Final = "1209:0001"

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._place = _GADGETS / serial
        self._function = self._place / "functions/acm.port"
        self._link = self._place / "configs/c.1/port"
        for directory in (
            self._place / "strings" / _ENGLISH,
            self._place / "configs/c.1/strings" / _ENGLISH,
            self._function,
        ):
            directory.mkdir(parents=True)
        vendor, product = self.IDS.split(":")
        for name, value in {
            "idVendor": f"0x{vendor}",
            "idProduct": f"0x{product}",
            "bcdDevice": "0x0100",
            f"strings/{_ENGLISH}/serialnumber": serial,
            f"strings/{_ENGLISH}/manufacturer": "Acme",
            f"strings/{_ENGLISH}/product": "Panel",
            f"configs/c.1/strings/{_ENGLISH}/configuration": "serial",
        }.items():
            (self._place / name).write_text(value)
        self._link.symlink_to(self._function)
        self.far_end = f"/dev/ttyGS{(self._function / 'port_num').read_text().strip()}"

    def plug(self, controller: int) -> None:
        """Plug it in."""
        (self._place / "UDC").write_text(f"dummy_udc.{controller}")
        until(self.nodes, f"a tty of {self.serial}")

    def unplug(self) -> None:
        """Pull it out, and wait until the kernel has seen that."""
        if (self._place / "UDC").read_text().strip():
            nodes = self.nodes()
            (self._place / "UDC").write_text("\n")
            until(lambda: not any(node.exists() for node in nodes), f"the end of {self.serial}")

    def nodes(self) -> list[Path]:
        """List its by-id names: none, or one."""
        return list(BY_ID.glob(f"*_{self.serial}-if*"))

    def close(self) -> None:
        """Pull it out for good."""
        self.unplug()
        self._link.unlink()
        for directory in (
            self._function,
            self._place / "configs/c.1/strings" / _ENGLISH,
            self._place / "configs/c.1",
            self._place / "strings" / _ENGLISH,
            self._place,
        ):
            directory.rmdir()

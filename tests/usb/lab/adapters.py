"""Serial ports that come and go on a USB of the machine: QEMU's adapter, and the kernel's CDC-ACM gadget."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lab.machine import UNHEARD
from lab.monitor import Monitor
from lab.waiting import until

_DEVICES: Final = Path("/sys/bus/usb/devices")
_GADGETS: Final = Path("/sys/kernel/config/usb_gadget")
_ENGLISH: Final = "0x409"


def _ttys(serial: str, port: int) -> list[Path]:
    """List the ttys of the device with a serial number at a port of any bus: none, or one."""
    try:
        return [
            tty
            for device in _DEVICES.glob(f"*-{port}")
            if _serial(device) == serial
            for tty in [*device.glob("*:*/tty/tty*"), *device.glob("*:*/tty*/tty/tty*")]
        ]
    except FileNotFoundError:  # it went while it was looked at
        return []


def _serial(device: Path) -> str:
    try:
        return (device / "serial").read_text().strip()
    except OSError:  # it has none, or is just going
        return ""


class UsbSerial:
    """An FT232 as QEMU has it, on the machine's xHCI controller.

    Its wire is joined only while it is plugged: QEMU (7.2) crashes when a byte comes for one that was just removed.
    """

    IDS: Final = "0403:6001"

    def __init__(self, serial: str, wire: int = 0) -> None:
        self.serial = serial
        self.far_end = f"/dev/virtio-ports/wire{wire}"
        self._wire = f"wire{wire}"
        self._far = f"far{wire}"
        self._address = {"type": "unix", "data": {"path": f"{self._wire}.sock"}}
        self._name = f"adapter-{wire}"
        self._port: int | None = None

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
            self._join(monitor, "socket", addr=self._address, server=False)
        self._port = port
        until(lambda: _ttys(self.serial, port), f"a tty of {self.serial}")

    def unplug(self) -> None:
        """Pull it out, and wait until the kernel has seen that."""
        if (port := self._port) is not None:
            with Monitor() as monitor:
                # What the far end says from now on is lost, but to write it is no error there.
                self._join(monitor, "ringbuf", size=UNHEARD)
                monitor.do("device_del", id=self._name)
                # It outlives its removal by a moment, and another one cannot be plugged in its place before.
                until(lambda: not self._is_held(monitor), f"the end of what was at {self._wire}")
            self._port = None
            until(lambda: not _ttys(self.serial, port), f"the end of {self.serial}")

    close = unplug

    def _is_held(self, monitor: Monitor) -> bool:
        return any(
            each["label"] == self._wire and each["frontend-open"] for each in monitor.do("query-chardev")
        )

    def _join(self, monitor: Monitor, kind: str, **data: object) -> None:
        monitor.do("chardev-change", id=self._far, backend={"type": kind, "data": data})


class Gadget:
    """A CDC-ACM device with ids and serial number of our choice, on a controller of dummy_hcd, which has one port each.

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
        """Plug it in, at controller 1 or 2."""
        (self._place / "UDC").write_text(f"dummy_udc.{controller - 1}")
        until(lambda: _ttys(self.serial, 1), f"a tty of {self.serial}")

    def unplug(self) -> None:
        """Pull it out, and wait until the kernel has seen that."""
        if (self._place / "UDC").read_text().strip():
            (self._place / "UDC").write_text("\n")
            until(lambda: not _ttys(self.serial, 1), f"the end of {self.serial}")

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

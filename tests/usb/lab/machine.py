"""A virtual machine that boots an image, does one errand as root, and is gone.

The image is never written to.  What the errand needs goes in by QEMU's firmware configuration, its output and its
exit status come back over virtio ports, and directories are shared over 9p.  Inside, the tests find

* ``/dev/virtio-ports/qmp``: the monitor of this very QEMU, to plug and unplug USB devices;
* ``/dev/virtio-ports/wireN``: the far end of a serial line; at the near end is whichever ``usb-serial`` is plugged
  with ``chardev=wireN``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WIRES: Final = 2

_MACHINE: Final = (
    *("qemu-system-x86_64", "-machine", "q35,vmport=off,sata=off,smbus=off", "-cpu", "max"),
    *("-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "768"),
    *("-nodefaults", "-display", "none", "-no-reboot"),
    *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "qemu-xhci,id=usb"),
)
"""Without KVM: where a machine is virtual itself, /dev/kvm may be there and a stock kernel still hang in it."""

_KERNEL_ARGUMENTS: Final = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable systemd.show_status=no"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A directory of this machine, at /mnt/NAME in that one."""

    name: str
    path: Path
    writable: bool = False


def run(
    image: Path, script: str, *, shares: tuple[Share, ...], console: Path, timeout_s: float
) -> int | None:
    """Boot, run a shell script, pass its output on; return its exit status, or None if it did not come to its end."""
    with tempfile.TemporaryDirectory(prefix="usb-lab-") as place:
        work = Path(place)
        (work / "script").write_text(script)
        access = {True: "rw", False: "ro,cache=loose"}
        (work / "shares").write_text("".join(f"{each.name} {access[each.writable]}\n" for each in shares))
        (work / "status").touch()
        # Standard input stays open and silent: at its end QEMU would hang the port up.
        qemu = subprocess.Popen(
            [*_MACHINE, *_options(image, work, shares, console)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        alarm = threading.Timer(timeout_s, qemu.terminate)
        alarm.start()
        try:
            assert qemu.stdout is not None
            while piece := qemu.stdout.read1(65_536):  # type: ignore[attr-defined]  # a BufferedReader
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        finally:
            alarm.cancel()
            qemu.terminate()
            qemu.wait()
        status = (work / "status").read_text().strip()
        return int(status) if status else None


def _options(image: Path, work: Path, shares: tuple[Share, ...], console: Path) -> list[str]:
    options = [
        *("-kernel", f"{image}/vmlinuz", "-initrd", f"{image}/initrd", "-append", _KERNEL_ARGUMENTS),
        *("-drive", f"if=none,id=disk,file={image}/disk,format=raw,snapshot=on,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
        *("-fw_cfg", f"name=opt/errand/script,file={work}/script"),
        *("-fw_cfg", f"name=opt/errand/shares,file={work}/shares"),
        *("-chardev", "stdio,id=output,signal=off", *_port("output")),
        *("-chardev", f"file,id=status,path={work}/status", *_port("status")),
        *_joined(work, "monitor", "qmp"),
        *("-mon", "chardev=monitor,mode=control", *_port("qmp")),
    ]
    for number in range(WIRES):
        options += [*_joined(work, f"wire{number}", f"far{number}"), *_port(f"far{number}", f"wire{number}")]
    for share in shares:
        mode = "" if share.writable else ",readonly=on"
        options += [
            *("-fsdev", f"local,id={share.name},path={share.path},security_model=none{mode}"),
            *("-device", f"virtio-9p-pci,fsdev={share.name},mount_tag={share.name}"),
        ]
    return options


def _port(chardev: str, name: str | None = None) -> tuple[str, ...]:
    return ("-device", f"virtserialport,chardev={chardev},name={name or chardev}")


def _joined(work: Path, near: str, far: str) -> tuple[str, ...]:
    """Make two character devices that are the ends of one line; QEMU is both."""
    path = work / f"{near}.sock"
    return (
        *("-chardev", f"socket,id={near},path={path},server=on,wait=off"),
        *("-chardev", f"socket,id={far},path={path}"),
    )

"""A virtual machine that boots an image, does one errand as root, and is gone.

The image is never written to.  What the errand needs goes in by QEMU's firmware configuration, its output and its
exit status come back over virtio ports, and directories are shared over 9p.  Inside, the tests find

* ``/dev/virtio-ports/qmp``: the monitor of this very QEMU, to plug and unplug USB devices;
* ``/dev/virtio-ports/wireN``: the far end of a serial line.  At the near end is a ``usb-serial`` plugged with
  ``chardev=wireN``; the ends are joined when ``farN`` is changed into a socket that connects to ``wireN.sock``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WIRES: Final = 2
UNHEARD: Final = 1024
"""How many bytes are kept, in vain, of what a far end says that is joined to nothing."""

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


class MachineEnded(Exception):
    """The machine did not live to see the end of its errand; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A directory of this machine, at /mnt/NAME in that one."""

    name: str
    path: Path
    writable: bool = False


def run(image: Path, script: str, *, shares: tuple[Share, ...], console: Path, timeout_s: float) -> int:
    """Boot, run a shell script, pass its output on; return its exit status.

    Raises:
        MachineEnded: it ended before the script did.
    """
    with tempfile.TemporaryDirectory(prefix="usb-lab-") as place:
        work = Path(place)
        (work / "script").write_text(script)
        access = {True: "rw", False: "ro,cache=loose"}
        (work / "shares").write_text("".join(f"{each.name} {access[each.writable]}\n" for each in shares))
        (work / "status").touch()
        # Standard input stays open and silent: at its end QEMU would hang the port up.
        qemu = subprocess.Popen(
            [*_MACHINE, *_options(image, work, shares, console)],
            cwd=work,  # where its sockets are, so that they have the same names inside
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
        if status := (work / "status").read_text().strip():
            return int(status)
    said = console.read_text(errors="replace").splitlines() if console.exists() else []
    last = said[-1] if said else "nothing"
    raise MachineEnded(
        f"the machine ended before its errand did: {_how(qemu.returncode)}; the end of {console} is: {last}"
    )


def _how(status: int) -> str:
    """Say how QEMU ended.  Asked to end it says 0, as it does when the machine switches itself off."""
    match status:
        case 0:
            return "it switched itself off, or its time was over"
        case _ if status < 0:
            return f"QEMU was ended by {signal.Signals(-status).name}"
        case _:
            return f"QEMU's exit status is {status}"


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
        *_listening("monitor"),
        *("-chardev", "socket,id=qmp,path=monitor.sock"),
        *("-mon", "chardev=monitor,mode=control", *_port("qmp")),
    ]
    for number in range(WIRES):
        options += [
            *_listening(f"wire{number}"),
            *("-chardev", f"ringbuf,id=far{number},size={UNHEARD}"),
            *_port(f"far{number}", f"wire{number}"),
        ]
    for share in shares:
        mode = "" if share.writable else ",readonly=on"
        options += [
            *("-fsdev", f"local,id={share.name},path={share.path},security_model=none{mode}"),
            *("-device", f"virtio-9p-pci,fsdev={share.name},mount_tag={share.name}"),
        ]
    return options


def _port(chardev: str, name: str | None = None) -> tuple[str, ...]:
    return ("-device", f"virtserialport,chardev={chardev},name={name or chardev}")


def _listening(chardev: str) -> tuple[str, ...]:
    """Make a character device that waits for another one of this QEMU to connect: it is both ends of the line."""
    return ("-chardev", f"socket,id={chardev},path={chardev}.sock,server=on,wait=off")

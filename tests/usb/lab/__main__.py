"""``make test-usb``: makes the machine's disk if it is not there, boots it, and runs these tests inside.

Arguments are pytest's.  ``--image`` makes the disk and does nothing more.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from lab.image import ROOT, TOOLS, VENV, CannotBuild, build, cached
from lab.machine import MachineEnded, Share, run

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

RESULTS: Final = ROOT / "dist" / "test-usb"
"""What the tests and the machine say, kept until the next run."""
LIMIT_S: Final = 60 * 60.0
"""The tests take a third to a half of it, by what else there is to do; a machine that hangs is switched off."""

_SCRIPT: Final = """\
# A copy: the tree may change while the machine runs, and the tests write beside themselves.
cp -r /mnt/tree/pyproject.toml /mnt/tree/systemd /mnt/tree/tests .
site=$(echo {venv}/lib/python3.*/site-packages)
cp -r --preserve=timestamps /mnt/package/. $site
chmod -R a+rX $site/firmwarden*
{venv}/bin/python -m compileall -q $site/firmwarden
sed '1s|.*|#!{venv}/bin/python3|' $site/bin/firmwarden >{venv}/bin/firmwarden
chmod +x {venv}/bin/firmwarden
ln -s {venv}/bin/firmwarden /usr/local/bin/
mkdir -p /etc/sysusers.d /etc/tmpfiles.d
cp systemd/firmwarden.service systemd/firmwarden.socket /etc/systemd/system/
cp systemd/firmwarden.sysusers /etc/sysusers.d/firmwarden.conf
cp systemd/firmwarden.tmpfiles /etc/tmpfiles.d/firmwarden.conf
cp systemd/60-firmwarden-dfu.rules /etc/udev/rules.d/
systemd-sysusers
systemd-tmpfiles --create /etc/tmpfiles.d/firmwarden.conf
systemctl daemon-reload
udevadm control --reload
status=0
CI=true PYTHONPATH={tools} {venv}/bin/python -m pytest --timeout=300 -o faulthandler_timeout=400 \
  -o testpaths=tests/usb --junitxml=/mnt/results/junit.xml {arguments} || status=$?
journalctl --output=short-precise >/mnt/results/journal.txt
exit $status
"""


def main(arguments: list[str]) -> int:
    """Run the stages, each with its minutes; return the exit status of pytest."""
    try:
        image = cached()
        if not image.exists():
            _stage("the machine's disk", lambda: build(image))
        if arguments == ["--image"]:
            return 0
    except CannotBuild as exc:
        sys.stderr.write(f"test-usb: {exc}\n")
        return 1
    if shutil.which("qemu-system-x86_64") is None:
        sys.stderr.write("test-usb: qemu-system-x86_64 is missing: apt install qemu-system-x86\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="firmwarden-test-usb-") as place:
        package = Path(place)
        _stage("the package", lambda: _install(package))
        shutil.rmtree(RESULTS, ignore_errors=True)
        RESULTS.mkdir(parents=True)
        try:
            return _stage("the tests", lambda: _test(image, package, arguments))
        except MachineEnded as exc:
            sys.stderr.write(f"test-usb: {exc}\n")
            return 1


def _stage(what: str, work: Callable[[], T]) -> T:
    began = time.monotonic()
    print(f"--- {what}", flush=True)
    result = work()
    print(f"--- {what}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return result


def _install(place: Path) -> None:
    """Install the package for the machine, from the wheel that its users get."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = place / "wheels"
    build_wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run([*pip, *build_wheel], check=True)
    install = ["install", "--no-deps", "--target", str(place), *map(str, wheels.glob("*.whl"))]
    subprocess.run([*pip, *install], check=True)
    shutil.rmtree(wheels)


def _test(image: Path, package: Path, arguments: list[str]) -> int:
    shares = (
        Share(name="tree", path=ROOT),
        Share(name="package", path=package),
        Share(name="results", path=RESULTS, writable=True),
    )
    script = _SCRIPT.format(venv=VENV, tools=TOOLS, arguments=shlex.join(arguments))
    return run(image, script, shares=shares, console=RESULTS / "console.txt", timeout_s=LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

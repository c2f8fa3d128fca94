"""The machine's kernel and disk: this Debian's suite, its systemd, udev and kernel, and the locked Python packages.

Made once for each state of what goes into them and each week, so that security updates arrive by themselves, and
kept outside the tree.  The kernel package is unpacked, not installed: its scripts would build an initrd for any
machine, and of its 4,000 modules this one needs sixty.

Needs root, because a root file system belongs to root.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
LOCK: Final = ROOT / "requirements.lock"
DEV_LOCK: Final = ROOT / "requirements-dev.lock"

KERNEL: Final = "linux-image-amd64"
"""The usual one: Debian's kernels for clouds have no USB."""

PACKAGES: Final = (
    "busybox-static",
    "dbus",
    "dfu-util",
    "e2fsprogs",
    "kmod",
    "libudev1",
    "libusb-1.0-0",
    "mount",
    "polkitd",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
)

MODULES: Final = (
    # the machine itself
    *("qemu_fw_cfg", "virtio_rng", "virtio_console", "9p", "9pnet_virtio"),
    # disks that give out
    "loop",
    # USB: a controller with hot-plug, one that is fed by programs, one whose other end is a gadget; and a listener
    *("xhci_pci", "vhci_hcd", "dummy_hcd", "libcomposite", "usb_f_acm", "usbmon"),
    # what becomes of a plugged device
    *("usbserial", "ftdi_sio", "cdc_acm"),
)
DISK_MODULES: Final = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4")

TEST_TOOLS: Final = ("pytest", "pytest-timeout", "hypothesis", "iniconfig", "packaging", "pluggy", "pygments")
TEST_TOOLS_NEED: Final = ("attrs", "sortedcontainers")
"""Of the development lock; the linters are of no use in there."""

VENV: Final = Path("/opt/firmwarden")
TOOLS: Final = Path("/opt/test-tools")
"""Where the runtime's packages are, and, out of the service's sight, those of the tests."""

NOT_STARTED: Final = (
    "getty.target",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)
"""Each would cost a second or more of an emulated processor."""

KEEP_S: Final = 14 * 86_400.0
"""An image that was made so long ago is nobody's any more; it is removed when another one is made."""


class CannotBuild(Exception):
    """There is no image and none can be made here; the message is one line."""


def suite() -> str:
    """Name this machine's Debian suite.

    Raises:
        CannotBuild: it has none.
    """
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
        if "=" in line
    )
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        raise CannotBuild(
            "its disk is made of the packages of the Debian that one is on, and this is no Debian"
        )
    return release["VERSION_CODENAME"].strip('"')


def cached() -> Path:
    """Name the directory of the image, whether it is there or not."""
    content = hashlib.sha256()
    for path in (Path(__file__), *sorted((HERE / "guest").iterdir()), LOCK, DEV_LOCK):
        content.update(path.read_bytes())
    year, week, _ = dt.datetime.now(tz=dt.UTC).isocalendar()
    content.update(f"{suite()} {year} {week}".encode())
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "firmwarden" / "usb-lab" / content.hexdigest()[:16]


def build(image: Path) -> None:
    """Make an image, whole or not at all.

    Raises:
        CannotBuild: something is missing here, or a step failed.
    """
    if os.geteuid() != 0:
        caches = image.parents[2]
        raise CannotBuild(
            f"root must make its disk first: sudo XDG_CACHE_HOME={caches} make test-usb ARGS=--image"
        )
    for tool in ("mmdebstrap", "mke2fs", "cpio", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CannotBuild(f"{tool} is missing: apt install mmdebstrap e2fsprogs cpio")
    image.parent.mkdir(parents=True, exist_ok=True)
    _remove_old(image.parent)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=image.parent) as place:
        work = Path(place)
        work.chmod(0o755)  # apt downloads as a user of its own
        root, made = work / "root", work / "image"
        made.mkdir()
        _step("root file system", lambda: _root_file_system(work, root))
        _step("kernel", lambda: _kernel(work, root, made))
        _step("Python packages", lambda: _python_packages(work, root))
        _step("disk", lambda: _disk(root, made))
        made.replace(image)


def _remove_old(images: Path) -> None:
    for image in images.iterdir():
        if time.time() - image.stat().st_mtime > KEEP_S:
            shutil.rmtree(image)


def _step(what: str, work: Callable[[], None]) -> None:
    began = time.monotonic()
    work()
    print(f"  {what}: {time.monotonic() - began:.0f} s", flush=True)


def _run(*command: object, text: str | None = None) -> str:
    words = [str(each) for each in command]
    done = subprocess.run(words, check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise CannotBuild(f"{words[0]} failed with status {done.returncode}, see above")
    return done.stdout


def _apt_source() -> Path:
    """Name this machine's own list of Debian's archives; others that are beside it have nothing that we need."""
    new = Path("/etc/apt/sources.list.d/debian.sources")
    return new if new.exists() else Path("/etc/apt/sources.list")


def _root_file_system(work: Path, root: Path) -> None:
    fetch_kernel = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --quiet=2 --yes --download-only --no-install-recommends '
        f'-o APT::Sandbox::User=root install {KERNEL} && mv "$1"/var/cache/apt/archives/linux-image-[0-9]*.deb {work}'
    )
    _run(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "info", "locale", "man")),
        f"--customize-hook={fetch_kernel}",
        suite(),
        root,
        _apt_source(),
    )
    etc = root / "etc"
    shutil.copy(HERE / "guest" / "errand", root / "usr/local/sbin")
    shutil.copy(HERE / "guest" / "errand.service", etc / "systemd/system")
    _run("systemctl", f"--root={root}", "enable", "errand.service")
    _run("systemctl", f"--root={root}", "mask", *NOT_STARTED)
    _run("systemctl", f"--root={root}", "set-default", "multi-user.target")
    (etc / "hostname").write_text("usb-lab\n")
    (etc / "hosts").write_text("127.0.0.1 localhost usb-lab\n")
    (etc / "machine-id").write_text(f"{1:032x}\n")
    _run("chroot", root, "systemd-hwdb", "update")


def _kernel(work: Path, root: Path, made: Path) -> None:
    (package,) = work.glob("linux-image-*.deb")
    _run("dpkg-deb", "--extract", package, work / "kernel")
    (kernel,) = (work / "kernel" / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    kernel.rename(made / "vmlinuz")
    (modules,) = (work / "kernel").glob(f"**/lib/modules/{version}")
    installed = root / "lib/modules" / version
    installed.parent.mkdir(parents=True, exist_ok=True)
    modules.rename(installed)
    _run("chroot", root, "depmod", version)
    wanted = [root / each.lstrip("/") for each in _needed(root, version, (*DISK_MODULES, *MODULES))]
    for module in installed.rglob("*.ko*"):
        if module not in wanted:
            module.unlink()
    _run("chroot", root, "depmod", version)
    _initrd(work / "initrd", root, _needed(root, version, DISK_MODULES), made)


def _needed(root: Path, version: str, modules: Iterable[str]) -> list[str]:
    """List the files of modules and of what they need, in the order of loading."""
    files: dict[str, None] = {}
    for module in modules:
        told = _run("chroot", root, "modprobe", "--set-version", version, "--show-depends", module)
        files |= dict.fromkeys(re.findall(r"^insmod (\S+)", told, re.MULTILINE))
    return list(files)


def _initrd(place: Path, root: Path, modules: Iterable[str], made: Path) -> None:
    for directory in ("bin", "dev", "modules", "root"):
        (place / directory).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", place / "bin")
    shutil.copy(HERE / "guest" / "init", place)
    for number, file in enumerate(modules):
        content = (root / file.lstrip("/")).read_bytes()
        name = Path(file).name
        if name.endswith(".xz"):
            content = lzma.decompress(content)
        (place / "modules" / f"{number:02}-{name.removesuffix('.xz')}").write_bytes(content)
    listing = "\n".join(str(path.relative_to(place)) for path in sorted(place.rglob("*")))
    archive = made / "initrd"
    _run(
        "cpio", "--quiet", "--create", "--format=newc", "--directory", place, "--file", archive, text=listing
    )


def _python_packages(work: Path, root: Path) -> None:
    """Install what the locks name, by its hash, for the machine's Python."""
    version = _run(
        "chroot", root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    ).strip()
    _run("chroot", root, "python3", "-m", "venv", "--without-pip", VENV)
    site = VENV / "lib" / f"python{version}" / "site-packages"
    tools = work / "tools.lock"
    tools.write_text("".join(_locked(DEV_LOCK, (*TEST_TOOLS, *TEST_TOOLS_NEED))))
    for lock, place in ((LOCK, site), (tools, TOOLS)):
        _run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--root-user-action=ignore", "--no-compile", "--target", root / place.relative_to("/")),
            *("--implementation=cp", f"--python-version={version}", "--only-binary=:all:"),
            *("--require-hashes", "--requirement", lock),
        )
        _run("chroot", root, "python3", "-m", "compileall", "-q", place)


def _locked(lock: Path, names: Iterable[str]) -> list[str]:
    """Take the entries of some packages out of a lock."""
    entries = re.findall(r"^[\w.-]+==.*\n(?:^ .*\n)*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return [entry for entry in entries if entry.partition("==")[0] in names]


def _disk(root: Path, made: Path) -> None:
    for directory in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / directory)
    size_kib = int(_run("du", "--summarize", "--apparent-size", "--block-size=1K", root).split()[0])
    spare_kib = 256 * 1024
    _run(
        *("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", root, made / "disk"),
        f"{size_kib * 5 // 4 + spare_kib}K",
    )

"""``make test-deb``: boots the machine, and tests the Debian package there, from an empty system on.

Everything of the tests' own, their Python packages among it, lies in /opt, and only they see that: for the rest of the
machine /opt is empty.  What the package installs runs with what Debian and the package have, or not at all.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from lab.image import ROOT, TOOLS, VENV, CannotBuild, build, cached
from lab.machine import MachineEnded, Share, run

RESULTS: Final = ROOT / "dist" / "test-deb"
"""What the tests and the machine say, kept until the next run."""
LIMIT_S: Final = 15 * 60.0
"""The tests take a fifth of it; a machine that hangs is switched off."""

PACKAGES: Final = Path("/mnt/packages")
"""Where the machine has these two."""
PACKAGE: Final = "firmwarden.deb"
NEWER: Final = "firmwarden-newer.deb"

_SCRIPT: Final = """\
site=$(echo {venv}/lib/python3.*/site-packages)
cp -r --preserve=timestamps /mnt/tree/daemon/firmwarden $site
mkdir /opt/tree
cp -r --preserve=timestamps /mnt/tree/README.md /mnt/tree/docs /mnt/tree/pyproject.toml /mnt/tree/tests /opt/tree
cat >/opt/run <<'END'
nsenter --target 1 --mount mount -t tmpfs none /opt
cd /opt/tree
CI=true PYTHONPATH={tools} {venv}/bin/python -m pytest --timeout=600 -o faulthandler_timeout=700 \
  -o testpaths=tests/debian --junitxml=/mnt/results/junit.xml {arguments}
END
status=0
unshare --mount sh -eu /opt/run || status=$?
journalctl --output=short-precise >/mnt/results/journal.txt
exit $status
"""


def main(arguments: list[str]) -> int:
    """Test the package in dist/; return the exit status of pytest."""
    try:
        (package,) = (ROOT / "dist").glob("firmwarden_*.deb")
    except ValueError:
        sys.stderr.write("test-deb: there is no package, or more than one, in dist: make deb\n")
        return 1
    try:
        image = cached()
        if not image.exists():
            build(image)
    except CannotBuild as exc:
        sys.stderr.write(f"test-deb: {exc}\n")
        return 1
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="firmwarden-test-deb-") as place:
        packages = Path(place)
        shutil.copy(package, packages / PACKAGE)
        _make_newer(package, packages)
        shares = (
            Share(name="tree", path=ROOT),
            Share(name="packages", path=packages),
            Share(name="results", path=RESULTS, writable=True),
        )
        script = _SCRIPT.format(venv=VENV, tools=TOOLS, arguments=shlex.join(arguments))
        try:
            return run(image, script, shares=shares, console=RESULTS / "console.txt", timeout_s=LIMIT_S)
        except MachineEnded as exc:
            sys.stderr.write(f"test-deb: {exc}\n")
            return 1


def _make_newer(package: Path, packages: Path) -> None:
    """Make the package of a next version, whose daemon calls itself so."""
    content = packages / "content"
    subprocess.run(["dpkg-deb", "--raw-extract", package, content], check=True)
    for file in ("DEBIAN/control", "usr/lib/firmwarden/firmwarden/__init__.py"):
        path = content / file
        path.write_text(path.read_text().replace(_version(package), f"{_version(package)}+next"))
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", content, packages / NEWER],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(content)


def _version(package: Path) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", package, "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

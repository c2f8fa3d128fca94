"""The package is tested in the machine of `make test-deb`, since it is installed there; its script needs no machine."""

from lab.package import PACKAGES

collect_ignore = ["test_purge.py" if PACKAGES.exists() else "test_package.py"]

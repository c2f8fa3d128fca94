"""The package is tested in the machine that `make test-deb` boots, for it is installed there; what needs none is not."""

from lab.package import PACKAGES

collect_ignore = ["test_purge.py" if PACKAGES.exists() else "test_package.py"]

"""These tests are for the machine that `make test-usb` boots: they plug USB devices, and own the whole system."""

from pathlib import Path

from lab.fixtures import controllers, service
from lab.monitor import PORT

__all__ = ["controllers", "service"]

collect_ignore_glob = [] if Path(PORT).exists() else ["test_*.py"]

"""What a DFU status means: from the device's words to the causes that the rest of the house knows.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, 6.1.2; ST AN3156 for the two that
DfuSe uses in its own way: errTARGET is an address that does not exist, errVENDOR is read protection.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.errors import AttemptFailed
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.dfu.requests import Status, StatusReport

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUS_CODES: Final = {
    # An error without an error: the device and we disagree about where we are.
    Status.OK: CauseCode.OUT_OF_STEP,
    Status.ERR_TARGET: CauseCode.WRONG_TARGET,
    Status.ERR_FILE: CauseCode.INVALID_FILE,
    Status.ERR_WRITE: CauseCode.WRITE_ERROR,
    Status.ERR_ERASE: CauseCode.ERASE_ERROR,
    Status.ERR_CHECK_ERASED: CauseCode.NOT_BLANK,
    Status.ERR_PROG: CauseCode.WRITE_ERROR,
    Status.ERR_VERIFY: CauseCode.VERIFY_ERROR,
    Status.ERR_ADDRESS: CauseCode.ADDRESS_ERROR,
    Status.ERR_NOTDONE: CauseCode.OUT_OF_STEP,
    Status.ERR_FIRMWARE: CauseCode.FIRMWARE_CORRUPT,
    Status.ERR_VENDOR: CauseCode.VENDOR_ERROR,
    Status.ERR_USBR: CauseCode.CLIENT_REBOOTED,
    Status.ERR_POR: CauseCode.CLIENT_REBOOTED,
    Status.ERR_UNKNOWN: CauseCode.CLIENT_ERROR,
    Status.ERR_STALLEDPKT: CauseCode.OUT_OF_STEP,
}

STATUS_CODES: Final[Mapping[Status, CauseCode]] = MappingProxyType(_STATUS_CODES)
"""What an attempt ended with when a DFU device reported an error."""

DFUSE_STATUS_CODES: Final[Mapping[Status, CauseCode]] = MappingProxyType(
    {**_STATUS_CODES, Status.ERR_VENDOR: CauseCode.READ_PROTECTED}
)
"""The same for DfuSe."""


def failure(code: CauseCode, detail: str, *, raw: bytes = b"", offset: int | None = None) -> AttemptFailed:
    """Return the error that ends an attempt."""
    return AttemptFailed(Cause(code=code, detail=detail, raw=raw, offset=offset))


def verdict(report: StatusReport, what: str, *, dfuse: bool, offset: int | None = None) -> AttemptFailed:
    """Return the error for a report of the state dfuERROR, which came of `what`."""
    raw = report.encode()
    if not isinstance(report.status, Status):
        detail = f"the device failed at {what} with the undefined status 0x{report.status:02x}"
        return failure(CauseCode.ABORT_UNKNOWN, detail, raw=raw, offset=offset)
    codes = DFUSE_STATUS_CODES if dfuse else STATUS_CODES
    detail = f"the device failed at {what}: {report.status.name}"
    return failure(codes[report.status], detail, raw=raw, offset=offset)

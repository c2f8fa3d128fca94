"""The token that is shown over TCP to give orders: how it is read, and what is refused as one."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Final

from firmwarden.errors import FirmwardenError
from firmwarden.files import Unusable, read_file

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST: Final = 16
"""Characters.  Nobody guesses so many over a network, whatever they are made of."""

_LARGEST_FILE: Final = 4096
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""RFC 6750, 2.1: what may stand in the header."""


class BadToken(FirmwardenError):
    """There is no token to be had; the message says why and what to do."""


def read_token(path: Path) -> str:
    """Read the token from its file.

    Raises:
        BadToken: it cannot be read, others can read or write it, or it holds something else.
    """
    try:
        mode = path.stat().st_mode
        content, _ = read_file(path, _LARGEST_FILE, follow=True)
    except OSError as exc:
        raise BadToken(f"{path} cannot be read: {exc.strerror}") from exc
    except Unusable as exc:
        raise BadToken(f"{path} {exc}") from exc
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise BadToken(f"{path} is not for the service alone: `chmod o=,g-w {path}`")
    token = content.decode(errors="replace").strip()
    if len(token) < SHORTEST or not _TOKEN.fullmatch(token):
        raise BadToken(f"{path} must have one line, of at least {SHORTEST} letters, digits and -._~+/")
    return token

"""What this package raises.  Causes are data as attributes, not only text inside a message.

Foreign exceptions are translated once, at the edge that met them, with ``raise ... from``: above
``transport/`` nobody names an error of pyserial, pyusb or the socket module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmwarden.model import Cause, WaitKind


class FirmwardenError(Exception):
    """Base of everything this package raises on purpose."""


class AttemptFailed(FirmwardenError):
    """An attempt at an update ended without success; what drivers and protocol machines raise.

    They judge nothing: what follows is decided by ``service/policy.py`` alone.
    """

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"{cause.code.value}: {cause.detail}" if cause.detail else cause.code.value)
        self.cause = cause


class MustWait(FirmwardenError):
    """An update that nobody watches must not begin, or not go on, before a person has looked.

    Raised by drivers before anything on the device was changed.
    """

    def __init__(self, kind: WaitKind, detail: str, *, left_in_loader: bool = False) -> None:
        super().__init__(detail)
        self.kind = kind
        self.left_in_loader = left_in_loader
        """The unit was brought out of its application and could not be put back: trying it again costs that anew."""


class LinkError(FirmwardenError):
    """The way to the device failed; the base of what ``transport/`` raises."""


class LinkLost(LinkError):
    """An open link broke: the cable was pulled, the peer reset the connection."""


class OpenFailed(LinkError):
    """A link could not be opened: no such port, no permission, connection refused."""


class PortHeld(OpenFailed):
    """Somebody else has the port."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path} is held by {holder}")
        self.path = path
        self.holder = holder
        """Who has it, for a person: a command name and process id, or the command that finds out."""


class CannotTell(FirmwardenError):
    """Nothing was found out about a unit, for a reason that lies with this machine."""


class BadImage(FirmwardenError):
    """An image file does not follow its format; the message names the offset or line."""


class BadManifest(FirmwardenError):
    """A manifest, or the image that it names, is refused; the message says why and where."""


class BadConfig(FirmwardenError):
    """A configuration is refused whole; ``problems`` lists every fault with file, line and key."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StoreError(FirmwardenError):
    """The state database cannot be used: newer than this program, damaged, disk full."""


class Refused(FirmwardenError):
    """A person's request cannot be carried out; the message says why and what to do instead."""


class NotFound(Refused):
    """A person named something that does not exist; the message says what was looked for."""


class Unavailable(FirmwardenError):
    """The service cannot answer or do this now, through no fault of who asks; the message says why."""

    def __init__(self, message: str, again_in_s: int | None = None) -> None:
        super().__init__(message)
        self.again_in_s = again_in_s
        """When it is worth asking again, where that is soon."""


class NoRoom(Unavailable):
    """There is no room for it on the disk."""


class SocketUnavailable(FirmwardenError):
    """The control socket cannot be opened: another daemon listens on it, or the place cannot be used."""

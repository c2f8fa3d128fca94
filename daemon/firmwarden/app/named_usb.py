"""A device named by its USB ids, spoken to over DFU.

Ids alone never tell the ROM of one product from that of another, and two units of one product not at all.  So the one
device that is meant has to come out of what was named; where it does not, those that may be meant are listed by their
places, and nothing is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.app.named import ONE_SHOT, Attended, refuse_forbidden
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu import DfuDriver
from firmwarden.drivers.dfu_settings import DfuSettings
from firmwarden.errors import BadImage, NotFound, OpenFailed
from firmwarden.images.dfu_image import addressed, streamed
from firmwarden.images.dfu_suffix import has_suffix
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.prepare import prepare
from firmwarden.model import Sighting, UsbAddress
from firmwarden.protocol.dfu.descriptors import DFUSE, DfuInterface, MalformedDescriptor, find_dfu
from firmwarden.protocol.dfu.host import announced_mode
from firmwarden.protocol.dfu.quirks import Mode, Quirks, is_shared, quirks_of
from firmwarden.service.identity import ClassRule
from firmwarden.transport.usb import real_usb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.base import Journal
    from firmwarden.transport.usb import UsbBus
    from firmwarden.transport.usb_link import UsbSeen

Ids = tuple[int, int]
"""Vendor and product."""

ST_ROM: Final[Ids] = (0x0483, 0xDF11)
"""By which the ROM of every STM32 goes."""

USB_NODES: Final = Path("/dev/bus/usb")

_HEX_SUFFIXES: Final = (".hex", ".ihex", ".ihx")
_FORMATS: Final = {
    ImageFormat.RAW: "a raw image",
    ImageFormat.INTEL_HEX: "an Intel HEX file",
    ImageFormat.DFU: "a file with a DFU suffix",
    ImageFormat.DFUSE: "a DfuSe file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbTarget:
    """A device as it was named, with what no loader tells of it."""

    ids: Ids
    topology: str | None = None
    serial: str | None = None
    loader: Ids | None = None
    """How it shows itself in its loader, where that is neither these ids nor ST's ROM."""
    part: str | None = None
    failsafe: Failsafe | None = None
    """None: nobody said."""
    application: int | None = None
    """Where the application begins behind a resident loader."""
    address: int | None = None
    """Where a raw image goes."""

    def find(self) -> UsbWay:
        """Find the one device that is meant.

        Raises:
            NotFound: there is none, or more than one.
            OpenFailed: this user may not use it, or it has no DFU interface.
        """
        usb = real_usb()
        try:
            here = usb.scan()
        except OSError as exc:
            raise OpenFailed(f"the USB cannot be looked through: {exc.strerror}") from exc
        found = [seen for seen in here if self._means(seen)]
        if len(found) != 1:
            raise NotFound(_none(self, here) if not found else _several(self, found))
        [seen] = found
        if _dfu(seen) is None:
            raise OpenFailed(f"{_name(seen)} has no DFU interface")
        if is_shared(*self.ids) and self.topology is None and self.serial is None:
            # That it is the only one here today does not make it the one that is meant.
            raise NotFound(f"many products have {_ids(self.ids)}, so name the place, too: {_line(seen)}")
        refuse_forbidden(
            USB_NODES / f"{int(seen.facts.topology.partition('-')[0]):03}" / f"{seen.address:03}",
            "; a rule for udev such as those in 60-firmwarden-dfu.rules settles it for good",
        )
        return UsbWay(self, seen, usb)

    @property
    def loaders(self) -> frozenset[Ids]:
        """By which ids it may go in its loader; many keep those of the application."""
        return frozenset({self.ids, self.loader or ST_ROM})

    @property
    def leads_to_rom(self) -> bool:
        """Whether its loader is ST's, as far as anybody said."""
        return self.loader in {None, ST_ROM}

    def _means(self, seen: UsbSeen) -> bool:
        facts = seen.facts
        if self.topology not in {None, facts.topology} or self.serial not in {None, facts.serial}:
            return False
        ids = (facts.vendor_id, facts.product_id)
        # A unit that is stuck in its loader is the one that was named, if the place was.
        stuck = self.topology is not None and ids in self.loaders and _mode(seen) is Mode.DFU
        return ids == self.ids or stuck


_ANY: Final = ImageRules(device=True)


@dataclass(frozen=True, slots=True)
class UsbWay:
    """A device that was found."""

    target: UsbTarget
    seen: UsbSeen
    usb: UsbBus
    image: ImageRules = _ANY

    @property
    def sighting(self) -> Sighting:
        """The place, with what is there."""
        facts = self.seen.facts
        return Sighting(address=UsbAddress(topology=facts.topology, usb=facts), usb=facts)

    @property
    def rule(self) -> ClassRule:
        """Names what is there, and nothing else is shown to it."""
        facts = self.seen.facts
        return ClassRule(name=ONE_SHOT, dfu=True, usb=(facts.vendor_id, facts.product_id))

    @property
    def remark(self) -> str:
        """Say what the image was taken for, and how to tell what else matters."""
        taken = f"The image is taken for {_FORMATS[self.image.format]}."
        if self.target.failsafe is not None:
            return taken
        return f"{taken} What protects the device when the power fails is told by --part and --failsafe."

    def carrying(self, name: str, content: bytes) -> UsbWay:
        """See by its name and content what the image is, and check it."""
        image_format = _format(name, content)
        if self.target.address is not None and image_format is not ImageFormat.RAW:
            raise BadImage(
                f"{name} is {_FORMATS[image_format]}, and --address is for raw images: leave it out"
            )
        ids = {*self.target.loaders, (self.seen.facts.vendor_id, self.seen.facts.product_id)}
        rules = ImageRules(
            format=image_format, address=self.target.address, device=True, ids=tuple(sorted(ids))
        )
        match _dfuse(self.seen):
            case True:
                addressed(content, rules)
            case False:
                streamed(content, rules)
            case None:
                prepare(content, rules)
                if self.target.leads_to_rom and image_format is ImageFormat.RAW and rules.address is None:
                    raise BadImage(
                        f"where does a raw image go? Its loader is taken for {_ids(ST_ROM)}, which has addresses: "
                        "--address names one, or --loader another loader"
                    )
        return replace(self, image=rules)

    def driver(self, journal: Journal, version: str) -> Attended:
        """Speak DFU, with a person who looks on."""
        driver = DfuDriver(
            self._settings(),
            UsbAddress(topology=self.seen.facts.topology, usb=self.seen.facts),
            journal,
            ports=self.usb,
            expected_version=version,
        )
        return Attended(driver, driver.warnings)

    def _settings(self) -> DfuSettings:
        target = self.target
        shown = (self.seen.facts.vendor_id, self.seen.facts.product_id)
        # Named by what its loader goes by, it may come back as anything that is no loader.
        unknown = shown == target.ids and _mode(self.seen) is Mode.DFU
        return DfuSettings(
            application=None if unknown else frozenset({target.ids}),
            loader=target.loaders,
            image=self.image,
            failsafe=target.failsafe or Failsafe.NONE,
            declared=target.failsafe is not None,
            family=None if target.part is None else family_of(target.part),
            application_at=target.application,
            attended=True,
        )


def _format(name: str, content: bytes) -> ImageFormat:
    if has_suffix(content):
        # Only told apart here; whether the suffix is right is checked with everything else.
        version = int.from_bytes(content[-10:-8], "little")
        return ImageFormat.DFUSE if version == DFUSE else ImageFormat.DFU
    return ImageFormat.INTEL_HEX if name.lower().endswith(_HEX_SUFFIXES) else ImageFormat.RAW


def _dfu(seen: UsbSeen) -> DfuInterface | None:
    try:
        return next(iter(find_dfu(seen.configuration)), None)
    except MalformedDescriptor:
        return None


def _mode(seen: UsbSeen) -> Mode | None:
    interface = _dfu(seen)
    return None if interface is None else announced_mode(interface, _quirks(seen))


def _dfuse(seen: UsbSeen) -> bool | None:
    """Tell whether a loader speaks DfuSe; an application does not tell what its loader will speak."""
    interface = _dfu(seen)
    if interface is None or interface.functional is None or _mode(seen) is not Mode.DFU:
        return None
    return (_quirks(seen).version or interface.functional.version) == DFUSE


def _quirks(seen: UsbSeen) -> Quirks:
    facts = seen.facts
    return quirks_of(facts.vendor_id, facts.product_id, facts.revision)


def _none(target: UsbTarget, here: Iterable[UsbSeen]) -> str:
    place = "" if target.topology is None else f"@{target.topology}"
    serial = "" if target.serial is None else f",{target.serial}"
    capable = [_line(seen) for seen in here if _dfu(seen) is not None]
    told = f"DFU devices here: {'; '.join(capable)}" if capable else "no DFU device is here at all"
    return f"nothing like {_ids(target.ids)}{place}{serial} is plugged in; {told}"


def _several(target: UsbTarget, found: Iterable[UsbSeen]) -> str:
    return (
        f"several devices are {_ids(target.ids)}, and none is taken for being the first; name one by its place: "
        f"{'; '.join(map(_line, found))}"
    )


def _line(seen: UsbSeen) -> str:
    facts = seen.facts
    about = [
        facts.product,
        f"serial number {facts.serial}" if facts.serial else "",
        "in its loader" if _mode(seen) is Mode.DFU else "",
    ]
    told = ", ".join(filter(None, about))
    return f"{_name(seen)} ({told})" if told else _name(seen)


def _name(seen: UsbSeen) -> str:
    return f"{_ids((seen.facts.vendor_id, seen.facts.product_id))}@{seen.facts.topology}"


def _ids(ids: Ids) -> str:
    return f"{ids[0]:04x}:{ids[1]:04x}"

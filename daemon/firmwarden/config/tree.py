"""The configuration as the rest of the program sees it: frozen dataclasses, each value checked.

A field is a key of the file by the same name.  Its annotation says how it is read, its default is what the
file may leave out, and the reference page is checked against both.  Durations are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Tag

from firmwarden.config.values import (
    AbsolutePath,
    CapturingPattern,
    CapturingTextPattern,
    Group,
    Label,
    ListenText,
    MemoryAddress,
    NamePattern,
    Octets,
    PathPattern,
    Pattern,
    PublicKeyText,
    PulseStep,
    SocketPath,
    TcpText,
    UnitName,
    UsbId,
    UsbIdText,
    WindowText,
    ZoneName,
)
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.images.formats import ImageFormat
from firmwarden.toml.keys import Table
from firmwarden.toml.values import (
    Flag,
    Name,
    NameOfClass,
    PositiveSeconds,
    Seconds,
    ShortText,
    Text,
    choice,
    whole,
)


@unique
class DriverName(StrEnum):
    """How a class is updated."""

    MDFU = "mdfu"
    DFU = "dfu"


@unique
class Identity(StrEnum):
    """What makes a unit of a class the same unit tomorrow."""

    PORT = "port"
    SERIAL = "serial"


@unique
class UnknownVersion(StrEnum):
    """What becomes of a device of which nobody knows what it runs."""

    UPDATE = "update"
    HOLD = "hold"


@unique
class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Table):
    """Budgets of what is tried again by itself."""

    attempts: Annotated[int, whole(1, 1000)] = 5
    back_off: PositiveSeconds = 2.0
    back_off_max: PositiveSeconds = 900.0
    presence: PositiveSeconds = 86_400.0
    """How long a device may have been here for one job before it counts as failed."""
    again_after: PositiveSeconds = 86_400.0
    """When a pair whose budget ran out is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WearLimits(Table):
    """Starts of an erase for each device."""

    per_day: Annotated[int, whole(1, 1_000_000)] = 10
    per_life: Annotated[int, whole(1, 1_000_000)] = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Table):
    """How units of a class are recognised; keys given together must all hold, ``tcp`` stands alone."""

    path: PathPattern | None = None
    usb: UsbIdText | None = None
    serial: NamePattern | None = None
    interface: Annotated[int, whole(0, 255)] | None = None
    port: NamePattern | None = None
    """The place where a USB device is plugged in, by the name that it has after each start of the host."""
    tcp: tuple[TcpText, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterNone(Table):
    """The loader listens by itself."""

    method: Literal["none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterDetach(Table):
    """Ask the application's DFU interface to go into the loader."""

    method: Literal["detach"] = "detach"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterPulse(Table):
    """Move DTR and RTS, which are wired to reset and boot pins."""

    method: Literal["pulse"] = "pulse"
    steps: tuple[PulseStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterTouch1200(Table):
    """Open the port at 1200 baud and close it; the device comes back as its loader."""

    method: Literal["touch-1200"] = "touch-1200"
    wait: PositiveSeconds = 10.0
    """How long the port may take to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterSend(Table):
    """Send bytes to the application, and wait for its answer where one is expected."""

    method: Literal["send"] = "send"
    send: Octets
    expect: Pattern | None = None
    timeout: PositiveSeconds = 2.0
    baud: Annotated[int, whole(50, 20_000_000)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterCommand(Table):
    """Run a program that brings the device into its loader."""

    method: Literal["command"] = "command"
    argv: tuple[Text, ...]
    timeout: PositiveSeconds = 30.0


def _method(value: object) -> str:
    return f"<{value.get('method') if isinstance(value, dict) else None}>"


Enter = Annotated[
    # The tags appear in the place of an error, where brackets keep them from being taken for keys.
    Annotated[EnterNone, Tag("<none>")]
    | Annotated[EnterDetach, Tag("<detach>")]
    | Annotated[EnterPulse, Tag("<pulse>")]
    | Annotated[EnterTouch1200, Tag("<touch-1200>")]
    | Annotated[EnterSend, Tag("<send>")]
    | Annotated[EnterCommand, Tag("<command>")],
    Discriminator(
        _method,
        custom_error_type="enter_method",
        custom_error_message=(
            'expected a table with method = "none", "detach", "pulse", "touch-1200", "send" or "command"'
        ),
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuery(Table):
    """How the application is asked what it runs."""

    send: Octets
    expect: CapturingPattern
    timeout: PositiveSeconds = 2.0
    baud: Annotated[int, whole(50, 20_000_000)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MdfuTuning(Table):
    """What MDFU leaves to the host."""

    retries: Annotated[int, whole(0, 100)] = 5
    """Resends of one command."""
    discovery: PositiveSeconds = 12.0
    """How long a loader may take until its first answer."""
    accept_newer: Flag = False
    """Speak to a client whose minor version is newer than ours."""
    honour_delay: Flag = False
    """Keep the inter-transaction delay also where the transport does not need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver(Table):
    """Who else has the ports of a class: a unit of systemd, or what two commands stop and start."""

    unit: UnitName | None = None
    stop: tuple[Text, ...] = ()
    start: tuple[Text, ...] = ()
    timeout: PositiveSeconds = 30.0
    """How long each of the two may take."""


@unique
class VersionSource(StrEnum):
    """What of a USB device's own description tells the version of its application."""

    PRODUCT = "product"
    SERIAL = "serial"
    REVISION = "revision"
    """bcdDevice, written as 2.10."""
    MANUFACTURER = "manufacturer"


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuVersion(Table):
    """Where the application shows what it runs, without being opened."""

    from_: Annotated[VersionSource, choice(VersionSource)]
    expect: CapturingTextPattern


ST_ROM: Final = UsbId(vendor_id=0x0483, product_id=0xDF11)
"""By which the ROM of every STM32 goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuTuning(Table):
    """What DFU leaves to the host, and what a loader does not tell."""

    loader: UsbIdText = ST_ROM
    """How a unit shows itself in its loader."""
    alternate: Annotated[int, whole(0, 255)] | None = None
    """The memory that is written; None is the one in which the image lies."""
    application: MemoryAddress | None = None
    """Where the application begins, behind a resident loader."""
    enter_within: PositiveSeconds = 10.0
    """How long the unit may take to come back as its loader."""
    return_within: PositiveSeconds = 15.0
    """How long the unit may take to come back as its application."""
    version: DfuVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(Table):
    """A program that is asked before each start."""

    argv: tuple[Text, ...]
    timeout: PositiveSeconds = 10.0
    again: PositiveSeconds = 60.0
    """How long its no is taken for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Table):
    """To how many units of a class a release goes at once."""

    first: Annotated[int, whole(1, 1_000_000)] = 1
    """The canaries."""
    soak: Seconds = 1800.0
    """How long all units of a wave have to keep well before the next one begins."""
    waves: tuple[Annotated[int, whole(1, 100)], ...] = (100,)
    """How far each goes, in percent of the units of the class; the last has everything."""
    stop_at: Annotated[int, whole(0, 100)] = 10
    """It stops when more than so many percent of the units at which it was tried failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthQuery(Table):
    """How the application is asked how it is."""

    send: Octets
    expect: Pattern
    """A group in it is the version."""
    timeout: PositiveSeconds = 2.0
    baud: Annotated[int, whole(50, 20_000_000)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Table):
    """What a unit has to show after an update."""

    soak: Seconds = 600.0
    """For how long it has to be here and well."""
    return_within: PositiveSeconds = 60.0
    """For how long it may be away meanwhile, in one go."""
    query: HealthQuery | None = None
    """Put when that time is over."""
    command: tuple[Text, ...] = ()
    """Run when that time is over."""
    timeout: PositiveSeconds = 30.0
    """For the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass(Table):
    """A ``[[device]]`` table: how to recognise units of one product and how to talk to them."""

    name: NameOfClass
    driver: Annotated[DriverName, choice(DriverName)]
    match: Match
    identity: Annotated[Identity, choice(Identity)] = Identity.PORT
    label: Label | None = None
    part: Text | None = None
    """The part number of the silicon, from which it follows what can protect an update."""
    failsafe: Annotated[Failsafe, choice(Failsafe)] | None = None
    """What an update relies on when it is interrupted; None: nobody said."""
    baud: Annotated[int, whole(50, 20_000_000)] = 115_200
    parallel: Annotated[int, whole(1, 1024)] | None = None
    hardware: ShortText | None = None
    """The revision of the hardware, where releases have to name it."""
    require_signature: Flag = True
    """Whether a release needs a signature by one of the keys."""
    allow_downgrade: Flag = False
    unknown: Annotated[UnknownVersion, choice(UnknownVersion)] = UnknownVersion.UPDATE
    windows: tuple[WindowText, ...] = ()
    """When updates may start; none: at any time."""
    time_zone: ZoneName | None = None
    """By whose clocks; None: the machine's own."""
    inhibit: AbsolutePath | None = None
    """A file that keeps updates from starting while it is there."""
    inhibit_for: PositiveSeconds = 3600.0
    """How long it counts after it was touched: what touched it may have died."""
    condition: Condition | None = None
    rollout: Rollout | None = None
    """None: a release goes to all units at once."""
    image_format: Annotated[ImageFormat, choice(ImageFormat)] = ImageFormat.RAW
    image_fill: Annotated[int, whole(0, 255)] = 0xFF
    """What the gaps of an Intel HEX file become."""
    image_address: MemoryAddress | None = None
    """Where a raw image goes."""
    enter: Enter = field(default_factory=EnterNone)
    settle: Seconds = 0.0
    """Silence between the way into the loader and the first command."""
    boot_delay: Seconds = 2.0
    """How long the application takes to start, before it is asked anything."""
    version_query: VersionQuery | None = None
    hand_over: HandOver | None = None
    """Who is stopped while a unit is spoken to, and started again afterwards."""
    health: Health | None = None
    """What has to be seen before an update counts as good; None: its confirmation."""
    roll_back: Flag = False
    """Whether a unit that is not well goes back to what it was well with."""
    on_outcome: tuple[Text, ...] = ()
    on_outcome_timeout: PositiveSeconds = 30.0
    mdfu: MdfuTuning = field(default_factory=MdfuTuning)
    dfu: DfuTuning = field(default_factory=DfuTuning)
    retry: Retry = field(default_factory=Retry)
    wear: WearLimits = field(default_factory=WearLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey(Table):
    """A ``[[key]]`` table: who may sign the releases of which classes."""

    name: Name
    public: PublicKeyText
    classes: tuple[Text, ...]
    """Names, or ``EVERY_CLASS`` alone."""
    revoked: Flag = False


EVERY_CLASS: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Table):
    """The ``[firmwarden]`` table."""

    firmware_dir: AbsolutePath = Path("/var/lib/firmwarden/firmware")
    state_dir: AbsolutePath = Path("/var/lib/firmwarden")
    socket: SocketPath = Path("/run/firmwarden/control.sock")
    read_group: Group | None = None
    """Whose members may ask at the socket."""
    act_group: Group | None = None
    """Whose members may also give orders there; None is the group as which the service runs."""
    listen: ListenText | None = None
    """Where the service answers over TCP too."""
    token_file: AbsolutePath | None = None
    """What is shown over TCP to give orders."""
    parallel: Annotated[int, whole(1, 1024)] = 16
    """Updates at once."""
    scan_interval: PositiveSeconds = 2.0
    grace: Seconds = 30.0
    """How long a running transfer may go on after SIGTERM."""
    log_level: Annotated[LogLevel, choice(LogLevel)] = LogLevel.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that the files say; ``retry`` and ``wear`` are resolved into each class."""

    settings: Settings = field(default_factory=Settings)
    devices: tuple[DeviceClass, ...] = ()
    keys: tuple[SigningKey, ...] = ()

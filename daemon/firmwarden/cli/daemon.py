"""The daemon itself, and its configuration."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from firmwarden.cli.client import DEFAULT_CONFIG
from firmwarden.cli.text import paragraph, table, width
from firmwarden.errors import BadConfig, FirmwardenError
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.config import Config, DeviceClass, Settings
    from firmwarden.transport.usb import UsbBus

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration; `devices.d` beside it belongs to it.",
)


@click.command()
@config_option
@click.option(
    "--simulated-usb",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Update the simulated devices of this file instead of what is on the USB.",
)
def run(config: Path, simulated_usb: Path | None) -> None:
    """Run the daemon until it is told to stop.

    It stays in the foreground and logs to standard error. SIGTERM or SIGINT end it, once running transfers are through
    or their grace is over; a second one cuts that short. SIGHUP makes it read the configuration again.
    """
    from firmwarden.app.daemon import run_daemon

    with ExitStack() as stack:
        usb = None if simulated_usb is None else stack.enter_context(_simulated(simulated_usb))
        sys.exit(run_daemon(config, usb))


@contextmanager
def _simulated(file: Path) -> Iterator[UsbBus]:
    """Run the devices that a file describes."""
    from firmwarden.simulate.dfu.backend import SimBackend
    from firmwarden.simulate.dfu.description import read_bus
    from firmwarden.simulate.dfu.lister import SimLister
    from firmwarden.simulate.dfu.running import RunningBus
    from firmwarden.toml.document import BadToml
    from firmwarden.transport.usb import UsbBus

    try:
        described = read_bus(file)
    except (BadToml, OSError) as exc:
        raise click.BadParameter(str(exc), param_hint="--simulated-usb") from exc
    with RunningBus(described) as running:
        yield UsbBus(SimLister(running.bus), lambda: SimBackend(running.bus))


@click.command()
@config_option
def check(config: Path) -> None:
    """Say what is wrong with the configuration, or what it means.

    Every mistake is told with file, line and key, and the exit status is 1 then. No device is looked at.
    """
    from firmwarden.config import load

    try:
        found = load(config)
    except BadConfig as exc:
        for problem in exc.problems:
            click.echo(printable(problem))
        count = "this problem" if len(exc.problems) == 1 else f"these {len(exc.problems)} problems"
        refusal = (
            f"{config} is refused whole, for {count}. A running daemon keeps the configuration that it has."
        )
        click.echo("\n".join(paragraph(refusal, first="firmwarden: ")), err=True)
        sys.exit(1)
    for line in _summary(found):
        click.echo(line)


@click.command()
@config_option
def hand_back(config: Path) -> None:
    """Start again whoever was stopped for a daemon that died.

    The daemon does that itself when it starts; this is for one that does not come back. It must not run.
    """
    from firmwarden import log
    from firmwarden.app.hand_back import hand_back as app
    from firmwarden.config import load

    try:
        found = load(config)
        log.configure(found.settings.log_level.value)
        all_back = app(found)
    except FirmwardenError as exc:
        click.echo("\n".join(paragraph(str(exc), first="firmwarden: ")), err=True)
        sys.exit(1)
    sys.exit(0 if all_back else 1)


def _summary(config: Config) -> Iterator[str]:
    settings = config.settings
    yield "The configuration is good."
    yield f"Releases are taken from {settings.firmware_dir}, the state is kept in {settings.state_dir},"
    yield f"the daemon answers at {settings.socket}, and at most {settings.parallel} updates run at once."
    yield from _doors(settings)
    yield ""
    if not config.devices:
        yield "It has no [[device]] table, so no device would ever be updated."
        return
    yield from table(
        ("CLASS", "DRIVER", "TOLD BY", "MATCHES"),
        [(each.name, each.driver.value, each.identity.value, _matches(each)) for each in config.devices],
        fit=width(),
    )
    yield ""
    yield "Releases are taken:"
    for device in config.devices:
        yield from paragraph(_signers(device, config), first=f"- {device.name}: ", indent="  ")
    protected = [device for device in config.devices if device.driver == "dfu"]
    if protected:
        yield ""
        yield "When the power fails in an update:"
    for device in protected:
        yield from paragraph(_protection(device), first=f"- {device.name}: ", indent="  ")


def _doors(settings: Settings) -> Iterator[str]:
    """Say who may use the socket, and what listens beside it, where the configuration says anything of it."""
    acting = settings.act_group or "the group as which it runs"
    if settings.read_group is not None:
        yield f"Members of {settings.read_group} may ask there; members of {acting} may give orders too."
    elif settings.act_group is not None:
        yield f"Members of {acting} may ask there and give orders."
    if settings.listen is not None:
        yield from paragraph(
            f"It also listens at http://{settings.listen}, where whoever reaches it may ask, and orders need the token "
            f"in {settings.token_file or 'the credential of its unit, where it has one'}."
        )


def _signers(device: DeviceClass, config: Config) -> str:
    from firmwarden.config import EVERY_CLASS

    if not device.require_signature:
        return "signed or not, so whoever can write to the firmware directory decides what its devices run."
    named = [
        key.name
        for key in config.keys
        if not key.revoked and not {EVERY_CLASS, device.name}.isdisjoint(key.classes)
    ]
    if not named:
        return "none, because they have to be signed and no [[key]] may do it."
    return f"signed with {' or '.join(named)}."


def _protection(device: DeviceClass) -> str:
    from firmwarden.config import EnterDetach
    from firmwarden.drivers.boot.lookup import family_of
    from firmwarden.drivers.boot.outlook import Failsafe
    from firmwarden.drivers.boot.reliance import RELIED_ON, standing_doubt

    doubt = standing_doubt(
        device.failsafe or Failsafe.NONE,
        declared=device.failsafe is not None,
        family=None if device.part is None else family_of(device.part),
        by_software=isinstance(device.enter, EnterDetach),
    )
    if doubt is not None:
        return f"its updates wait, because {doubt}."
    assert device.failsafe is not None  # noqa: S101 - else there is a doubt
    return f"{RELIED_ON[device.failsafe]}."


def _matches(device: DeviceClass) -> str:
    match = device.match
    usb = match.usb
    said = {
        "path": match.path,
        "usb": None if usb is None else f"{usb.vendor_id:04x}:{usb.product_id:04x}",
        "serial": match.serial,
        "interface": match.interface,
        "port": match.port,
        "tcp": ", ".join(map(str, match.tcp)) or None,
    }
    return ", ".join(f"{key} {value}" for key, value in said.items() if value is not None)

"""``firmwarden simulate``: simulated devices from the command line."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click

from firmwarden.simulate.application import Dialogue
from firmwarden.simulate.console import print_event, read_endpoint, read_faults, stop_event
from firmwarden.simulate.dfu.command import dfu, image_dfu
from firmwarden.simulate.faults import SYNTAX, Fault, parse_fault
from firmwarden.simulate.firmware import HEADER_SIZE, make_update_file
from firmwarden.simulate.profile import PROFILES, Profile
from firmwarden.simulate.server import Simulator
from firmwarden.simulate.settings import DeviceSettings, PtyPlaces, SimulatorSettings, TcpPlaces

_BUFFER_RANGE: Final = click.IntRange(1, 0xFFFF)


def _unescape(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    r"""Read text in which ``\n``, ``\r`` and ``\x1b`` stand for bytes."""
    try:
        return text.encode("ascii").decode("unicode_escape")
    except UnicodeError as exc:
        raise click.BadParameter(f"{text!r} is not ASCII with escapes: {exc}") from exc


def _read_tcp(ctx: click.Context, param: click.Parameter, text: str | None) -> TcpPlaces | None:
    """Read ``[HOST]:PORT``."""
    endpoint = read_endpoint(ctx, param, text)
    return endpoint and TcpPlaces(host=endpoint[0], first_port=endpoint[1])


def _profile(name: str, buffer_size: int | None) -> Profile:
    profile = PROFILES[name]
    if buffer_size is None:
        return profile
    if name != "generic":
        raise click.UsageError(f"--buffer is for the generic profile, {name} has {profile.buffer_size} bytes")
    return replace(profile, info=replace(profile.info, buffer_size=buffer_size))


class _ImageOptions(TypedDict):
    profile_name: str
    buffer_size: int | None
    version: str
    size: int
    seed: int
    file: Path


class _MdfuOptions(TypedDict):
    directory: Path | None
    tcp: TcpPlaces | None
    count: int
    first: int
    serial_format: str
    name: str
    profile_name: str
    buffer_size: int | None
    version: str | None
    image_size: int
    stay_in_loader: bool
    flash_time: float
    baud: int | None
    faults: tuple[tuple[int | None, Fault], ...]
    seed: int
    version_query: str
    version_answer: str
    ill: str
    loader_request: str
    loader_answer: str
    report: Path | None
    flash_dir: Path | None
    stop_with_stdin: bool


@click.group()
def simulate() -> None:
    """Run simulated devices to test against."""


_profile_option = click.option(
    "--profile",
    "profile_name",
    type=click.Choice(list(PROFILES)),
    default="generic",
    show_default=True,
    help="Family of clients to behave like.",
)
_buffer_option = click.option(
    "--buffer",
    "buffer_size",
    type=_BUFFER_RANGE,
    help="Bytes in a chunk, for the generic profile.  [default: 512]",
)


@simulate.command()
@_profile_option
@_buffer_option
@click.option("--version", required=True, help="Version that the application tells.")
@click.option(
    "--size", type=click.IntRange(HEADER_SIZE), default=65_536, show_default=True, help="Its bytes."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other bytes.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def image(**options: Unpack[_ImageOptions]) -> None:
    """Write an update file that simulated devices take.

    It carries a header with its size, the device id, the version and a SHA-256, and random bytes; for pic8 and pic32
    in the blocks of their formats.  The same options give the same file.
    """
    try:
        content = make_update_file(
            _profile(options["profile_name"], options["buffer_size"]),
            options["version"],
            size=options["size"],
            seed=options["seed"],
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    try:
        options["file"].write_bytes(content)
    except OSError as exc:
        raise click.ClickException(f"{options['file']} cannot be written: {exc.strerror}") from exc


simulate.add_command(image_dfu)


@simulate.command(epilog=SYNTAX)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Ptys, with links to them in here.",
)
@click.option(
    "--tcp",
    callback=_read_tcp,
    metavar="[HOST]:PORT",
    help="TCP ports, from this one on; 0 for free ones. Loopback unless HOST says else.",
)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many devices.")
@click.option(
    "--first", type=click.IntRange(0), default=1, show_default=True, help="Serial number of the first."
)
@click.option("--serial-format", default="{:04d}", show_default=True, help="How serial numbers are written.")
@click.option(
    "--name",
    default="usb-Acme_Panel_{serial}-if00",
    show_default=True,
    help="Names of devices and of their links.",
)
@_profile_option
@_buffer_option
@click.option("--version", help="Version installed at the factory; no application if left out.")
@click.option(
    "--image-size",
    type=click.IntRange(HEADER_SIZE),
    default=16_384,
    show_default=True,
    help="Bytes of that application.",
)
@click.option("--stay-in-loader", is_flag=True, help="Power up in the loader until updated.")
@click.option(
    "--flash-time",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Factor on the time the flash takes.",
)
@click.option(
    "--paced", "baud", type=click.IntRange(1), metavar="BAUD", help="Bytes take their time on the wire."
)
@click.option(
    "--fault",
    "faults",
    callback=read_faults(parse_fault),
    metavar="[SERIAL:]FAULT",
    multiple=True,
    help="See below; SERIAL: for one device alone.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For everything that happens by chance.")
@click.option(
    "--version-query",
    callback=_unescape,
    metavar="TEXT",
    default=r"VERSION?\n",
    show_default=True,
    help="Asks an application.",
)
@click.option(
    "--version-answer",
    callback=_unescape,
    metavar="TEXT",
    default=r"VERSION {version}\n",
    show_default=True,
    help="It answers.",
)
@click.option(
    "--ill",
    metavar="VERSION",
    default="",
    help=r"Asked STATUS?\n, the application of this version answers ILL\n; any other answers WELL\n.",
)
@click.option(
    "--loader-request",
    callback=_unescape,
    metavar="TEXT",
    default=r"BOOTLOADER!\n",
    show_default=True,
    help="Sends it to its loader.",
)
@click.option(
    "--loader-answer",
    callback=_unescape,
    metavar="TEXT",
    default=r"OK\n",
    show_default=True,
    help="It answers before it goes.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with the state of all devices.",
)
@click.option(
    "--flash-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep flash contents here over restarts.",
)
@click.option("--stop-with-stdin", is_flag=True, help="End when standard input is closed.")
def mdfu(**options: Unpack[_MdfuOptions]) -> None:
    """Run simulated MDFU clients until stopped by SIGTERM or SIGINT.

    Standard output has one JSON object a line: first "ready" with the address of each device, then what
    happens to them.  A device whose application runs speaks no MDFU: it tells its version, and enters its loader
    when it is asked to or by a 1200 baud touch of its pty.
    """
    settings = _settings(options)
    try:
        asyncio.run(_serve(settings))
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def _settings(options: _MdfuOptions) -> SimulatorSettings:
    places: PtyPlaces | TcpPlaces
    match options["directory"], options["tcp"]:
        case Path() as directory, None:
            places = PtyPlaces(directory=directory)
        case None, TcpPlaces() as tcp:
            places = tcp
        case _:
            raise click.UsageError("say either --dir DIR or --tcp [HOST]:PORT")
    profile = _profile(options["profile_name"], options["buffer_size"])
    installed = None
    numbers = range(options["first"], options["first"] + options["count"])
    strangers = {number for number, _ in options["faults"] if number is not None} - set(numbers)
    if strangers:
        raise click.UsageError(f"--fault for serial number {min(strangers)}, which no device has")
    try:
        if options["version"] is not None:
            installed = make_update_file(profile, options["version"], size=options["image_size"])
        names = [options["name"].format(serial=options["serial_format"].format(number)) for number in numbers]
    except (ValueError, LookupError) as exc:
        raise click.UsageError(str(exc)) from exc
    if len(set(names)) != len(names) or any("/" in name or not name for name in names):
        raise click.UsageError("--name and --serial-format must give each device a file name of its own")
    dialogue = Dialogue(
        version_query=options["version_query"].encode("latin-1"),
        version_answer=options["version_answer"],
        ill_with=options["ill"],
        loader_request=options["loader_request"].encode("latin-1"),
        loader_answer=options["loader_answer"].encode("latin-1"),
    )
    return SimulatorSettings(
        devices=tuple(
            DeviceSettings(
                name=name,
                profile=profile,
                installed=installed,
                stay_in_loader=options["stay_in_loader"],
                flash_time=options["flash_time"],
                baud=options["baud"],
                dialogue=dialogue,
                faults=tuple(fault for only, fault in options["faults"] if only in (None, number)),
                seed=options["seed"],
            )
            for number, name in zip(numbers, names, strict=True)
        ),
        places=places,
        report=options["report"],
        flash_directory=options["flash_dir"],
        stop_with_stdin=options["stop_with_stdin"],
    )


async def _serve(settings: SimulatorSettings) -> None:
    stop = stop_event(with_stdin=settings.stop_with_stdin)
    async with Simulator(settings, print_event):
        await stop.wait()


simulate.add_command(dfu)

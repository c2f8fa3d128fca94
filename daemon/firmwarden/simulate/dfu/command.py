"""``firmwarden simulate dfu`` and ``simulate image-dfu``: simulated DFU devices, and updates for them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
from click.core import ParameterSource

from firmwarden.simulate.console import print_event, read_endpoint, read_faults, stop_event
from firmwarden.simulate.dfu.description import DescribedBus, DescribedDevice, read_bus, read_port
from firmwarden.simulate.dfu.faults import SYNTAX, parse_fault
from firmwarden.simulate.dfu.files import FileFormat, encode
from firmwarden.simulate.dfu.firmware import Entry
from firmwarden.simulate.dfu.image import SMALLEST
from firmwarden.simulate.dfu.kinds import Kind, loader_of, make_update
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.dfu.usbip_front import UsbipFront, Vhci
from firmwarden.toml.document import BadToml

_ROM: Final = (0x0483, 0xDF11)
_WAYS_OUT: Final = {"jump": Entry.JUMP, "invalidate": Entry.INVALIDATE}


class _ImageOptions(TypedDict):
    part: str
    kind: str
    version: str
    size: int
    enters_by: str
    file_format: str
    seed: int
    file: Path


_part_option = click.option(
    "--part",
    type=click.Choice(list(PARTS)),
    metavar="NAME",
    default="stm32l476",
    show_default=True,
    help=f"The chip: {', '.join(PARTS)}.",
)
_kind_option = click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.ROM.value,
    show_default=True,
    help="Who takes updates: the chip's ROM, a DfuSe loader in the first pages, or one that speaks plain DFU.",
)


@click.command(name="image-dfu")
@_part_option
@_kind_option
@click.option("--version", required=True, help="Version that the application tells.")
@click.option("--size", type=click.IntRange(SMALLEST), default=16_384, show_default=True, help="Its bytes.")
@click.option(
    "--enters-by",
    type=click.Choice(list(_WAYS_OUT)),
    default="jump",
    show_default=True,
    help="How it makes room for the ROM: a jump, or a reset with its first granule programmed to zero.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice([each.value for each in FileFormat]),
    default=FileFormat.RAW.value,
    show_default=True,
    help="Of the file.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other bytes.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def image_dfu(**options: Unpack[_ImageOptions]) -> None:
    """Write an update that simulated DFU devices run.

    It has a vector table, a mark with its version and a SHA-256, and random bytes; for a loader of the product's own
    a seal in front.  The same options give the same file.
    """
    part, kind = PARTS[options["part"]], Kind(options["kind"])
    try:
        image = make_update(
            part,
            kind,
            options["version"],
            size=options["size"],
            detaches_by=_WAYS_OUT[options["enters_by"]],
            seed=options["seed"],
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    loader = loader_of(part, kind)
    service = None if loader is None else loader.service
    ids = _ROM if service is None else (service.vendor, service.product)
    try:
        options["file"].write_bytes(encode(image, FileFormat(options["file_format"]), ids))
    except OSError as exc:
        raise click.ClickException(f"{options['file']} cannot be written: {exc.strerror}") from exc


class _DfuOptions(TypedDict):
    bus: Path | None
    count: int
    name: str
    part: str
    kind: str
    version: str | None
    size: int
    option_bytes: dict[str, int]
    self_powered: bool
    flash_time: float
    faults: tuple[tuple[int | None, str], ...]
    seed: int
    endpoint: tuple[str, int] | None
    attach: bool
    report: Path | None
    stop_with_stdin: bool


_NOT_OF_DEVICES: Final = frozenset({"bus", "endpoint", "attach", "report", "stop_with_stdin"})


def _read_option_bytes(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, int]:
    """Read ``NAME=VALUE``."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = int(value, 0)
        except ValueError as exc:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE") from exc
    return found


def _checked_fault(text: str) -> str:
    parse_fault(text)
    return text


@click.command(epilog=SYNTAX)
@click.argument("bus", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@click.option("--count", type=click.IntRange(1, 99), default=1, show_default=True, help="How many devices.")
@click.option("--name", default="device", show_default=True, help="Their name, before their number.")
@_part_option
@_kind_option
@click.option("--version", help="Version installed at the factory; nothing is if left out.")
@click.option(
    "--size", type=click.IntRange(SMALLEST), default=16_384, show_default=True, help="Bytes of that."
)
@click.option(
    "--option",
    "option_bytes",
    callback=_read_option_bytes,
    metavar="NAME=VALUE",
    multiple=True,
    help="Option bytes that are not as delivered, such as BFB2=1.",
)
@click.option("--self-powered", is_flag=True, help="The power stays when the cable is pulled.")
@click.option(
    "--flash-time",
    type=click.FloatRange(0, 1000),
    default=1.0,
    show_default=True,
    help="Factor on the time the flash takes.",
)
@click.option(
    "--fault",
    "faults",
    callback=read_faults(_checked_fault),
    metavar="[NUMBER:]FAULT",
    multiple=True,
    help="See below; NUMBER: for one device alone.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For everything that happens by chance.")
@click.option(
    "--tcp",
    "endpoint",
    callback=read_endpoint,
    metavar="[HOST]:PORT",
    help="Serve them by USB/IP there; PORT 0 for a free one. Loopback unless HOST says else.",
)
@click.option(
    "--attach", is_flag=True, help="Attach them to this kernel: needs root and the module vhci_hcd."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with the state of all devices.",
)
@click.option(
    "--stop-with-stdin",
    is_flag=True,
    help="End when standard input is closed; until then, obey `unplug NAME` and `plug NAME [PORT]`.",
)
@click.pass_context
def dfu(ctx: click.Context, **options: Unpack[_DfuOptions]) -> None:
    """Run simulated DFU devices on the USB until stopped by SIGTERM or SIGINT.

    BUS is a TOML file that describes them; without it, the options do, on ports from 1 on.  Standard output has one
    JSON object a line: first "ready" with the place of each device, then what happens to them.
    """
    if options["endpoint"] is None and not options["attach"]:
        raise click.UsageError("say --attach, --tcp [HOST]:PORT or both")
    bus = _described(ctx, options)
    if options["attach"]:
        _check_controller(bus.device)
    try:
        asyncio.run(_serve(bus, options))
    except OSError as exc:
        raise click.ClickException(str(exc)) from exc


def _described(ctx: click.Context, options: _DfuOptions) -> DescribedBus:
    if options["bus"] is not None:
        for name in options.keys() - _NOT_OF_DEVICES:
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError("a file and options that describe devices do not go together")
        try:
            return read_bus(options["bus"])
        except BadToml as exc:
            raise click.ClickException(str(exc)) from exc
    numbers = range(1, options["count"] + 1)
    strangers = {number for number, _ in options["faults"] if number is not None} - set(numbers)
    if strangers:
        raise click.UsageError(f"--fault for device {min(strangers)}, which is not there")
    devices = tuple(
        DescribedDevice(
            name=f"{options['name']}-{number:04}",
            port=(number,),
            part=options["part"],
            kind=Kind(options["kind"]),
            version=options["version"],
            size=options["size"],
            options=options["option_bytes"],
            self_powered=options["self_powered"],
            flash_time=options["flash_time"],
            faults=tuple(fault for only, fault in options["faults"] if only in {None, number}),
            seed=options["seed"],
        )
        for number in numbers
    )
    try:
        devices[0].settings()
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return DescribedBus(device=devices)


def _check_controller(devices: tuple[DescribedDevice, ...]) -> None:
    if not Vhci.DIRECTORY.exists():
        raise click.ClickException("this kernel has no virtual host controller: `modprobe vhci_hcd` may help")
    if os.geteuid():
        raise click.ClickException("only root may attach devices to the kernel")
    for device in devices:
        if len(device.port) > 1:
            raise click.UsageError(f"{device.name} is behind a hub; --attach has only ports of the root hub")


async def _serve(bus: DescribedBus, options: _DfuOptions) -> None:
    front = UsbipFront(
        bus.device,
        print_event,
        endpoint=options["endpoint"],
        controller=Vhci() if options["attach"] else None,
        report=options["report"] or bus.report,
    )
    stop = stop_event(with_stdin=options["stop_with_stdin"], told=lambda line: _obey(front, line))
    await front.serve(stop)


def _obey(front: UsbipFront, line: str) -> None:
    """Do what standard input says; what cannot be done is told, and changes nothing."""
    why = "expected `unplug NAME` or `plug NAME [PORT]`"
    try:
        match line.split():
            case ["unplug", name]:
                front.unplug(name)
                return
            case ["plug", name, *port] if len(port) <= 1:
                front.plug(name, *map(read_port, port))
                return
    except ValueError as exc:
        why = str(exc)
    print_event({"event": "not-done", "line": line, "why": why})

"""The figures: each is measured beside pymdfu in the same run and judged by the ratio."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, TypeVar

from pymdfu.transport.uart_transport import Frame

from bench.light_client import BITS_PER_BYTE
from bench.processes import (
    FIRMWARDEN,
    Clients,
    DaemonRun,
    Usage,
    firmwarden_update,
    pymdfu_update,
    run_all,
)
from bench.table import Row
from firmwarden.protocol.mdfu.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from random import Random

T = TypeVar("T")

KIB: Final = 1024
_SCRAPES: Final = 50
_HOSTS: Final = (firmwarden_update, pymdfu_update)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every figure needs."""

    place: Path
    """A directory of its own."""
    random: Random
    quick: bool

    def image(self, size: int) -> tuple[Path, bytes]:
        """Make an image of random bytes."""
        content = self.random.randbytes(size)
        path = self.place / f"{size}.bin"
        path.write_bytes(content)
        return path, content

    def few(self, usual: int) -> int:
        """How often something is repeated, or how many devices there are."""
        return max(1, usual // 4) if self.quick else usual


def one_device(bench: Bench) -> Iterator[Row]:
    """One device, never paced, on a pty and once over TCP."""
    image, content = bench.image(1024 * KIB)
    tiny, tiny_content = bench.image(1)
    transfer_limits = {128: 0.75, 512: 0.6}
    rounds = bench.few(7)
    for chunk, tcp in ((128, False), (512, False), (1024, False), (4096, False), (512, True)):
        with Clients.running(bench.place, count=1, chunk=chunk, tcp=tcp) as clients:
            (port,) = clients.ports
            whole = _side_by_side(rounds, [partial(run_all, [host(image, port)]) for host in _HOSTS])
            clients.updated(content, each=2 * rounds)
            start = _side_by_side(rounds, [partial(run_all, [host(tiny, port)]) for host in _HOSTS])
            clients.updated(tiny_content, each=2 * rounds)
        what = f"1 MiB{' over TCP' if tcp else ''}, chunk {chunk}"
        limit = None if tcp else 1.0
        yield _times_ratio(f"{what}: wall", [[each.wall_s for each in side] for side in whole], at_most=limit)
        cpu = [[each.cpu_s for each in side] for side in whole]
        yield _times_ratio(f"{what}: CPU", cpu, at_most=limit)
        if chunk in transfer_limits:
            transfer = [
                [median(side) - median(each.cpu_s for each in begin)]
                for side, begin in zip(cpu, start, strict=True)
            ]
            yield _times_ratio(
                f"{what}: CPU without start-up",
                transfer,
                at_most=None if tcp else transfer_limits[chunk],
            )
        if chunk == 4096:
            yield _times_ratio(
                "start-up and one chunk: CPU", [[each.cpu_s for each in side] for side in start]
            )
            ours, theirs = (median(each.rss_mib for each in side) for side in whole)
            yield Row(figure="1 MiB: memory", ours=f"{ours:.0f} MiB", theirs=f"{theirs:.0f} MiB")


def many_devices(bench: Bench) -> Iterator[Row]:
    """Many devices at once, never paced: one daemon against as many processes."""
    image, content = bench.image(256 * KIB)
    chunk = 512
    count = bench.few(128)
    ours = []
    memory = 0.0
    for _ in range(bench.few(3)):
        with (
            Clients.running(bench.place, count=count, chunk=chunk) as clients,
            DaemonRun.running(bench.place, clients) as daemon,
        ):
            ours.append(_update_all(daemon, content, count))
            memory = max(memory, daemon.memory_mib("VmHWM"))
            clients.updated(content)
    with Clients.running(bench.place, count=count, chunk=chunk) as clients:
        theirs = run_all([pymdfu_update(image, port) for port in clients.ports])
        clients.updated(content)
    what = f"{count} devices, 256 KiB"
    walls = [[each.wall_s for each in ours], [theirs.wall_s]]
    yield _times_ratio(f"{what}: wall", walls, at_most=1 / 3, goal=1 / 8)
    cpus = [[each.cpu_s for each in ours], [theirs.cpu_s]]
    yield _times_ratio(f"{what}: CPU", cpus, at_most=1 / 8, goal=1 / 20)
    yield Row(
        figure=f"{what}: memory",
        ours=f"{memory:.0f} MiB",
        theirs=f"{theirs.rss_mib:.0f} MiB",
        value=memory,
        unit=" MiB",
        at_most=96,
        goal=64,
    )
    yield Row(
        figure=f"{what}: CPU a chunk",
        ours=f"{median(cpus[0]) / count / (256 * KIB / chunk) * 1e6:.0f} us",
        theirs=f"{theirs.cpu_s / count / (256 * KIB / chunk) * 1e6:.0f} us",
    )


def slow_lines(bench: Bench) -> Iterator[Row]:
    """Many devices at 115200 baud: nobody may wait for the host."""
    image, content = bench.image(16 * KIB if bench.quick else 64 * KIB)
    count = 32
    report = bench.place / "ticks.json"
    program = [sys.executable, "-m", "bench.ticking", str(report)]
    with Clients.running(bench.place, count=count, chunk=512, baud=115_200) as clients:
        with DaemonRun.running(bench.place, clients, program) as daemon:
            ours = _update_all(daemon, content, count)
        ours_late = _lateness(clients.updated(content))
        theirs = run_all([pymdfu_update(image, port) for port in clients.ports])
        theirs_late = _lateness(clients.updated(content))
    what = f"{count} devices, {len(content) // KIB} KiB at 115200 baud"
    for which, late, limit in (("median", median, 3), ("slowest", max, 6)):
        value = late(ours_late)
        yield Row(
            figure=f"{what}: {which} above the physical time",
            ours=f"{value:.2f} %",
            theirs=f"{late(theirs_late):.2f} %",
            value=value,
            unit=" %",
            at_most=limit,
        )
    yield _times_ratio(f"{what}: wall", [[ours.wall_s], [theirs.wall_s]])
    yield _times_ratio(f"{what}: CPU", [[ours.cpu_s], [theirs.cpu_s]])
    ticks = sorted(json.loads(report.read_text("ascii")))
    for which, tick, limit in (("99 %", ticks[int(len(ticks) * 0.99)], 20), ("worst", ticks[-1], 250)):
        yield Row(
            figure=f"event loop's ticks every 5 ms meanwhile: {which} late by",
            ours=f"{tick * 1e3:.1f} ms",
            value=tick * 1e3,
            unit=" ms",
            at_most=limit,
        )


def fast_line(bench: Bench) -> Iterator[Row]:
    """One device at 3 Mbaud: how much of the line is used from START to END."""
    baud = 3_000_000
    size = 256 * KIB
    image, content = bench.image(size)
    for chunk, goal in ((128, 74), (512, 91)):
        with Clients.running(bench.place, count=1, chunk=chunk, baud=baud) as clients:
            commands = [host(image, clients.ports[0], baud) for host in _HOSTS]
            sides = _side_by_side(
                bench.few(7), [partial(_share_of_line, each, clients, content, baud) for each in commands]
            )
        ours, theirs = map(median, sides)
        what = f"256 KiB at 3 Mbaud, chunk {chunk}: share of the line rate"
        yield Row(
            figure=what,
            ours=f"{ours:.1f} %",
            theirs=f"{theirs:.1f} %",
            value=ours,
            unit=" %",
            at_least=theirs,
            goal=goal,
        )


def encoding(bench: Bench) -> Iterator[Row]:
    """Frames of 1 KiB."""
    kinds = {
        "random": (bench.random.randbytes(KIB), 20),
        "all reserved": (b"\x56\x9e\xcc\x56" * (KIB // 4), 5),
    }
    for kind, (payload, limit) in kinds.items():
        packet = b"\x00\x03" + payload
        assert encode_frame(packet) == bytes(Frame(packet).to_bytes())
        ours = _seconds_each(partial(encode_frame, packet), 10_000)
        theirs = _seconds_each(Frame(packet).to_bytes, 500)
        yield Row(
            figure=f"encoding 1 KiB, {kind}: speed",
            ours=f"{ours * 1e6:.2f} us",
            theirs=f"{theirs * 1e6:.1f} us",
            value=theirs / ours,
            unit=" x",
            at_least=limit,
        )


def idle(bench: Bench) -> Iterator[Row]:
    """A daemon that has nothing to do."""
    seconds = 5 if bench.quick else 20
    with (
        Clients.running(bench.place, count=64, chunk=512) as clients,
        DaemonRun.running(bench.place, clients) as daemon,
    ):
        time.sleep(2)
        before = daemon.cpu_s
        time.sleep(seconds)
        share = 100 * (daemon.cpu_s - before) / seconds
        memory = daemon.memory_mib("VmRSS")
        ready = daemon.ready_s
        size = daemon.scrape()  # the first one imports the library
        before = daemon.cpu_s
        for _ in range(_SCRAPES):
            daemon.scrape()
        scrape_ms = 1000 * (daemon.cpu_s - before) / _SCRAPES
    what = "idle daemon, 64 devices present"
    yield Row(figure=f"{what}: of one core", ours=f"{share:.2f} %", value=share, unit=" %", at_most=0.5)
    yield Row(figure=f"{what}: memory", ours=f"{memory:.0f} MiB", value=memory, unit=" MiB", at_most=80)
    yield Row(
        figure=f"a scrape of it, {size / KIB:.0f} KiB: CPU",
        ours=f"{scrape_ms:.1f} ms",
        value=scrape_ms,
        unit=" ms",
        at_most=20,
    )
    yield Row(figure=f"{what}: ready after", ours=f"{ready:.2f} s", value=ready, unit=" s", at_most=1.5)


def prompt(bench: Bench) -> Iterator[Row]:
    """What a person waits for at the prompt, beside an interpreter that does nothing."""
    rounds = bench.few(20)
    with (
        Clients.running(bench.place, count=8, chunk=512) as clients,
        DaemonRun.running(bench.place, clients) as daemon,
    ):
        device = daemon.first_device()
        typed = {"--help": ("--help",), "devices": ("devices",), "why DEVICE": ("why", device)}
        completed = {
            "COMP_WORDS": "firmwarden why ",
            "COMP_CWORD": "2",
            "_FIRMWARDEN_COMPLETE": "bash_complete",
        }
        at_daemon = {"FIRMWARDEN_SOCKET": str(daemon.socket)}
        measures = {
            "": partial(run_all, [(sys.executable, "-c", "pass")]),
            **{what: partial(run_all, [(FIRMWARDEN, *words)], at_daemon) for what, words in typed.items()},
            "completion of a DEVICE": partial(run_all, [(FIRMWARDEN,)], at_daemon | completed),
        }
        bare, *sides = _side_by_side(rounds, list(measures.values()))
    nothing_s = median(each.wall_s for each in bare)
    for what, side in zip(list(measures)[1:], sides, strict=True):
        took_s = median(each.wall_s for each in side)
        ours, theirs = f"{1000 * took_s:.0f} ms", f"{1000 * nothing_s:.0f} ms"
        yield Row(
            figure=f"at the prompt: {what}; beside an empty Python",
            ours=ours,
            theirs=theirs,
            value=took_s / nothing_s,
            unit=" x",
            at_most=10,
        )


FIGURES: Final[dict[str, Callable[[Bench], Iterator[Row]]]] = {
    "one": one_device,
    "many": many_devices,
    "slow": slow_lines,
    "fast": fast_line,
    "encoding": encoding,
    "idle": idle,
    "prompt": prompt,
}


def _update_all(daemon: DaemonRun, content: bytes, count: int) -> Usage:
    """From the drop of a release until all devices run it."""
    cpu_s = daemon.cpu_s
    began = time.monotonic()
    daemon.drop(content)
    daemon.wait_for("update-succeeded", count)
    return Usage(time.monotonic() - began, daemon.cpu_s - cpu_s, 0.0)


def _lateness(devices: list[dict[str, float]]) -> list[float]:
    """How much longer each update took, in percent, than its bytes took on the wire."""
    return [100 * (each["seconds"] / each["wire_s"] - 1) for each in devices]


def _share_of_line(command: Sequence[str], clients: Clients, content: bytes, baud: int) -> float:
    """Run an update and return in percent how much of the line rate was payload, from START to END."""
    run_all([command])
    (told,) = clients.updated(content)
    return 100 * len(content) * BITS_PER_BYTE / baud / told["seconds"]


def _side_by_side(rounds: int, measures: Sequence[Callable[[], T]]) -> list[list[T]]:
    """Measure both hosts in turn, so that a machine that is busy for a while is so for both."""
    results = [[measure() for measure in measures] for _ in range(rounds)]
    return [list(side) for side in zip(*results, strict=True)]


def _seconds_each(work: Callable[[], object], times: int) -> float:
    def once() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times

    return median(once() for _ in range(9))


def _times_ratio(
    figure: str, sides: list[list[float]], *, at_most: float | None = None, goal: float | None = None
) -> Row:
    ours, theirs = map(median, sides)
    return Row(
        figure=figure,
        ours=f"{ours:.3f} s",
        theirs=f"{theirs:.3f} s",
        value=ours / theirs,
        at_most=at_most,
        goal=goal,
    )

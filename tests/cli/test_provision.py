"""``provision``: what is shown, who is asked, and how it ends."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Final

import pytest
from click.testing import CliRunner, Result

from firmwarden.app import named_usb
from firmwarden.cli import main
from firmwarden.cli import provision as command
from firmwarden.drivers.boot import option_block
from firmwarden.simulate.dfu.chip import EraseOptions, ProgramOption
from firmwarden.simulate.dfu.work import When
from support.option_bench import OptionBench
from support.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., Result]

PLACED: Final = "provision --usb 0483:df11@1-1 --part STM32L476RG --failsafe bfb2"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> OptionBench:
    made = OptionBench()
    monkeypatch.setattr(named_usb, "real_usb", lambda: made.usb)
    return made


def run(line: str, text: str = "") -> Result:
    result = CliRunner().invoke(main, line.split(), input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(text: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Be a person at a terminal."""
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    with CliRunner().isolation(input=text):
        input_type = type(sys.stdin)
    monkeypatch.setattr(input_type, "isatty", lambda _self: True, raising=False)
    return run(PLACED, text)


def test_what_would_be_written_is_shown_and_without_a_yes_nothing_is(bench: OptionBench) -> None:
    result = run(PLACED)

    assert result.exit_code == 2
    assert "STM32L476RG at 1-1, as 0483:df11 STM32  BOOTLOADER" in result.stdout
    assert "0x1fff7800  0xffefffaa  0xffffffaa\n0x1fff7808  0xffffffff\n" in result.stdout
    words = " ".join(result.stdout.split())
    assert "BFB2=1 is the only bit that changes" in words
    assert "locked for good" in words
    assert "does the application set VTOR" in words
    assert "it takes your yes" in result.stderr
    assert bench.chip.stored == bench.factory


def test_with_yes_it_is_written(bench: OptionBench) -> None:
    result = run(f"{PLACED} --yes")
    assert result.exit_code == 0
    assert "Done: the device has restarted" in result.stdout
    assert bench.chip.options["BFB2"] == 1

    again = run(f"{PLACED} --yes")
    assert again.exit_code == 0
    assert (
        "is set already. Nothing was written. Its loader shows the option bytes of bank 1 alone"
        in " ".join(again.stdout.split())
    )
    assert "0x1fff7800  0xffffffaa\n" in again.stdout


@pytest.mark.parametrize(
    ("text", "written"),
    [("stm32l476rg\n", True), ("yes\n", True), ("y\n", False), ("STM32L496\n", False), ("\n", False)],
)
def test_a_person_is_asked(
    bench: OptionBench, monkeypatch: pytest.MonkeyPatch, text: str, written: bool
) -> None:
    result = answer(text, monkeypatch)
    assert "Type STM32L476RG, or yes, to write it" in result.stdout
    assert result.exit_code == (0 if written else 2)
    assert bench.chip.options["BFB2"] == written


def test_json(bench: OptionBench) -> None:
    planned, end = map(json.loads, run(f"{PLACED} --json").stdout.splitlines())
    assert planned | {"words": [], "serial": ""} == {
        "event": "provision-planned",
        "topology": "1-1",
        "serial": "",
        "part": "STM32L476RG",
        "failsafe": "bfb2",
        "bit": "BFB2=1",
        "words": [],
    }
    assert planned["words"][0] == {"address": "0x1fff7800", "now": "0xffefffaa", "then": "0xffffffaa"}
    assert (end["event"], end["outcome"]) == ("provision-finished", "not-confirmed")
    assert bench.chip.stored == bench.factory

    _, end = map(json.loads, run(f"{PLACED} --json --yes").stdout.splitlines())
    assert end["outcome"] == "done"


def test_inv2_a_power_cut_is_told_for_what_it_left(bench: OptionBench) -> None:
    bench.cut(EraseOptions, When.AFTER)
    result = run(f"{PLACED} --yes")
    assert result.exit_code == 1
    assert "refuses to be read" in result.stderr
    assert "What was seen:" in result.stderr


def test_inv2_what_the_loader_does_not_show_is_not_vouched_for(bench: OptionBench) -> None:
    bench.cut(ProgramOption, When.AFTER, skip=4)
    result = run(f"{PLACED} --yes")
    assert bench.chip.protected(bench.chip.flash.pages - 1)
    assert "Its loader shows those of bank 1 alone." in " ".join(result.stdout.split())


def test_what_is_left_alone_is_told_with_its_reason(bench: OptionBench) -> None:
    bench.chip.stored = bench.chip.part.options.changed(bench.chip.stored, {"WRP1A_STRT": 0})
    result = run(f"{PLACED} --yes")
    assert result.exit_code == 1
    assert "It is left alone: pages 0 to 0" in result.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--usb 0483:df11 --part STM32L476RG --failsafe bfb2", "so name the place, too: 0483:df11@1-1"),
        ("--usb 0483:df11@1-2 --part STM32L476RG --failsafe bfb2", "hold BOOT0 high"),
        ("--usb 0483 --part STM32L476RG --failsafe bfb2", "expected VID:PID"),
        ("--usb 0483:df11@1-1 --part STM32F405RG --failsafe bfb2", "a line to BOOT0"),
        ("--usb 0483:df11@1-1 --part STM32L476RG --failsafe none", "is not 'bfb2'"),
        ("--usb 0483:df11@1-1 --part STM32L476RG", "Missing option '--failsafe'"),
    ],
)
def test_wrong_usage_is_2_and_nothing_is_sent(bench: OptionBench, line: str, words: str) -> None:
    result = run(f"provision {line} --yes")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not bench.device.transfers


def test_every_result_is_told() -> None:
    assert set(command.ENDS) == set(option_block.Result)
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z-]+)` \| [012] \| ", page, re.MULTILINE))
    assert listed == {*option_block.Result, "nothing-to-do", "refused", "not-started", "not-confirmed"}


def test_no_update_and_no_daemon_leads_to_it() -> None:
    """Option bytes are written by this command, and by nothing else."""
    package = ROOT / "daemon" / "firmwarden"
    users = {
        path.name for path in package.rglob("*.py") if "write_options" in path.read_text(encoding="utf-8")
    }
    assert users == {"dfuse_host.py", "provision.py"}
    importers = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"firmwarden\.app(\.| import )provision", path.read_text(encoding="utf-8"))
    ]
    assert importers == ["cli/provision.py"]

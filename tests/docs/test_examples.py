"""What the pages show is what the program takes: configurations, manifests, commands, faults and scripts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from firmwarden.cli.root import main
from firmwarden.config import load
from firmwarden.images.manifest import parse_manifest
from firmwarden.model import (
    Attempt,
    AttemptId,
    Cause,
    CauseCode,
    ClassName,
    DeviceId,
    ImageHash,
    Job,
    JobId,
    JobState,
    Latch,
    LatchId,
    LatchScope,
    Outcome,
    Phase,
)
from firmwarden.service.conclude import Conclusion
from firmwarden.service.outcome import outcome_message
from firmwarden.simulate.dfu.description import read_bus
from firmwarden.simulate.dfu.faults import parse_fault as parse_dfu_fault
from firmwarden.simulate.faults import parse_fault
from support.pages import DOCS, Shown, block_after, fenced, inline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOW_TO = DOCS / "how-to"

# --- configurations and manifests ------------------------------------------------------------------------

SNIPPETS = list(fenced("toml"))
CLASS = {"name": '"front-panel"', "driver": '"mdfu"', "match": '{ usb = "04d8:000a" }'}


def is_manifest(snippet: Shown) -> bool:
    return "[release]" in snippet.text


def is_bus(snippet: Shown) -> bool:
    return re.search(r'^port = "', snippet.text, re.MULTILINE) is not None


CONFIGURATIONS = [each for each in SNIPPETS if not is_manifest(each) and not is_bus(each)]


@pytest.mark.parametrize("snippet", CONFIGURATIONS, ids=str)
def test_a_configuration_on_a_page_is_good(snippet: Shown, tmp_path: Path) -> None:
    text = snippet.text
    if "[[device]]" not in text and "[firmwarden]" not in text:
        said = tomllib.loads(text)
        rest = "\n".join(f"{key} = {value}" for key, value in CLASS.items() if key not in said)
        text = f"[[device]]\n{rest}\n{text}"
    file = tmp_path / "firmwarden.toml"
    file.write_text(text, encoding="utf-8")

    load(file)


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if is_manifest(each)], ids=str)
def test_a_manifest_on_a_page_is_good(snippet: Shown) -> None:
    parse_manifest(snippet.text.encode(), "shown.toml")


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if is_bus(each)], ids=str)
def test_simulated_devices_on_a_page_are_good(snippet: Shown, tmp_path: Path) -> None:
    file = tmp_path / "usb.toml"
    file.write_text(snippet.text, encoding="utf-8")

    read_bus(file)


def test_every_way_into_a_loader_is_shown() -> None:
    page = (HOW_TO / "add-a-device-class.md").read_text(encoding="utf-8")
    shown = re.findall(r'^enter = \{ method = "([\w-]+)"', page, re.MULTILINE)
    assert shown == ["none", "pulse", "touch-1200", "send", "command", "detach"]


# --- commands --------------------------------------------------------------------------------------------


def command_lines() -> Iterator[Shown]:
    """Yield each command of ours that a page has in a block."""
    for block in fenced("sh"):
        for line in re.sub(r"\\\n", " ", block.text).splitlines():
            if line.startswith("firmwarden "):
                yield Shown(block.page, line)


@pytest.mark.parametrize("shown", list(command_lines()), ids=str)
def test_a_command_on_a_page_is_understood(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(re.split(r" [|>] ", shown.text)[0], comments=True)
    for image in arguments:
        if image.endswith((".bin", ".dfu", ".img", "usb.toml")):
            Path(image).touch()  # must be there to be understood
    command: click.Command = main
    # A command remembers the names of its help from the context that it meets first.
    context = click.Context(main, **main.context_settings)
    while isinstance(command, click.Group):
        command = subcommand(command, arguments.pop(0))
    command.make_context(command.name, arguments, parent=context)  # parses, and runs nothing


def subcommand(group: click.Group, name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None, name
    return found


def test_commands_in_the_prose_exist() -> None:
    for shown in inline():
        words = shown.text.split()
        if words[0] != "firmwarden":
            continue
        command: click.Command = main
        for word in words[1:]:
            if isinstance(command, click.Group) and word.islower() and not word.startswith("-"):
                command = subcommand(command, word)
            elif option := re.match(r"\(?\[?(--[\w-]+)", word):
                known = {name for parameter in command.params for name in parameter.opts}
                assert option[1] in {*known, "--help"}, str(shown)


def test_faults_on_the_pages_are_understood() -> None:
    page = (HOW_TO / "test-against-simulated-devices.md").read_text(encoding="utf-8")
    mdfu, dfu = page.split("\n## USB DFU devices\n")
    check_faults(mdfu, "abort|cut|corrupt|drop|noise|reboot|mute|wedge|lose|delay|duplicate", parse_fault)
    check_faults(dfu, "power|unplug|stall|lost|unanswered|broken|short|lie|stuck", parse_dfu_fault)


def check_faults(part: str, kinds: str, parse: Callable[[str], object]) -> None:
    shown = re.findall(rf"`((?:{kinds})(?:@[^`]+)?)`|--fault (?:\d+:)?(\S+)", part)
    assert len(shown) > 5
    for told, typed in shown:
        parse(told or typed)


# --- scripts ---------------------------------------------------------------------------------------------


def test_the_release_script_drops_a_release(tmp_path: Path) -> None:
    script = tmp_path / "release"
    script.write_text(block_after(HOW_TO / "release-a-firmware.md", "## Write the manifest", "sh"))
    image = tmp_path / "build.img"
    image.write_bytes(os.urandom(1000))
    directory = tmp_path / "firmware"
    directory.mkdir()

    subprocess.run(["sh", script, "front-panel", "2.4.0", image, directory], check=True, timeout=10)

    assert sorted(each.name for each in directory.iterdir()) == [
        "front-panel-2.4.0.img",
        "front-panel-2.4.0.toml",
    ]
    manifest = parse_manifest((directory / "front-panel-2.4.0.toml").read_bytes(), "front-panel-2.4.0.toml")
    assert (manifest.device, manifest.version, manifest.size) == ("front-panel", "2.4.0", 1000)
    assert (directory / manifest.image).read_bytes() == image.read_bytes()


def test_the_stick_is_packed_whole(tmp_path: Path) -> None:
    script = tmp_path / "pack"
    script.write_text(block_after(HOW_TO / "update-an-air-gapped-site.md", "## Before you go", "sh"))
    (tmp_path / "panel.toml").write_text('[release]\ndevice = "front-panel"\nimage = "panel-2.img"\n')
    (tmp_path / "panel.toml.minisig").write_text("signed")
    (tmp_path / "panel-2.img").write_bytes(os.urandom(1000))
    stick = tmp_path / "stick"

    subprocess.run(["sh", script, stick, tmp_path / "panel.toml"], check=True, timeout=10)

    assert sorted(each.name for each in (stick / "firmware").iterdir()) == [
        "panel-2.img",
        "panel.toml",
        "panel.toml.minisig",
    ]
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=stick, check=True, timeout=10)
    (stick / "firmware" / "panel-2.img").write_bytes(os.urandom(1000))
    assert subprocess.run(check, cwd=stick, check=False, capture_output=True, timeout=10).returncode == 1


def outcome(state: JobState) -> dict[str, object]:
    """Make the message of the page, or that of a success."""
    image = ImageHash("6bc7bb008fcc5f2d6dd4c4b8fc48b3c9190d5b9932f6662a1b828ea31d6d833a")
    device = DeviceId("k3f9q2")
    cause = Cause(
        code=CauseCode.WRITE_ERROR,
        detail="the client aborted at WRITE_CHUNK: WRITE_ERROR",
        raw=bytes.fromhex("160505"),
        offset=10_240,
        chunk=20,
        sequence=22,
    )
    latch = Latch(id=LatchId(1), scope=LatchScope.DEVICE, device=device, image=None, cause=cause, set_at=0.0)
    failed = state is JobState.FAILED
    job = Job(
        id=JobId(12),
        device=device,
        device_class=ClassName("front-panel"),
        image=image,
        version="2.4.0",
        sequence=None,
        size=16_384,
        state=state,
        created_at=0.0,
        updated_at=0.0,
        attempts=1,
        cause=cause if failed else None,
    )
    attempt = Attempt(
        id=AttemptId(31),
        job=job.id,
        device=device,
        image=image,
        version="2.4.0",
        number=1,
        started_at=0.0,
        phase=Phase.WRITING,
        outcome=Outcome.RUNNING,
    )
    message = outcome_message(
        Conclusion(
            job=job,
            attempt=attempt,
            outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED,
            cause=cause if failed else None,
            latches=(latch,) if failed else (),
        )
    )
    assert message is not None
    return message


def test_the_outcome_on_the_page_is_what_a_hook_gets() -> None:
    shown = block_after(HOW_TO / "outcome-hook.md", "## What it gets", "json")
    assert json.loads(shown) == outcome(JobState.FAILED)


@pytest.mark.parametrize(
    ("state", "priority"), [(JobState.SUCCEEDED, "user.info"), (JobState.FAILED, "user.err")]
)
def test_the_example_of_a_hook_works(tmp_path: Path, state: JobState, priority: str) -> None:
    script = tmp_path / "log-outcome"
    script.write_text(block_after(HOW_TO / "outcome-hook.md", "## An example", "sh"))
    logger = tmp_path / "logger"
    logger.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/logged\n')
    logger.chmod(0o755)
    line = json.dumps(outcome(state))

    subprocess.run(
        ["sh", script],
        input=f"{line}\n",
        text=True,
        env={"PATH": f"{tmp_path}:{os.defpath}"},
        check=True,
        timeout=10,
    )

    logged = (tmp_path / "logged").read_text().splitlines()
    assert logged == ["--tag", "firmware-update", "--priority", priority, line]

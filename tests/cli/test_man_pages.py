"""Every command has its manual page, which says what its help says and is clean roff."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from firmwarden.cli import main
from support.man_pages import CONFIGURATION, REFERENCE, markdown, pages
from support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = pages()


def commands(group: click.Group, path: str = "firmwarden") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}-{name}")
        else:
            yield f"{path}-{name}", command


COMMANDS = dict(commands(main))


def read(page: str) -> str:
    """Return a page as a reader sees it, in words; what groff has to say of it is nothing."""
    # -ww: all warnings.  -c and the filter of overstrikes leave the letters.
    done = subprocess.run(
        [program("groff"), "-man", "-Tutf8", "-ww", "-P-cbou"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return " ".join(done.stdout.replace("\u2010\n", "").split())


def test_every_command_has_its_page() -> None:
    assert set(PAGES) == {f"{path}.1" for path in COMMANDS} | {CONFIGURATION}


@pytest.mark.parametrize("path", COMMANDS)
def test_a_page_tells_what_the_help_tells(path: str) -> None:
    text = re.sub(r"\W+", "", read(PAGES[f"{path}.1"]).replace("\u2010 ", ""))
    command = COMMANDS[path]
    options = [each for each in command.params if isinstance(each, click.Option)]
    told = [*(command.help or "").split("\n\n"), *re.split("Examples?:", command.epilog or "")]
    told += [words for option in options for words in (" ".join(option.opts), option.help or "")]
    assert [each for each in told if re.sub(r"\W+", "", each.rstrip(".")) not in text] == []


def test_the_page_of_the_configuration_has_every_key() -> None:
    text = read(PAGES[CONFIGURATION])
    source = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `([a-z_.]+)` \|", source, re.MULTILINE)
    assert len(keys) > 50
    assert [key for key in keys if key not in text] == []
    assert "|" not in re.sub(r'"[^"]*"', "", text)
    assert "](" not in text


def test_what_may_hurt_roff_is_told_as_it_is() -> None:
    page = "\n".join(
        markdown(
            ".TH at the start, and 'x\n\n"
            "- `a\\n` and *it* and **bold**, see [there](x.md)\n- two\n\n"
            "| K | D | W |\n|---|---|---|\n| `k` | | a \\| b |\n\n"
            "```sh\n.so /etc/passwd\n\necho \\e --x\n```\n\nend \u2026 it's"
        )
    )
    text = read(f".TH X 1\n.SH Y\n{page}\n")
    assert ".TH at the start, and 'x" in text
    assert "a\\n and it and bold, see there" in text
    assert "k a | b" in text
    assert ".so /etc/passwd echo \\e --x" in text
    assert "end \u2026 it's" in text

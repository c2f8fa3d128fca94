"""Writes the manual pages: firmwarden(1), one for each command, and firmwarden.toml(5).

``make man`` (``python -m support.man_pages DIRECTORY``) writes them; tests/cli/test_man_pages.py reads them.  What a
command does and takes is what its ``--help`` says; what all have in common comes from the tables of
docs/reference/cli.md, and the page of the configuration from docs/reference/configuration.md.

The language is that of groff_man(7).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from firmwarden import __version__
from firmwarden.cli import main
from firmwarden.cli.root import LAZY, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REFERENCE: Final = Path(__file__).parent.parent.parent / "docs" / "reference"
CONFIGURATION: Final = "firmwarden.toml.5"
_OUTCOMES: Final = frozenset({"firmwarden update", "firmwarden retry"})
"""Commands whose exit status tells an outcome."""


def pages() -> dict[str, str]:
    """Make every page, by the name of its file."""
    made = {
        f"{ctx.command_path.replace(' ', '-')}.1": _lines(_command_page(ctx)) for ctx in _walk(main, None)
    }
    made[CONFIGURATION] = _lines(_configuration_page())
    return made


def _walk(command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    # A man page is as wide as its reader's terminal: nothing is to be wrapped here.
    ctx = click.Context(command, parent=parent, info_name=command.name, **command.context_settings)
    ctx.max_content_width = 10_000
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            yield from _walk(found, ctx)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


# --- one command


def _command_page(ctx: click.Context) -> Iterator[str]:
    command, path = ctx.command, ctx.command_path
    short, *paragraphs = re.split(r"\n\n", (command.help or "").strip())
    name = path.replace(" ", "-")
    yield _title(name, 1)
    yield ".SH NAME"
    yield f"{_literal(name)} \\- {_inline(short.rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield f".B {_literal(path)}"
    yield _literal(" ".join(command.collect_usage_pieces(ctx)))
    if paragraphs:
        yield ".SH DESCRIPTION"
        for each in paragraphs:
            yield from (".PP", _inline(" ".join(each.split())))
    if isinstance(command, click.Group):
        yield from _commands(command, ctx)
    yield ".SH OPTIONS"
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield from (".TP", _option(record[0]), _inline(record[1]))
    if command.epilog:
        yield from _epilog(command.epilog)
    yield from _in_common(path)
    yield ".SH SEE ALSO"
    parents = [] if ctx.parent is None else [f"{ctx.parent.command_path.replace(' ', '-')}(1)"]
    yield ", ".join(_reference(page) for page in (*parents, "firmwarden.toml(5)"))


def _in_common(path: str) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, of_outcomes, of_others in _table("## Exit status"):
        meaning = of_outcomes if path in _OUTCOMES else of_others
        if meaning:
            yield from (".TP", f".B {status}", _inline(meaning))
    for section in ("Environment", "Files"):
        yield f".SH {section.upper()}"
        for what, meaning in _table(f"## {section}"):
            yield from (".TP", _inline(what), _inline(meaning))


def _commands(group: click.Group, ctx: click.Context) -> Iterator[str]:
    yield ".SH COMMANDS"
    sections = {"": group.list_commands(ctx)}
    if group is main:
        sections = {title: [each.name or "" for each in commands] for title, commands in SECTIONS.items()}
        sections["Try it out"] = list(LAZY)
    for title, names in sections.items():
        if title:
            yield f".SS {_inline(title)}"
        for name in names:
            command = group.get_command(ctx, name)
            assert command is not None
            short = LAZY[name][2] if group is main and name in LAZY else (command.help or "").split("\n\n")[0]
            page = f"{ctx.command_path.replace(' ', '-')}-{name}(1)"
            yield from (".TP", _reference(page), _inline(" ".join(short.split())))


def _epilog(epilog: str) -> Iterator[str]:
    """Examples, or a syntax that is told in lines of its own."""
    lines = epilog.replace("\b\n", "").splitlines()
    if lines[0] in {"Example:", "Examples:"}:
        yield from (".SH EXAMPLES", *_as_it_is(line.removeprefix("  ") for line in lines[1:]))
    else:
        yield from (".SH NOTES", *_as_it_is(lines))


def _option(names: str) -> str:
    """The names of an option in bold, what it takes not."""
    return re.sub(r"(?<!\w)(?:\\-)+[a-z](?:\\-|[a-z])*", lambda found: f"\\fB{found[0]}\\fR", _literal(names))


def _reference(page: str) -> str:
    name, section = page[:-1].split("(")
    return f"\\fB{_literal(name)}\\fR({section})"


# --- the configuration


def _configuration_page() -> Iterator[str]:
    _, _, text = (REFERENCE / "configuration.md").read_text(encoding="utf-8").partition("\n\n")
    yield _title("firmwarden.toml", 5)
    yield ".SH NAME"
    yield "firmwarden.toml \\- configuration of the service that keeps firmware up to date"
    yield ".SH DESCRIPTION"
    yield from markdown(text)
    yield ".SH SEE ALSO"
    yield f"{_reference('firmwarden-check(1)')}, {_reference('firmwarden-run(1)')}"


def markdown(text: str) -> Iterator[str]:
    """Turn what our reference pages use of Markdown into roff: headings, prose, lists, tables and blocks of code."""
    fenced = re.split(r"^```[^\n]*\n(.*?)^```\n", text, flags=re.MULTILINE | re.DOTALL)
    for number, piece in enumerate(fenced):
        if number % 2:
            yield from (".PP", ".RS 4", *_as_it_is(piece.splitlines()), ".RE")
            continue
        for block in re.split(r"\n\s*\n", piece.strip()):
            yield from _block(block.strip())


def _block(block: str) -> Iterator[str]:
    heading = re.fullmatch(r"(##+) (.*)", block)
    if heading:
        yield f".{'SH' if len(heading[1]) == 2 else 'SS'} {_inline(heading[2])}"
    elif block.startswith("|"):
        titles, _, *rows = [_cells(row) for row in block.splitlines()]
        for first, *between, last in rows:
            told = [f"{title}: {cell}." for title, cell in zip(titles[1:-1], between, strict=True) if cell]
            yield from (".TP", _inline(first), _inline(" ".join([last, *told])))
    elif re.match(r"[-*] ", block):
        for item in re.split(r"\n?^[-*] ", block, flags=re.MULTILINE)[1:]:
            yield from (".IP \\(bu 2", _inline(" ".join(item.split())))
    elif block:
        yield from (".PP", _inline(" ".join(block.split())))


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def _table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the reference of the command line."""
    _, _, below = (REFERENCE / "cli.md").read_text(encoding="utf-8").partition(f"\n{heading}\n")
    rows = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert rows, f"no table below {heading}"
    return [_cells(row) for row in rows[2:]]


# --- roff


def _title(name: str, section: int) -> str:
    return f'.TH "{_literal(name.upper() if section == 1 else name)}" {section} "" "Firmwarden {__version__}"'


def _as_it_is(lines: Iterable[str]) -> Iterator[str]:
    yield ".nf"
    yield from (_literal(line) or "\\&" for line in lines)
    yield ".fi"


def _inline(text: str) -> str:
    """Prose: code in bold, emphasis in italics, of links the text."""
    told = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    pieces = re.split(r"(`[^`]*`|\*\*[^*]+\*\*|(?<!\w)\*[^* ][^*]*\*)", told)
    return _protected("".join(map(_piece, pieces)))


def _piece(text: str) -> str:
    if text.startswith("`"):
        return f"\\fB{_escaped(text[1:-1])}\\fR"
    if text.startswith("*"):
        return f"\\fI{_escaped(text.strip('*'), dash='-')}\\fR"
    return re.sub(r"(?<!\w)--(?=[a-z])", r"\\-\\-", _escaped(text, dash="-"))


def _literal(text: str) -> str:
    return _protected(_escaped(text))


def _escaped(text: str, *, dash: str = "\\-") -> str:
    ascii_only = "".join(
        each if each.isascii() else f"\\[u{ord(each):04X}]" for each in text.replace("\\", "\\e")
    )
    return ascii_only.replace("-", dash) if dash != "-" else ascii_only


def _protected(line: str) -> str:
    """A line of text that roff does not take for a request."""
    return f"\\&{line}" if line[:1] in {".", "'"} else line


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for file, content in pages().items():
        (directory / file).write_text(content, encoding="ascii")

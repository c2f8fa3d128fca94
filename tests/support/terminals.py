"""Terminals in which a page of the documentation is followed to the letter.

A page marks what is typed and what is seen by the words after the language of a fenced block:

* ``sh terminal=N`` is typed into terminal N, and is done when the prompt would come back;
* ``sh terminal=N stays`` goes on running;
* ``text terminal=N`` is what terminal N shows since then, with ``...`` for whatever may be there.

Compared are the words, wherever lines are broken.  Home directory and device have the same names on every page, and how
long ago something was does not matter.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOME: Final = "/home/you"
DEVICE: Final = "k3f9q2"
"""The home directory and the device of all pages."""

DAEMON: Final = r"""
mkdir firmware
cat > firmwarden.toml <<END
[firmwarden]
firmware_dir = "$PWD/firmware"
state_dir = "$PWD/state"
socket = "$PWD/control.sock"

[[device]]
name = "front-panel"
driver = "mdfu"
match = { path = "$PWD/ports/*" }
label = "panel-7"
require_signature = false
enter = { method = "send", send = "BOOTLOADER!\n", expect = "OK" }
settle = "200ms"
boot_delay = "200ms"
version_query = { send = "VERSION?\n", expect = 'VERSION (\S+)\s' }
END
firmwarden simulate image --version 2.4.0 --size 16384 firmware/panel.img
cat > firmware/panel.toml <<END
[release]
device = "front-panel"
version = "2.4.0"
image = "panel.img"
sha256 = "$(sha256sum firmware/panel.img | cut -d ' ' -f 1)"
size = 16384
END
firmwarden run --config firmwarden.toml
"""
"""A daemon for devices in ``ports``, with a release to give them."""

PATIENCE_S: Final = 20.0
"""An update of a simulated device takes a few seconds; a machine under load takes longer."""

_BLOCK: Final = re.compile(r"^```(sh|text) terminal=(\d)( stays)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|.)")
_ENROLLED: Final = re.compile(r"device-enrolled\s.*?\bdevice=(\w+)")
_AGE: Final = re.compile(r"\bjust now\b|\b\d+ \w+ ago\b")
_DONE: Final = "--- done ---"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    typed: bool
    terminal: str
    stays: bool
    text: str


def blocks(page: Path) -> list[Block]:
    """Read what a page says to do and to see, in its order."""
    return [
        Block(typed=language == "sh", terminal=terminal, stays=bool(stays), text=text)
        for language, terminal, stays, text in _BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


class Terminal:
    """A shell with a terminal for its output."""

    def __init__(self, name: str, home: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.screen = ""
        """All that it has shown."""
        self.typed_at = 0
        """How much that was when something was typed last."""
        self._news = threading.Condition()
        self._display, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self._shell = subprocess.Popen(
            ["bash", "--norc", "-e"],
            cwd=home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._display, 65_536)
            except OSError:  # EIO: nobody is left at the other end
                return
            with self._news:
                self.screen += _ESCAPE.sub("", data.decode(errors="replace"))
                self._news.notify_all()

    def type(self, text: str) -> None:
        """Type something, and behind it what shows that it is done."""
        self.typed_at = len(self.screen)
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{text}\necho '{_DONE}'\n".encode())
        self._shell.stdin.flush()

    @property
    def shown(self) -> str:
        """What it has shown since something was typed."""
        return self.screen[self.typed_at :]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition is true; it is looked at whenever something is shown."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while not condition():
                told = f"terminal {self.name} did not show {what}\nIt showed:\n{self.shown}"
                assert time.monotonic() < deadline, told
                assert self._shell.poll() is None, told
                self._news.wait(0.5)

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        os.killpg(self._shell.pid, signal.SIGINT)
        self.close()

    def close(self) -> None:
        """End the shell, and what runs in it if it does not end by itself."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)  # its own session, so its own group
            self._shell.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._display)


class Terminals:
    """All terminals of one page, opened when something is typed into them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._environment = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
        }
        self._open: dict[str, Terminal] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._open.values():
            self._closing.callback(terminal.interrupt)
        self._open = {}
        self._closing.close()

    def follow(self, block: Block) -> None:
        """Do what a block says, or wait until it is seen."""
        if block.typed:
            self.type(block.terminal, block.text, stays=block.stays)
        else:
            self.see(block.terminal, block.text)

    def type(self, name: str, text: str, *, stays: bool = False) -> None:
        """Type into a terminal; unless it stays, wait until that is done."""
        if name not in self._open:
            self._open[name] = Terminal(name, self._home, self._environment)
        terminal = self._open[name]
        terminal.type(text)
        if not stays:
            terminal.until(lambda: _DONE in terminal.shown, f"the end of:\n{text}")

    def see(self, name: str, text: str) -> None:
        """Wait until a terminal shows a text."""
        terminal = self._open[name]
        # Two in a row are one: nothing between them would be looked for everywhere.
        pieces = re.split(r"\.\.\.(?: \.\.\.)*", _words(text))
        expected = re.compile(".*?".join(re.escape(piece.strip()) for piece in pieces), re.DOTALL)
        terminal.until(
            lambda: expected.fullmatch(self._in_words_of_a_page(terminal.shown)),
            f"this:\n{text}",
        )

    def until(self, name: str, condition: Callable[[], object], what: str) -> None:
        """Wait for what a terminal does not show."""
        self._open[name].until(condition, what)

    def screen(self, name: str) -> str:
        """Return all that a terminal has shown."""
        return self._open[name].screen

    def interrupt(self, *names: str) -> None:
        """Press Ctrl-C in terminals, one after the other."""
        for name in names:
            self._open.pop(name).interrupt()

    def _in_words_of_a_page(self, shown: str) -> str:
        for terminal in self._open.values():
            if enrolled := _ENROLLED.search(terminal.screen):
                shown = shown.replace(enrolled[1], DEVICE)
        return _words(shown.replace(str(self._home), HOME).replace(_DONE, ""))


def _words(text: str) -> str:
    return _AGE.sub("a while ago", " ".join(text.split()))

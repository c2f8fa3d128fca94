"""Real processes: started, waited for by what they say, and stopped by their own id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
Record = dict[str, Any]
"""A line that is a JSON object."""

PATIENCE_S: Final = 20.0
"""What is waited for takes a second at most; a machine under load takes longer."""

LOOK_AGAIN_S: Final = 0.2
"""A condition is looked at with each new line, and so often in between: not everything that changes is said."""


class Process:
    """A process and all that it writes, line by line, to whichever of its outputs."""

    def __init__(
        self,
        name: str,
        *argv: object,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [str(each) for each in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | (env or {}),
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"reads {name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    # --- what it said

    @property
    def mark(self) -> int:
        """Where its output ends now, for ``after``."""
        return len(self.lines)

    def records(self, after: int = 0) -> Iterator[Record]:
        """Yield the lines that are JSON."""
        return (json.loads(line) for line in self.lines[after:] if line.startswith("{"))

    def said(self, event: str, *, after: int = 0, **keys: object) -> list[Record]:
        """List the events of this name with these keys."""
        return [record for record in self.records(after) if _is(record, event, keys)]

    def wait_for(
        self, event: str, *, after: int = 0, timeout_s: float = PATIENCE_S, **keys: object
    ) -> Record:
        """Wait for an event, and return it."""
        what = " ".join([event, *(f"{key}={value}" for key, value in keys.items())])
        return self.until(
            lambda: next(iter(self.said(event, after=after, **keys)), None), what, timeout_s=timeout_s
        )

    def until(
        self, condition: Callable[[], T | None], what: str = "a condition", *, timeout_s: float = PATIENCE_S
    ) -> T:
        """Wait until a condition gives something true; it is looked at whenever the process says something."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._news:
                seen, ended = len(self.lines), self._ended
            if found := condition():
                return found
            left = deadline - time.monotonic()
            assert not ended, f"{self.name} ended before {what}"
            assert left > 0, f"{self.name}: {timeout_s:g} s passed without {what}"
            with self._news:
                if len(self.lines) == seen and not self._ended:
                    self._news.wait(min(left, LOOK_AGAIN_S))

    def tail(self, count: int) -> str:
        """Show the end of what it said."""
        return "\n".join([f"--- {self.name} (pid {self.pid}), its last lines:", *self.lines[-count:]])

    # --- its end

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and for all that it wrote; return its exit status."""
        status = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.wait()

    def close(self) -> None:
        """Make sure that nothing of it is left."""
        if self.running:
            self._process.kill()
        self.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def close_all(processes: Iterable[Process], *, tail: int = 60) -> None:
    """Close them, and show what they said last: a test runner keeps that to itself unless the test failed."""
    for process in processes:
        process.close()
        print(process.tail(tail))


def _is(record: Record, event: str, keys: Mapping[str, object]) -> bool:
    return record.get("event") == event and all(record.get(key) == value for key, value in keys.items())

"""The monitor of the QEMU that we run in: plugs and unplugs its USB devices, as a hand would.

The protocol is QMP, one JSON object a line (QEMU, "QEMU Machine Protocol Specification").
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PORT: Final = "/dev/virtio-ports/qmp"


class Monitor:
    """One conversation; the port takes one at a time."""

    def __enter__(self) -> Self:
        self._fd = os.open(PORT, os.O_RDWR)
        self._unread = b""
        self._count = 0
        # Refused when an earlier conversation has done so: QEMU knows of one, ours, that never ends.
        self._execute("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def do(self, command: str, **arguments: object) -> Any:  # noqa: ANN401  # as JSON has it
        """Have a command done; return what it gives."""
        answer = self._execute(command, **arguments)
        assert "return" in answer, f"{command} {arguments}: {answer}"
        return answer["return"]

    def _execute(self, command: str, **arguments: object) -> dict[str, Any]:
        self._count += 1
        mark = f"{os.getpid()}-{self._count}"
        request = {"execute": command, "arguments": arguments, "id": mark}
        os.write(self._fd, json.dumps(request).encode() + b"\n")
        while True:
            answer: dict[str, Any] = json.loads(self._line())
            # Events, a greeting, and what an earlier conversation left unread come in between.
            if answer.get("id") == mark:
                return answer

    def _line(self) -> bytes:
        while b"\n" not in self._unread:
            self._unread += os.read(self._fd, 65_536)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

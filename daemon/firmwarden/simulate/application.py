"""What a simulated device does while its application runs: it speaks no MDFU, but can be asked three things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONGEST_MEMORY: Final = 256
"""More than any question; what lies further back is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """The byte strings that an application answers to; an empty question is never asked."""

    version_query: bytes = b"VERSION?\n"
    version_answer: str = "VERSION {version}\n"
    """``{version}`` stands for the running version."""
    status_query: bytes = b"STATUS?\n"
    """How it does."""
    well: bytes = b"WELL\n"
    ill: bytes = b"ILL\n"
    ill_with: str = ""
    """The version that answers so."""
    loader_request: bytes = b"BOOTLOADER!\n"
    """After it the device restarts into its loader."""
    loader_answer: bytes = b"OK\n"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the application does about what it heard."""

    answer: bytes = b""
    enters_loader: bool = False


class Application:
    """A running application: looks for its questions in whatever comes, as a line reader in firmware does."""

    def __init__(self, dialogue: Dialogue, version: str) -> None:
        self._dialogue = dialogue
        self._answers = {
            dialogue.version_query: dialogue.version_answer.replace("{version}", version).encode(),
            dialogue.status_query: dialogue.ill if version == dialogue.ill_with else dialogue.well,
        }
        self._heard = b""

    def hear(self, data: bytes) -> Reaction:
        """Take bytes; what follows a request for the loader is lost in the restart."""
        heard = self._heard + data
        answer = b""
        while True:
            at = {
                question: heard.find(question)
                for question in (*self._answers, self._dialogue.loader_request)
                if question and question in heard
            }
            if not at:
                self._heard = heard[-_LONGEST_MEMORY:]
                return Reaction(answer)
            first = min(at, key=at.__getitem__)
            if first == self._dialogue.loader_request:
                return Reaction(answer + self._dialogue.loader_answer, enters_loader=True)
            answer += self._answers[first]
            heard = heard[at[first] + len(first) :]

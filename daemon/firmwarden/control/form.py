"""A form of files (RFC 7578), read piece by piece into memory, with a limit for each file.

The library behind it is an extra and is imported when the first form comes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from firmwarden.control.problems import BadRequest
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_HEADER: Final = 2 << 10
"""Bytes; the longest that is of use has two names of files in it."""

# What it says of a bad form is told to who sent that; in the log it would look like trouble of ours.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form."""

    name: str
    """What it is called where it comes from; may be empty."""
    content: bytes


class FormReader:
    """Takes the pieces of a body, and returns the files in the end."""

    def __init__(
        self, content_type: str, limits: Mapping[str, int], optional: frozenset[str] = frozenset()
    ) -> None:
        """Begin to read.

        Args:
            content_type: the header.
            limits: bytes of each file; the form has these and no other parts.
            optional: the files that may be missing.

        Raises:
            BadRequest: forms cannot be read here, or this is none.
        """
        if find_spec("python_multipart") is None:
            raise BadRequest(
                "Uploads need the package python-multipart: `pip install 'firmwarden[web]'`, or your distribution's "
                "python3-python-multipart. A release can also be dropped into the firmware directory.",
                status=501,
            )
        from python_multipart import multipart  # noqa: PLC0415  an extra

        kind, options = multipart.parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise BadRequest("A form with files is expected, multipart/form-data.", status=415)
        self._multipart = multipart
        self._limits = limits
        self._optional = optional
        self._files: dict[str, File] = {}
        self._head: dict[bytes, bytes] = {}
        self._header = bytearray(), bytearray()
        """Name and value of the header that is being read."""
        self._part = "", ""
        """Name of the file that is being read, in the form and where it comes from."""
        self._content = bytearray()
        self._ended = False
        boundary = options.get(b"boundary")
        if not boundary:
            raise BadRequest("The content type names no boundary.")
        try:
            self._parser = multipart.MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._grow(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._grow(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._end,
                    "on_end": self._end_form,
                },
            )
        except ValueError as exc:
            raise BadRequest(f"The boundary cannot be used: {exc}.") from None

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body.

        Raises:
            BadRequest: it does not follow the format, or is not what was expected.
        """
        try:
            self._parser.write(piece)
        except ValueError as exc:
            raise BadRequest(f"The form cannot be read: {exc}.") from None

    def finish(self) -> dict[str, File]:
        """Return the files by their names in the form, once the body has ended.

        Raises:
            BadRequest: something is missing.
        """
        if not self._ended:
            raise BadRequest("The form has no end.")
        missing = [name for name in self._limits if name not in self._files and name not in self._optional]
        if missing:
            raise BadRequest(f"The form lacks the file `{missing[0]}`.")
        return self._files

    def _begin(self) -> None:
        self._head = {}

    def _grow(self, which: int, data: bytes) -> None:
        self._header[which].extend(data)
        if len(self._header[which]) > LARGEST_HEADER:
            raise BadRequest(f"A header in the form is longer than {LARGEST_HEADER} bytes.", status=413)

    def _end_header(self) -> None:
        name, value = self._header
        self._head[bytes(name).lower()] = bytes(value)
        self._header = bytearray(), bytearray()

    def _begin_content(self) -> None:
        _, options = self._multipart.parse_options_header(self._head.get(b"content-disposition"))
        name = options.get(b"name", b"").decode(errors="replace")
        if name not in self._limits:
            raise BadRequest(
                f"Unknown part `{printable(name[:100])}`; known here: {', '.join(self._limits)}."
            )
        if b"filename" not in options:
            raise BadRequest(f"`{name}` is not sent as a file.")
        if name in self._files:
            raise BadRequest(f"`{name}` is given twice.")
        file_name = options[b"filename"].decode(errors="replace")
        if not file_name.isprintable():  # reasons begin with it
            raise BadRequest(f"The file name of `{name}` has characters that cannot be printed.")
        self._part = name, file_name

    def _take(self, data: bytes) -> None:
        name, _ = self._part
        self._content += data
        if len(self._content) > self._limits[name]:
            raise BadRequest(f"`{name}` is longer than {self._limits[name]} bytes.", status=413)

    def _end(self) -> None:
        name, file_name = self._part
        self._files[name] = File(file_name, bytes(self._content))
        self._content = bytearray()

    def _end_form(self) -> None:
        self._ended = True

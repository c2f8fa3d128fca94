"""Forms with files, as programs send them (RFC 7578)."""

from __future__ import annotations

from typing import Final

BOUNDARY: Final = "----------------------------7d1"
CONTENT_TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join((*parts, f"--{BOUNDARY}--\r\n".encode()))


def release_form(manifest: bytes, image: bytes, name: str = "panel.toml") -> bytes:
    return form(part("manifest", manifest, name), part("image", image, "panel.img"))

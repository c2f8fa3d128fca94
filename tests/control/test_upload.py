"""Uploads over a real unix socket: what is taken, what is refused and how much of it is read."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from firmwarden.control import upload
from firmwarden.errors import NoRoom
from firmwarden.images.bundle import Packed, pack
from firmwarden.images.manifest import parse_manifest
from firmwarden.images.minisign import LARGEST_SIGNATURE
from support.drop import manifest_of
from support.form import BOUNDARY, CONTENT_TYPE, form, part, release_form
from support.memory_desk import MemoryDesk
from support.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ME = pwd.getpwuid(os.getuid()).pw_name
IMAGE = b"firmware\r\n--" * 20_000
MANIFEST = manifest_of(IMAGE, version="2.6.0")
GOOD = release_form(MANIFEST, IMAGE)


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock") as running:
        yield running


@contextmanager
def connected(api: Served) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.path))
        yield sock


def head(length: int, kind: str = CONTENT_TYPE, path: str = "releases") -> bytes:
    lines = (f"POST /v1/{path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


class Answer:
    def __init__(self, sock: socket.socket) -> None:
        response = http.client.HTTPResponse(sock)
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.json: Any = json.loads(response.read())


def send(api: Served, body: bytes, kind: str = CONTENT_TYPE, path: str = "releases") -> Answer:
    with connected(api) as sock:
        sock.sendall(head(len(body), kind, path) + body)
        return Answer(sock)


def test_a_release_is_taken_in_the_name_of_who_sent_it(api: Served, desk: MemoryDesk) -> None:
    answer = send(api, GOOD)
    assert answer.status == 201
    assert answer.json == desk.shelf[-1]
    assert (answer.json["manifest"], answer.json["state"]) == ("panel.toml", "accepted")
    assert [(each["who"], each["what"], each["target"]) for each in desk.actions] == [
        (ME, "upload", "panel.toml")
    ]


def test_a_signature_comes_with_it(api: Served) -> None:
    files = (part("manifest", MANIFEST, "panel.toml"), part("image", IMAGE, "panel.img"))
    answer = send(api, form(*files, part("signature", b"a signature", "panel.toml.minisig")))
    assert (answer.status, answer.json["signed_by"]) == (201, "vendor")
    answer = send(api, form(*files, part("signature", bytes(LARGEST_SIGNATURE + 1), "panel.toml.minisig")))
    assert (answer.status, answer.json["type"]) == (413, "too-large")


def test_a_bundle_is_taken_with_all_that_is_in_it(api: Served, desk: MemoryDesk) -> None:
    release = Packed(
        name="panel.toml",
        manifest=parse_manifest(MANIFEST, "panel.toml"),
        content=MANIFEST,
        signature=None,
        image=IMAGE,
    )
    body = form(part("bundle", pack([release]), "spring.fwz"))
    answer = send(api, body, path="bundles")
    assert answer.status == 201
    assert answer.json == {"releases": [desk.shelf[-1]]}
    assert desk.shelf[-1]["manifest"] == "spring.fwz/panel.toml"
    assert [(each["who"], each["what"]) for each in desk.actions] == [(ME, "upload")]
    assert send(api, body).status == 400, "a bundle is no release"
    assert send(api, GOOD, path="bundles").status == 400, "and a release no bundle"


def test_inv8_a_bad_bundle_is_refused_with_the_reason(api: Served, desk: MemoryDesk) -> None:
    answer = send(api, form(part("bundle", b"hello", "spring.fwz")), path="bundles")
    assert (answer.status, answer.json["type"], answer.json["detail"]) == (
        422,
        "bad-release",
        "it is no zip archive",
    )
    assert desk.actions == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (GOOD, "application/octet-stream", 415, "multipart/form-data"),
        (GOOD, "", 415, "multipart/form-data"),
        (GOOD, "multipart/form-data", 400, "boundary"),
        (GOOD, f"{CONTENT_TYPE}{'0' * 300}", 400, "boundary"),
        (GOOD, f"{CONTENT_TYPE}0", 400, "cannot be read"),
        (b"", CONTENT_TYPE, 400, "no end"),
        (form(), CONTENT_TYPE, 400, "lacks the file `manifest`"),
        (GOOD[:-100], CONTENT_TYPE, 400, "no end"),
        (form(part("manifest", MANIFEST, "a.toml")), CONTENT_TYPE, 400, "lacks the file `image`"),
        (form(part("manifest", MANIFEST)), CONTENT_TYPE, 400, "`manifest` is not sent as a file"),
        (
            form(part("note", b"x", "a")),
            CONTENT_TYPE,
            400,
            "Unknown part `note`; known here: manifest, image",
        ),
        (form(part("\x1b[2J", b"x", "a")), CONTENT_TYPE, 400, r"Unknown part `\x1b[2J`"),
        (form(*[part("image", IMAGE, "a")] * 2), CONTENT_TYPE, 400, "`image` is given twice"),
        (form(part("x" * 2100, b"", "a")), CONTENT_TYPE, 413, "longer than 2048 bytes"),
        (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\n".encode(),
            CONTENT_TYPE,
            400,
            "Unknown part ``",
        ),
        (release_form(b"[release", IMAGE), CONTENT_TYPE, 422, "panel.toml:1"),
        (release_form(b"[release", IMAGE, "\x1b[2J.toml"), CONTENT_TYPE, 400, "cannot be printed"),
        (release_form(MANIFEST, IMAGE + b"x"), CONTENT_TYPE, 422, "sha256"),
        (release_form(MANIFEST, IMAGE, "front-panel-2.4.0.toml"), CONTENT_TYPE, 409, "already"),
        (release_form(b"#" * 70_000, IMAGE), CONTENT_TYPE, 413, "`manifest` is longer than 65536 bytes"),
    ],
)
def test_inv8_a_bad_upload_is_refused_whole_with_the_reason(
    api: Served, desk: MemoryDesk, body: bytes, kind: str, status: int, says: str
) -> None:
    answer = send(api, body, kind)
    assert answer.headers.get_content_type() == "application/problem+json"
    assert (answer.status, answer.json["status"]) == (status, status)
    assert says in answer.json["detail"]
    assert answer.json["detail"].isprintable()
    assert desk.actions == []
    # and the next one is taken
    assert send(api, GOOD).status == 201


def test_what_says_that_it_is_too_large_is_not_read(api: Served, desk: MemoryDesk) -> None:
    with connected(api) as sock:
        sock.sendall(head(upload.UPLOAD_LIMIT + 1))
        answer = Answer(sock)
    assert (answer.status, answer.json["type"]) == (413, "too-large")
    assert desk.actions == []


def test_what_does_not_say_how_large_it_is_is_bounded_too(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "UPLOAD_LIMIT", 100_000)
    with connected(api) as sock:
        sock.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        for piece in (GOOD[:0x8000], *[b"x" * 0x8000] * 3):
            sock.sendall(b"8000\r\n" + piece + b"\r\n")
        assert Answer(sock).status == 413


def test_two_uploads_do_not_mix(api: Served, desk: MemoryDesk) -> None:
    with connected(api) as first:
        first.sendall(head(len(GOOD)) + GOOD[:1000])
        while (second := send(api, release_form(MANIFEST, IMAGE, "other.toml"))).status == 201:
            desk.shelf.pop()  # the first one has not come through yet
        assert (second.status, second.json["type"]) == (503, "unavailable")
        assert int(second.headers["Retry-After"]) == upload.AGAIN_IN_S
        first.sendall(GOOD[1000:])
        assert Answer(first).status == 201


def test_an_upload_that_breaks_off_makes_way_for_the_next(api: Served, desk: MemoryDesk) -> None:
    with connected(api) as sock:
        sock.sendall(head(len(GOOD)) + GOOD[:1000])
    while send(api, GOOD).status == 503:
        pass
    assert len(desk.actions) == 1


def test_an_upload_that_takes_too_long_makes_way_too(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "UPLOAD_S", 0.05)
    with connected(api) as sock:
        sock.sendall(head(len(GOOD)) + GOOD[:1000])
        answer = Answer(sock)
    assert (answer.status, answer.json["type"]) == (408, "request-timeout")
    monkeypatch.undo()
    assert send(api, GOOD).status == 201


def test_a_full_disk_is_said_so(api: Served, desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise NoRoom("/var/lib/firmwarden/firmware cannot be written: No space left on device")

    monkeypatch.setattr(desk, "upload", full)
    answer = send(api, GOOD)
    assert (answer.status, answer.json["type"]) == (507, "no-room")


def test_without_the_package_that_reads_forms_it_says_what_to_install(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    answer = send(api, GOOD)
    assert (answer.status, answer.json["type"]) == (501, "not-installed")
    assert "pip install 'firmwarden[web]'" in answer.json["detail"]

"""What somebody may put into the firmware directory who can write there, and has no key that counts.

Each of these is made so that it would run on every panel if the one thing that it tries went unnoticed: its version is
the newest, its image is whole and one that the device takes.
"""

from __future__ import annotations

import base64
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST
from firmwarden.images.secret_key import SecretKey
from support.gateway import device_class, image, manifest, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.images.minisign import PublicKey

CLASS: Final = "panel"
PUBLISHED: Final = "1.5.0"
"""A release of the maker's that everybody has."""

_SIZE: Final = 4096


class Maker:
    """Who makes the firmware: their keys, and what of them the configuration of the gateway says."""

    def __init__(self) -> None:
        self.key = SecretKey.generate()
        self.of_before = SecretKey.generate()
        """Lost once, and revoked since."""
        self.of_pumps = SecretKey.generate()
        """Of a colleague who releases other devices."""

    @property
    def tables(self) -> str:
        """Of the configuration: the keys, and pumps, of which none is there."""
        return "\n".join(
            (
                device_class("pump", 'path = "/dev/no-pump"', signed=True),
                _table("maker", self.key.public, f'"{CLASS}"'),
                _table("before", self.of_before.public, '"*"', "revoked = true"),
                _table("pumps", self.of_pumps.public, '"pump"'),
            )
        )

    def release(self, directory: Path, version: str, content: bytes, *more: str) -> str:
        """Drop a release as it should be; ``more`` is of the manifest.  Returns the name of the manifest."""
        name = f"{CLASS}-{version}"
        put(directory / f"{name}.img", content)
        text = "\n".join((manifest(CLASS, version, f"{name}.img", content).rstrip(), *more, "")).encode()
        put(directory / f"{name}.toml.minisig", self.key.sign(text, "released").encode())
        put(directory / f"{name}.toml", text)
        return f"{name}.toml"


def _table(name: str, key: PublicKey, classes: str, *more: str) -> str:
    return "\n".join(
        ("[[key]]", f'name = "{name}"', f'public = "{key.encode()}"', f"classes = [{classes}]", *more, "")
    )


class Intruder:
    """Whoever can write into the directory, with one attack by one name."""

    def __init__(self, directory: Path, outside: Path, maker: Maker, name: str, number: int) -> None:
        self.directory = directory
        self.outside = outside
        """A directory beside it."""
        self.maker = maker
        self.name = name.replace(" ", "-")
        self.version = f"9.{number}.0"
        self.content = image(self.version, size=_SIZE)
        self.signature = self.manifest.with_name(f"{self.name}.toml.minisig")

    @property
    def manifest(self) -> Path:
        return self.directory / f"{self.name}.toml"

    @property
    def image(self) -> Path:
        return self.directory / f"{self.name}.img"

    def text(self, name: str | None = None) -> bytes:
        """The manifest that fits."""
        return manifest(CLASS, self.version, name or self.image.name, self.content).encode()

    def lay(
        self,
        *,
        key: SecretKey | None = None,
        signature: bytes | None = None,
        text: bytes | None = None,
        content: bytes | None = None,
    ) -> None:
        """Drop it all, signed with a key, or with this in place of a signature."""
        text = self.text() if text is None else text
        if key is not None:
            signature = key.sign(text, "released").encode()
        put(self.image, self.content if content is None else content)
        if signature is not None:
            put(self.signature, signature)
        put(self.manifest, text)


@dataclass(frozen=True, slots=True)
class HostileDrop:
    """One thing that is tried."""

    name: str
    does: str
    """In words."""
    stopped: str
    """By what."""
    lay: Callable[[Intruder], None]
    reason: str
    """What `firmwarden releases` must say of it, as a pattern."""
    told_as: str | None = None
    """What it calls the manifest, where that is not its name."""


# --- keys and signatures


def _unsigned(intruder: Intruder) -> None:
    intruder.lay()


def _wrong_key(intruder: Intruder) -> None:
    intruder.lay(key=SecretKey.generate())


def _borrowed_id(intruder: Intruder) -> None:
    own = SecretKey.generate()
    intruder.lay(key=replace(own, public=replace(own.public, key_id=intruder.maker.key.public.key_id)))


def _revoked_key(intruder: Intruder) -> None:
    intruder.lay(key=intruder.maker.of_before)


def _key_of_another_class(intruder: Intruder) -> None:
    intruder.lay(key=intruder.maker.of_pumps)


def _swapped_manifest(intruder: Intruder) -> None:
    intruder.lay(signature=_published(intruder))


def _changed_by_a_byte(intruder: Intruder) -> None:
    text = intruder.text()
    signature = intruder.maker.key.sign(text.replace(intruder.version.encode(), b"0.0.1"), "released")
    intruder.lay(text=text, signature=signature.encode())


def _legacy(intruder: Intruder) -> None:
    signed = intruder.maker.key.sign(intruder.text(), "released")
    first, line, *rest = signed.encode().split(b"\n")
    older = base64.b64encode(b"Ed" + base64.b64decode(line)[2:])
    intruder.lay(signature=b"\n".join((first, older, *rest)))


def _trusted_comment(intruder: Intruder) -> None:
    signed = intruder.maker.key.sign(intruder.text(), "for the bench only")
    intruder.lay(signature=replace(signed, trusted_comment="released").encode())


def _something_behind(intruder: Intruder) -> None:
    signed = intruder.maker.key.sign(intruder.text(), "released").encode()
    intruder.lay(signature=signed + b"trusted comment: and more\n")


def _no_signature_in_it(intruder: Intruder) -> None:
    intruder.lay(signature=b"")


def _published(intruder: Intruder) -> bytes:
    """The maker's signature of a release that everybody has."""
    return (intruder.directory / f"{CLASS}-{PUBLISHED}.toml.minisig").read_bytes()


# --- images and sizes


def _swapped_image(intruder: Intruder) -> None:
    """A manifest that is the maker's, and another image."""
    intruder.lay(key=intruder.maker.key, content=image("9.9.9", size=_SIZE))


def _too_long(intruder: Intruder) -> None:
    intruder.lay(key=intruder.maker.key, content=intruder.content + b"!")


def _sparse(intruder: Intruder) -> None:
    intruder.lay(key=intruder.maker.key)
    with intruder.image.open("r+b") as file:
        file.truncate(1 << 42)


def _boasts(intruder: Intruder) -> None:
    intruder.lay(
        text=intruder.text().replace(f"size = {_SIZE}".encode(), f"size = {LARGEST_IMAGE + 1}".encode())
    )


def _too_large(intruder: Intruder) -> None:
    intruder.lay(text=intruder.text() + b"#" * LARGEST_MANIFEST)


def _large_signature(intruder: Intruder) -> None:
    intruder.lay(signature=intruder.maker.key.sign(intruder.text(), "x").encode() + b"#" * (1 << 20))


def _unknown_keys(intruder: Intruder) -> None:
    intruder.lay(text=intruder.text() + "".join(f"key{number} = 1\n" for number in range(4000)).encode())


def _long_keys(intruder: Intruder) -> None:
    intruder.lay(
        text=b"[" + b"a." * 900 + b"a]\n" + b"".join(b"k%d%s = 1\n" % (n, b".b" * 400) for n in range(70))
    )


# --- names and kinds of files


def _climbs(intruder: Intruder) -> None:
    put(intruder.outside / "outside.img", intruder.content)
    intruder.lay(text=intruder.text("../outside.img"))


def _absolute(intruder: Intruder) -> None:
    put(intruder.outside / "outside.img", intruder.content)
    intruder.lay(text=intruder.text(str(intruder.outside / "outside.img")))


def _hidden(intruder: Intruder) -> None:
    put(intruder.directory / ".hidden.img", intruder.content)
    intruder.lay(text=intruder.text(".hidden.img"))


def _control_characters(intruder: Intruder) -> None:
    intruder.lay(text=intruder.text("a\\u001b[2Jb.img"))


def _escapes_in_the_name(intruder: Intruder) -> None:
    (intruder.directory / "a\x1b[2J.toml").write_bytes(intruder.text())


def _escapes_in_the_version(intruder: Intruder) -> None:
    intruder.lay(text=intruder.text().replace(intruder.version.encode(), b"9\\u001b]0;owned\\u0007"))


def _markup(intruder: Intruder) -> None:
    text = intruder.text().replace(intruder.version.encode(), b"<script>alert(1)</script>")
    intruder.lay(text=text + b"sequence = 9\n")


def _link(which: str) -> Callable[[Intruder], None]:
    def lay(intruder: Intruder) -> None:
        intruder.lay(key=intruder.maker.key)
        path = _part(intruder, which)
        target = intruder.outside / path.name
        path.rename(target)
        path.symlink_to(target)

    return lay


def _pipe(which: str) -> Callable[[Intruder], None]:
    def lay(intruder: Intruder) -> None:
        intruder.lay(key=intruder.maker.key)
        _part(intruder, which).unlink()
        os.mkfifo(_part(intruder, which))

    return lay


def _directory(which: str) -> Callable[[Intruder], None]:
    def lay(intruder: Intruder) -> None:
        intruder.lay(key=intruder.maker.key)
        _part(intruder, which).unlink()
        _part(intruder, which).mkdir()

    return lay


def _socket(which: str) -> Callable[[Intruder], None]:
    def lay(intruder: Intruder) -> None:
        intruder.lay(key=intruder.maker.key)
        _part(intruder, which).unlink()
        with socket.socket(socket.AF_UNIX) as made:
            # The path may be longer than an address can be.
            descriptor = os.open(intruder.directory, os.O_PATH | os.O_DIRECTORY)
            try:
                made.bind(f"/proc/self/fd/{descriptor}/{_part(intruder, which).name}")
            finally:
                os.close(descriptor)

    return lay


def _part(intruder: Intruder, which: str) -> Path:
    return {"manifest": intruder.manifest, "image": intruder.image, "signature": intruder.signature}[which]


_KINDS: Final = (
    ("link", "a symbolic link to a file elsewhere", _link, "a symbolic link"),
    ("pipe", "a pipe, which would keep a reader waiting for ever", _pipe, "a pipe"),
    ("directory", "a directory", _directory, "a directory"),
    ("socket", "a socket", _socket, "a socket"),
)

_SIGNATURE: Final = "`service/trust.py`"
_FORMAT: Final = "strict reading, `images/minisign.py`"
_MANIFEST: Final = "strict reading, `images/manifest.py`"
_BOUND: Final = "the manifest binds size and SHA-256: `service/intake.py`"
_FILES: Final = "regular files only, opened without following: `files.py`"

DROPS: Final = (
    HostileDrop("unsigned", "a release without a signature", _SIGNATURE, _unsigned, "not signed"),
    HostileDrop(
        "wrong key", "a signature by a key of their own", _SIGNATURE, _wrong_key, "none of the configuration"
    ),
    HostileDrop(
        "borrowed key id",
        "such a key that goes by the id of the maker's",
        _SIGNATURE,
        _borrowed_id,
        "does not match",
    ),
    HostileDrop(
        "revoked key", "a signature by a key that was stolen and revoked", _SIGNATURE, _revoked_key, "revoked"
    ),
    HostileDrop(
        "key of another class",
        "a signature by a key that may sign for other devices",
        "keys are limited to classes: `service/trust.py`",
        _key_of_another_class,
        'not trusted for "panel"',
    ),
    HostileDrop(
        "swapped signature",
        "the maker's signature of a release that was published",
        _SIGNATURE,
        _swapped_manifest,
        "does not match",
    ),
    HostileDrop(
        "swapped manifest",
        "a manifest changed after it was signed, by its version alone",
        _SIGNATURE,
        _changed_by_a_byte,
        "does not match",
    ),
    HostileDrop(
        "swapped image", "another image under a signed manifest", _BOUND, _swapped_image, "has the sha256"
    ),
    HostileDrop(
        "legacy signature",
        "a signature that says to be of minisign's older kind",
        _FORMAT,
        _legacy,
        "legacy format",
    ),
    HostileDrop(
        "tampered comment",
        "a trusted comment changed after it was signed",
        _SIGNATURE,
        _trusted_comment,
        "trusted comment was changed",
    ),
    HostileDrop(
        "longer signature", "a signature with more behind it", _FORMAT, _something_behind, "exactly 4 lines"
    ),
    HostileDrop("empty signature", "an empty signature", _FORMAT, _no_signature_in_it, "exactly 4 lines"),
    HostileDrop(
        "oversized signature",
        "a signature file of a megabyte",
        _FILES,
        _large_signature,
        "is larger than 10240 bytes",
    ),
    HostileDrop("longer image", "something behind a signed image", _BOUND, _too_long, "has 4097 bytes"),
    HostileDrop(
        "image of 4 TiB",
        "a sparse file of 4 TiB",
        "sizes are compared before anything is read",
        _sparse,
        f"{1 << 42}",
    ),
    HostileDrop(
        "size that is a lie",
        "a manifest that announces more than there is room for",
        _MANIFEST,
        _boasts,
        "expected a whole number from 1 to",
    ),
    HostileDrop(
        "oversized manifest", "a manifest of megabytes", _FILES, _too_large, "is larger than 65536 bytes"
    ),
    HostileDrop(
        "thousands of faults",
        "a manifest of nothing but faults, for a reason without end",
        "a reason tells the first of them: `images/manifest.py`",
        _unknown_keys,
        "and 3992 more",
    ),
    HostileDrop(
        "keys of hundreds of parts",
        "keys of hundreds of parts, which cost by the square of their length",
        "looked for before TOML is read: `toml/lines.py`",
        _long_keys,
        "expected keys of 16 parts at most",
    ),
    HostileDrop(
        "path that climbs",
        "`../` in the name of the image",
        _MANIFEST,
        _climbs,
        "it must lie in the directory",
    ),
    HostileDrop(
        "absolute path", "a whole path as the name of the image", _MANIFEST, _absolute, "it must lie in the"
    ),
    HostileDrop("hidden image", "the name of a hidden file", _MANIFEST, _hidden, "hidden files are left"),
    HostileDrop(
        "escapes in the image's name",
        "terminal escapes in the manifest",
        _MANIFEST,
        _control_characters,
        "plain name",
    ),
    HostileDrop(
        "escapes in a file's name",
        "terminal escapes in the name of the manifest",
        "names that do not print are refused and shown escaped: `service/intake.py`",
        _escapes_in_the_name,
        "cannot be printed",
        told_as=r"a\x1b[2J.toml",
    ),
    HostileDrop(
        "escapes in the version",
        "terminal escapes in the version",
        _MANIFEST,
        _escapes_in_the_version,
        "printable text",
    ),
    HostileDrop(
        "markup in the version",
        "a version that is HTML, for who looks at the page",
        "the page escapes all that it shows: `control/page/rendering.py`",
        _markup,
        "not signed",
    ),
    *(
        HostileDrop(
            f"{kind} as {which}", f"{does} in place of the {which}", _FILES, make(which), f"is {reason}"
        )
        for kind, does, make, reason in _KINDS
        for which in ("manifest", "image", "signature")
    ),
)

"""What somebody may put into the firmware directory as one file, with releases that would be taken by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.images.secret_key import SecretKey
from support.gateway import image, put
from support.hostile_drops import HostileDrop
from support.zips import LINK, Member, archive, deflated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.hostile_drops import Intruder

_ZIP: Final = "strict reading: `images/strict_zip.py`"
_WHOLE: Final = "a bundle has what belongs to its releases, and nothing else: `images/bundle.py`"
_BOMB: Final = 16 << 20

Bundled = tuple[Member, Member, Member]
"""Manifest, signature, image."""


def _packed(intruder: Intruder, key: SecretKey | None = None) -> Bundled:
    """Make a release as it should be."""
    text = intruder.text("new.img")
    signed = (key or intruder.maker.key).sign(text, "released").encode()
    return (
        Member(name=b"new.toml", content=text),
        Member(name=b"new.toml.minisig", content=signed),
        Member(name=b"new.img", content=intruder.content),
    )


def _drop(
    name: str,
    does: str,
    stopped: str,
    members: Callable[[Intruder, Bundled], Iterable[Member]],
    reason: str,
    *,
    behind: bytes = b"",
) -> HostileDrop:
    """Describe a bundle, by what of a good one is changed."""
    file = f"{name.replace(' ', '-')}.fwz"

    def lay(intruder: Intruder) -> None:
        put(intruder.directory / file, archive(*members(intruder, _packed(intruder))) + behind)

    return HostileDrop(name, does, stopped, lay, reason, told_as=file)


def _lies(_: Intruder, good: Bundled) -> Iterable[Member]:
    """An image that announces 4 GiB in a few bytes."""
    manifest, signature, image = good
    return manifest, signature, replace(image, packed=deflated(image.content), method=8, size=(1 << 32) - 1)


def _goes_on(_: Intruder, good: Bundled) -> Iterable[Member]:
    """An image that announces what the manifest says, and has much more in it."""
    manifest, signature, image = good
    return manifest, signature, replace(image, packed=deflated(image.content + bytes(_BOMB)), method=8)


def _many(_: Intruder, good: Bundled) -> Iterable[Member]:
    return (*good, *(Member(name=f"{number}.img".encode(), content=b"") for number in range(1000)))


def _two_in_one_place(_: Intruder, good: Bundled) -> Iterable[Member]:
    return (*good, replace(good[2], name=b"other.img", offset=0))


def _unsigned(_: Intruder, good: Bundled) -> Iterable[Member]:
    manifest, _signature, image = good
    return manifest, image


def _wrong_key(intruder: Intruder, _: Bundled) -> Iterable[Member]:
    return _packed(intruder, SecretKey.generate())


def _swapped_image(_: Intruder, good: Bundled) -> Iterable[Member]:
    manifest, signature, old = good
    return manifest, signature, replace(old, content=image("9.9.9", size=len(old.content)))


def _one_bad_one(intruder: Intruder, good: Bundled) -> Iterable[Member]:
    """A good release, and beside it one that nobody signed."""
    return (
        *good,
        Member(name=b"own.toml", content=intruder.text("own.img")),
        Member(name=b"own.img", content=intruder.content),
    )


BUNDLES: Final = (
    _drop(
        "bomb that lies",
        "a bundle of some hundred bytes that announces 4 GiB",
        "deflate cannot do that: `images/strict_zip.py`",
        _lies,
        "cannot have 4294967295 bytes in",
    ),
    _drop(
        "bomb that goes on",
        "a member that unpacks to more than it announces",
        "nothing is unpacked beyond what was announced: `images/strict_zip.py`",
        _goes_on,
        "longer or shorter than announced",
    ),
    _drop(
        "bomb of members",
        "a bundle of a thousand members",
        "64 are the most: `images/strict_zip.py`",
        _many,
        "64 are the most",
    ),
    _drop(
        "bomb of one place",
        "members that lie over each other, so that the same bytes are unpacked again and again",
        "every byte belongs to one member: `images/strict_zip.py`",
        _two_in_one_place,
        "overlaps another member",
    ),
    _drop(
        "bundled path that climbs",
        "`../` in the name of a member",
        _ZIP,
        lambda _, good: (*good, Member(name=b"../evil.img")),
        "evil.img in it is a path",
    ),
    _drop(
        "bundled absolute path",
        "a whole path as the name of a member",
        _ZIP,
        lambda _, good: (*good, Member(name=b"/etc/cron.d/evil")),
        "evil in it is a path",
    ),
    _drop(
        "bundled path of another system",
        "a path that is one where names are separated otherwise",
        _ZIP,
        lambda _, good: (*good, Member(name=b"..\\evil.img")),
        "evil.img in it is a path",
    ),
    _drop(
        "bundled link",
        "a symbolic link to a file elsewhere as a member",
        _ZIP,
        lambda _, good: (*good[:2], replace(good[2], content=b"/etc/shadow", attributes=LINK)),
        "is a symbolic link",
    ),
    _drop(
        "bundled name twice",
        "two members of one name, for a reader that judges the first and gives out the second",
        _ZIP,
        lambda _, good: (*good, replace(good[2], content=b"other")),
        "new.img is in it twice",
    ),
    _drop(
        "bundled name in two cases",
        "two names that are one on other file systems",
        _ZIP,
        lambda _, good: (*good, replace(good[2], name=b"NEW.img")),
        "one name where case does not count",
    ),
    _drop(
        "described in two ways",
        "a member whose name differs between its two descriptions",
        _ZIP,
        lambda _, good: (*good[:2], replace(good[2], local={"name": b"own.img"})),
        "described in two ways",
    ),
    _drop(
        "bundled stray",
        "a member that belongs to no release",
        _WHOLE,
        lambda _, good: (*good, Member(name=b"install.sh")),
        "install.sh in it belongs to no manifest",
    ),
    _drop(
        "archive with more behind it",
        "a bundle that is something else as well",
        _ZIP,
        lambda _, good: good,
        "something else behind its end",
        behind=b"#!/bin/sh\n",
    ),
    _drop("bundled unsigned", "a release without a signature", "`service/trust.py`", _unsigned, "not signed"),
    _drop(
        "bundled wrong key",
        "a signature by a key of their own",
        "`service/trust.py`",
        _wrong_key,
        "none of the configuration",
    ),
    _drop(
        "bundled swapped image",
        "another image under a signed manifest",
        "the manifest binds size and SHA-256: `service/criteria.py`",
        _swapped_image,
        "has the sha256",
    ),
    _drop(
        "one bad one",
        "a good release, and one that nobody signed beside it",
        "one that is refused refuses the bundle: `service/intake.py`",
        _one_bad_one,
        "own.toml: it is not signed",
    ),
)

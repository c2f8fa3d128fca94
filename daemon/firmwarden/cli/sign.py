"""For those who make releases: a key, a signature, a bundle, and what a daemon would say."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from firmwarden.cli.client_command import Output, examples
from firmwarden.cli.daemon import config_option
from firmwarden.cli.text import paragraph
from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_LONGEST_PASSWORD = 1024
"""Bytes that minisign has room for."""

_file = click.Path(path_type=Path, dir_okay=False, readable=False)
_manifests = click.argument("manifests", type=_file, nargs=-1, required=True, metavar="MANIFEST...")
_password_file = click.option(
    "--password-file",
    type=click.File("rb"),
    metavar="FILE",
    help="Where the password stands, in place of asking for it.",
)


@click.command(epilog=examples("firmwarden keygen vendor-2026"))
@click.argument("name", type=_file)
@_password_file
@click.option("--no-password", is_flag=True, help="Whoever can read the secret key can sign with it.")
def keygen(name: Path, password_file: BinaryIO | None, *, no_password: bool) -> None:
    """Make a key to sign releases with.

    The secret half is NAME.key, locked with a password; the public half is NAME.pub, and what to write into the
    configuration is printed. Both are minisign's formats. No file is ever written over.
    """
    from firmwarden.app.signing import KEY_SUFFIX, PUBLIC_SUFFIX, make_key

    if no_password and password_file is not None:
        raise click.UsageError("--no-password and --password-file exclude each other")
    with _failing():
        public = make_key(name, None if no_password else _password(password_file, new=True))
    lock = "whoever can read it can sign" if no_password else "whoever has it and its password can sign"
    said = (
        f"The secret key is {name}{KEY_SUFFIX}: {lock}. Keep it where releases are made, not where they are "
        f"installed. The public key is {name}{PUBLIC_SUFFIX}. The configuration of a machine that trusts it says:"
    )
    for line in paragraph(said):
        click.echo(line)
    click.echo(f'\n[[key]]\nname = "{name.name}"\npublic = "{public.encode()}"\nclasses = ["*"]')


@click.command(epilog=examples("firmwarden sign --key vendor-2026.key front-panel-2.4.0.toml"))
@_manifests
@click.option(
    "--key", type=_file, required=True, metavar="FILE", help="The secret key, of keygen or minisign."
)
@_password_file
def sign(manifests: tuple[Path, ...], key: Path, password_file: BinaryIO | None) -> None:
    """Sign releases.

    The signature of each manifest is written beside it as NAME.toml.minisig. The manifest binds the image, so it is
    to be signed last.
    """
    from firmwarden.app import signing

    with _failing():
        secret = signing.read_key(key, lambda: _password(password_file, new=False))
        for manifest in manifests:
            click.echo(f"{signing.sign(manifest, secret)} is written.")


@click.command(epilog=examples("firmwarden bundle spring.fwz front-panel-2.4.0.toml pump-1.9.0.toml"))
@click.argument("out", type=_file)
@_manifests
def bundle(out: Path, manifests: tuple[Path, ...]) -> None:
    """Put releases into one file.

    OUT, which ends with .fwz, gets each manifest with its image and, where there is one, its signature. The same
    releases make the same file, byte for byte.
    """
    from firmwarden.app.signing import make_bundle

    with _failing():
        make_bundle(out, manifests)
        click.echo(f"{out} is written.")


@click.command(epilog=examples("firmwarden verify front-panel-2.4.0.toml"))
@click.argument("files", type=_file, nargs=-1, required=True, metavar="MANIFEST|BUNDLE...")
@config_option
def verify(files: tuple[Path, ...], config: Path) -> None:
    """Say whether releases would be accepted, before they are dropped.

    Manifest, signature and image are judged as the daemon does it, by the keys and classes of the configuration, and
    several as if they were dropped together. The exit status is 1 when one would be refused.
    """
    from firmwarden.app.signing import judge
    from firmwarden.config import load

    with _failing():
        judged = judge(files, load(config))
    for found in judged:
        part = " in part" if found.releases else ""
        for refusal in found.refusals:
            _say(f"{found.file} would be refused{part}: {refusal}.")
        for release in found.releases:
            by = "not signed, and its class asks for no signature"
            if release.signed_by:
                by = f'signed with the key "{release.signed_by}"'
            _say(f"{found.file} would be accepted: {release.device_class} {release.version}, {by}.")
    sys.exit(1 if any(found.refusals for found in judged) else 0)


def _password(file: BinaryIO | None, *, new: bool) -> bytes:
    if file is not None:
        password = file.read(_LONGEST_PASSWORD + 1).removesuffix(b"\n")
    elif sys.stdin.isatty():
        asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=new, err=True)
        password = asked.encode()
    else:
        raise click.UsageError(
            "there is nobody to ask for the password; --password-file names a file with it"
        )
    if not password or b"\n" in password or len(password) > _LONGEST_PASSWORD:
        raise click.UsageError(f"a password is one line of 1 to {_LONGEST_PASSWORD} bytes")
    return password


def _say(sentence: str) -> None:
    for line in paragraph(sentence, indent="  ", first=""):
        click.echo(line)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except FirmwardenError as exc:
        Output(as_json=False).fail(exc)
    except OSError as exc:
        # A full disk is told without a name.
        name = "" if exc.filename is None else f"{exc.filename}: "
        Output(as_json=False).fail(FirmwardenError(f"{name}{exc.strerror or exc}"))

"""The OpenAPI document is true of a running service, over its real server: sockets, uvicorn, access, desk and store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis

from firmwarden.control.openapi import document
from support.fuzzing import aim_at, config
from support.gateway import NEW, OLD, USUAL, Gateway, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case

TOKEN: Final = "a-token-of-some-length"
DEVICES: Final = ("well", "ill")
"""Labels: the ids are not known when tests are collected."""

SCHEMA = schemathesis.openapi.from_dict(document(), config=config(12)).exclude(operation_id="events")
aim_at(SCHEMA, DEVICES)


def start(gateway: Gateway) -> str:
    """Start everything, wait until it has been through something, and return where it is."""
    token = gateway.place / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    racks = [
        gateway.rack(name, "--version", OLD, *faults)
        for name, faults in zip(
            DEVICES, ((), ("--fault", "abort@chunk=2,cause=erase-error,times=always")), strict=True
        )
    ]
    classes = [
        device_class(name, rack.match, *USUAL, f'label = "{name}"')
        for name, rack in zip(DEVICES, racks, strict=True)
    ]
    gateway.configure(*classes, listen="127.0.0.1:0", token_file=str(token))
    for name in DEVICES:
        gateway.drop(name, NEW, image())
    daemon = gateway.start()
    daemon.wait_for("update-succeeded")
    daemon.wait_for("latch-set")
    return f"http://{daemon.said('listening')[-1]['address']}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon that has updated one device and met one that refuses."""
    gateway = Gateway(tmp_path_factory.mktemp("service"))
    try:
        yield start(gateway)
    finally:
        gateway.close()


@SCHEMA.parametrize()
def test_inv8_the_service_does_what_the_document_says(case: Case[Any], service: str) -> None:
    case.call_and_validate(base_url=service, headers={"Authorization": f"Bearer {TOKEN}"})

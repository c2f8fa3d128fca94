"""The OpenAPI document: well made, complete, and true of the application behind it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import schemathesis
from jsonschema import Draft202012Validator

from firmwarden.control.app import make_app
from firmwarden.control.openapi import document
from firmwarden.control.operations import OPERATIONS
from firmwarden.control.peer import User
from firmwarden.control.problems import MEANINGS, TITLES
from support.fuzzing import aim_at, config
from support.memory_desk import IMAGE_B, WRONG_DEVICE, MemoryDesk, a_device, a_job, an_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case
    from starlette.types import Receive, Scope, Send

    from firmwarden.service.views import WaitView

DOCUMENT = document()


def within(part: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a document."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from within(each)


def resolve(reference: str) -> object:
    found: Any = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def test_every_reference_leads_somewhere() -> None:
    references = {each["$ref"] for each in within(DOCUMENT) if "$ref" in each}
    assert all(resolve(each) for each in references)
    told = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert told - references == {"#/components/schemas/FeedItem"}  # what `watch --json` prints


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for each in within(DOCUMENT["paths"]):
        if isinstance(each.get("schema"), dict):
            Draft202012Validator.check_schema(each["schema"])


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_what_stands_below_a_key_describes_it() -> None:
    job = DOCUMENT["components"]["schemas"]["Job"]
    assert job["description"] == "One release for one device."
    assert job["properties"]["attempts_budget"]["description"].startswith("Failures in transport that end it")
    assert job["properties"]["created_at"] == {"type": "string", "format": "date-time"}


def test_every_problem_has_its_meaning() -> None:
    assert list(MEANINGS) == list(TITLES)


# --- against the application


def stock(desk: MemoryDesk) -> MemoryDesk:
    """Have something to tell of every kind, whatever was forgotten, cleared or cancelled before."""
    wait: WaitView = {"kind": "hold", "detail": "ann: fair", "until": None}
    devices = (
        a_device(id="k3f9q2", latched=True),
        a_device(id="lamp-2", label="north/wall", job=a_job(id=12, device="lamp-2", wait=wait)),
    )
    desk.fleet = {device["id"]: device for device in devices}
    desk.log = [a_job(cause=WRONG_DEVICE)]
    desk.tried = [an_attempt(device="k3f9q2")]
    desk.latched = [
        {
            "id": 3,
            "scope": "pair",
            "device": "k3f9q2",
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:00:00Z",
            "clear": "firmwarden clear k3f9q2",
        }
    ]
    return desk


DESK = stock(MemoryDesk())
STOPPING = anyio.Event()
APPLICATION = make_app(DESK, STOPPING)


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    """Do what the server does for the application; event streams end at once."""
    STOPPING.set()
    scope["state"] = {"peer": User(uid=os.getuid(), gids=frozenset()), "abort": lambda: None}
    await APPLICATION(scope, receive, send)


SCHEMA = schemathesis.openapi.from_asgi("/v1/openapi.json", served, config=config(30))
aim_at(SCHEMA, ["k3f9q2", "lamp-2", "north/wall"])


def test_the_document_is_well_made() -> None:
    SCHEMA.validate()


@pytest.mark.slow
@SCHEMA.parametrize()
def test_inv8_the_application_does_what_the_document_says(case: Case[Any]) -> None:
    stock(DESK)
    case.call_and_validate()

"""Writes the tables of the reference page of the API: requests, problems, and what the answers hold.

``make docs`` (``python -m support.api_page``) writes them between their marks, tests/docs/test_api_page.py compares.
All else on the page is written by hand.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from firmwarden.control.openapi import document
from firmwarden.control.operations import BASE, OPERATIONS, Form, Listed, Object, Operation
from firmwarden.control.problems import MEANINGS, TITLES
from firmwarden.control.schemas import COMPONENTS, name_of
from firmwarden.model import CauseCode
from support.reference_pages import REFERENCE, code, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PAGE: Final = REFERENCE / "api.md"

_MARKED: Final = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_NOT_OF_ANSWERS: Final = frozenset({"Done", "Problem", "Text"})
"""Described elsewhere on the page."""


def request(operation: Operation) -> str:
    path = operation.path.replace("{device}", "DEVICE").replace("{job}", "JOB")
    query = "&".join(f"{name}={'DEVICE' if name == 'device' else 'N'}" for name in operation.query)
    return code(f"{operation.method} {BASE}{path}{f'?{query}' if query else ''}")


def link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def answer(operation: Operation) -> str:
    match operation.answer:
        case "stream":
            return "[server-sent events](#get-v1events)"
        case "document":
            return "[OpenAPI 3.1](#a-description-for-programs)"
        case Listed(key=key, view=view):
            return f"`{key}`, a list of {link(name_of(view))}"
        case view:
            return link(name_of(view))


def body(operation: Operation) -> str:
    match operation.body:
        case None:
            return ""
        case Form(files={"bundle": _}):
            return "[a file](#post-v1bundles)"
        case Form():
            return "[two or three files](#post-v1releases)"
        case Object(keys=keys, one_of_them=True):
            return " or ".join(code(json.dumps({key: "..."})) for key in keys)
        case Object(example=example):
            return code(json.dumps(example))


def questions() -> Iterator[str]:
    yield from table(
        ("request", "what it does", "answer"),
        ((request(each), each.text, answer(each)) for each in OPERATIONS if not each.acts),
    )


def wishes() -> Iterator[str]:
    yield from table(
        ("request", "body", "what it does"),
        ((request(each), body(each), each.text) for each in OPERATIONS if each.acts),
    )


def problems() -> Iterator[str]:
    yield from table(
        ("status", "`type`", "what it means"),
        (
            (str(status), code(title.lower().replace(" ", "-")), MEANINGS[status])
            for status, title in TITLES.items()
        ),
    )


def answers() -> Iterator[str]:
    schemas: Mapping[str, Mapping[str, Any]] = document()["components"]["schemas"]
    for name, schema in schemas.items():
        if name in _NOT_OF_ANSWERS:
            continue
        yield from ("", f"### {name}", "", schema["description"])
        yield from table(
            ("key", "type", "what it holds"),
            (
                (code(key), kind(value), " ".join(value.get("description", "").split()))
                for key, value in schema["properties"].items()
            ),
        )


def kind(schema: Mapping[str, Any]) -> str:
    """Say what values a schema allows."""
    match schema:
        case {"$ref": reference}:
            return link(reference.removeprefix(COMPONENTS))
        case {"anyOf": several}:
            return " or ".join(map(kind, several))
        case {"enum": values}:
            return (
                "a [code](causes.md)" if values == [*CauseCode] else "one of " + ", ".join(map(code, values))
            )
        case {"type": "array", "items": items}:
            return f"list of {kind(items)}"
        case {"type": [*several]}:
            return " or ".join(kind({**schema, "type": each}) for each in several)
        case {"type": "null"}:
            return "null"
        case {"format": "date-time"}:
            return "instant"
        case {"type": "object", "additionalProperties": values}:
            return f"object, each value {kind(values)}"
        case {"type": str(name)}:
            return {"string": "text", "boolean": "true or false"}.get(name, name)
        case _:
            raise ValueError(schema)


TABLES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "questions": questions,
    "wishes": wishes,
    "problems": problems,
    "answers": answers,
}


def render(page: str) -> str:
    """Put the tables of the code between their marks."""

    def between(marks: re.Match[str]) -> str:
        return "\n".join((marks[1].rstrip(), *TABLES[marks[2]](), "", marks[3]))

    return _MARKED.sub(between, page)


def main() -> None:
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The API as an OpenAPI 3.1 document, made of the table of operations and the views.  Pure."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, assert_never, get_type_hints

from firmwarden import __version__
from firmwarden.control.operations import BASE, OPERATIONS, Form, Listed, Object, Operation, Parameter
from firmwarden.control.problems import MEANINGS, TITLES
from firmwarden.control.requests import TEXT_LIMIT, TEXT_PATTERN
from firmwarden.control.schemas import COMPONENTS, Schema, name_of, schema_of, schema_of_view, views_told
from firmwarden.service.views import FeedItem

_READING: Final = frozenset({400, 403, 421, 500, 503})
_ACTING: Final = _READING | {401, 413}
"""What any question and any order may be answered."""

_PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "Why something does not work (RFC 9457).",
    "properties": {
        "type": {
            "type": "string",
            "enum": sorted({each.lower().replace(" ", "-") for each in TITLES.values()}),
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do, for a person."},
    },
    "required": ["type", "title", "status", "detail"],
}

_TEXT: Final[Schema] = {
    "type": "string",
    "description": "One line of printable characters.",
    "minLength": 1,
    "maxLength": TEXT_LIMIT,
    "pattern": TEXT_PATTERN,
}

_EVENT: Final[Schema] = {
    "type": "object",
    "description": "One event of the stream: a FeedItem, with its data in JSON.",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": schema_of(get_type_hints(FeedItem)["kind"]),
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["id", "event", "data"],
}

_TOKEN: Final = "token"  # noqa: S105 - a name

_INTRODUCTION: Final = (
    "Every GET is a question, all else is an order. On the unix socket the kernel tells who asks, and groups decide "
    "who may ask and who may give orders; over TCP whoever gets there may ask, and an order needs the token. Keys of "
    "answers are only ever added."
)


@cache
def document() -> dict[str, Any]:
    """Return the document; not to be changed."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(BASE + operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Firmwarden",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {
                **{name_of(view): schema_of_view(view) for view in views_told()},
                "Problem": _PROBLEM,
                "Text": _TEXT,
            },
            "responses": {str(status): _problem(status) for status in TITLES},
            "securitySchemes": {
                _TOKEN: {"type": "http", "scheme": "bearer", "description": "The content of `token_file`."}
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    problems = operation.problems | (_ACTING if operation.acts else _READING)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.text,
        "tags": ["orders" if operation.acts else "questions"],
        "security": [{}, {_TOKEN: []}] if operation.acts else [],
        "responses": {
            str(operation.status): _answer(operation),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(problems)},
        },
    }
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = _body(operation.body)
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    match operation.answer:
        case "stream":
            text = "Server-sent events, without end; comments show that the stream lives."
            return {"description": text, "content": {"text/event-stream": {"schema": _EVENT}}}
        case "document":
            return _json("This document.", {"type": "object"})
        case Listed(key=key, view=view):
            listed: Schema = {
                "type": "object",
                "properties": {key: {"type": "array", "items": schema_of(view)}},
                "required": [key],
            }
            return _json("The list.", listed)
        case view:
            return _json("The answer." if not operation.acts else "It is done.", schema_of(view))


def _json(text: str, schema: Schema) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _problem(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": MEANINGS[status],
        "content": {"application/problem+json": {"schema": {"$ref": f"{COMPONENTS}Problem"}}},
    }
    if status == 401:  # noqa: PLR2004 - the status of the document
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    if status == 503:  # noqa: PLR2004
        described["headers"] = {
            "Retry-After": {
                "schema": {"type": "integer"},
                "description": "Seconds, where it is worth waiting.",
            }
        }
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _body(body: Object | Form) -> dict[str, Any]:
    match body:
        case Object(keys=keys, example=example, one_of_them=one_of_them, optional=optional):
            schema: Schema = {
                "type": "object",
                "properties": {key: dict(value) for key, value in keys.items()},
                "additionalProperties": False,
            }
            if one_of_them:
                schema["minProperties"] = schema["maxProperties"] = 1
            else:
                schema["required"] = [key for key in keys if key not in optional]
            content = {"application/json": {"schema": schema, "example": dict(example)}}
        case Form(files=files, optional=optional):
            schema = {
                "type": "object",
                "properties": {
                    name: {"type": "string", "format": "binary", "description": text}
                    for name, text in files.items()
                },
                "required": [name for name in files if name not in optional],
                "additionalProperties": False,
            }
            content = {"multipart/form-data": {"schema": schema}}
        case _:
            assert_never(body)
    needed = bool(schema.get("required") or schema.get("minProperties"))
    return {"required": needed, "content": content}

"""JSON Schemas (2020-12) of the views, made of their declarations: what is told of a view is written once.

pydantic makes such schemas too, but not of ``typing.TypedDict`` before Python 3.12.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from firmwarden.service import views

Schema: TypeAlias = dict[str, Any]

COMPONENTS: Final = "#/components/schemas/"

_PLAIN: Final[dict[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
    object: "object",
}


def name_of(view: type[object]) -> str:
    """Name a view as others see it."""
    return view.__name__.removesuffix("View")


def views_told() -> list[type[object]]:
    """List the views, in the order of their declaration."""
    return [each for each in vars(views).values() if is_typeddict(each)]


def schema_of_view(view: type[object]) -> Schema:
    """Describe a view with its keys."""
    texts = _texts().get(view.__name__, {})
    properties = {}
    for key, annotation in get_type_hints(view, include_extras=True).items():
        properties[key] = schema_of(annotation)
        if key in texts:
            properties[key] = {**properties[key], "description": texts[key]}
    return {
        "type": "object",
        "description": inspect.cleandoc(view.__doc__ or ""),
        "properties": properties,
        "required": list(properties),
    }


def schema_of(annotation: Any) -> Schema:  # noqa: ANN401 - an annotation is what it is
    """Describe the values that an annotation allows."""
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if is_typeddict(annotation):
        return {"$ref": COMPONENTS + name_of(annotation)}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        said = arguments[1]
        return {"type": "string", **({"format": said} if isinstance(said, str) else {"enum": [*said]})}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        _, of_values = arguments
        more: Schema = {} if of_values is object else {"additionalProperties": schema_of(of_values)}
        return {"type": "object", **more}
    if origin in {Union, UnionType}:
        return _either([schema_of(each) for each in arguments])
    raise TypeError(f"no schema for {annotation}")


def _either(schemas: list[Schema]) -> Schema:
    """Join the common case, a value that may be null, into one schema."""
    first, *others = schemas
    if others == [{"type": "null"}] and "type" in first and "enum" not in first:
        return {**first, "type": [first["type"], "null"]}
    return {"anyOf": schemas}


@cache
def _texts() -> dict[str, dict[str, str]]:
    """Find what stands below the keys; where the source is not installed, nothing does."""
    try:
        tree = ast.parse(inspect.getsource(views))
    except OSError:
        return {}
    return {each.name: dict(_texts_below(each.body)) for each in tree.body if isinstance(each, ast.ClassDef)}


def _texts_below(body: list[ast.stmt]) -> list[tuple[str, str]]:
    return [
        (key.id, inspect.cleandoc(text))
        for declaration, below in pairwise(body)
        if isinstance(declaration, ast.AnnAssign) and isinstance(key := declaration.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(text := below.value.value, str)
    ]

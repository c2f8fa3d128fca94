"""Requests made up from the OpenAPI document, good ones and bad ones, the same at each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schemathesis.config import SchemathesisConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemathesis import Case
    from schemathesis.schemas import BaseSchema

_ACCEPTED: Final = ["2xx", "404", "409", "422"]
"""What good data may come to: there need not be such a device, nor are random bytes a release."""


def config(examples: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "generation": {"deterministic": True, "max-examples": examples, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": _ACCEPTED}},
        }
    )


def aim_at(schema: BaseSchema, devices: Sequence[str]) -> None:
    """Have half of the requests that name a device name one that is there."""

    def replace(_: object, case: Case[Any]) -> Case[Any]:
        parameters: dict[str, Any] | None = case.path_parameters
        if parameters and "device" in parameters and len(str(parameters["device"])) % 2:
            parameters["device"] = devices[len(str(parameters["device"])) // 2 % len(devices)]
        return case

    schema.hook("map_case")(replace)

"""What the front page shows: the devices in groups, and links that leave some out of sight.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from firmwarden.control.page.standing import Standing, standing_of
from firmwarden.control.problems import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firmwarden.service.views import DeviceView


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A link that shows some of the devices, and how many."""

    name: str
    query: str
    count: int
    chosen: bool
    standing: Standing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """The devices that are shown, and the ways to show others."""

    groups: Sequence[tuple[Standing, Sequence[DeviceView]]]
    """In the order of ``Standing``, without empty ones."""
    standings: Sequence[Choice]
    classes: Sequence[Choice]
    """Empty where there are not two classes to choose from."""
    narrowed: bool


def arrange(devices: Sequence[DeviceView], asked: Mapping[str, str]) -> Rack:
    """Group the devices that are asked for by ``state`` and ``class``.

    Raises:
        BadRequest: there is no such state.
    """
    state, name = _state(asked), asked.get("class")
    groups: dict[Standing, list[DeviceView]] = {standing: [] for standing in Standing}
    for device in devices:
        groups[standing_of(device)].append(device)

    def count(wanted_state: Standing | None, wanted_class: str | None) -> int:
        members = [each for where, group in groups.items() if wanted_state in {None, where} for each in group]
        return sum(wanted_class in {None, each["device_class"]} for each in members)

    def choice(words: str, to_state: Standing | None, to_class: str | None) -> Choice:
        narrowing = {"state": to_state, "class": to_class}
        return Choice(
            name=words,
            query=urlencode({key: value for key, value in narrowing.items() if value is not None}),
            count=count(to_state, to_class),
            chosen=(to_state, to_class) == (state, name),
            standing=to_state,
        )

    classes = sorted({device["device_class"] for device in devices})
    return Rack(
        groups=[
            (standing, shown)
            for standing, group in groups.items()
            if state in {None, standing}
            and (shown := [each for each in group if name in {None, each["device_class"]}])
        ],
        standings=[choice("All", None, name), *(choice(each.heading, each, name) for each in Standing)],
        classes=[choice("All classes", state, None), *(choice(each, state, each) for each in classes)]
        if len(classes) > 1
        else [],
        narrowed=state is not None or name is not None,
    )


def _state(asked: Mapping[str, str]) -> Standing | None:
    if "state" not in asked:
        return None
    try:
        return Standing(asked["state"])
    except ValueError:
        raise BadRequest(f"`state` must be one of: {', '.join(Standing)}.") from None

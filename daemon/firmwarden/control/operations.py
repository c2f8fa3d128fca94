"""What the API answers and does, as one table: the routes are made of it, the OpenAPI document and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from firmwarden.control.requests import LARGEST_ID
from firmwarden.control.schemas import COMPONENTS
from firmwarden.service import views
from firmwarden.toml.values import LONGEST_S

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE: Final = "/v1"

LISTED: Final = 50
LISTED_AT_MOST: Final = 1000
"""Rows of one answer: more would keep the store's thread and the event loop from their work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value beside the body."""

    name: str
    text: str
    schema: Mapping[str, Any]
    place: Literal["path", "query", "header"] = "query"
    example: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An answer that is a list of views, in an object under ``key``."""

    key: str
    view: type[object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A body of files, each with what it is."""

    files: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    """The files that may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A body in JSON: the schemas of its keys."""

    keys: Mapping[str, Mapping[str, Any]]
    example: Mapping[str, object]
    one_of_them: bool = False
    """Exactly one key is given; else all are, but for those that are ``optional``."""
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One of them."""

    name: str
    """The ``operationId``, and the method of ``api`` that carries it out."""
    path: str
    """Below ``BASE``."""
    text: str
    """What it does, one sentence."""
    answer: type[object] | Listed | Literal["stream", "document"] = views.DoneView
    method: Literal["GET", "POST", "DELETE"] = "GET"
    parameters: tuple[Parameter, ...] = ()
    body: Object | Form | None = None
    status: int = 200
    """Of the answer."""
    problems: frozenset[int] = frozenset()
    """That may come of what is asked, beyond those that any request can meet."""

    @property
    def acts(self) -> bool:
        """Whether it is an order; else it is a question."""
        return self.method != "GET"

    @property
    def query(self) -> tuple[str, ...]:
        """The names that may stand in the query."""
        return tuple(each.name for each in self.parameters if each.place == "query")


_TEXT: Final = {"$ref": f"{COMPONENTS}Text"}
_DEVICE_NAME: Final = "An id, a beginning of one that no other device shares, or a label."
_DEVICE: Final = Parameter(
    name="device",
    text=_DEVICE_NAME,
    schema={"type": "string", "minLength": 1},
    place="path",
    example="k3f9q2",
)
_CLASS: Final = Parameter(
    name="device_class",
    text="The name of a device class.",
    schema={"type": "string", "minLength": 1},
    place="path",
    example="front-panel",
)
_OF_DEVICE: Final = Parameter(
    name="device", text=f"Only what concerns this one. {_DEVICE_NAME}", schema={"type": "string"}
)
_JOB: Final = Parameter(
    name="job",
    text="The number of a job.",
    schema={"type": "integer", "minimum": 1, "maximum": LARGEST_ID},
    place="path",
    example=12,
)
_LIMIT: Final = Parameter(
    name="limit",
    text="How many, at most.",
    schema={"type": "integer", "minimum": 1, "maximum": LISTED_AT_MOST, "default": LISTED},
)
_ID: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}

_HOLD: Final = Object(
    keys={
        "reason": _TEXT,
        "for_s": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_S},
        "owner": _TEXT,
    },
    example={"reason": "being painted", "for_s": 7200},
    optional=frozenset({"for_s", "owner"}),
)
_UNHOLD: Final = Object(keys={"owner": _TEXT}, example={}, optional=frozenset({"owner"}))
_UNKNOWN: Final = frozenset({404, 409})
"""Nothing has the name, or several have it."""
_NOT_TAKEN: Final = frozenset({408, 409, 415, 422, 501, 507})
"""An upload is too slow, none, in contradiction to what is there, bad, or cannot be read or kept here."""

OPERATIONS: Final = (
    Operation(
        name="status", path="/status", text="Say how the service is as a whole.", answer=views.StatusView
    ),
    Operation(
        name="health",
        path="/health",
        text="Give a sign of life: the daemon and its state database answer.",
        answer=views.HealthView,
    ),
    Operation(
        name="ready",
        path="/ready",
        text="Say that the first scans are done; a problem before, and while the daemon stops.",
        answer=views.ReadyView,
    ),
    Operation(
        name="devices",
        path="/devices",
        text="List every known device.",
        answer=Listed(key="devices", view=views.DeviceView),
    ),
    Operation(
        name="device",
        path="/devices/{device}",
        text="Tell how one device stands.",
        answer=views.DeviceView,
        parameters=(_DEVICE,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="why",
        path="/devices/{device}/why",
        text="Tell everything known about one device's state of affairs.",
        answer=views.WhyView,
        parameters=(_DEVICE,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="releases",
        path="/releases",
        text="List every manifest in the firmware directory, refused ones with the reason.",
        answer=Listed(key="releases", view=views.ReleaseView),
    ),
    Operation(
        name="rollouts",
        path="/rollouts",
        text="List how far each release has come, where its class goes in waves.",
        answer=Listed(key="rollouts", view=views.RolloutView),
    ),
    Operation(
        name="rollout",
        path="/rollouts/{device_class}",
        text="List the devices in the rollouts of a class, those first that were given the release.",
        answer=Listed(key="devices", view=views.RolloutMemberView),
        parameters=(_CLASS,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="jobs",
        path="/jobs",
        text="List the newest jobs, newest first.",
        answer=Listed(key="jobs", view=views.JobView),
        parameters=(_LIMIT,),
    ),
    Operation(
        name="attempts",
        path="/attempts",
        text="List the newest attempts, of one device or of all, newest first.",
        answer=Listed(key="attempts", view=views.AttemptView),
        parameters=(_OF_DEVICE, _LIMIT),
        problems=_UNKNOWN,
    ),
    Operation(
        name="latches",
        path="/latches",
        text="List the latches that are set: what only a person lifts.",
        answer=Listed(key="latches", view=views.LatchView),
    ),
    Operation(
        name="waits",
        path="/waits",
        text="List the jobs that wait, each with what for and until when.",
        answer=Listed(key="waits", view=views.WaitingView),
    ),
    Operation(
        name="wear",
        path="/wear",
        text="List for each device the starts of an erase beside their budgets.",
        answer=Listed(key="wear", view=views.DeviceWearView),
    ),
    Operation(
        name="history",
        path="/history",
        text="List the newest attempts and what persons did, of one device or of all, newest first.",
        answer=views.HistoryView,
        parameters=(_OF_DEVICE, _LIMIT),
        problems=_UNKNOWN,
    ),
    Operation(
        name="plan",
        path="/plan",
        text="Say for each device what would happen now, and why not.",
        answer=Listed(key="plan", view=views.PlanView),
    ),
    Operation(
        name="events",
        path="/events",
        text="Tell what happens, as it happens.",
        answer="stream",
        parameters=(
            Parameter(
                name="after",
                text="Begin after the item with this id; 0: with the oldest that is remembered.",
                schema=_ID,
            ),
            _OF_DEVICE,
            Parameter(
                name="Last-Event-ID",
                text="As `after`, and stronger: a browser that connects again repeats its query.",
                schema=_ID,
                place="header",
            ),
        ),
        problems=_UNKNOWN,
    ),
    Operation(name="openapi", path="/openapi.json", text="Describe all of this.", answer="document"),
    Operation(
        name="retry",
        method="POST",
        path="/devices/{device}/retry",
        text="Try again now.",
        parameters=(_DEVICE,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="hold",
        method="POST",
        path="/devices/{device}/hold",
        text=(
            "Start nothing more on one device, until it is lifted or for so many seconds. The owner is who asks, or "
            "whoever is named."
        ),
        parameters=(_DEVICE,),
        body=_HOLD,
        problems=_UNKNOWN,
    ),
    Operation(
        name="unhold",
        method="POST",
        path="/devices/{device}/unhold",
        text="Lift the hold of an owner on one device; without one, the own hold or the only one.",
        parameters=(_DEVICE,),
        body=_UNHOLD,
        problems=_UNKNOWN,
    ),
    Operation(
        name="pin",
        method="POST",
        path="/devices/{device}/pin",
        text=(
            "Make a version the desired one, whatever is newer; null: the newest again. With `allow_downgrade` the "
            "device may go back to it, once."
        ),
        parameters=(_DEVICE,),
        body=Object(
            keys={"version": {"anyOf": [_TEXT, {"type": "null"}]}, "allow_downgrade": {"type": "boolean"}},
            example={"version": "2.3.1"},
            optional=frozenset({"allow_downgrade"}),
        ),
        problems=_UNKNOWN,
    ),
    Operation(
        name="adopt",
        method="POST",
        path="/devices/{device}/adopt",
        text=(
            "Take a device, or the loader at a place, for one that was known before (`old`), or record what it "
            "runs (`running`)."
        ),
        parameters=(_DEVICE,),
        body=Object(keys={"old": _TEXT, "running": _TEXT}, example={"running": "2.3.1"}, one_of_them=True),
        problems=_UNKNOWN,
    ),
    Operation(
        name="forget",
        method="DELETE",
        path="/devices/{device}",
        text="Drop a device that is gone for good; its wear and latches are kept.",
        parameters=(_DEVICE,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="clear",
        method="POST",
        path="/latches/clear",
        text="Lift the latches of a device, or those on an image, named by the beginning of its hash.",
        body=Object(keys={"target": _TEXT}, example={"target": "k3f9q2"}),
        problems=_UNKNOWN,
    ),
    Operation(
        name="cancel",
        method="POST",
        path="/jobs/{job}/cancel",
        text="Cancel a job, unless an erase has begun.",
        parameters=(_JOB,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="resume",
        method="POST",
        path="/rollouts/{device_class}/resume",
        text="Let the rollout of a class go on that has stopped.",
        parameters=(_CLASS,),
        problems=_UNKNOWN,
    ),
    Operation(
        name="recall",
        method="POST",
        path="/rollouts/{device_class}/recall",
        text=(
            "Call the newest release of a class back: no device is given it any more, and those that run it go back to "
            "what they kept well with before."
        ),
        parameters=(_CLASS,),
        body=Object(keys={"reason": _TEXT}, example={"reason": "it hums"}),
        problems=_UNKNOWN,
    ),
    Operation(
        name="hold_everything",
        method="POST",
        path="/hold",
        text="Start nothing more on any device, until it is lifted or for so many seconds.",
        body=_HOLD,
    ),
    Operation(
        name="unhold_everything",
        method="POST",
        path="/unhold",
        text="Lift the hold of an owner on everything; without one, the own hold or the only one.",
        body=_UNHOLD,
        problems=frozenset({409}),
    ),
    Operation(
        name="upload",
        method="POST",
        path="/releases",
        text="Put a release into the firmware directory.",
        answer=views.ReleaseView,
        body=Form(
            files={
                "manifest": "The manifest, `NAME.toml`.",
                "image": "The image that it names.",
                "signature": "The signature of the manifest, `NAME.toml.minisig`.",
            },
            optional=frozenset({"signature"}),
        ),
        status=201,
        problems=_NOT_TAKEN,
    ),
    Operation(
        name="upload_bundle",
        method="POST",
        path="/bundles",
        text="Put a bundle of releases into the firmware directory.",
        answer=Listed(key="releases", view=views.ReleaseView),
        body=Form(files={"bundle": "The bundle, `NAME.fwz`."}),
        status=201,
        problems=_NOT_TAKEN,
    ),
)

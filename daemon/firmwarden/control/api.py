"""The routes under ``/v1``: each reads its request strictly and asks the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firmwarden.control import openapi
from firmwarden.control.operations import LISTED, LISTED_AT_MOST, OPERATIONS
from firmwarden.control.peer import who
from firmwarden.control.problems import BadRequest
from firmwarden.control.requests import LARGEST_ID, flag, number, query, read_object, seconds, text
from firmwarden.control.stream import EventStream
from firmwarden.control.upload import Uploads
from firmwarden.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import anyio
    from starlette.types import Receive, Scope, Send

    from firmwarden.control.desk import Desk
    from firmwarden.control.operations import Operation

    Handler = Callable[[Request], Awaitable[Response]]


def api_routes(desk: Desk, stopping: anyio.Event) -> list[Route]:
    """Make the routes; event streams end when ``stopping`` is set."""
    api = _Api(desk, stopping)
    resources: dict[str, dict[str, tuple[Operation, Handler]]] = {}
    for operation in OPERATIONS:
        resource = resources.setdefault(operation.path, {})
        resource[operation.method] = operation, getattr(api, operation.name)
    # A label may contain a slash (a port's path), therefore `:path`; what stands behind it comes first.
    paths = sorted(resources, key=lambda path: path.endswith("{device}"))
    return [Route(path.replace("{device}", "{device:path}"), _Resource(resources[path])) for path in paths]


class _Resource:
    """What is at one path: takes the methods and parameters that it has, and no others."""

    def __init__(self, methods: Mapping[str, tuple[Operation, Handler]]) -> None:
        self._methods = methods
        # HEAD (RFC 9110, 9.3.2): the server leaves out the body.
        self._allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        found = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if found is None:
            raise HTTPException(405, headers={"Allow": self._allowed})
        operation, handler = found
        query(request, *operation.query)
        response = await handler(request)
        await response(scope, receive, send)


class _Api:
    def __init__(self, desk: Desk, stopping: anyio.Event) -> None:
        self._desk = desk
        self._stopping = stopping
        self._uploads = Uploads()

    # --- questions ---

    async def status(self, _: Request) -> JSONResponse:
        return JSONResponse(await self._desk.status())

    async def health(self, _: Request) -> JSONResponse:
        return JSONResponse(await self._desk.health())

    async def ready(self, _: Request) -> JSONResponse:
        return JSONResponse(await self._desk.ready())

    async def devices(self, _: Request) -> JSONResponse:
        return JSONResponse({"devices": await self._desk.devices()})

    async def device(self, request: Request) -> JSONResponse:
        return JSONResponse((await self._desk.why(request.path_params["device"]))["device"])

    async def why(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._desk.why(request.path_params["device"]))

    async def releases(self, _: Request) -> JSONResponse:
        return JSONResponse({"releases": await self._desk.releases()})

    async def rollouts(self, _: Request) -> JSONResponse:
        return JSONResponse({"rollouts": await self._desk.rollouts()})

    async def rollout(self, request: Request) -> JSONResponse:
        return JSONResponse({"devices": await self._desk.rollout(request.path_params["device_class"])})

    async def jobs(self, request: Request) -> JSONResponse:
        return JSONResponse({"jobs": await self._desk.jobs(_limit(request))})

    async def attempts(self, request: Request) -> JSONResponse:
        device = request.query_params.get("device")
        return JSONResponse({"attempts": await self._desk.attempts(device, _limit(request))})

    async def latches(self, _: Request) -> JSONResponse:
        return JSONResponse({"latches": await self._desk.latches()})

    async def waits(self, _: Request) -> JSONResponse:
        return JSONResponse({"waits": await self._desk.waits()})

    async def wear(self, _: Request) -> JSONResponse:
        return JSONResponse({"wear": await self._desk.wear()})

    async def history(self, request: Request) -> JSONResponse:
        device = request.query_params.get("device")
        return JSONResponse(await self._desk.history(device, _limit(request)))

    async def plan(self, _: Request) -> JSONResponse:
        return JSONResponse({"plan": await self._desk.plan()})

    async def events(self, request: Request) -> Response:
        after = _id(request.query_params.get("after"), "after")
        # A browser that reconnects by itself repeats the query and adds the header: the header is newer.
        newer = _id(request.headers.get("last-event-id"), "Last-Event-ID")
        feed = await self._desk.feed(after if newer is None else newer, request.query_params.get("device"))
        if request.method == "HEAD":  # without end, and nobody would see it
            return Response(media_type=EventStream.media_type)
        return EventStream(feed, stopping=self._stopping, abort=request.state.abort)

    async def openapi(self, _: Request) -> JSONResponse:
        return JSONResponse(openapi.document())

    # --- orders ---

    async def retry(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.retry(request.path_params["device"], who=await who(request)))

    async def clear(self, request: Request) -> JSONResponse:
        target = text(await read_object(request, "target"), "target")
        return _done(await self._desk.clear(target, who=await who(request)))

    async def cancel(self, request: Request) -> JSONResponse:
        await read_object(request)
        job = number(request.path_params["job"], "job", lowest=1, highest=LARGEST_ID)
        return _done(await self._desk.cancel(job, who=await who(request)))

    async def hold(self, request: Request) -> JSONResponse:
        body = await read_object(request, "reason", "for_s", "owner")
        reason, for_s, owner = text(body, "reason"), seconds(body, "for_s"), _owner(body)
        device = request.path_params.get("device")
        return _done(
            await self._desk.hold(device, reason=reason, for_s=for_s, owner=owner, who=await who(request))
        )

    async def unhold(self, request: Request) -> JSONResponse:
        owner = _owner(await read_object(request, "owner"))
        device = request.path_params.get("device")
        return _done(await self._desk.unhold(device, owner=owner, who=await who(request)))

    hold_everything = hold
    unhold_everything = unhold

    async def pin(self, request: Request) -> JSONResponse:
        body = await read_object(request, "version", "allow_downgrade")
        # Lifting a pin is said with null: an empty body would do it by mistake.
        version = None if body.get("version", "") is None else text(body, "version")
        may_go_back = flag(body, "allow_downgrade")
        if may_go_back and version is None:
            raise Refused("`allow_downgrade` needs the version to which the device may go back.")
        device = request.path_params["device"]
        return _done(await self._desk.pin(device, version, may_go_back=may_go_back, who=await who(request)))

    async def adopt(self, request: Request) -> JSONResponse:
        body = await read_object(request, "old", "running")
        if len(body) != 1:
            raise BadRequest(
                "Give either `old`, the unit that this one is, or `running`, the version it runs."
            )
        given = {key: text(body, key) for key in body}
        device = request.path_params["device"]
        return _done(
            await self._desk.adopt(
                device, old=given.get("old"), running=given.get("running"), who=await who(request)
            )
        )

    async def resume(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.resume(request.path_params["device_class"], who=await who(request)))

    async def recall(self, request: Request) -> JSONResponse:
        reason = text(await read_object(request, "reason"), "reason")
        device_class = request.path_params["device_class"]
        return _done(await self._desk.recall(device_class, reason=reason, who=await who(request)))

    async def upload(self, request: Request) -> JSONResponse:
        async with self._uploads.release(request) as files:
            manifest, signature = files["manifest"], files.get("signature")
            taken = await self._desk.upload(
                manifest.content,
                files["image"].content,
                None if signature is None else signature.content,
                name=manifest.name,
                who=await who(request),
            )
        return JSONResponse(taken, status_code=201)

    async def upload_bundle(self, request: Request) -> JSONResponse:
        async with self._uploads.bundle(request) as files:
            sent = files["bundle"]
            taken = await self._desk.upload_bundle(sent.content, name=sent.name, who=await who(request))
        return JSONResponse({"releases": taken}, status_code=201)

    async def forget(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.forget(request.path_params["device"], who=await who(request)))


def _limit(request: Request) -> int:
    asked = request.query_params.get("limit")
    return LISTED if asked is None else number(asked, "limit", lowest=1, highest=LISTED_AT_MOST)


def _id(asked: str | None, name: str) -> int | None:
    return None if asked is None else number(asked, name, lowest=0, highest=LARGEST_ID)


def _owner(body: dict[str, object]) -> str | None:
    return text(body, "owner") if "owner" in body else None


def _done(sentence: str) -> JSONResponse:
    return JSONResponse({"done": sentence})

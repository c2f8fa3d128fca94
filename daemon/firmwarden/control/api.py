"""The routes under ``/v1``: each reads its request strictly and asks the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse
from starlette.routing import Route

from firmwarden.control.peer import who
from firmwarden.control.problems import BadRequest
from firmwarden.control.requests import number, query, read_object, text
from firmwarden.control.stream import EventStream
from firmwarden.control.upload import Uploads

if TYPE_CHECKING:
    import anyio
    from starlette.requests import Request

    from firmwarden.control.desk import Desk

JOBS_SHOWN: Final = 50
HISTORY_SHOWN: Final = 50
LISTED_AT_MOST: Final = 1000
"""Rows of one answer: more would keep the store's thread and the event loop from their work."""

_LARGEST_ID: Final = 2**63 - 1
"""SQLite's integers end here."""


def api_routes(desk: Desk, stopping: anyio.Event) -> list[Route]:
    """Make the routes; event streams end when ``stopping`` is set."""
    api = _Api(desk, stopping)
    # A label may contain a slash (a port's path), therefore `:path`; what stands behind it comes first.
    device = "/devices/{device:path}"
    return [
        Route("/status", api.status),
        Route("/health", api.health),
        Route("/ready", api.ready),
        Route("/devices", api.devices),
        Route("/releases", api.releases),
        Route("/releases", api.upload, methods=["POST"]),
        Route("/jobs", api.jobs),
        Route("/attempts", api.attempts),
        Route("/latches", api.latches),
        Route("/waits", api.waits),
        Route("/wear", api.wear),
        Route("/history", api.history),
        Route("/plan", api.plan),
        Route("/events", api.events),
        Route("/hold", api.hold, methods=["POST"]),
        Route("/unhold", api.unhold, methods=["POST"]),
        Route("/latches/clear", api.clear, methods=["POST"]),
        Route("/jobs/{job}/cancel", api.cancel, methods=["POST"]),
        Route(f"{device}/why", api.why),
        Route(f"{device}/retry", api.retry, methods=["POST"]),
        Route(f"{device}/hold", api.hold, methods=["POST"]),
        Route(f"{device}/unhold", api.unhold, methods=["POST"]),
        Route(f"{device}/pin", api.pin, methods=["POST"]),
        Route(f"{device}/adopt", api.adopt, methods=["POST"]),
        Route(device, api.device),
        Route(device, api.forget, methods=["DELETE"]),
    ]


class _Api:
    def __init__(self, desk: Desk, stopping: anyio.Event) -> None:
        self._desk = desk
        self._stopping = stopping
        self._uploads = Uploads()

    # --- questions ---

    async def status(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse(await self._desk.status())

    async def health(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse(await self._desk.health())

    async def ready(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse(await self._desk.ready())

    async def devices(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"devices": await self._desk.devices()})

    async def device(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse((await self._desk.why(request.path_params["device"]))["device"])

    async def why(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse(await self._desk.why(request.path_params["device"]))

    async def releases(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"releases": await self._desk.releases()})

    async def jobs(self, request: Request) -> JSONResponse:
        limit = _limit(query(request, "limit"), JOBS_SHOWN)
        return JSONResponse({"jobs": await self._desk.jobs(limit)})

    async def attempts(self, request: Request) -> JSONResponse:
        asked = query(request, "device", "limit")
        limit = _limit(asked, HISTORY_SHOWN)
        return JSONResponse({"attempts": await self._desk.attempts(asked.get("device"), limit)})

    async def latches(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"latches": await self._desk.latches()})

    async def waits(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"waits": await self._desk.waits()})

    async def wear(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"wear": await self._desk.wear()})

    async def history(self, request: Request) -> JSONResponse:
        asked = query(request, "device", "limit")
        return JSONResponse(await self._desk.history(asked.get("device"), _limit(asked, HISTORY_SHOWN)))

    async def plan(self, request: Request) -> JSONResponse:
        query(request)
        return JSONResponse({"plan": await self._desk.plan()})

    async def events(self, request: Request) -> EventStream:
        # A browser that reconnects by itself repeats the query and adds the header: the header is newer.
        asked = query(request, "after", "device")
        after = request.headers.get("last-event-id") or asked.get("after")
        return EventStream(
            await self._desk.feed(
                None if after is None else number(after, "after", lowest=0, highest=_LARGEST_ID),
                asked.get("device"),
            ),
            stopping=self._stopping,
            abort=request.state.abort,
        )

    # --- wishes ---

    async def retry(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.retry(request.path_params["device"], who=await who(request)))

    async def clear(self, request: Request) -> JSONResponse:
        target = text(await read_object(request, "target"), "target")
        return _done(await self._desk.clear(target, who=await who(request)))

    async def cancel(self, request: Request) -> JSONResponse:
        await read_object(request)
        job = number(request.path_params["job"], "job", lowest=1, highest=_LARGEST_ID)
        return _done(await self._desk.cancel(job, who=await who(request)))

    async def hold(self, request: Request) -> JSONResponse:
        reason = text(await read_object(request, "reason"), "reason")
        device = request.path_params.get("device")
        return _done(await self._desk.hold(device, reason=reason, who=await who(request)))

    async def unhold(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.unhold(request.path_params.get("device"), who=await who(request)))

    async def pin(self, request: Request) -> JSONResponse:
        body = await read_object(request, "version")
        # Lifting a pin is said with null: an empty body would do it by mistake.
        version = None if body.get("version", "") is None else text(body, "version")
        device = request.path_params["device"]
        return _done(await self._desk.pin(device, version, who=await who(request)))

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

    async def upload(self, request: Request) -> JSONResponse:
        query(request)
        async with self._uploads.read(request) as upload:
            taken = await self._desk.upload(
                upload.manifest, upload.image, name=upload.name, who=await who(request)
            )
        return JSONResponse(taken, status_code=201)

    async def forget(self, request: Request) -> JSONResponse:
        await read_object(request)
        return _done(await self._desk.forget(request.path_params["device"], who=await who(request)))


def _limit(asked: dict[str, str], default: int) -> int:
    return number(asked["limit"], "limit", lowest=1, highest=LISTED_AT_MOST) if "limit" in asked else default


def _done(sentence: str) -> JSONResponse:
    return JSONResponse({"done": sentence})

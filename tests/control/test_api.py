"""What the API answers, over a real unix socket."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

import pytest

from support.memory_desk import (
    IMAGE_B,
    WRONG_DEVICE,
    MemoryDesk,
    a_device,
    a_job,
    a_member,
    a_rollout,
    an_attempt,
)
from support.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firmwarden.service.views import WaitView

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk(
        a_device(id="panel-1", label="north wall"),
        a_device(id="panel-2", port="/dev/ttyACM3", label="/dev/ttyACM3"),
    )


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock") as running:
        yield running


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.kind = response.headers.get_content_type()
        self.headers = response.headers
        self.raw = response.read()

    @property
    def json(self) -> Any:  # noqa: ANN401 - tests look into it as they like
        return json.loads(self.raw)


def ask(api: Served, method: str, path: str, body: object = None) -> Answer:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.path))
        connection.sock = sock
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, raw)
        return Answer(connection.getresponse())


def test_answers_every_question(api: Served, desk: MemoryDesk) -> None:
    desk.log = [a_job(id=number) for number in range(200, 0, -1)]
    desk.tried = [an_attempt()]
    assert ask(api, "GET", "/v1/status").json["devices"] == 2
    assert [each["id"] for each in ask(api, "GET", "/v1/devices").json["devices"]] == ["panel-1", "panel-2"]
    assert ask(api, "GET", "/v1/devices/panel-2").json["port"] == "/dev/ttyACM3"
    assert ask(api, "GET", "/v1/devices/panel-1/why").json["device"]["id"] == "panel-1"
    assert [each["state"] for each in ask(api, "GET", "/v1/releases").json["releases"]] == [
        "accepted",
        "refused",
    ]
    assert len(ask(api, "GET", "/v1/jobs").json["jobs"]) == 50
    assert len(ask(api, "GET", "/v1/jobs?limit=120").json["jobs"]) == 120
    assert ask(api, "GET", "/v1/history?device=panel-1&limit=3").json == {
        "attempts": [an_attempt()],
        "actions": [],
    }
    assert ask(api, "GET", "/v1/history?device=panel-2").json == {"attempts": [], "actions": []}
    assert ask(api, "GET", "/v1/plan").json["plan"][0]["decision"] == "update"
    assert ask(api, "GET", "/v1/attempts?device=panel-1&limit=3").json == {"attempts": [an_attempt()]}
    assert ask(api, "GET", "/v1/attempts?device=panel-2").json == {"attempts": []}
    assert ask(api, "GET", "/v1/latches").json == {"latches": []}
    desk.going_out, desk.in_it = [a_rollout()], [a_member()]
    assert ask(api, "GET", "/v1/rollouts").json == {"rollouts": [a_rollout()]}
    assert ask(api, "GET", "/v1/rollouts/front-panel").json == {"devices": [a_member()]}
    assert ask(api, "GET", "/v1/rollouts/pannel").status == 404
    assert [each["device"] for each in ask(api, "GET", "/v1/wear").json["wear"]] == ["panel-1", "panel-2"]


def test_says_what_waits_and_for_what(api: Served, desk: MemoryDesk) -> None:
    wait: WaitView = {"kind": "hold", "detail": "ann: fair", "until": None}
    desk.fleet["panel-2"]["job"] = a_job(id=9, device="panel-2", wait=wait)
    assert ask(api, "GET", "/v1/waits").json == {
        "waits": [
            {
                "job": 9,
                "device": "panel-2",
                "label": "/dev/ttyACM3",
                "device_class": "front-panel",
                "version": "2.4.0",
                "wait": wait,
            }
        ]
    }


def test_says_whether_it_is_alive_and_ready(api: Served, desk: MemoryDesk) -> None:
    assert ask(api, "GET", "/v1/health").json["state"] == "alive"
    assert ask(api, "GET", "/v1/ready").json == {"state": "ready"}
    desk.scanned = False
    desk.store_problem = "disk I/O error"
    for path in ("/v1/health", "/v1/ready"):
        answer = ask(api, "GET", path)
        assert (answer.status, answer.json["type"]) == (503, "unavailable")


def test_devices_answer_to_id_beginning_and_label(api: Served) -> None:
    assert ask(api, "GET", "/v1/devices/north%20wall").json["id"] == "panel-1"
    assert ask(api, "GET", "/v1/devices/%2Fdev%2FttyACM3").json["id"] == "panel-2"
    assert ask(api, "POST", "/v1/devices/%2Fdev%2FttyACM3/hold", {"reason": "on the bench"}).status == 200
    assert ask(api, "GET", "/v1/devices/panel-2").json["held"] == "on the bench"

    ambiguous = ask(api, "GET", "/v1/devices/panel/why")
    assert ambiguous.status == 409
    assert "panel-1 or panel-2" in ambiguous.json["detail"]


def test_every_action_is_done_in_the_name_of_the_peer(api: Served, desk: MemoryDesk) -> None:
    desk.latched = [
        {
            "id": 3,
            "scope": "image",
            "device": None,
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:00:00Z",
            "clear": f"firmwarden clear {IMAGE_B[:12]}",
        }
    ]
    desk.fleet["panel-2"]["job"] = a_job(id=9, device="panel-2")
    desk.going_out = [a_rollout(state="stopped")]
    done = [
        ask(api, "POST", "/v1/devices/panel-1/retry"),
        ask(api, "POST", "/v1/devices/panel-1/hold", {"reason": "being painted"}),
        ask(api, "POST", "/v1/devices/panel-1/unhold", {}),
        ask(api, "POST", "/v1/devices/panel-1/pin", {"version": "2.3.1"}),
        ask(api, "POST", "/v1/devices/panel-1/pin", {"version": "2.3.1", "allow_downgrade": True}),
        ask(api, "POST", "/v1/devices/panel-1/pin", {"version": None}),
        ask(api, "POST", "/v1/devices/panel-1/adopt", {"running": "2.4.0"}),
        ask(api, "POST", "/v1/jobs/9/cancel"),
        ask(api, "POST", "/v1/devices/panel-1/adopt", {"old": "panel-2"}),
        ask(api, "POST", "/v1/latches/clear", {"target": IMAGE_B}),
        ask(api, "POST", "/v1/hold", {"reason": "fair week"}),
        ask(api, "POST", "/v1/unhold"),
        ask(api, "POST", "/v1/rollouts/front-panel/resume"),
        ask(api, "POST", "/v1/rollouts/front-panel/recall", {"reason": "it hums"}),
        ask(api, "DELETE", "/v1/devices/panel-1"),
    ]
    assert [answer.status for answer in done] == [200] * len(done)
    assert all(answer.json["done"].endswith(".") for answer in done)
    assert [(action["who"], action["what"], action["target"]) for action in reversed(desk.actions)] == [
        (ME, "retry", "panel-1"),
        (ME, "hold", "panel-1"),
        (ME, "unhold", "panel-1"),
        (ME, "pin", "panel-1"),
        (ME, "pin", "panel-1"),
        (ME, "pin", "panel-1"),
        (ME, "adopt", "panel-1"),
        (ME, "cancel", "9"),
        (ME, "adopt", "panel-1"),
        (ME, "clear", IMAGE_B),
        (ME, "hold", "all"),
        (ME, "unhold", "all"),
        (ME, "resume", "front-panel"),
        (ME, "recall", "front-panel"),
        (ME, "forget", "panel-1"),
    ]
    assert desk.fleet == {}
    assert desk.latched == []


def test_a_refusal_is_a_problem_document_with_the_reason(api: Served, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["latched"] = True
    refused = ask(api, "POST", "/v1/devices/panel-1/retry")
    assert refused.kind == "application/problem+json"
    assert refused.json == {
        "type": "refused",
        "title": "Refused",
        "status": 409,
        "detail": "panel-1 is stopped by its own verdict. Clear it first: firmwarden clear panel-1",
    }
    assert desk.actions == []

    missing = ask(api, "GET", "/v1/devices/lamp")
    assert (missing.status, missing.json["type"]) == (404, "not-found")
    assert "'lamp'" in missing.json["detail"]


PIN = "/v1/devices/panel-1/pin"
ADOPT = "/v1/devices/panel-1/adopt"
DUPLICATE = b'{"reason": "a", "reason": "b"}'
LATIN_1 = b'{"reason": "gr\xfcn"}'


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/v1/hold", b"{", 400, "not JSON"),
        ("POST", "/v1/hold", LATIN_1, 400, "not JSON"),
        ("POST", "/v1/hold", b"[" * 60_000, 400, "not JSON"),
        ("POST", "/v1/hold", [], 400, "must be a JSON object"),
        ("POST", "/v1/hold", {}, 400, "`reason` is missing"),
        ("POST", "/v1/hold", {"reason": 4}, 400, "`reason` must be text"),
        ("POST", "/v1/hold", {"reason": "  "}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "\x1b[2J"}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "\u202etxt.exe"}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "\xa0"}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "x\n"}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "\ud800"}, 400, "printable"),
        ("POST", "/v1/hold", {"reason": "x" * 501}, 400, "500"),
        (
            "POST",
            "/v1/hold",
            {"reason": "x", "until": "9:00"},
            400,
            "Unknown key `until`; known here: reason",
        ),
        (
            "POST",
            "/v1/hold",
            {"reason": "x", "\ud800": 1},
            400,
            "Unknown key `\\ud800`; known here: reason",
        ),
        ("POST", "/v1/hold", DUPLICATE, 400, "twice"),
        ("POST", "/v1/hold", {"reason": "x" * 70_000}, 413, "65536"),
        ("POST", "/v1/hold", {"reason": "x", "for_s": 0}, 400, "`for_s` must be a number of seconds"),
        ("POST", "/v1/hold", {"reason": "x", "for_s": True}, 400, "`for_s` must be a number of seconds"),
        ("POST", "/v1/hold", {"reason": "x", "for_s": "2h"}, 400, "`for_s` must be a number of seconds"),
        ("POST", "/v1/hold", {"reason": "x", "for_s": None}, 400, "`for_s` must be a number of seconds"),
        ("POST", "/v1/hold", {"reason": "x", "for_s": 1e9}, 400, "at most 31622400"),
        ("POST", "/v1/hold", b'{"reason": "x", "for_s": NaN}', 400, "`for_s` must be a number of seconds"),
        ("POST", "/v1/hold", {"reason": "x", "owner": ""}, 400, "`owner` must be one line"),
        ("POST", "/v1/unhold", {"reason": "x"}, 400, "known here: owner"),
        ("POST", "/v1/devices/panel-1/retry", {"reason": "x"}, 400, "none is expected here"),
        ("POST", PIN, {}, 400, "`version` is missing"),
        ("POST", PIN, {"version": ""}, 400, "printable"),
        ("POST", ADOPT, {}, 400, "either `old`"),
        ("POST", ADOPT, {"old": "panel-2", "running": "1"}, 400, "either `old`"),
        ("POST", ADOPT, {"old": None}, 400, "`old` is missing"),
        ("POST", "/v1/jobs/0/cancel", None, 400, "`job` must be a number"),
        ("POST", "/v1/jobs/first/cancel", None, 400, "`job` must be a number"),
        ("POST", f"/v1/jobs/{'9' * 30}/cancel", None, 400, "`job` must be a number"),
        ("POST", "/v1/jobs/12/cancel", None, 404, "no job 12"),
        ("GET", "/v1/jobs?limit=0", None, 400, "`limit` must be a number from 1 to 1000"),
        ("GET", "/v1/jobs?limit=%D9%A3", None, 400, "`limit` must be a number"),
        ("GET", "/v1/jobs?limits=3", None, 400, "Unknown parameter `limits`; known here: limit"),
        ("GET", f"/v1/events?after={'0' * 5000}", None, 400, "`after` must be a number"),
        ("GET", f"/v1/jobs?limit={'1'.zfill(20)}000000", None, 400, "`limit` must be a number"),
        ("GET", "/v1/jobs?limit=1&limit=2", None, 400, "twice"),
        ("GET", "/v1/devices?class=a", None, 400, "none is expected here"),
        ("GET", "/v1/events?after=new", None, 400, "`after` must be a number"),
        ("GET", "/v1/devices/%zz", None, 404, "'%zz'"),
        ("GET", "/v1/devices/%FF%00", None, 404, "No device"),
        ("GET", "/v1/devices?%zz", None, 400, "Unknown parameter `%zz`"),
        ("POST", "/v1/hold?now", b"{}", 400, "Unknown parameter `now`; none is expected here"),
        ("GET", "/v1/events?after=-1", None, 400, "`after` must be a number"),
        ("GET", "/v1/status/", None, 404, "GET /v1/status/ is not something"),
        ("POST", "/v1/jobs/12/cancel/", None, 404, "is not something"),
        ("GET", "/v1/", None, 404, "GET /v1/ is not something this API knows"),
        ("POST", "/v1/status", None, 405, "GET"),
        ("GET", "/v1/hold", None, 405, "does not take GET, but POST"),
    ],
)
def test_inv8_bad_requests_are_refused_whole_with_the_reason(
    api: Served, desk: MemoryDesk, method: str, path: str, body: object, status: int, says: str
) -> None:
    answer = ask(api, method, path, body)
    assert answer.kind == "application/problem+json"
    assert (answer.status, answer.json["status"]) == (status, status)
    assert says in answer.json["detail"]
    assert desk.actions == []
    # and the next one is served as ever
    assert ask(api, "GET", "/v1/status").status == 200


def test_a_path_says_all_methods_that_it_has(api: Served) -> None:
    for path, methods in {
        "/v1/status": "GET, HEAD",
        "/v1/releases": "GET, POST, HEAD",
        "/v1/devices/panel-1": "GET, DELETE, HEAD",
        "/v1/devices/panel-1/hold": "POST",
    }.items():
        for method in ("OPTIONS", "PATCH"):
            answer = ask(api, method, path)
            assert (answer.status, answer.headers["Allow"]) == (405, methods)
            assert answer.json["type"] == "method-not-allowed"


@pytest.mark.parametrize("path", ["/v1/status", "/v1/openapi.json", "/v1/devices/lamp", "/v1/events?after=0"])
def test_head_is_get_without_a_body(api: Served, path: str) -> None:
    head = ask(api, "HEAD", path)
    assert head.raw == b""
    if "events" not in path:
        got = ask(api, "GET", path)
        assert (got.status, got.kind) == (head.status, head.kind)
        assert int(head.headers["Content-Length"]) == len(got.raw) > 0
    else:
        assert (head.status, head.kind) == (200, "text/event-stream")


def test_a_body_without_a_length_is_bounded_too(api: Served, desk: MemoryDesk) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.path))
        sock.sendall(b"POST /v1/hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        for _ in range(3):
            sock.sendall(piece)
        assert b" 413 " in sock.recv(1000).split(b"\r\n")[0]
    assert desk.actions == []


def test_noise_in_place_of_http_hurts_nobody(api: Served) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.path))
        sock.sendall(b"\x56\x01\x00\xff\r\n\r\n")
        assert b" 400 " in sock.recv(1000).split(b"\r\n")[0]
    assert ask(api, "GET", "/v1/status").status == 200


def test_a_store_that_fails_is_said_so(api: Served, desk: MemoryDesk) -> None:
    desk.store_problem = "database or disk is full"
    answer = ask(api, "GET", "/v1/status")
    assert (answer.status, answer.json["type"]) == (503, "unavailable")
    assert "disk is full" in answer.json["detail"]


def test_inv6_a_defect_in_one_answer_is_told_and_logged_and_stops_nothing_else(
    api: Served, desk: MemoryDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.defect = True
    answer = ask(api, "GET", "/v1/status")
    assert (answer.status, answer.json["type"]) == (500, "defect")
    assert "ZeroDivisionError" in answer.json["detail"]
    assert ask(api, "GET", "/v1/devices").status == 200
    assert "ZeroDivisionError" in caplog.text


def test_connections_are_bounded(api: Served) -> None:
    idle = []
    try:
        for expected in [200] * 64 + [503]:
            assert ask(api, "GET", "/v1/status").status == expected
            sock = socket.socket(socket.AF_UNIX)
            idle.append(sock)
            sock.connect(str(api.path))
    finally:
        for sock in idle:
            sock.close()
    while ask(api, "GET", "/v1/status").status == 503:  # until the server has seen them go
        pass

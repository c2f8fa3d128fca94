"""The status page as HTML: what it says, what it refuses, and that strangers' text stays text."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from firmwarden.control.page.rendering import HEADERS, Renderer, environment
from firmwarden.service.words import cause_in_words, outcome_in_words
from support.memory_desk import IMAGE_B, WRONG_DEVICE, MemoryDesk, a_device, a_job, a_rollout, an_attempt
from support.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import ActionView, LatchView

PAGES = ("/", "/devices/panel-1", "/releases", "/log")
NAMES = ("a/b", "../up", "50%", "%2F", 'say "hello"', "<b>&amp;", "what?#here", "größe", "a b")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock") as running:
        yield running


class Page(HTMLParser):
    """What a browser would make of an answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        super().__init__()
        self.status = response.status
        self.headers = response.headers
        self.raw = response.read()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._text: list[str] = []
        self.feed(self.raw.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    @property
    def text(self) -> str:
        """What is to be read, with single spaces."""
        return " ".join("".join(self._text).split())

    def values(self, tag: str, attribute: str) -> list[str]:
        return [found for each, attrs in self.tags if each == tag and (found := attrs.get(attribute))]


def get(api: Served, path: str, *, method: str = "GET", **headers: str) -> Page:
    with closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(api.path))
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        return Page(connection.getresponse())


def a_latch(**changes: object) -> LatchView:
    latch: LatchView = {
        "id": 3,
        "scope": "pair",
        "device": "panel-1",
        "image": IMAGE_B,
        "cause": WRONG_DEVICE,
        "set_at": "2026-03-01T11:59:00Z",
        "clear": "firmwarden clear panel-1",
    }
    latch.update(changes)  # type: ignore[typeddict-item]
    return latch


# --- what is there


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_complete_and_guarded(api: Served, path: str) -> None:
    page = get(api, path)
    assert page.status == 200
    assert page.headers.get_content_type() == "text/html"
    assert page.headers["cache-control"] == "no-store"
    assert {name: page.headers[name] for name in HEADERS} == dict(HEADERS)
    names = [tag for tag, _ in page.tags]
    assert [names.count(each) for each in ("h1", "main", "title", "header", "footer")] == [1] * 5
    assert "style" not in names
    assert page.values("script", "src") == [page.values("link", "href")[1].replace("css", "js")]
    assert not [
        attrs for _, attrs in page.tags if any(each.startswith("on") or each == "style" for each in attrs)
    ]
    identities = [found for _, attrs in page.tags if (found := attrs.get("id"))]
    assert len(identities) == len(set(identities))
    assert get(api, path, method="HEAD").raw == b""


@pytest.mark.parametrize("name", NAMES)
def test_a_device_is_found_by_the_link_to_it(api: Served, desk: MemoryDesk, name: str) -> None:
    desk.fleet = {name: a_device(id=name)}
    link = next(each for each in get(api, "/").values("a", "href") if each.startswith("./devices/"))
    page = get(api, link.removeprefix("."))
    assert page.status == 200
    assert page.text.count(name) >= 2  # title and heading
    assert page.values("link", "href")[1] == "../static/page.css"


def test_addresses_are_relative_to_the_page_as_it_was_asked_for(api: Served, desk: MemoryDesk) -> None:
    """Then they also hold behind a proxy that serves all of this below a prefix of its own."""
    desk.fleet = {"panel-1": a_device(label="/dev/ttyACM3")}
    for path, root in (("/log", "./"), ("/devices/panel-1", "../"), ("/devices//dev/ttyACM3", "../../../")):
        page = get(api, path)
        assert page.status == 200
        assert page.values("script", "src") == [f"{root}static/page.js"]
        assert page.values("body", "data-events") == [f"{root}v1/events"]
        assert not [each for each in page.values("a", "href") if not each.startswith((root, "#"))]


def test_the_page_of_a_device_tells_what_why_tells(api: Served, desk: MemoryDesk) -> None:
    device = a_device(
        label="north wall",
        latched=True,
        held="alice: being painted",
        port_lent="gpsd.service is stopped since 2026-03-01T11:59:00Z",
        conflict="seen twice",
        pinned="2.3.1",
        job=a_job(state="failed", attempts=2, cause=WRONG_DEVICE),
    )
    desk.fleet = {"panel-1": device}
    desk.latched = [a_latch()]
    desk.tried = [an_attempt(number=2, phase="probing", cause=WRONG_DEVICE), an_attempt()]
    desk.actions = [
        {"at": "2026-03-01T11:59:00Z", "who": "bob", "what": "retry", "target": "panel-1", "detail": ""}
    ]
    desk.power_cuts = [{"step": "write", "does": "erase, write", "if_interrupted": "the loader runs"}]
    text = get(api, "/devices/panel-1").text
    for sentence in (
        "north wall",
        "It should run 2.4.0: it is the newest release of its class.",
        "It is pinned to 2.3.1.",
        "It runs 2.3.1: the device acknowledged its end.",
        "It is held By alice: being painted.",
        "Its port is lent gpsd.service is stopped since",
        "It is not clear which unit this is Seen twice.",
        "This image on this device, since",
        " ".join(cause_in_words(WRONG_DEVICE)),
        "To lift it: firmwarden clear panel-1",
        "What happens next Nothing, until the latch is cleared.",
        "What you can do firmwarden clear panel-1",
        f"{outcome_in_words(desk.tried[1]).capitalize()}. Attempt 1 of job 7 at 2.4.0,",
        "The port or the connection went away in the middle (link-lost). /dev/ttyACM3 vanished.",
        "That stopped it. Of 130 commands: 3 sent again, 3 unanswered, 1 answered late or twice.",
        "Job 7 (2.4.0) was tried 2 times.",
        "Today 1 of 10",
        "In its life 12 of 1000",
        "bob: retry",
        "What a power cut in an update would leave Erase, write",
        "The loader runs.",
    ):
        assert sentence in text
    assert text.count("It answered 4a 05 02.") == 1  # by the latch; its attempt only points there


def test_instants_in_sentences_are_told_as_people_do(api: Served, desk: MemoryDesk) -> None:
    desk.fleet = {"panel-1": a_device(running_evidence="told at 2026-02-28T12:00:00.250Z, by `version`")}
    page = get(api, "/devices/panel-1")
    assert "2026-02-28T12:00:00.250Z" in page.values("time", "datetime")
    assert re.search(r"told at \d\d:\d\d:\d\d \(.*ago\), by version", page.text)
    assert ("code", {}) in page.tags


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_no_clock_is_so_wild_that_the_page_breaks(
    api: Served, desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch, instant: str, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        desk.fleet = {"panel-1": a_device(first_seen=instant, last_seen=instant, present=False)}
        for path in ("/", "/devices/panel-1"):
            assert get(api, path).status == 200
    finally:
        monkeypatch.undo()
        time.tzset()


def test_devices_that_need_somebody_come_first_and_others_can_be_left_out(
    api: Served, desk: MemoryDesk
) -> None:
    running = a_job(state="running", progress={"step": "write", "done": 30, "total": 120})
    desk.fleet = {
        each["id"]: each
        for each in (
            a_device(id="well", running_version="2.4.0"),
            a_device(id="busy", job=running),
            a_device(id="refused", latched=True),
            a_device(id="other", device_class="io-module", latched=True),
        )
    }

    def shown(path: str) -> list[str]:
        ids = [str(attrs.get("id", "")) for _, attrs in get(api, path).tags]
        return [each.removeprefix("row-") for each in ids if each.startswith("row-")]

    assert shown("/") == ["refused", "other", "busy", "well"]
    assert shown("/?state=needs-you") == ["refused", "other"]
    assert shown("/?state=needs-you&class=io-module") == ["other"]
    assert shown("/?class=nothing") == []
    assert "No device is so. Show all" in get(api, "/?class=nothing").text
    page = get(api, "/")
    assert "2 needs you, 1 updating, 1 up to date." in page.text
    assert ("progress", {"aria-label": "Update of busy", "value": "30", "max": "120"}) in page.tags
    assert "write 25 %" in page.text


def test_what_concerns_everything_is_told_above_the_devices(api: Served, desk: MemoryDesk) -> None:
    desk.held = "alice: moving house"
    desk.unsigned_classes = ["lab", "pump"]
    desk.problems = ["the configuration is refused:\nfirmwarden.toml:3: `listen` must be an address"]
    desk.fleet = {"panel-1": a_device(conflict="two units have the serial number 7")}
    page = get(api, "/")
    text = page.text
    assert ("br", {}) in page.tags
    assert "The configuration is refused:firmwarden.toml:3: listen must be an address." in text
    assert "Everything is held by alice: moving house. firmwarden unhold all lifts it." in text
    assert "usb-Acme_Panel_1-if00: two units have the serial number 7" in text
    assert "Classes that take releases without a signature: lab, pump." in text


def test_releases_are_told_with_the_reasons_for_refusals_first(api: Served, desk: MemoryDesk) -> None:
    assert "accepted, signed by vendor-2026" in get(api, "/releases").text
    desk.shelf[0]["reason"] = "2 devices do not get it: they were confirmed with something newer"
    assert (
        "accepted, signed by vendor-2026, but 2 devices do not get it: they were"
        in get(api, "/releases").text
    )
    desk.shelf[0]["latched"] = True
    text = get(api, "/releases").text
    refused = text.index("refused: the image has 1000 bytes")
    assert refused < text.index("accepted, but a latch keeps it from every device")
    desk.shelf = []
    assert "No release is known." in get(api, "/releases").text


def test_rollouts_are_told_and_those_that_stopped_are_for_somebody(api: Served, desk: MemoryDesk) -> None:
    assert "Rollout" not in get(api, "/").text
    desk.going_out = [
        a_rollout(until="2100-01-01T00:00:00Z"),
        a_rollout(
            state="stopped",
            standing="stopped at 2 canaries: 1 of 2 devices failed",
            next="`firmwarden resume front-panel` lets it go on",
        ),
    ]
    page = get(api, "/")
    look, rollouts = page.text.split("Rollouts front-panel")
    assert "The rollout of front-panel 2.4.0 stopped at 2 canaries: 1 of 2 devices failed." in look
    assert "firmwarden resume front-panel lets it go on." in look
    assert re.match(r" 2\.4\.0 soaks on 2 canaries until [\d:]+ \(in \d+ days\)\.", rollouts)
    assert "Given to 2 of 24 devices: well 2, failed 0." in rollouts
    desk.going_out = [a_rollout(state="done", standing="went to all")]
    assert "Rollout" not in get(api, "/").text


def test_what_people_did_stands_below_the_log(api: Served, desk: MemoryDesk) -> None:
    assert "What people did" not in get(api, "/log").text
    act: ActionView = {
        "at": "2026-03-01T11:00:00Z",
        "who": "ann",
        "what": "drop",
        "target": "panel.toml",
        "detail": "panel 2.4.0, image 0123456789ab, signed by vendor",
    }
    desk.actions.append(act)
    text = get(api, "/log").text
    assert "ann: drop panel.toml, panel 2.4.0, image 0123456789ab, signed by vendor" in text
    assert "panel.toml" not in get(api, "/log?level=error").text


def test_a_device_page_tells_its_floor_and_what_was_allowed(api: Served, desk: MemoryDesk) -> None:
    assert "sequence below" not in get(api, "/devices/panel-1").text
    desk.fleet["panel-1"] |= {"floor": 7}
    assert "Nothing with a sequence below 7 is given to it." in get(api, "/devices/panel-1").text
    desk.fleet["panel-1"] |= {"may_go_back_to": "2.3.1"}
    assert "below 7 is given to it, but 2.3.1 once." in get(api, "/devices/panel-1").text


def test_who_is_on_probation_is_told_and_what_it_kept_well_with(api: Served, desk: MemoryDesk) -> None:
    assert "probation" not in get(api, "/").text
    assert "It kept well with" not in get(api, "/devices/panel-1").text
    desk.fleet["panel-1"] |= {
        "running_version": "2.4.0",
        "desired_version": "2.4.0",
        "probation": {
            "version": "2.4.0",
            "began_at": "2026-03-01T11:57:00Z",
            "soaked_s": 360.0,
            "soak_s": 600.0,
            "until": None,
            "detail": "it is in its loader",
        },
    }
    text = get(api, "/").text
    assert "here, 1 on probation." in text
    assert "on probation with 2.4.0: it is in its loader" in text
    assert "It kept well with 2.3.1 before." in get(api, "/devices/panel-1").text


def test_the_log_is_told_newest_first_and_filtered(api: Served, desk: MemoryDesk) -> None:
    for level, device in (("info", "panel-1"), ("warning", "panel-2"), ("error", "panel-1")):
        event = {
            "event": f"{level}-event",
            "level": level,
            "timestamp": "2026-03-01T11:59:00Z",
            "device": device,
        }
        api.call(desk.ring.publish, "log", event)
    api.call(desk.ring.publish, "progress", {"device": "panel-1", "step": "write", "done": 1, "total": 2})

    def told(path: str) -> list[str]:
        return re.findall(r"(\w+)-event", get(api, path).text)

    assert told("/log") == ["error", "warning", "info"]
    assert "error panel-1 error-event" in get(api, "/log").text
    desk.fleet["panel-1"]["label"] = "north wall"
    assert "error north wall error-event" in get(api, "/log").text
    assert told("/log?level=warning") == ["error", "warning"]
    assert told("/log?device=panel-1") == ["error", "info"]
    assert told("/log?device=panel-2&level=error") == []
    assert "./log?device=panel-1&level=error" in get(api, "/log?device=panel-1").values("a", "href")


def test_an_empty_gateway_says_what_to_do(api: Served, desk: MemoryDesk) -> None:
    desk.fleet = {}
    assert "No device has been seen yet. firmwarden check shows" in get(api, "/").text
    assert "Nothing of the kind happened" in get(api, "/log").text


# --- what is refused


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/devices/nobody", 404, "No device is called 'nobody'. firmwarden devices shows them."),
        ("/nothing", 404, "There is no page at /nothing."),
        ("/releases/", 404, "There is no page at /releases/."),
        ("/static/other.js", 404, "There is no page"),
        ("/static/%2e%2e%2frendering.py", 404, "There is no page"),
        ("/devices/panel", 409, "may be panel-1 or panel-2"),
        ("/?state=sleepy", 400, "state must be one of: needs-you,"),
        ("/log?level=loud", 400, "level must be one of: debug,"),
        ("/?page=2", 400, "Unknown parameter page"),
        ("/?class=a&class=b", 400, "A parameter is given twice."),
    ],
)
def test_inv8_what_is_not_understood_is_said_in_a_page(
    api: Served, desk: MemoryDesk, path: str, status: int, words: str
) -> None:
    desk.fleet["panel-2"] = a_device(id="panel-2")
    page = get(api, path)
    assert (page.status, page.headers.get_content_type()) == (status, "text/html")
    assert words in page.text
    assert page.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_what_is_not_the_page_s_is_not_answered_by_it(api: Served) -> None:
    problem = get(api, "/v1/nothing")
    assert (problem.status, problem.headers.get_content_type()) == (404, "application/problem+json")
    order = get(api, "/releases", method="POST")
    assert (order.status, set(order.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_a_store_that_fails_and_a_defect_are_told_in_a_page(
    api: Served, desk: MemoryDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.store_problem = "database or disk is full"
    page = get(api, "/")
    assert (page.status, "disk is full" in page.text) == (503, True)
    desk.store_problem = ""
    desk.defect = True
    page = get(api, "/")
    assert (page.status, "A defect in Firmwarden (ZeroDivisionError)" in page.text) == (500, True)
    assert get(api, "/log").status == 200
    assert "ZeroDivisionError" in caplog.text


# --- strangers' text


@pytest.mark.anyio
@given(text=st.text(min_size=1, max_size=40))
@example(text="</title></script><script>alert(1)</script>")
@example(text="\"'><img src=x onerror=alert(1)>")
@example(text="\u202egnp.exe\u2066\x1b[2J\x00")
@example(text="{{ 7 * 7 }}{% raw %}")
@example(text="2026-99-99T99:99:99Z")
async def test_inv8_no_text_becomes_markup_or_acts_on_what_stands_beside_it(text: str) -> None:
    """The page has the same elements and attributes as with a harmless text, and nothing unprintable."""
    renderer = Renderer()

    async def told(value: str) -> tuple[str, list[tuple[str, list[str]]]]:
        cause = {**WRONG_DEVICE, "detail": value, "meaning": value}
        device = a_device(
            id=value,
            label=value,
            device_class=value,
            port=value,
            serial=value,
            held=value,
            conflict=value,
            pinned=value,
            running_version=value,
            desired_version=value,
            job=a_job(state="failed", version=value, cause=cause),
        )
        desk = MemoryDesk(device)
        desk.latched = [a_latch(device=value, cause=cause, clear=value)]
        desk.tried = [an_attempt(device=value, version=value, cause=cause, evidence=value)]
        desk.actions = [
            {"at": "2026-03-01T11:59:00Z", "who": value, "what": value, "target": value, "detail": value}
        ]
        why, history = await desk.why(value), await desk.history(value, 9)
        values = {"why": why, "device": device, "history": history, "root": "../", "now": NOON}
        answer = await renderer.page("device.html", values, status=200, headers={})
        shown = bytes(answer.body).decode()
        parser = _Tags()
        parser.feed(shown)
        return shown, parser.found

    shown, tags = await told(text)
    assert all(each.isprintable() or each == "\n" for each in shown)
    if not {"`", "\n"} & set(text):  # commands are set apart, and lines kept
        assert tags == (await told("harmless"))[1]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


# --- files and what is installed


def test_a_browser_keeps_the_files_until_they_change(api: Served) -> None:
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        first = get(api, f"/static/{name}")
        assert (first.status, first.headers.get_content_type()) == (200, kind)
        assert (first.headers["cache-control"], first.headers["x-content-type-options"]) == (
            "no-cache",
            "nosniff",
        )
        again = get(api, f"/static/{name}", if_none_match=first.headers["etag"])
        assert (again.status, again.raw) == (304, b"")
        assert get(api, f"/static/{name}", if_none_match='"older"').status == 200


def test_without_jinja_the_page_says_what_to_install(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for path in ("/", "/nothing"):
        page = get(api, path)
        assert (page.status, page.headers.get_content_type()) == (501, "text/plain")
        assert b"pip install 'firmwarden[web]'" in page.raw
    assert get(api, "/v1/status").status == 200


def test_a_daemon_whose_page_nobody_asks_for_does_without_jinja() -> None:
    code = "import sys, firmwarden.app.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"firmwarden.control.page.routes", "uvicorn"} <= set(done.stdout.split())
    assert {"jinja2", "markupsafe"}.isdisjoint(done.stdout.split())


def test_the_wheel_has_the_templates_and_the_files() -> None:
    root = Path(__file__).parent.parent.parent
    packed = {each.distribution_path for each in WheelBuilder(str(root)).recurse_included_files()}
    own = root / "daemon" / "firmwarden" / "control" / "page"
    needed = {
        str(file.relative_to(root / "daemon"))
        for folder in ("templates", "static")
        for file in (own / folder).iterdir()
    }
    assert len(needed) >= 8
    assert needed <= packed

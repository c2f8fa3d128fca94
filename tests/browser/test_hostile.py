"""Names that would like to be more than names, in every field that there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from support.chromium import DESK, PHONE
from support.memory_desk import IMAGE_B, NOW, WRONG_DEVICE, MemoryDesk, a_device, a_job, an_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.sync_api import Page

    from support.chromium import Visits
    from support.served import Served

EVIL = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)><svg onload=alert(1)>",
    "</title></main></table><style>*{display:none}</style><h1>gone",
    "javascript:alert(1)//",
    "../../v1/hold?x=%00#'\"`&lt;",
    "`backticks` and {{ 7 * 7 }} {% raw %} ${alert(1)}",
    "\u202egnp.eldnits\u2066\u200f reversed",
    "\x1b[2J\x07\x00\r control\tcharacters\u2028",
    "W" * 3000,
    "Z\u0335\u0321\u0322\u0315" * 60,
    "العربية عبرית 漢字 🙂‍↔️",
    "constructor",
    "__proto__",
)


@pytest.fixture
def desk() -> MemoryDesk:
    made = MemoryDesk(*(_device(name, number) for number, name in enumerate(EVIL)))
    made.held = EVIL[0]
    made.shelf = [
        {
            "manifest": name,
            "state": "accepted" if number % 2 else "refused",
            "device_class": name,
            "version": name,
            "sequence": None,
            "image": name,
            "size": 1 << 40,
            "signed_by": name,
            "reason": name,
            "latched": False,
        }
        for number, name in enumerate(EVIL)
    ]
    for name in EVIL:
        cause = {**WRONG_DEVICE, "detail": name, "meaning": name, "code": name}
        made.tried.append(an_attempt(device=name, version=name, cause=cause, evidence=name))
        made.actions.append({"at": NOW, "who": name, "what": name, "target": name, "detail": name})
        made.latched.append(
            {
                "id": len(made.latched),
                "scope": "pair",
                "device": name,
                "image": IMAGE_B,
                "cause": cause,  # type: ignore[typeddict-item]
                "set_at": NOW,
                "clear": name,
            }
        )
    made.power_cuts = [{"step": name, "does": name, "if_interrupted": name} for name in EVIL]
    return made


def _device(name: str, number: int) -> Any:  # noqa: ANN401 - a view, made of what does not belong there
    progress = {"step": name, "done": 1 << 60, "total": 0}
    return a_device(
        id=name,
        label=name if number % 3 else "",
        device_class=name,
        identity=name,
        port=name,
        serial=name,
        conflict=name if number % 4 == 0 else None,
        running_version=name,
        running_evidence=name,
        desired_version=name,
        desired_reason=name,
        stopped_version=name,
        pinned=name,
        held=name,
        latched=number % 2 == 0,
        job=a_job(
            device=name,
            version=name,
            state=("running", "failed", "queued")[number % 3],
            progress=progress if number % 3 == 0 else None,
            wait={"kind": "slot", "detail": name, "until": None} if number % 3 == 2 else None,
        ),
    )


def log(name: str) -> dict[str, object]:
    keys = dict.fromkeys(("event", "device", "detail", "who", "cause"), name)
    return {**keys, "level": "warning", "timestamp": NOW, name: name}


def nothing_is_wider_than(page: Page, size: Mapping[str, int]) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth") <= size["width"])


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_inv8_names_stay_names(
    gateway_page: Served, desk: MemoryDesk, visits: Visits, size: dict[str, int]
) -> None:
    """Nothing runs, loads or asks (the fixture looks), nothing is missing, and nothing is wider than the window."""
    for name in EVIL:
        gateway_page.call(desk.ring.publish, "log", log(name))
    root = f"http://127.0.0.1:{gateway_page.port}"
    page = visits.open(root, viewport=size)
    live = page.locator("#live")
    expect(live).to_have_text("Live")
    expect(page.get_by_role("row").filter(has=page.get_by_role("link"))).to_have_count(len(EVIL))
    assert nothing_is_wider_than(page, size)
    for name in EVIL:  # what comes by the stream goes other ways than what is rendered
        gateway_page.call(
            desk.ring.publish,
            "progress",
            {"device": name, "attempt": 1, "step": name, "done": name, "total": name},
        )
        gateway_page.call(desk.ring.publish, "log", log(name))
    links = page.locator("tbody a").evaluate_all("links => links.map(link => link.href)")
    assert len(links) == len(EVIL)
    for link in [*links, f"{root}/releases", f"{root}/log"]:
        answer = page.goto(link)
        assert answer is not None
        assert answer.ok, link
        expect(live).to_have_text("Live")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert nothing_is_wider_than(page, size), link
    expect(page.get_by_role("row").filter(has=page.get_by_role("link"))).to_have_count(2 * len(EVIL))
    texts = page.locator("main").evaluate_all("all => all.map(each => each.textContent)")
    assert "\u202e" not in texts[0]
    assert "\\u202e" in texts[0]


def test_the_policy_would_stop_what_escaped_from_a_template(gateway_page: Served, visits: Visits) -> None:
    page = visits.open(f"http://127.0.0.1:{gateway_page.port}/")
    expect(page.locator("#live")).to_have_text("Live")
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'taken over'";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=alert(1)><p style='color:red'>");
          document.body.insertAdjacentHTML("beforeend", "<img src='http://127.0.0.2:9/'>");
        }"""
    )
    with page.expect_event("console", lambda said: "127.0.0.2" in said.text):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.2:9/again>')")
    expect(page).not_to_have_title("taken over")
    visits.close()  # it may still be about to say something
    stopped = [fault for fault in visits.faults if "Content Security Policy" in fault]
    assert len(stopped) >= 4
    others = [fault for fault in visits.faults if fault not in stopped]
    # The browser reports what it was about to ask for, and our own answer to the picture that is none.
    visits.faults[:] = [fault for fault in others if not re.search("127.0.0.2|status of 404", fault)]

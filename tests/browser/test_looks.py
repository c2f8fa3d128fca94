"""For whoever looks: by day and by night, on a phone, with a keyboard, a screen reader, or without a script."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from support.chromium import DESK, PHONE
from support.page_rack import STOPPED, PageRack

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from support.chromium import Visits
    from support.memory_desk import MemoryDesk
    from support.served import Served

PAGES: Final = ("/", f"/devices/{STOPPED}", "/devices/panel-0004", "/releases", "/log", "/nothing")

CONTRASTS: Final = """() => {
  // WCAG 2.2, 1.4.3: relative luminance, and the ratio of two.
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  };
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
      if (colour[3] !== 0) throw new Error("half transparent");
    }
    throw new Error("no ground");
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const speaks = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (speaks && element.checkVisibility() && element.getBoundingClientRect().width > 1) {
      found.push([ratio(parse(getComputedStyle(element).color), ground(element)), 4.5, element.textContent.trim()]);
    }
  }
  // 1.4.11: what a bar shows by its colour against its track.
  const colour = (name) => {
    const probe = document.body.appendChild(document.createElement("p"));
    probe.style.color = `var(--${name})`;
    const value = parse(getComputedStyle(probe).color);
    probe.remove();
    return value;
  };
  for (const name of ["updating", "up-to-date", "waiting"]) {
    found.push([ratio(colour(name), colour("line")), 3, `a bar that is ${name}`]);
  }
  return found;
}"""


@pytest.fixture
def desk() -> MemoryDesk:
    return PageRack()


def root(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def arrive(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live")).to_have_text("Live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in(gateway_page: Served, visits: Visits, scheme: str) -> None:
    page = visits.open(root(gateway_page), color_scheme=scheme)
    grounds = set()
    for path in PAGES:
        arrive(page, root(gateway_page) + path)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 10
        assert [each for each in contrasts if each[0] < each[1]] == []
        grounds.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert grounds == {"rgb(246, 247, 247)" if scheme == "light" else "rgb(20, 24, 26)"}
    forget_the_missing_page(visits)


@pytest.mark.parametrize("width", [320, PHONE["width"], 768, 1024, DESK["width"]])
def test_nothing_is_cut_off_nor_wider_than_the_window(
    gateway_page: Served, visits: Visits, width: int
) -> None:
    page = visits.open(root(gateway_page), viewport={"width": width, "height": 740})
    for path in PAGES:
        arrive(page, root(gateway_page) + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        clipped = page.evaluate(
            """width => [...document.querySelectorAll("main *:not(.unseen):not(.unseen *)")]
              .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > width + 1)
              .map((each) => each.outerHTML)""",
            width,
        )
        assert clipped == []
    forget_the_missing_page(visits)


def test_a_phone_shows_each_device_as_a_card_and_a_screen_reader_still_has_a_table(
    gateway_page: Served, visits: Visits
) -> None:
    page = visits.open(root(gateway_page), viewport=PHONE)
    row = page.locator(f"#row-{STOPPED}")
    name, state = row.get_by_role("rowheader"), row.locator(".state")
    boxes = name.bounding_box(), state.bounding_box()
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"] - 1
    expect(page.get_by_role("table", name="Devices, those first that need somebody")).to_be_visible()
    expect(row).to_match_aria_snapshot(
        """
        - row:
          - rowheader:
            - link "panel north 3"
            - text: panel-0003
          - cell "front-panel"
          - cell /pci-0000/
          - cell /no complete image/
          - cell /2.4.0/
          - cell /stopped/
        """
    )


def test_a_phone_leaves_out_only_what_the_heading_of_the_group_says(
    gateway_page: Served, visits: Visits
) -> None:
    page = visits.open(root(gateway_page), viewport=PHONE)
    expect(page.locator("#row-panel-0001")).to_be_visible()
    expect(page.locator("#row-panel-0001 .state")).to_be_hidden()
    expect(page.locator("#row-panel-0008 .state")).to_be_visible()
    expect(page.locator("#row-panel-0008 .state")).to_contain_text("held by meera: on loan to the fair")


def test_a_screen_reader_finds_its_way(gateway_page: Served, visits: Visits) -> None:
    page = visits.open(root(gateway_page))
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("body")).to_match_aria_snapshot(
        """
        - link "Skip to the content"
        - banner:
          - navigation "Pages":
            - list:
              - listitem:
                - link "Devices"
        - main:
          - heading "Devices" [level=1]
          - region "For you to look at":
            - heading "For you to look at" [level=2]
          - navigation "By state"
          - status: 3 needs you, 3 updating, 2 waiting, 15 up to date, 1 away.
          - navigation "By class"
          - table "Devices, those first that need somebody":
            - rowgroup:
              - row "Device Class Where Runs Should run State":
                - columnheader "Device"
        - contentinfo
        """
    )
    expect(page.get_by_role("progressbar", name="Update of panel north 4")).to_be_visible()
    expect(page.get_by_role("link", name="Devices", exact=True)).to_have_attribute("aria-current", "page")
    for path in PAGES[1:-1]:
        arrive(page, root(gateway_page) + path)
        levels = page.get_by_role("heading").evaluate_all("all => all.map((each) => Number(each.tagName[1]))")
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        # Every part has a name, and nothing that speaks by itself does so at each step of a bar.
        assert page.locator("main [aria-live], main [role=status]").count() == 0
        for each in page.locator("section").all():
            assert each.get_attribute("aria-labelledby")
    arrive(page, f"{root(gateway_page)}/devices/{STOPPED}")
    expect(page.get_by_role("meter", name="Today")).to_be_visible()


def test_a_keyboard_is_enough(gateway_page: Served, visits: Visits) -> None:
    page = visits.open(root(gateway_page))
    expect(page.locator("#live")).to_have_text("Live")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.evaluate("each => getComputedStyle(each).outlineWidth") == "3px"
        reached.append(focused.inner_text().split("\n")[-1])
        if reached[-1] == "panel north 3":
            break
    assert reached[0] == "5 releases accepted, 2 refused"
    assert "Needs you" in reached
    assert reached[-1] == "panel north 3"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("panel north 3")
    expect(page).to_have_url(f"{root(gateway_page)}/devices/{STOPPED}")


def test_without_a_script_everything_is_there_but_not_live(gateway_page: Served, visits: Visits) -> None:
    page = visits.open(root(gateway_page), java_script_enabled=False)
    expect(page.locator("#live")).to_contain_text("reload for news")
    page.get_by_role("navigation", name="By state").get_by_role("link", name="Updating").click()
    expect(page.get_by_role("progressbar")).to_have_count(3)
    expect(page.get_by_role("row").filter(has=page.get_by_role("link"))).to_have_count(3)
    page.get_by_role("navigation", name="By class").get_by_role("link", name="io-module").click()
    expect(page.get_by_role("progressbar")).to_have_count(1)
    page.get_by_role("link", name="module-0002").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("module-0002")
    page.get_by_role("link", name="Log", exact=True).click()
    page.get_by_role("link", name="Errors", exact=True).click()
    expect(page.get_by_role("row")).to_have_count(2)
    assert "/v1/events" not in visits.requests


def test_who_wants_no_motion_gets_none(gateway_page: Served, visits: Visits) -> None:
    moving = "bar => getComputedStyle(bar).animationName"
    for wish, name in (("no-preference", "under-way"), ("reduce", "none")):
        page = visits.open(root(gateway_page), reduced_motion=wish)
        assert page.locator("#row-module-0002 progress").evaluate(moving) == name


def forget_the_missing_page(visits: Visits) -> None:
    """The browser reports each page that is an error, which one of these is."""
    visits.close()  # or it may still be about to
    visits.faults[:] = [fault for fault in visits.faults if "status of 404" not in fault]

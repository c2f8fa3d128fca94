"""Windows: what a person may write, and when they open and close, also on the days on which clocks are moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmwarden.model import Wait, WaitKind
from firmwarden.service.windows import DAYS, Timetable, Window, is_open, next_change

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = Window.parse("Mon-Fri 22:00-04:00")
WEEKENDS = Window.parse("Sat,Sun 00:00-24:00")
SUNDAY = 6
WEEK_MIN = 7 * 24 * 60


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def changes(*windows: str, zone: tzinfo = BERLIN, begin: str, end: str) -> list[tuple[str, bool]]:
    """Every change from one instant in UTC to another, and whether it opens."""
    parsed = [Window.parse(text) for text in windows]
    at, found = utc(begin), []
    while (change := next_change(parsed, zone, at)) is not None and change <= utc(end):
        at = change
        found.append(
            (
                datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M"),
                is_open(parsed, zone, at),
            )
        )
    return found


# --- what a person writes -----------------------------------------------------------------------------------


def test_days_are_named_listed_and_spanned() -> None:
    assert Window.parse("Wed 08:00-16:30") == Window(days=frozenset({2}), begin_min=480, end_min=990)
    assert Window.parse("Sat,Sun 00:00-24:00").days == {5, 6}
    assert Window.parse("Mon-Wed,Sat 00:00-01:00").days == {0, 1, 2, 5}
    assert Window.parse("Sat-Mon 00:00-01:00").days == {5, 6, 0}, "a span may go round the end of the week"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        ("22:00-04:00", ""),
        ("Mon 22:00", ""),
        ("Mon 22:00 - 04:00", ""),
        ("Mon 8:00-9:00", ""),
        ("Mon 22:00-04:00 CET", ""),
        ("Mo 22:00-04:00", "a day is one of Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        ("mon 22:00-04:00", "a day is one of"),
        ("Mon- 22:00-04:00", "a day is one of"),
        ("Mon-Tue-Wed 22:00-04:00", "a day is one of"),
        ("Mon,,Tue 22:00-04:00", "a day is one of"),
        ("Mon 22:60-04:00", "there is no 22:60"),
        ("Mon 22:00-24:01", "there is no 24:01"),
        ("Mon 24:00-04:00", "a day begins at 00:00"),
        ("Mon 04:00-04:00", "the whole day is 00:00-24:00"),
        ("Mon \u0662\u0662:00-04:00", ""),
    ],
)
def test_inv8_what_is_no_window_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason or r"^$"):
        Window.parse(text)


@given(st.text())
def test_inv8_noise_raises_only_one_error(text: str) -> None:
    try:
        Window.parse(text)
    except ValueError:
        return


# --- when they are open ---------------------------------------------------------------------------------------


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    # 2026-11-20 is a Friday.
    assert changes("Fri 22:00-04:00", begin="2026-11-18 00:00", end="2026-11-25 00:00") == [
        ("2026-11-20 21:00", True),
        ("2026-11-21 03:00", False),
    ]


def test_windows_that_follow_each_other_are_one() -> None:
    assert changes(
        "Mon-Fri 22:00-04:00", "Sat,Sun 00:00-24:00", begin="2026-11-19 12:00", end="2026-11-24 12:00"
    ) == [
        ("2026-11-19 21:00", True),
        ("2026-11-20 03:00", False),
        ("2026-11-20 21:00", True),
        ("2026-11-22 23:00", False),
        ("2026-11-23 21:00", True),
        ("2026-11-24 03:00", False),
    ]


def test_what_is_always_open_never_changes() -> None:
    always = [Window.parse("Mon-Sun 00:00-24:00")]
    for at in (utc("2026-03-29 00:30"), utc("2026-10-25 00:30"), 0.0):
        assert is_open(always, BERLIN, at)
        assert next_change(always, BERLIN, at) is None


# Clocks in Berlin: on 2026-03-29 from 02:00 to 03:00, at 01:00 UTC; on 2026-10-25 from 03:00 to 02:00, at 01:00 UTC.


@pytest.mark.parametrize(
    ("window", "opens", "closes"),
    [
        ("Sun 02:30-05:00", "01:00", "03:00"),  # begins in the hour that is skipped: begins behind it
        ("Sun 02:00-05:00", "01:00", "03:00"),
        ("Sun 01:00-02:30", "00:00", "01:00"),  # ends in it
        ("Sun 01:00-03:00", "00:00", "01:00"),  # an hour shorter
        ("Sun 03:00-05:00", "01:00", "03:00"),
    ],
)
def test_in_spring_an_hour_is_skipped(window: str, opens: str, closes: str) -> None:
    assert changes(window, begin="2026-03-28 22:00", end="2026-03-29 12:00") == [
        (f"2026-03-29 {opens}", True),
        (f"2026-03-29 {closes}", False),
    ]


def test_a_window_within_the_skipped_hour_is_left_out_that_day() -> None:
    assert changes("Sun 02:15-02:45", begin="2026-03-22 12:00", end="2026-04-06 00:00") == [
        ("2026-04-05 00:15", True),
        ("2026-04-05 00:45", False),
    ]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # Ends in the hour that comes twice: it is over at each 02:30.
        ("Sun 00:00-02:30", [("24 22:00", True), ("25 00:30", False), ("25 01:00", True), ("25 01:30", False)]),
        # Begins in it: it closes with the clock that is moved back before its begin.
        ("Sun 02:30-05:00", [("25 00:30", True), ("25 01:00", False), ("25 01:30", True), ("25 04:00", False)]),
        ("Sun 02:15-02:45", [("25 00:15", True), ("25 00:45", False), ("25 01:15", True), ("25 01:45", False)]),
        # The hour belongs to it twice.
        ("Sun 01:00-04:00", [("24 23:00", True), ("25 03:00", False)]),
        ("Sat 22:00-03:00", [("24 20:00", True), ("25 02:00", False)]),
        ("Sun 00:00-02:00", [("24 22:00", True), ("25 00:00", False)]),
        ("Sun 03:00-04:00", [("25 02:00", True), ("25 03:00", False)]),
    ],
)  # fmt: skip
def test_in_autumn_an_hour_comes_twice(window: str, expected: list[tuple[str, bool]]) -> None:
    told = [(f"2026-10-{when}", opens) for when, opens in expected]
    assert changes(window, begin="2026-10-24 12:00", end="2026-10-25 12:00") == told


def test_the_same_window_opens_elsewhere_at_another_instant() -> None:
    def opens(zone: str) -> str:
        ((when, _),) = changes(
            "Wed 02:00-24:00", zone=ZoneInfo(zone), begin="2026-07-14 03:00", end="2026-07-15 03:00"
        )
        return when

    assert opens("Europe/Berlin") == "2026-07-15 00:00"
    assert opens("Asia/Kathmandu") == "2026-07-14 20:15", "a quarter of an hour is no rounding error"
    # Lord Howe moves its clocks by half an hour, at 02:00.
    assert changes(
        "Sun 02:15-04:00",
        zone=ZoneInfo("Australia/Lord_Howe"),
        begin="2026-10-03 00:00",
        end="2026-10-04 12:00",
    ) == [("2026-10-03 15:30", True), ("2026-10-03 17:00", False)]


def test_a_day_that_a_country_leaves_out_has_no_window() -> None:
    # Samoa went from Thursday 2011-12-29 to Saturday 2011-12-31.
    apia = ZoneInfo("Pacific/Apia")
    assert changes("Fri 00:00-24:00", zone=apia, begin="2011-12-24 12:00", end="2012-01-07 00:00") == [
        ("2012-01-05 10:00", True),
        ("2012-01-06 10:00", False),
    ]


def test_a_wild_clock_makes_no_planning_impossible() -> None:
    for at in (-1e12, -1.0, 0.0, 4e11, 1e15):
        is_open([NIGHTS], BERLIN, at)
        next_change([NIGHTS], BERLIN, at)


# --- against a walk through every minute ------------------------------------------------------------------------

ZONES = [
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "UTC",
]

windows = st.builds(
    lambda days, begin, length: Window(
        days=frozenset(days), begin_min=begin, end_min=(begin + length) % 1440 or 1440
    ),
    st.sets(st.integers(0, len(DAYS) - 1), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
)
minutes = st.integers(int(utc("2008-01-01 00:00")) // 60, int(utc("2036-01-01 00:00")) // 60)


def reads_within(window: Window, zone: tzinfo, minute: int) -> bool:
    """What a person with a clock and the text of a window says, at a minute since 1970."""
    read = datetime.fromtimestamp(minute * 60, zone)
    clock = read.strftime("%H:%M")
    begin, end = (f"{count // 60:02}:{count % 60:02}" for count in (window.begin_min, window.end_min))
    today, yesterday = read.weekday(), (read.weekday() + 6) % 7
    if begin < end:
        return today in window.days and begin <= clock < end
    return (today in window.days and clock >= begin) or (yesterday in window.days and clock < end)


def walk(chosen: list[Window], zone: tzinfo, minute: int) -> float | None:
    """Find the next change by looking at each minute."""
    before = any(reads_within(window, zone, minute) for window in chosen)
    for later in range(minute + 1, minute + 8 * 1440):
        if any(reads_within(window, zone, later) for window in chosen) is not before:
            return later * 60.0
    return None


@given(st.lists(windows, min_size=1, max_size=2), st.sampled_from(ZONES), minutes)
@example([Window.parse("Sun 00:00-02:30")], "Europe/Berlin", int(utc("2026-10-25 00:45")) // 60)
@example([Window.parse("Sun 02:30-05:00")], "Europe/Berlin", int(utc("2026-03-29 00:45")) // 60)
@example([Window.parse("Sun 00:00-00:30")], "America/Havana", int(utc("2026-03-08 04:00")) // 60)
@example([Window.parse("Sun 00:15-04:00")], "America/Havana", int(utc("2026-11-01 04:45")) // 60)
def test_the_next_change_is_what_a_walk_through_the_minutes_finds(
    chosen: list[Window], name: str, minute: int
) -> None:
    zone = ZoneInfo(name)
    found = next_change(chosen, zone, minute * 60.0)
    walked = walk(chosen, zone, minute)
    if walked is not None:
        assert found == walked
    elif found is not None:
        assert found >= (minute + 8 * 1440) * 60.0
    assert is_open(chosen, zone, minute * 60.0) is any(reads_within(each, zone, minute) for each in chosen)


@given(st.lists(windows, min_size=1, max_size=3), st.sampled_from(ZONES), minutes, st.floats(0.0, 59.999))
def test_seconds_within_a_minute_change_nothing(
    chosen: list[Window], name: str, minute: int, seconds: float
) -> None:
    zone = ZoneInfo(name)
    assert is_open(chosen, zone, minute * 60.0 + seconds) is is_open(chosen, zone, minute * 60.0)
    assert next_change(chosen, zone, minute * 60.0 + seconds) == next_change(chosen, zone, minute * 60.0)


# --- what an update waits for ---------------------------------------------------------------------------------


def test_a_class_without_windows_waits_for_none() -> None:
    assert Timetable().wait(utc("2026-11-21 12:00"), BERLIN) is None


def test_an_update_waits_for_the_next_window_which_is_told_by_the_clock_of_the_place() -> None:
    timetable = Timetable((NIGHTS, WEEKENDS), BERLIN)
    assert timetable.wait(utc("2026-11-21 12:00"), UTC) is None, "on a Saturday"
    assert timetable.wait(utc("2026-11-23 12:00"), UTC) == Wait(
        kind=WaitKind.WINDOW,
        detail="no window of its class is open; the next one opens on Mon 2026-11-23 22:00 CET",
        until=utc("2026-11-23 21:00"),
    )


def test_without_a_zone_of_its_own_a_class_goes_by_the_machine_s() -> None:
    timetable, noon = Timetable((Window.parse("Mon-Sun 12:00-13:00"),)), utc("2026-11-23 12:00")
    assert timetable.wait(noon, UTC) is None
    wait = timetable.wait(noon, BERLIN)
    assert wait is not None
    assert wait.until == utc("2026-11-24 11:00")


def test_a_window_that_begins_in_the_skipped_hour_is_told_as_the_clock_reads_then() -> None:
    wait = Timetable((Window.parse("Sun 02:30-05:00"),), BERLIN).wait(utc("2026-03-28 12:00"), UTC)
    assert wait is not None
    assert wait.until == utc("2026-03-29 01:00")
    assert wait.detail.endswith("opens on Sun 2026-03-29 03:00 CEST")


def test_a_window_that_a_clock_always_leaves_out_is_not_waited_for_with_an_end() -> None:
    # A zone whose clock never reads a quarter past two on a Sunday: none has to exist for the search to end.
    class Skips(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(hours=moment is not None and moment.weekday() == SUNDAY and moment.hour >= 2)

        def dst(self, moment: datetime | None) -> timedelta:
            return self.utcoffset(moment)

        def tzname(self, moment: datetime | None) -> str:
            return f"UTC+{self.utcoffset(moment)}"

    wait = Timetable((Window.parse("Sun 02:15-02:45"),), Skips()).wait(utc("2026-11-21 12:00"), UTC)
    assert wait == Wait(kind=WaitKind.WINDOW, detail="no window of its class opens in the next two weeks")

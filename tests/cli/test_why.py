"""``why``: the whole answer, as somebody reads it at three in the morning."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.why import why_lines
from support.memory_desk import (
    EARLIER,
    IMAGE_A,
    IMAGE_B,
    LINK_LOST,
    WRONG_DEVICE,
    MemoryDesk,
    a_device,
    a_job,
    an_attempt,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import LatchView

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.anyio
async def test_the_story_of_a_device_that_refused() -> None:
    desk = MemoryDesk(
        a_device(
            label="north wall",
            latched=True,
            held="alice: being painted",
            job=a_job(state="failed", attempts=2, cause=WRONG_DEVICE),
        )
    )
    desk.latched = [
        {
            "id": 3,
            "scope": "pair",
            "device": "panel-1",
            "image": IMAGE_B,
            "cause": WRONG_DEVICE,
            "set_at": "2026-03-01T11:59:00Z",
            "clear": "firmwarden clear panel-1",
        }
    ]
    quiet = {"commands": 3, "resends": 0, "timeouts": 0, "damaged": 0, "strays": 0}
    desk.tried = [
        an_attempt(
            number=2,
            phase="probing",
            cause=WRONG_DEVICE,
            started_at="2026-03-01T11:58:58Z",
            ended_at="2026-03-01T11:59:00Z",
            stats=quiet,
        ),
        an_attempt(cause=LINK_LOST),
    ]
    assert (
        "\n".join(why_lines(await desk.why("panel-1"), NOON))
        == """\
panel-1 (north wall): stopped: the device says that the file is for another device
  (wrong-device-id)
  A front-panel, here at /dev/serial/by-id/usb-Acme_Panel_1-if00, known as port:1-1.4:0,
  first seen 4 days ago.

It should run
  2.4.0: it is the newest release of its class.

It runs
  2.3.1: the device acknowledged its end.

It is held
  By alice: being painted.

It is stopped
  - this image on this device, since 11:59:00 (60 seconds ago). The device says that the
    file is for another device (wrong-device-id). Abort cause 2 in answer to chunk 0.
    That was at chunk 0, sequence number 3, after 0 bytes of the image. It answered 4a
    05 02. To lift it: `firmwarden clear panel-1`

What was tried, newest first
  - 11:58:58 (62 seconds ago): attempt 2 of job 7, to 2.4.0: failed after 2 seconds,
    before anything was erased
    That stopped it.
  - 11:57:00 (3 minutes ago): attempt 1 of job 7, to 2.4.0: failed after 12 seconds,
    after the erase had begun
    The port or the connection went away in the middle (link-lost). /dev/ttyACM3
    vanished. That was at chunk 128, sequence number 12, after 65,536 bytes of the
    image. Of 130 commands: 3 sent again, 3 unanswered, 1 answered late or twice.
  Job 7 (2.4.0) was tried 2 times. Erases begun: 1 of 10 today, 12 of 1000 in its life.

What happens next
  Nothing, until the latch is cleared.

What you can do
  firmwarden clear panel-1"""
    )


@pytest.mark.anyio
async def test_the_story_of_a_device_that_is_away_and_was_never_tried() -> None:
    desk = MemoryDesk(
        a_device(present=False, port="", last_seen="2026-02-28T12:00:00Z", conflict="seen twice")
    )
    text = "\n".join(why_lines(await desk.why("panel-1"), NOON))
    assert "A front-panel, away, last seen 24 hours ago, known as" in text
    assert "It is not clear which unit this is\n  seen twice." in text
    assert "Nothing yet." in text
    assert "It is stopped" not in text
    assert "What you can do" not in text


@pytest.mark.anyio
async def test_of_several_latches_each_names_its_image() -> None:
    def shown(*images: str) -> str:
        latches: list[LatchView] = [
            {
                "id": number,
                "scope": "pair",
                "device": "panel-1",
                "image": image,
                "cause": WRONG_DEVICE,
                "set_at": EARLIER,
                "clear": "firmwarden clear panel-1",
            }
            for number, image in enumerate(images, 1)
        ]
        why["latches"] = latches
        return "\n".join(why_lines(why, NOON))

    why = await MemoryDesk(a_device()).why("panel-1")
    assert "  - this image on this device, since " in shown(IMAGE_A, IMAGE_A)
    told = shown(IMAGE_A, IMAGE_B)
    assert f"  - this image on this device, {IMAGE_A[:12]}, since " in told
    assert f"  - this image on this device, {IMAGE_B[:12]}, since " in told


@pytest.mark.anyio
async def test_what_it_kept_well_with_before_is_told() -> None:
    device = a_device(running_version="2.4.0", desired_version="2.4.0")
    text = "\n".join(why_lines(await MemoryDesk(device).why("panel-1"), NOON))
    assert "  It kept well with 2.3.1 before.\n" in text


@pytest.mark.anyio
async def test_who_was_stopped_for_a_device_is_told() -> None:
    lent = "gpsd.service is stopped since 2026-03-01T11:59:00Z"
    text = "\n".join(why_lines(await MemoryDesk(a_device(port_lent=lent)).why("panel-1"), NOON))
    assert "Its port is lent\n  gpsd.service is stopped since 11:59:00 (60 seconds ago).\n" in text
    lent = "the program behind `reader leave` is stopped since 2026-03-01T11:59:00Z"
    text = "\n".join(why_lines(await MemoryDesk(a_device(port_lent=lent)).why("panel-1"), NOON))
    assert "  The program behind `reader leave` is stopped since 11:59:00 (60 seconds ago).\n" in text


@pytest.mark.anyio
async def test_an_attempt_under_way_and_one_that_succeeded() -> None:
    desk = MemoryDesk()
    desk.tried = [
        an_attempt(number=2, ended_at=None, outcome="running", cause=None),
        an_attempt(phase="ending", outcome="succeeded", cause=None, evidence="it tells version 2.4.0"),
    ]
    text = "\n".join(why_lines(await desk.why("panel-1"), NOON))
    assert "11:57:00 (3 minutes ago): attempt 2 of job 7, to 2.4.0: under way" in text
    assert "succeeded after 12 seconds\n" in text
    assert "It tells version 2.4.0." in text


@pytest.mark.anyio
async def test_what_was_the_same_again_is_not_told_again() -> None:
    desk = MemoryDesk()
    desk.tried = [
        an_attempt(number=3, stats={"commands": 1, "timeouts": 1}),
        an_attempt(number=2),
        an_attempt(number=1),
    ]
    text = " ".join(" ".join(why_lines(await desk.why("panel-1"), NOON)).split())
    assert text.count("/dev/ttyACM3 vanished.") == 2
    assert text.count("after the erase had begun The same.") == 1
    assert "Of 1 command: 1 unanswered." in text


@pytest.mark.anyio
async def test_what_power_cuts_would_leave_is_told_in_the_order_of_an_update() -> None:
    desk = MemoryDesk()
    assert "power" not in "\n".join(why_lines(await desk.why("panel-1"), NOON))
    desk.power_cuts = [
        {"step": "probe", "does": "read what is there", "if_interrupted": "the old image runs"},
        {
            "step": "write",
            "does": "erase, write",
            "if_interrupted": "the ROM's loader runs, and the update goes on",
        },
    ]
    assert """
What a power cut in an update would leave
  - read what is there: the old image runs
  - erase, write: the ROM's loader runs, and the update goes on
""" in "\n".join([*why_lines(await desk.why("panel-1"), NOON), ""])
    desk.doubted = True
    assert """
What a power cut in an update would leave, if nothing protects the device
  - read""" in "\n".join(why_lines(await desk.why("panel-1"), NOON))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "attempts", "says"),
    [
        ("running", 2, "This is attempt 2."),
        ("queued", 0, "Job 7 (2.4.0) has not been tried yet."),
        ("cancelled", 0, "Job 7 (2.4.0) was cancelled before it was tried."),
        ("queued", 1, "Job 7 (2.4.0) was tried once."),
        ("failed", 5, "Job 7 (2.4.0) was tried 5 times."),
    ],
)
async def test_how_often_it_was_tried(state: str, attempts: int, says: str) -> None:
    desk = MemoryDesk(a_device(job=a_job(state=state, attempts=attempts)))
    assert f"  {says} Erases begun: 1 of 10 today" in "\n".join(why_lines(await desk.why("panel-1"), NOON))


@pytest.mark.anyio
async def test_instants_are_told_by_the_local_clock_and_by_the_distance() -> None:
    desk = MemoryDesk(a_device())
    view = await desk.why("panel-1")
    view |= {
        "runs": "2.3.1 (it said so), since 2026-02-27T12:00:00.000Z.",
        "next": "Job 7 (2.4.0) waits until 2026-03-01T12:04:00.500Z: the last attempt failed in transport.",
    }
    text = " ".join(" ".join(why_lines(view, NOON)).split())
    assert "2.3.1 (it said so), since 2026-02-27 12:00:00 (2 days ago)." in text
    assert "waits until 12:04:00 (in 4 minutes): the last attempt" in text

"""The desk: every question and every wish, what is refused and with which advice, and what is kept of who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import PlannedStep, Step
from firmwarden.errors import NotFound, Refused, StoreError, Unavailable
from firmwarden.model import CauseCode, JobId, JobState, Outcome, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.shelf import RefusedRelease, Shelf
from support.house import NOON, PANEL, content, living, release, virtual_time
from support.scripted import Play, Unit, fails, must_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from typing import Any

    from firmwarden.service.views import ActionView, PlanView
    from support.house import House

pytestmark = pytest.mark.anyio

DEAF = fails(CauseCode.NO_ANSWER, Step.PROBE)
INVALID = fails(CauseCode.INVALID_FILE, offset=0, chunk=0, sequence=2)
HANGS = Play(at=Step.WRITE, hangs=True)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def id_of(house: House, name: str) -> str:
    return (await house.device(name)).id


async def actions(house: House) -> list[ActionView]:
    return (await house.desk.history(None, 100))["actions"]


async def until_attempted(house: House, times: int = 1) -> None:
    await house.until(
        lambda ledger: any(
            job.attempts >= times and job.state is JobState.QUEUED for job in ledger.open_jobs()
        )
    )


def check(view: Mapping[str, object], expected: dict[str, object]) -> None:
    """Compare what is expected of a view."""
    assert {key: view[key] for key in expected} == expected


# --- questions ------------------------------------------------------------------------------------------------


async def test_status_counts_everything() -> None:
    units = {
        "panel-1": Unit(script=[HANGS]),
        "panel-2": Unit(script=[DEAF] * 4),
        "panel-3": Unit(script=[Play(end="answer-lost")]),
        "panel-4": Unit(script=[fails(CauseCode.ERASE_ERROR)]),
        "panel-5": Unit(),
    }
    async with living(units, "2.0.0") as house:
        await house.unplug("panel-5")
        house.shelf = Shelf(
            releases=house.shelf.releases,
            refused=(RefusedRelease(manifest="b.toml", reason="no such class", since=NOON),),
        )
        await anyio.sleep(3.0)
        await house.desk.hold(None, reason="fair", who="ann")
        status = await house.desk.status()
        check(
            status,
            {
                "state": "ready",
                "devices": 5,
                "present": 4,
                "running": 1,
                "waiting": 2,
                "unknown": 1,
                "latches": 1,
                "failed": 0,
                "waiting_for_you": 0,
                "held": "ann: fair",
                "releases": 1,
                "refused_releases": 1,
                "unsigned_classes": [],
                "problems": [],
                "conflicts": [],
                "started_at": "2024-10-04T12:00:00.000Z",
            },
        )
        with anyio.move_on_after(0):
            await house.warden.stop(0.0)
        assert (await house.desk.status())["state"] == "stopping"
        with pytest.raises(Unavailable, match="it is stopping"):
            await house.desk.ready()


async def test_status_before_the_first_scans() -> None:
    async with living({"panel-1": Unit()}, change=lambda house: setattr(house, "plugged", set())) as house:
        house.registry.scanned = False
        assert (await house.desk.status())["state"] == "starting"
        with pytest.raises(Unavailable, match="the first scans are not done yet"):
            await house.desk.ready()
        house.registry.scanned = True
        assert await house.desk.ready() == {"state": "ready"}


async def test_health_is_a_sign_of_life() -> None:
    async with living({"panel-1": Unit()}) as house:
        assert await house.desk.health() == {"state": "alive", "store_s": 0.0}


async def test_what_stops_and_wears_is_listed_for_all_devices() -> None:
    units = {
        "panel-1": Unit(script=[fails(CauseCode.ERASE_ERROR)]),
        "panel-2": Unit(script=[DEAF] * 9),
        "panel-3": Unit(),
    }
    async with living(units, "2.0.0") as house:
        await house.until(lambda ledger: len(ledger.latches()) == 1)
        await anyio.sleep(1.0)
        refused, deaf, well = [await id_of(house, name) for name in sorted(units)]

        (latch,) = await house.desk.latches()
        check(latch, {"scope": "device", "device": refused, "clear": f"firmwarden clear {refused}"})
        (waiting,) = await house.desk.waits()
        check(waiting, {"device": deaf, "device_class": "panel", "version": "2.0.0"})
        check(waiting["wait"], {"kind": "back-off"})
        wear = {each["device"]: each["wear"]["life"] for each in await house.desk.wear()}
        assert wear == {refused: 1, deaf: 0, well: 1}

        whole = await house.desk.attempts(None, 10)
        assert {attempt["device"] for attempt in whole} == {refused, deaf, well}
        (alone,) = await house.desk.attempts(refused, 10)
        check(alone, {"device": refused, "outcome": "failed"})
        with pytest.raises(NotFound):
            await house.desk.attempts("nobody", 10)


async def test_devices_tell_where_they_stand() -> None:
    units = {"panel-1": Unit(script=[fails(CauseCode.CLIENT_ERROR, offset=512)]), "panel-2": Unit()}
    async with living(units, "1.0.0") as house:
        await house.quiet()
        refused, well = await id_of(house, "panel-1"), await id_of(house, "panel-2")
        await house.desk.hold(well, reason="on loan", who="ann")
        await house.desk.pin(well, "1.0.0", who="ann")
        await house.unplug("panel-2")
        views = {view["id"]: view for view in await house.desk.devices()}
        check(
            views[refused],
            {
                "present": True,
                "running_version": None,
                "complete": False,
                "latched": True,
                "desired_reason": "every release of its class is latched for it",
                "wear": {"today": 1, "today_budget": 10, "life": 1, "life_budget": 1_000},
                "held": None,
            },
        )
        job = views[refused]["job"]
        assert job is not None
        assert (job["state"], job["attempts"], job["attempts_budget"]) == ("failed", 1, 5)
        assert job["cause"] is not None
        assert job["cause"]["code"] == "client-error"
        check(
            views[well],
            {
                "present": False,
                "running_version": "1.0.0",
                "running_image": release("1.0.0").image,
                "complete": True,
                "latched": False,
                "held": "ann: on loan",
                "pinned": "1.0.0",
                "desired_version": "1.0.0",
                "identity": "port:tcp-panel-2:4000",
            },
        )


async def test_a_running_job_shows_its_progress() -> None:
    async with living({"panel-1": Unit(script=[HANGS])}, "2.0.0") as house:
        await anyio.sleep(1.0)
        (job,) = await house.desk.jobs(10)
        assert job["state"] == "running"
        assert job["progress"] == {"step": "write", "done": 0, "total": len(content("2.0.0"))}


async def test_releases_tell_what_is_refused_and_what_is_latched() -> None:
    units = {"panel-1": Unit(script=[INVALID] * 9), "panel-2": Unit(script=[INVALID] * 9)}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        house.shelf = Shelf(
            releases=(release("2.0.0"), release("3.0.0")),
            refused=(
                RefusedRelease(manifest="a.toml", reason="waits for a.img", since=NOON, version="9.0.0"),
            ),
        )
        views = await house.desk.releases()
        assert [(view["manifest"], view["state"], view["latched"]) for view in views] == [
            ("a.toml", "refused", False),
            ("panel-2.0.0.toml", "accepted", True),
            ("panel-3.0.0.toml", "accepted", False),
        ]
        assert views[0]["reason"] == "waits for a.img"


async def test_why_names_refused_releases_only_where_they_would_be_news_to_the_device() -> None:
    """After a revocation all that lies there of the old key is refused, and that is no news to whoever runs better."""

    def refused(version: str, sequence: int | None = None) -> RefusedRelease:
        return RefusedRelease(
            manifest=f"p-{version}.toml",
            reason="its key is revoked",
            since=NOON,
            device_class=PANEL,
            version=version,
            sequence=sequence,
        )

    async with living({"panel-1": Unit()}) as house:
        house.shelf = Shelf(
            releases=(release("2.0.0", sequence=7),),
            refused=(
                *(refused("1.0.0", 3), refused("1.5.0"), refused("9.0.0", 6), refused("2.0.0", 7)),
                *(refused("1.9.0", 8), refused("R3")),
            ),
        )
        house.warden.shelve(house.shelf.releases)
        await house.quiet()
        device = await id_of(house, "panel-1")
        told = (await house.desk.why(device))["should_run"]
        assert [word for word in told.split() if word.startswith("p-")] == ["p-1.9.0.toml", "p-R3.toml"]
        assert len([view for view in await house.desk.releases() if view["state"] == "refused"]) == 6
        await house.desk.pin(device, "1.0.0", who="ann")
        assert "p-1.0.0.toml does not count" in (await house.desk.why(device))["should_run"], (
            "a person wants it"
        )


async def test_why_of_a_device_of_which_nothing_is_known_names_every_refused_release() -> None:
    old = RefusedRelease(manifest="a.toml", reason="so", since=NOON, device_class=PANEL, version="0.1.0")
    async with living({"panel-1": Unit()}) as house:
        house.shelf = Shelf(refused=(old,))
        await house.planned()
        why = await house.desk.why(await id_of(house, "panel-1"))
        assert "a.toml does not count" in why["should_run"]


async def test_history_is_of_one_device_or_of_all_newest_first() -> None:
    units = {"panel-1": Unit(script=[DEAF]), "panel-2": Unit()}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        device = await id_of(house, "panel-1")
        await house.desk.pin(device, "2.0.0", who="ann")
        await house.desk.hold(None, reason="fair", who="bob")
        whole, one = await house.desk.history(None, 10), await house.desk.history(device, 10)
        assert len(whole["attempts"]) == 3
        assert [attempt["outcome"] for attempt in one["attempts"]] == ["succeeded", "failed"]
        assert [action["what"] for action in whole["actions"]] == ["hold", "pin"]
        assert [(action["who"], action["detail"]) for action in one["actions"]] == [("ann", "2.0.0")]
        assert len((await house.desk.history(None, 2))["attempts"]) == 2
        with pytest.raises(NotFound):
            await house.desk.history("nobody", 10)


async def test_what_why_advises_really_helps() -> None:
    """Do what the commands say, in their order, and the device runs what it should."""
    units = {"panel-1": Unit(script=[INVALID]), "panel-2": Unit(script=[INVALID]), "panel-3": Unit()}
    async with living(units) as house:
        await house.plug_only("panel-1", "panel-2")
        house.drop("2.0.0")
        await house.quiet_but_absent()
        await house.plug_only(*units)
        await anyio.sleep(60.0)
        assert units["panel-3"].attempts == 0
        third = await house.desk.why(await id_of(house, "panel-3"))
        assert [latch["scope"] for latch in third["latches"]] == ["image"], "it was never given the image"
        assert third["should_run"] == (
            "Nothing new: every release of its class is latched for it. Were it not for a latch, it would be 2.0.0."
        )
        assert third["device"]["latched"]
        clear = f"firmwarden clear {release('2.0.0').image[:12]}"
        assert third["commands"] == [clear]
        with pytest.raises(Refused, match=f"nothing to retry.*`{clear}` first"):
            await house.desk.retry(third["device"]["id"], who="ann")

        first = await house.desk.why(await id_of(house, "panel-1"))
        (attempt,) = first["attempts"]
        assert attempt["cause"] is not None
        assert attempt["cause"]["meaning"].startswith("the device calls the file invalid")
        assert {latch["clear"] for latch in first["latches"]} <= set(first["commands"])
        await do(house, first["commands"])
        await house.quiet()
        assert (await house.desk.why(first["device"]["id"]))["commands"] == [
            f"firmwarden retry {first['device']['id']}"
        ]
        await do(house, [f"firmwarden retry {first['device']['id']}"])
        await house.quiet()
        assert units["panel-1"].runs == units["panel-3"].runs == content("2.0.0")
        assert units["panel-2"].attempts == 1, "a lifted latch is no wish to try again"


async def do(house: House, commands: list[str]) -> None:
    """Carry out commands as a person would type them."""
    desk = house.desk
    for command in commands:
        match command.split():
            case ["firmwarden", "clear", target]:
                await desk.clear(target, who="ann")
            case ["firmwarden", "retry", device]:
                await desk.retry(device, who="ann")
            case other:
                raise AssertionError(other)


async def test_why_says_what_power_cuts_would_leave_and_what_a_class_that_waits_for_a_person_needs() -> None:
    doubt = "its class does not say what it relies on"
    parts = (PlannedStep(step=Step.WRITE, does="write", if_interrupted="it starts what is no image"),)
    policy = ClassPolicy(name=PANEL, doubt=doubt, unprotected=parts)
    async with living({"panel-1": Unit()}, "2.0.0", policies=[policy]) as house:
        await house.planned()
        view = await house.desk.why(await id_of(house, "panel-1"))
        assert view["power_cuts"] == [
            {"step": "write", "does": "write", "if_interrupted": "it starts what is no image"}
        ]
        assert view["doubted"]
        assert doubt in view["next"]
        assert 'failsafe = "none" for the class panel' in view["next"]
        assert view["commands"] == ["systemctl reload firmwarden", "firmwarden cancel 1"]
        assert (await house.desk.plan())[0]["reason"] == doubt
        with pytest.raises(Refused, match=f"{doubt}; declare that, or write failsafe"):
            await house.desk.retry(view["device"]["id"], who="ann")
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        await house.quiet()
        view = await house.desk.why(await id_of(house, "panel-1"))
        assert (view["power_cuts"], view["doubted"]) == ([], False)


async def test_why_does_not_promise_what_a_device_showed_not_to_hold() -> None:
    def parts(leaves: str) -> tuple[PlannedStep, ...]:
        return (PlannedStep(step=Step.WRITE, does="write", if_interrupted=leaves),)

    policy = ClassPolicy(name=PANEL, power_cuts=parts("the loader runs"), unprotected=parts("it is dead"))
    units = {
        "panel-1": Unit(script=[must_wait()]),
        "panel-2": Unit(script=[must_wait(kind=WaitKind.IDENTITY)]),
    }

    async with living(units, policies=[policy]) as house:

        async def told(name: str) -> tuple[bool, list[str]]:
            view = await house.desk.why(await id_of(house, name))
            return view["doubted"], [each["if_interrupted"] for each in view["power_cuts"]]

        assert await told("panel-1") == (False, ["the loader runs"])
        house.drop("2.0.0")
        await anyio.sleep(1.0)
        assert await told("panel-1") == (True, ["it is dead"])
        assert await told("panel-2") == (False, ["the loader runs"])
        # Unplugged it waits to be here, and is what it was.
        await house.unplug("panel-1")
        await house.planned()
        assert await told("panel-1") == (True, ["it is dead"])


async def test_plan_says_what_would_happen_and_why_not() -> None:
    units = {
        "panel-running": Unit(script=[HANGS]),
        "panel-waiting": Unit(script=[DEAF] * 4),
        "panel-refused": Unit(script=[fails(CauseCode.CLIENT_ERROR)]),
        "panel-lost": Unit(script=[DEAF] * 5),
        "panel-well": Unit(),
    }
    async with living(units, "2.0.0") as house:
        await anyio.sleep(40.0)
        await house.desk.hold(None, reason="fair", who="ann")
        house.drop("2.0.0")
        units["panel-absent"] = Unit()
        await anyio.sleep(1.0)
        views = {view["device"]: view for view in await house.desk.plan()}

        async def of(name: str) -> PlanView:
            return views[await id_of(house, name)]

        running, lost, well = await of("panel-running"), await of("panel-lost"), await of("panel-well")
        refused = await of("panel-refused")
        assert (running["decision"], running["version"]) == ("running", "2.0.0")
        assert (refused["decision"], refused["reason"]) == (
            "stopped",
            "every release of its class is latched for it",
        )
        assert lost["decision"] == "stopped"
        assert lost["reason"].endswith("ended failed")
        assert (well["decision"], well["version"]) == ("nothing", None)
        assert well["reason"] == "2.0.0 is the newest release of its class, and the device runs it"
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(1.0)
        views = {view["device"]: view for view in await house.desk.plan()}
        well = await of("panel-well")
        assert (well["decision"], well["version"]) == ("wait", "3.0.0")
        assert well["reason"] == "everything is held by ann: fair"


# --- names ----------------------------------------------------------------------------------------------------


async def test_a_device_is_named_by_id_by_its_beginning_or_by_its_label() -> None:
    units = {f"panel-{number}": Unit() for number in range(40)}
    async with living(units) as house:
        await house.desk.status()
        house.registry.configure(house.rules, {PANEL: "rack {port}"})
        await house.scan()
        ids = [view["id"] for view in await house.desk.devices()]
        device = await id_of(house, "panel-7")
        beginning = next(device[:n] for n in range(1, 7) if sum(i.startswith(device[:n]) for i in ids) == 1)
        for name in (device, beginning, "rack tcp-panel-7:4000"):
            assert (await house.desk.why(name))["device"]["id"] == device
        shared = next(id_[:1] for id_ in ids if sum(other.startswith(id_[:1]) for other in ids) > 1)
        with pytest.raises(Refused, match="may mean any of"):
            await house.desk.why(shared)
        for name in ("", "nobody", "rack"):
            with pytest.raises(NotFound, match="there is no device"):
                await house.desk.why(name)


WISHES: dict[str, Callable[[House, str], Awaitable[str]]] = {
    "retry": lambda house, name: house.desk.retry(name, who="ann"),
    "hold": lambda house, name: house.desk.hold(name, reason="", who="ann"),
    "unhold": lambda house, name: house.desk.unhold(name, who="ann"),
    "pin": lambda house, name: house.desk.pin(name, "2.0.0", who="ann"),
    "adopt": lambda house, name: house.desk.adopt(name, old=None, running="1.0.0", who="ann"),
    "adopt old": lambda house, name: house.desk.adopt("panel", old=name, running=None, who="ann"),
    "forget": lambda house, name: house.desk.forget(name, who="ann"),
    "clear": lambda house, name: house.desk.clear(name, who="ann"),
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
async def test_inv8_a_wish_for_nobody_is_refused_whole(wish: Callable[[House, str], Awaitable[str]]) -> None:
    async with living({"panel-1": Unit()}, "2.0.0") as house:
        await house.quiet()
        with pytest.raises(NotFound):
            await wish(house, "nobody")
        assert await actions(house) == []


# --- retry ----------------------------------------------------------------------------------------------------


async def test_retry_ends_a_back_off() -> None:
    unit = Unit(script=[DEAF] * 4)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await until_attempted(house, 4)
        said = await house.desk.retry(await id_of(house, "panel-1"), who="ann")
        assert said == "job 1 no longer waits for its back-off"
        await house.quiet(1.0)
        assert unit.runs == content("2.0.0")


async def test_retry_of_what_waits_for_something_else_says_so() -> None:
    async with living({"panel-1": Unit()}) as house:
        await anyio.sleep(10.0)
        panel = await id_of(house, "panel-1")
        await house.desk.hold(panel, reason="on loan", who="ann")
        house.drop("2.0.0")
        await anyio.sleep(10.0)
        said = await house.desk.retry(panel, who="ann")
        assert said == f"job 1 is queued already; `firmwarden why {panel}` says what it waits for"


async def test_retry_starts_what_failed_or_was_cancelled() -> None:
    unit = Unit(script=[DEAF] * 6)
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        device = await id_of(house, "panel-1")
        assert (await house.desk.status())["failed"] == 1
        assert await house.desk.retry(device, who="ann") == f"job 2 is queued: 2.0.0 for {device}"
        assert (await house.desk.status())["failed"] == 0
        await until_attempted(house)
        await house.desk.cancel(JobId(2), who="ann")
        await house.desk.retry(device, who="ann")
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert [(action["who"], action["what"], action["target"]) for action in await actions(house)] == [
            ("ann", "retry", device),
            ("ann", "cancel", device),
            ("ann", "retry", device),
        ]


async def test_retry_writes_an_unknown_outcome_anew() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(600.0)
        assert "will be written anew" in await house.desk.retry(await id_of(house, "panel-1"), who="ann")
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED
        attempts = await house.attempts("panel-1")
        assert [attempt.outcome for attempt in attempts] == [Outcome.UNKNOWN, Outcome.SUCCEEDED]


async def test_retry_is_refused_where_it_cannot_help() -> None:
    units = {
        "panel-1": Unit(),
        "panel-2": Unit(script=[fails(CauseCode.ERASE_ERROR)]),
        "panel-3": Unit(script=[HANGS]),
    }
    async with living(units, "2.0.0") as house:
        await anyio.sleep(5.0)
        with pytest.raises(Refused, match=r"nothing to retry: .* the device runs it"):
            await house.desk.retry(await id_of(house, "panel-1"), who="ann")
        broken = await id_of(house, "panel-2")
        with pytest.raises(
            Refused, match=f"the device is latched: erase-error; `firmwarden clear {broken}` first"
        ):
            await house.desk.retry(broken, who="ann")
        with pytest.raises(Refused, match="is being updated right now"):
            await house.desk.retry(await id_of(house, "panel-3"), who="ann")
        house.warden.configure({}, 16, {})
        with pytest.raises(Refused, match="panel is not in the configuration"):
            await house.desk.retry(broken, who="ann")
        assert await actions(house) == [], "what was refused was not done"


# --- clear ----------------------------------------------------------------------------------------------------


async def test_clear_lifts_what_an_image_s_hash_names() -> None:
    units = {"panel-1": Unit(script=[INVALID]), "panel-2": Unit(script=[INVALID]), "panel-3": Unit()}
    async with living(units) as house:
        await house.plug_only("panel-1", "panel-2")
        house.drop("2.0.0")
        await house.quiet_but_absent()
        image = release("2.0.0").image
        with pytest.raises(NotFound):
            await house.desk.clear(image[:5], who="ann")
        said = await house.desk.clear(image[:6].upper(), who="ann")
        both = ", ".join(sorted([await id_of(house, "panel-1"), await id_of(house, "panel-2")]))
        assert (
            said == f"3 latches lifted; `firmwarden retry DEVICE` tries the image again, for each of {both}"
        )
        assert await house.latches() == []
        devices = {await id_of(house, "panel-1"), await id_of(house, "panel-2"), image[:6].upper()}
        assert {action["target"] for action in await actions(house)} == devices
        with pytest.raises(NotFound, match="no latch concerns"):
            await house.desk.clear(image, who="ann")


async def test_clear_of_a_device_leaves_the_latch_on_the_image() -> None:
    units = {"panel-1": Unit(script=[INVALID]), "panel-2": Unit(script=[INVALID])}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        device = await id_of(house, "panel-1")
        assert (await house.desk.clear(device, who="ann")).startswith("1 latch lifted")
        assert sorted(latch.scope for latch in await house.latches()) == ["image", "pair"]
        assert [latch.lifted_by for latch in await lifted(house)] == ["ann"]


async def lifted(house: House) -> list[Any]:
    latches = await house.store.run(lambda ledger: ledger.latches(active_only=False))
    return [latch for latch in latches if latch.lifted_at is not None]


async def test_inv2_a_latch_that_could_not_be_lifted_is_not_told_as_lifted(
    logs: list[MutableMapping[str, Any]],
) -> None:
    full = False

    def before_commit() -> None:
        if full:
            raise StoreError("the disk is full")

    unit = Unit(script=[INVALID])
    async with living({"panel-1": unit}, "2.0.0", before_commit=before_commit) as house:
        await house.quiet()
        full = True
        with pytest.raises(StoreError):
            await house.desk.clear(await id_of(house, "panel-1"), who="ann")
        full = False
        assert len(await house.latches()) == 1
        assert not [entry for entry in logs if entry["event"] in {"latch-lifted", "action-taken"}]


# --- hold, pin ------------------------------------------------------------------------------------------------


async def test_holds_are_told_and_taken_back() -> None:
    async with living({"panel-1": Unit()}) as house:
        device = await id_of(house, "panel-1")
        assert await house.desk.hold(device, reason="on loan", who="ann") == (
            f"{device} is held; what runs now goes on to its end"
        )
        with pytest.raises(Refused, match=f"there is no hold on everything, only on {device}"):
            await house.desk.unhold(None, who="ann")
        await house.desk.hold(None, reason="fair", who="bob")
        assert (await house.desk.devices())[0]["held"] == "bob: fair; ann: on loan"
        assert "everything is still held: `firmwarden unhold all`" in await house.desk.unhold(
            device, who="ann"
        )
        assert await house.desk.unhold(None, who="ann") == "everything is no longer held"
        for name, says in ((device, f"{device} is not held"), (None, "there is no hold on everything$")):
            with pytest.raises(Refused, match=says):
                await house.desk.unhold(name, who="ann")
        assert [(action["what"], action["target"], action["detail"]) for action in await actions(house)] == [
            ("unhold", "all", "that of bob"),
            ("unhold", device, ""),
            ("hold", "all", "fair"),
            ("hold", device, "on loan"),
        ]


async def test_a_pin_overrides_newest() -> None:
    unit = Unit()
    policies = [ClassPolicy(name=PANEL, allow_downgrade=True)]
    async with living({"panel-1": unit}, "1.0.0", "2.0.0", policies=policies) as house:
        await house.quiet()
        device = await id_of(house, "panel-1")
        assert await house.desk.pin(device, "1.0.0", who="ann") == f"{device} is pinned to 1.0.0"
        await house.quiet()
        assert unit.runs == content("1.0.0")
        said = await house.desk.pin(device, "3.0.0", who="ann")
        assert said.endswith("3.0.0 is not in the firmware directory yet")
        await house.quiet()
        (view,) = await house.desk.devices()
        check(view, {"running_version": "1.0.0", "desired_version": None, "pinned": "3.0.0"})
        house.drop("1.0.0", "2.0.0", "3.0.0", "4.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")
        assert "follows the newest" in await house.desk.pin(device, None, who="ann")
        await house.quiet()
        assert unit.runs == content("4.0.0")


async def test_a_pin_supersedes_what_waits_for_another_version() -> None:
    unit = Unit(script=[DEAF])
    async with living({"panel-1": unit}, "1.0.0", "2.0.0") as house:
        await until_attempted(house)
        await house.desk.pin(await id_of(house, "panel-1"), "1.0.0", who="ann")
        await house.quiet(1.0)
        assert unit.runs == content("1.0.0")
        assert [job.state for job in await house.jobs("panel-1")] == [JobState.SUPERSEDED, JobState.SUCCEEDED]


# --- adopt, forget --------------------------------------------------------------------------------------------


async def test_adopt_records_what_a_device_runs() -> None:
    unit = Unit()
    policies = [ClassPolicy(name=PANEL, unknown="hold")]
    async with living({"panel-1": unit}, "1.0.0", "2.0.0", policies=policies) as house:
        await house.quiet()
        assert unit.attempts == 0
        device = await id_of(house, "panel-1")
        said = await house.desk.adopt(device, old=None, running="2.0.0", who="ann")
        assert said == f"{device} is recorded as running 2.0.0"
        await house.quiet()
        known = await house.device("panel-1")
        assert (known.running_image, known.running_evidence) == (release("2.0.0").image, "told by ann")
        assert unit.attempts == 0
        await house.desk.adopt(device, old=None, running="1.5.0", who="ann")
        assert (await house.device("panel-1")).running_image is None
        await house.quiet()
        assert unit.runs == content("2.0.0")
        # As it stands in the list of commands, copied without a thought.
        said = await house.desk.adopt(device, old=None, running="VERSION", who="ann")
        assert said.endswith(
            "VERSION, which cannot be compared with the releases of its class, so it keeps that"
        )


async def test_adopt_does_not_call_a_half_written_device_complete() -> None:
    unit = Unit(script=[HANGS])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(1.0)
        device = await id_of(house, "panel-1")
        with pytest.raises(Refused, match="is being updated by job 1"):
            await house.desk.adopt(device, old=None, running="2.0.0", who="ann")
        with pytest.raises(Refused, match="say which device it was, or what it runs"):
            await house.desk.adopt(device, old=None, running=None, who="ann")
        assert (await house.device("panel-1")).complete is False
        assert await actions(house) == []


async def test_an_adopted_unit_goes_on_under_its_old_id() -> None:
    units = {
        "panel-old": Unit(script=[fails(CauseCode.CLIENT_ERROR, offset=512)]),
        "panel-new": Unit(script=[DEAF] * 4),
    }
    async with living(units) as house:
        await house.plug_only("panel-old")
        house.drop("2.0.0")
        await house.quiet_but_absent()
        await house.plug_only("panel-new")
        await until_attempted(house)
        old, new = await id_of(house, "panel-old"), await id_of(house, "panel-new")
        said = await house.desk.adopt(new, old=old, running=None, who="ann")
        assert said == f"{new} is {old}: its history, wear and latches go on under that id"
        await house.scan()
        await house.quiet()
        (view,) = await house.desk.devices()
        assert (view["id"], view["identity"], view["present"]) == (old, "port:tcp-panel-new:4000", True)
        assert view["latched"]
        assert units["panel-new"].erases == 0, "the latch holds at the new place too"
        assert {attempt["device"] for attempt in (await house.desk.history(None, 99))["attempts"]} == {old}


async def test_inv4_a_unit_that_is_here_is_not_adopted_by_another() -> None:
    """Its latch would go with its id, and it would be enrolled anew without one."""
    units = {"panel-1": Unit(script=[fails(CauseCode.WRITE_ERROR)]), "panel-2": Unit()}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        worn, well = await id_of(house, "panel-1"), await id_of(house, "panel-2")
        with pytest.raises(Refused, match=f"{worn} is here itself, at tcp-panel-1:4000"):
            await house.desk.adopt(well, old=worn, running=None, who="ann")
        await house.scan()
        await house.quiet()
        assert {view["id"]: view["latched"] for view in await house.desk.devices()} == {
            worn: True,
            well: False,
        }
        assert units["panel-1"].erases == 1
        with pytest.raises(Refused, match=f"{well} cannot adopt itself"):
            await house.desk.adopt(well, old=well, running=None, who="ann")


async def test_a_forgotten_unit_that_comes_back_keeps_its_latch_and_wear() -> None:
    unit = Unit(script=[fails(CauseCode.WRITE_ERROR)])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.quiet()
        device = await id_of(house, "panel-1")
        with pytest.raises(Refused, match="is here, at tcp-panel-1:4000: unplug it"):
            await house.desk.forget(device, who="ann")
        await house.unplug("panel-1")
        assert (await house.desk.forget(device, who="ann")).startswith(f"{device} is forgotten")
        assert await house.desk.devices() == []
        await house.plug("panel-1")
        await house.quiet()
        (view,) = await house.desk.devices()
        assert (view["id"], view["latched"], view["wear"]["life"]) == (device, True, 1)
        assert unit.attempts == 1

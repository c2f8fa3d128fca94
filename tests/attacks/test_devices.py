"""Devices that were made to harm: one daemon, all of them at once, and an honest one beside them."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, QUERY, device_class, image
from support.impostors import IMPOSTORS, Stage

if TYPE_CHECKING:
    from support.gateway import Gateway

_QUICK = """\
boot_delay = "100ms"
mdfu = { discovery = "3s" }
retry = { attempts = 1 }"""


def test_inv2_inv6_no_device_harms_who_updates_it_or_is_believed(gateway: Gateway) -> None:
    with ExitStack() as stack:
        classes, of_class = [], {}
        for impostor in IMPOSTORS:
            name = impostor.name.replace(" ", "-")
            stage = stack.enter_context(closing(Stage(impostor)))
            query = [QUERY] if impostor.version else []
            classes.append(device_class(name, f'tcp = ["{stage.address}"]', _QUICK, *query))
            gateway.drop(name, NEW, image(size=4096))
            of_class[name] = impostor
        rack = gateway.rack("panel", "--version", OLD)
        gateway.drop("panel", NEW, image())
        gateway.configure(*classes, device_class("panel", rack.match))
        gateway.start()

        gateway.job("panel-0001", "succeeded")

        class_of = {device["id"]: device["device_class"] for device in gateway.devices()}

        def ended() -> dict[str, str]:
            return {
                class_of[attempt["device"]]: attempt["cause"]["code"]
                for attempt in gateway.client.get("history", limit=1000)["attempts"]
                if attempt["cause"] is not None
            }

        gateway.daemon.until(lambda: ended().keys() >= of_class.keys(), "the end of each", timeout_s=60)
        assert ended() == {name: impostor.cause.value for name, impostor in of_class.items()}
        jobs = {
            class_of[job["device"]]: job["state"] for job in gateway.client.get("jobs", limit=1000)["jobs"]
        }
        assert {name for name, state in jobs.items() if state == "succeeded"} == {"panel"}

        # Each reason can be read, and acts on nobody's terminal.
        for device in gateway.devices():
            shown = gateway.command("why", device["id"])
            assert shown.returncode == 0
            assert "\x1b" not in shown.stdout
        assert "\x1b" not in "\n".join(gateway.daemon.lines)
        assert "\\x1b]0;owned\\x07" in gateway.command("history").stdout

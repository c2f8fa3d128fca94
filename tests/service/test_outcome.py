"""What a hook and the last line of `--json` tell of an outcome."""

from __future__ import annotations

import json

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.outcome import outcome_message
from firmwarden.service.policy import Budgets
from support.house import PANEL, living, release, virtual_time
from support.scripted import Play, Unit, fails

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def last_message(*script: Play) -> dict[str, object]:
    unit = Unit(script=script)
    policies = [ClassPolicy(name=PANEL, budgets=Budgets(attempts=2))]
    async with living({"panel-1": unit}, "2.0.0", policies=policies) as house:
        await house.quiet(600.0)
        messages = [outcome_message(conclusion) for conclusion, _ in house.conclusions]
        device = (await house.device("panel-1")).id
    told = [message for message in messages if message is not None]
    assert json.loads(json.dumps(told[-1])) == told[-1]
    assert (
        told[-1].items()
        >= {
            "event": "update-finished",
            "device": device,
            "device_class": PANEL,
            "job": 1,
            "release": "2.0.0",
            "image": release("2.0.0").image,
        }.items()
    )
    assert len(told) == 1, "a retry is no outcome"
    return told[-1]


async def test_a_success_comes_with_its_evidence() -> None:
    message = await last_message(fails(CauseCode.LINK_LOST))
    assert (message["outcome"], message["attempt"], message["attempts"]) == ("succeeded", 2, 2)
    assert message["evidence"] == "the unit acknowledged its end"
    assert "cause" not in message


async def test_a_verdict_comes_with_cause_and_scope() -> None:
    message = await last_message(fails(CauseCode.WRITE_ERROR, offset=512, chunk=2, sequence=5))
    assert message["outcome"] == "failed"
    assert message["cause"] == {
        "code": "write-error",
        "scope": "device",
        "detail": "scripted write-error",
        "meaning": "the device could not program its flash",
        "raw": "01",
        "offset": 512,
        "chunk": 2,
        "sequence": 5,
    }


async def test_a_used_up_budget_names_the_last_fault() -> None:
    message = await last_message(*[fails(CauseCode.NO_ANSWER, Step.PROBE)] * 2)
    cause = message["cause"]
    assert isinstance(cause, dict)
    assert (cause["code"], cause["scope"]) == ("transport-exhausted", None)
    assert cause["detail"] == "the last attempt: scripted no-answer"


async def test_an_unknown_outcome_is_told_as_that() -> None:
    unit = Unit(script=[Play(end="answer-lost")])
    async with living({"panel-1": unit}, "2.0.0") as house:
        await house.until(lambda ledger: any(job.attempts for job in ledger.open_jobs()))
        while not house.conclusions:  # noqa: ASYNC110  the house tells nobody
            await anyio.sleep(0.1)
        message = outcome_message(house.conclusions[0][0])
    assert message is not None
    assert (message["outcome"], message["evidence"]) == ("unknown", "image valid, loader left")
    assert "end-unanswered" in str(message["cause"])

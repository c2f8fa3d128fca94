"""What power cuts would leave, in few words."""

from __future__ import annotations

import pytest

from firmwarden.drivers.base import Step
from firmwarden.drivers.boot.describe import outlooks
from firmwarden.drivers.boot.outlook import OUTLOOKS, Failsafe, Outlook, Stage


def test_stages_that_leave_the_same_are_told_as_one() -> None:
    assert [(step.step, step.does, step.if_interrupted) for step in outlooks(Failsafe.BFB2)] == [
        (Step.PROBE, "read what is there", Outlook.OLD.value),
        (Step.WRITE, "erase the page with which the device starts", Outlook.MARGINAL.value),
        (
            Step.WRITE,
            "erase the other pages, write all but the first granule, read it back",
            Outlook.ROM.value,
        ),
        (Step.WRITE, "write the first granule", Outlook.MARGINAL.value),
        (Step.VERIFY, "read that back, start the image", Outlook.NEW.value),
    ]


@pytest.mark.parametrize("failsafe", Failsafe)
def test_no_outlook_is_left_out(failsafe: Failsafe) -> None:
    told = outlooks(failsafe)
    assert {step.if_interrupted for step in told} == {each.value for each in OUTLOOKS[failsafe].values()}
    assert sum(len(step.does.split(", ")) for step in told) == len(Stage)

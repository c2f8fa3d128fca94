"""The text in which the faults of DFU devices are written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.requests import Request
from firmwarden.simulate.dfu.faults import SYNTAX, Act, Fault, Kind, parse_fault
from firmwarden.simulate.fault_text import BadFault


@pytest.mark.parametrize(
    "fault",
    [
        Fault(text="power@dnload=40,back=1", kind=Kind.POWER, on=Request.DNLOAD, at=40, back_s=1),
        Fault(text="power@getstatus=0,when=after", kind=Kind.POWER, on=Request.GETSTATUS, after=True),
        Fault(text="unplug@abort=1,times=always", kind=Kind.UNPLUG, on=Request.ABORT, at=1, times=None),
        Fault(text="stall@getstatus=3,times=2", kind=Kind.STALL, on=Request.GETSTATUS, at=3, times=2),
        Fault(text="lost@upload=0", kind=Kind.LOST, on=Request.UPLOAD),
        Fault(text="unanswered@clrstatus=0", kind=Kind.UNANSWERED, on=Request.CLRSTATUS),
        Fault(text="broken@transfer=7", kind=Kind.BROKEN, at=7),
        Fault(text="short@getstate=0", kind=Kind.SHORT, on=Request.GETSTATE),
        Fault(text="lie@getstatus=0,poll=60000", kind=Kind.LIE, on=Request.GETSTATUS, poll_ms=60_000),
        Fault(text="power@program=4000,back=1", kind=Kind.POWER, on=Act.PROGRAM, at=4000, back_s=1),
        Fault(text="power@erase=0", kind=Kind.POWER, on=Act.ERASE),
        Fault(text="stuck@detach=0", kind=Kind.STUCK, on=Request.DETACH),
    ],
    ids=lambda fault: fault.text,
)
def test_what_is_written_is_understood(fault: Fault) -> None:
    assert parse_fault(fault.text) == fault


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no ''"),
        ("cut@dnload=1", "there is no 'cut', there are stall, lost,"),
        ("stuck", "stuck needs @POINT=N with POINT one of detach, dnload,"),
        ("stall@page=3", "expected @POINT=VALUE with POINT one of detach, dnload,"),
        ("stall@dnload", "expected @POINT=VALUE"),
        ("stall@dnload=x", "dnload must be a whole number from 0, got 'x'"),
        ("stall@dnload=-1", "dnload must be a whole number from 0"),
        ("stall@dnload=1,times=0", "times must be a whole number from 1"),
        ("stall@dnload=1,back=1", "stall has no key back"),
        ("power@dnload=1,poll=1", "power has no key poll"),
        ("power@dnload=1,back=-1", "back must be a number from 0"),
        ("power@dnload=1,when=now", "when must be one of before, after"),
        ("stall@erase=0", "stall does not strike in the flash; power does"),
        ("power@erase=0,when=after", "power has no key when"),
        ("lie@getstatus=0,poll=16777216", "poll must be a whole number from 0 to 16777215"),
        ("lie@getstatus=0,poll=1,poll=2", "'poll' is given twice"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(BadFault) as refused:
        parse_fault(text)
    assert complaint in str(refused.value)
    assert repr(text) in str(refused.value)


@given(st.text(alphabet="poweruplgstaic@=,.0123456789", max_size=30))
def test_noise_has_one_kind_of_complaint(text: str) -> None:
    with contextlib.suppress(BadFault):
        parse_fault(text)


def test_the_help_has_everything() -> None:
    for kind in Kind:
        assert f"  {kind.name.lower()} " in SYNTAX
    for request in Request:
        assert request.name.lower() in SYNTAX
    assert "  erase, program\n" in SYNTAX
    for line in SYNTAX.partition("Examples:\n")[2].split():
        parse_fault(line)


@pytest.mark.parametrize(("seen", "struck"), [(0, 0), (3, 0), (4, 1), (5, 2), (9, 2)])
def test_how_often_it_struck_follows_from_what_it_saw(seen: int, struck: int) -> None:
    fault = parse_fault("stall@dnload=3,times=2")
    assert fault.struck(seen) == struck
    assert sum(fault.strikes(number) for number in range(seen)) == struck

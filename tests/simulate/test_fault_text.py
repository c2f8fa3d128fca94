"""The text in which faults are written is read strictly, and what is wrong is said clearly."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.mdfu.packet import Command
from firmwarden.simulate.fault_text import BadFault
from firmwarden.simulate.faults import (
    SYNTAX,
    Abort,
    Cut,
    Direction,
    Fault,
    LineFault,
    Lose,
    Mischief,
    Mute,
    Noise,
    Point,
    Reboot,
    Wedge,
    parse_fault,
)

BOTH = frozenset(Direction)


def line(
    text: str, mischief: Mischief, point: Point, value: float, times: int | None, **more: object
) -> Fault:
    keys = {"directions": BOTH, **more}
    return LineFault(text=text, mischief=mischief, point=point, value=value, times=times, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fault",
    [
        line("drop@p=0.25", Mischief.DROP, Point.CHANCE, 0.25, None),
        line("drop@frame=7,dir=tx,times=6", Mischief.DROP, Point.FRAME, 7, 6, directions={Direction.TX}),
        line("corrupt@frame=0,dir=both", Mischief.CORRUPT, Point.FRAME, 0, 1),
        line("duplicate@frame=1,dir=rx", Mischief.DUPLICATE, Point.FRAME, 1, 1, directions={Direction.RX}),
        line("delay@p=1,s=0.5,times=3", Mischief.DELAY, Point.CHANCE, 1, 3, delay_s=0.5),
        line("line-error@frame=2", Mischief.LINE_ERROR, Point.FRAME, 2, 1, directions={Direction.RX}),
        Noise(text="noise@every=0.5,bytes=3", point=Point.EVERY, value=0.5, times=None, size=3),
        Noise(text="noise@p=0.5", point=Point.CHANCE, value=0.5, times=None, size=16),
        Cut(text="cut@rx=100", point=Point.RX, value=100, times=1, back_s=None, power_lost=False),
        Cut(
            text="cut@tx=1,back=0,power=lost,times=always",
            point=Point.TX,
            value=1,
            times=None,
            back_s=0,
            power_lost=True,
        ),
        Wedge(text="wedge", point=Point.ALWAYS, times=None, back_s=None),
        Wedge(text="wedge@rx=5,back=2", point=Point.RX, value=5, times=1, back_s=2),
        Mute(text="mute", point=Point.ALWAYS, times=None, for_s=None),
        Mute(text="mute@command=4,for=3", point=Point.COMMAND, value=4, times=1, for_s=3),
        Lose(text="lose@chunk=0", point=Point.CHUNK, value=0, times=1),
        Lose(
            text="lose@step=end-transfer,times=2",
            point=Point.STEP,
            value=Command.END_TRANSFER,
            times=2,
        ),
        Reboot(text="reboot@chunk=1", point=Point.CHUNK, value=1, times=1, after=False),
        Reboot(text="reboot@chunk=1,when=after", point=Point.CHUNK, value=1, times=1, after=True),
        Abort(text="abort@chunk=3,cause=erase-error", point=Point.CHUNK, value=3, times=1, cause=4),
        Abort(text="abort@chunk=3,cause=42", point=Point.CHUNK, value=3, times=1, cause=42),
        Abort(text="abort@chunk=3,cause=none", point=Point.CHUNK, value=3, times=1, cause=None),
    ],
    ids=lambda fault: fault.text,
)
def test_what_is_written_is_understood(fault: Fault) -> None:
    assert parse_fault(fault.text) == fault


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no ''"),
        ("explode@chunk=3", "there is no 'explode', there are drop,"),
        ("abort", "abort takes @command= or @chunk= or @step="),
        ("abort@chunk", "expected @POINT=VALUE"),
        ("abort@page=3", "expected @POINT=VALUE"),
        ("abort@p=0.5", "abort takes @command="),
        ("abort@chunk=x", "chunk must be a whole number from 0, got 'x'"),
        ("abort@chunk=-1", "chunk must be a whole number from 0, got '-1'"),
        ("abort@chunk=1.5", "chunk must be a whole number from 0"),
        ("abort@step=erase", "step must be one of get-client-info, start-transfer"),
        ("abort@chunk=1,cause=flood", "cause must be one of none, generic-client-error"),
        ("abort@chunk=1,cause=256", "cause must be one of"),
        ("abort@chunk=1,because=1", "abort has no key because"),
        ("abort@chunk=1,cause", "'cause' is not KEY=VALUE"),
        ("abort@chunk=1,cause=1,cause=2", "'cause' is given twice"),
        ("abort@chunk=1,times=0", "times must be a whole number from 1"),
        ("drop@p=1.5", "p must be a number from 0 to 1"),
        ("drop@p=nan", "p must be a number from 0 to 1"),
        ("drop@frame=1,dir=up", "dir must be one of rx, tx, both"),
        ("drop@frame=1,s=1", "drop has no key s"),
        ("delay@frame=1", "a delay needs s=SECONDS"),
        ("delay@frame=1,s=inf", "s must be a number from 0"),
        ("line-error@frame=1,dir=tx", "line-error has no key dir"),
        ("cut@rx=0", "rx must be a whole number from 1"),
        ("cut@rx=1,power=half", "power must be one of kept, lost"),
        ("noise@every=0", "every must be a number from 0.001"),
        ("noise@p=1,bytes=0", "bytes must be a whole number from 1"),
        ("wedge@tx=1", "wedge takes no point or @rx="),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(BadFault) as refused:
        parse_fault(text)
    assert complaint in str(refused.value)
    assert repr(text) in str(refused.value)


@given(st.text(alphabet="abdortcue@=,.-0123456789xps", max_size=40))
def test_noise_is_refused_with_one_error(text: str) -> None:
    with contextlib.suppress(BadFault):
        assert parse_fault(text).text == text


def test_the_help_names_every_kind_and_its_examples_are_right() -> None:
    kinds = ("drop", "corrupt", "duplicate", "delay", "line-error", "noise", "cut", "wedge", "mute", "lose")
    for kind in (*kinds, "reboot", "abort"):
        assert f"\n  {kind} " in SYNTAX
    examples = SYNTAX.rpartition("Examples:\n")[2].split()
    assert [parse_fault(example).text for example in examples] == examples
    assert len(examples) == 3

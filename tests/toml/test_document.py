"""Faults in a TOML file: all of them, each with its line, its key and what was expected."""

import tracemalloc
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Discriminator, Tag

from firmwarden.model import ClassName
from firmwarden.toml.document import BadToml, Document, read_toml
from firmwarden.toml.keys import Key, Table, keys_of
from firmwarden.toml.values import (
    LONGEST_S,
    Flag,
    NameOfClass,
    PositiveSeconds,
    Seconds,
    Text,
    choice,
    seconds,
    shown,
    whole,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle(Table):
    shape: Literal["circle"] = "circle"
    radius: Annotated[int, whole(1, 9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Table):
    shape: Literal["line"] = "line"
    ends: tuple[Annotated[int, whole(0, 9)], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Table):
    name: NameOfClass
    colour: Annotated[Colour, choice(Colour)] = Colour.RED
    lit: Flag = False
    pause: Seconds = 0.0
    text: Text | None = None
    form: Annotated[
        Annotated[Circle, Tag("<circle>")] | Annotated[Line, Tag("<line>")],
        Discriminator(
            lambda value: f"<{value.get('shape') if isinstance(value, dict) else None}>",
            custom_error_type="shape",
            custom_error_message="expected a circle or a line",
        ),
    ] = field(default_factory=Line)


def check(text: str) -> Sample:
    document = read_toml(text.encode(), "x.toml")
    return document.check(Sample, document.data)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(BadToml) as caught:
        check(text)
    return caught.value.problems


def test_a_good_file_is_a_value() -> None:
    text = (
        'name = "a-1"\ncolour = "blue"\nlit = true\npause = "1.5 s"\nform = { shape = "circle", radius = 2 }'
    )
    assert check(text) == Sample(
        name=ClassName("a-1"), colour=Colour.BLUE, lit=True, pause=1.5, form=Circle(radius=2)
    )
    assert check('name = "a"') == Sample(name=ClassName("a"))


def test_every_fault_is_told_in_the_order_of_the_file() -> None:
    text = """\
# no name
lit = 1
colur = "red"
"two words" = 0

[form]
shape = "line"
ends = [
  1,
  10,
  true,
]
"""
    assert problems(text) == (
        "x.toml:1: name: is missing; expected lower-case words and digits joined by dashes, 64 characters at most",
        "x.toml:2: lit: expected true or false, got 1",
        'x.toml:3: colur: unknown key; did you mean "colour"?',
        'x.toml:4: "two words": unknown key; known here: colour, form, lit, name, pause, text',
        "x.toml:10: form.ends[1]: expected a whole number from 0 to 9, got 10",
        "x.toml:11: form.ends[2]: expected a whole number from 0 to 9, got true",
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("form = 1", "form: expected a circle or a line"),
        ("form = {}", "form: expected a circle or a line"),
        ('form = { shape = "circle" }', "form.radius: is missing; expected a whole number from 1 to 9"),
        (
            'form = { shape = "circle", radius = 1, ends = [] }',
            "form.ends: unknown key; known here: radius, shape",
        ),
        ('form = { shape = "line", ends = 3 }', "form.ends: expected an array, got 3"),
        ("colour = 'green'", 'colour: expected "red" or "blue", got "green"'),
        ("colour = []", 'colour: expected "red" or "blue", got an array'),
        ("text = ''", 'text: expected text that is not empty, got ""'),
        ('text = "a\\u0000"', 'text: expected text that is not empty, got "a\\x00"'),
        ("text = 2020-01-01", "text: expected text that is not empty, got 2020-01-01"),
        ("lit = {}", "lit: expected true or false, got a table"),
    ],
)
def test_what_was_expected(line: str, problem: str) -> None:
    assert problems(f'name = "a"\n{line}') == (f"x.toml:2: {problem}",)


def test_a_long_value_is_cut() -> None:
    [problem] = problems(f'name = "{"x" * 1000}"')
    assert len(problem) < 200
    assert problem.endswith("xxx...")
    assert shown(1 << 20_000) == "a number of 20001 bits"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"a = 1\nb = \xff\n", "x.toml:2: expected UTF-8, got the byte 0xff"),
        (b"a = 1\n\nb = ]\n", "x.toml:3:5: expected TOML: Invalid value"),
        (b"a = 1\na = 2\n", "x.toml:2:6: expected TOML: Cannot overwrite a value"),
        (
            b"a = 1\r\nb = 2 2\r\n",
            "x.toml:2:7: expected TOML: Expected newline or end of document after a statement",
        ),
        (b"a = " + b"9" * 5000, "x.toml:1: expected TOML: "),
        (b"a = " + b"[" * 5000, "x.toml:1: expected TOML: "),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(raw: bytes, problem: str) -> None:
    with pytest.raises(BadToml, match=r"x\.toml") as caught:
        read_toml(raw, "x.toml")
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (".".join("a" * 24_000) + " = 1", 1),
        ("[" + ".".join("a" * 900) + "]\n" + "".join(f"{n}.{'b.' * 400}c = 1\n" for n in range(65)), 1),
        ("[a]\nb = 1\n" + "".join(f"{n}.{'b.' * 900}c = 1\n" for n in range(32)), 3),
    ],
    ids=["one", "below a long one", "many"],
)
def test_inv8_keys_without_end_cost_next_to_nothing(text: str, line: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadToml, match=rf"x\.toml:{line}: expected keys of 16 parts at most"):
            read_toml(text.encode(), "x.toml")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_problem_may_be_about_any_place() -> None:
    document = read_toml(b"\n[a]\n\n[[a.b]]\nc = 1", "x.toml")
    assert document.problem(("a", "b", 0, "c"), "why") == "x.toml:5: a.b[0].c: why"
    assert document.problem(("a", "b", 0, "missing", "deep"), "why") == "x.toml:4: a.b[0].missing.deep: why"
    assert document.problem(("elsewhere",), "why") == "x.toml:1: elsewhere: why"
    assert document.problem((), "why") == "x.toml:1: why"


def test_the_keys_of_a_table_are_known_with_those_of_the_tables_within() -> None:
    keys = dict(keys_of(Sample))
    assert keys["name",].default is MISSING
    assert keys["pause",].default == 0.0
    assert keys["colour",] == Key('"red" or "blue"', Colour.RED)
    assert keys["form",] == Key("a table", Line())
    assert keys["form", "<circle>", "radius"] == Key("a whole number from 1 to 9", MISSING)
    assert keys["form", "<line>", "shape"] == Key('"line"', "line")
    assert keys["form", "<line>", "ends"] == Key("an array, each item a whole number from 0 to 9", ())
    assert len(keys) == 10


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("2 s", 2.0),
        ("15min", 900.0),
        ("24h", 86_400.0),
        ("2d", 172_800.0),
        ("0s", 0.0),
        ("1.25s", 1.25),
        (3, 3.0),
        (0.125, 0.125),
        (LONGEST_S, LONGEST_S),
    ],
)
def test_durations(value: object, length: float) -> None:
    assert seconds(value) == length


@pytest.mark.parametrize(
    "value",
    [
        *("", "2", "s", "-1s", "2 weeks", "1h30min", "2S", "\u0662s", "1e3s", "2s ", "367d", "9" * 12 + "d"),
        *(-1, 1e9, 10**400, float("inf"), float("nan"), True, None, [], {}),
    ],
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"^$|must lie between 0 and 366 d"):
        seconds(value)


def test_some_durations_may_not_be_zero() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Timed(Table):
        timeout: PositiveSeconds = 1.0

    with pytest.raises(BadToml, match=r"timeout: expected a duration .*, got 0: must be more than 0"):
        Document(name="x", data={}, lines={}).check(Timed, {"timeout": 0})


def told(raw: bytes) -> tuple[str, ...]:
    try:
        document = read_toml(raw, "x.toml")
        document.check(Sample, document.data)
    except BadToml as exc:
        return exc.problems
    return ()


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            ["name", "colour", "lit", "pause", "text", "form", "form.shape", "form.ends", "x", '"<line>"']
        ),
        st.sampled_from(
            ["1", "1.5", '"a"', "'red'", "true", "[1, 2]", "{}", '{ shape = "line" }', "0xFF", "2020-01-01"]
        ),
    ),
    unique_by=lambda line: line[0],
)


@given(
    st.one_of(
        st.binary(max_size=200),
        LINES.map(lambda lines: "\n".join(f"{key} = {value}" for key, value in lines).encode()),
    )
)
def test_inv8_whatever_is_in_a_file_its_faults_have_a_place(raw: bytes) -> None:
    assert all(problem.startswith("x.toml:") for problem in told(raw))

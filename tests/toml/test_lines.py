"""The lines of keys: right on made-up files, and complete for whatever TOML there is."""

import time
from collections.abc import Iterator

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.toml.lines import MOST_PARTS, Path, find_lines, find_long_key

SAMPLE = '''\
# a comment with [brackets] and key = "value"
title = "a # b"

[firmwarden]            # 4
parallel = 16
"quoted key" = { a = 1, 'b.c' = [2, { d = 3 }] }
dotted.a.b = """
text with key = 1
""""
after = \'\'\'
[no.header]\'\'\'\'

[[device]]              # 13
name = "one"
steps = [
  "x",     # 16
  "]", # ]
  [1,
   2],     # 18 and 19
]
[device.match]
path = "/dev/[x]"
tcp = ["a:1",
  "b:2"]
[[device.inner]]
[[device.inner]]        # 26
k = 2020-01-01 10:00:00
[[device]]              # 28
name = \'C:\\\'
[device.match]
'''


def test_a_sample_of_everything() -> None:
    lines = find_lines(SAMPLE)

    assert lines["title",] == 2
    assert lines["firmwarden",] == 4
    assert lines["firmwarden", "quoted key", "a"] == 6
    assert lines["firmwarden", "quoted key", "b.c", 1, "d"] == 6
    assert lines["firmwarden", "dotted", "a", "b"] == 7
    assert lines["firmwarden", "after"] == 10
    assert lines["device",] == 13
    assert lines["device", 0] == 13
    assert lines["device", 0, "steps"] == 15
    assert lines["device", 0, "steps", 0] == 16
    assert lines["device", 0, "steps", 1] == 17
    assert lines["device", 0, "steps", 2] == 18
    assert lines["device", 0, "steps", 2, 1] == 19
    assert lines["device", 0, "match"] == 21
    assert lines["device", 0, "match", "tcp", 1] == 24
    assert lines["device", 0, "inner", 0] == 25
    assert lines["device", 0, "inner", 1] == 26
    assert lines["device", 0, "inner", 1, "k"] == 27
    assert lines["device", 1, "name"] == 29
    assert lines["device", 1, "match"] == 30


def test_a_table_that_comes_after_its_child_has_its_own_line() -> None:
    assert find_lines("[a.b]\n\n[a]\nc = 1")["a",] == 3


@pytest.mark.parametrize("text", ["a = 1\n?", "a = 1\nb", "a = 1\n[b", "a = 1\n'b = 2", 'a = 1\nb = "'])
def test_the_walk_ends_where_it_does_not_know_its_way(text: str) -> None:
    assert find_lines(text)["a",] == 1


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    below: Iterator[tuple[str | int, object]]
    match value:
        case dict():
            below = iter(value.items())
        case list():
            below = enumerate(value)
        case _:
            return
    for part, inner in below:
        yield from paths(inner, (*path, part))


def test_every_path_of_the_sample_has_a_line() -> None:
    assert set(find_lines(SAMPLE)) == set(paths(tomli.loads(SAMPLE)))


LONG = ".".join("k" * (MOST_PARTS + 1))
"""A key that no file of ours has."""

BLANK = st.sampled_from(["", " ", "\t"])
COMMENT = st.sampled_from(["", " # note", '# "', "#[x]", "# '''"])
BARE = st.sampled_from(["a", "b", "c-d", "1", "_"])
BASIC = st.text(st.sampled_from("a ]}[{=#,.'\\\"\n"), max_size=5)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def multiline(text: str) -> str:
    return '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'


def literal(text: str) -> str:
    return "'''" + text.replace("'", "") + "''x'''"


KEY = st.one_of(
    BARE, BASIC.map(quoted), BASIC.map(lambda text: "'" + text.replace("'", "").replace("\n", "") + "'")
)
DOTTED = st.builds(
    lambda parts, blank: f"{blank}.{blank}".join(parts), st.lists(KEY, min_size=1, max_size=3), BLANK
)
SCALAR = st.one_of(
    st.sampled_from(["1", "-0x1F", "1e3", "true", "1979-05-27T07:32:00Z", "07:32:00", "inf"]),
    BASIC.map(quoted),
    BASIC.map(multiline),
    BASIC.map(literal),
)


def array(items: list[str], gap: str) -> str:
    return "[" + gap + (f",{gap}").join(items) + gap + "]"


def table(pairs: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"


VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.builds(array, st.lists(inner, max_size=3), st.sampled_from(["", " ", "\n", " # ]\n"])),
        st.lists(st.tuples(DOTTED, inner), max_size=3).map(table),
    ),
    max_leaves=6,
)
LINE = st.one_of(
    st.builds(
        lambda key, blank, value, rest: f"{blank}{key}{blank}={blank}{value}{rest}",
        DOTTED,
        BLANK,
        VALUE,
        COMMENT,
    ),
    st.builds(lambda key, blank, rest: f"{blank}[{blank}{key}{blank}]{rest}", DOTTED, BLANK, COMMENT),
    st.builds(lambda key, blank, rest: f"[[{blank}{key}{blank}]]{rest}", DOTTED, BLANK, COMMENT),
    COMMENT,
)


@given(st.lists(LINE, max_size=8))
def test_the_walk_finds_exactly_the_paths_of_the_parser(lines: list[str]) -> None:
    valid: list[str] = []
    data: dict[str, object] = {}
    for line in lines:  # keep what is TOML together with what came before
        try:
            data = tomli.loads("\n".join([*valid, line]))
        except tomli.TOMLDecodeError:
            continue
        valid.append(line)
    text = "\n".join(valid)

    found = find_lines(text)

    assert set(found) == set(paths(data))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
    assert find_long_key(text) is None
    assert find_long_key(f"{text}\n{LONG} = 1") == text.count("\n") + 2


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG} = 1",
        f"[{LONG}]",
        f"[[ {LONG} ]]",
        f"a = {{ {LONG} = 1 }}",
        f"a = [{{ b = 1, {LONG} = 1 }}]",
        LONG.replace("k", "'k'") + " = 1",
        LONG.replace("k", '"k \\" ."') + " = 1",
        LONG.replace(".", " \t. ") + " = 1",
        f'{LONG} = \' # """',
    ],
)
def test_inv8_a_key_of_more_parts_than_any_of_ours_is_found(text: str) -> None:
    assert find_long_key(f"# one\n'two' = 2\n{text}") == 3


@pytest.mark.parametrize(
    "text",
    [
        LONG.removesuffix(".k") + " = 1",
        f"# {LONG}",
        f"a = '{LONG}'",
        f'"{LONG}".b = "{LONG}"',
        f"a = '''\n{LONG}\n{LONG} ''''' # {LONG}",
        f'a = """\n{LONG} \\""" {LONG}"""',
        f'a = ["""", """", "{LONG}", "", \'\']',
        "a = [" + "'1.2.3.4', " * 99 + "]",
    ],
)
def test_what_is_no_long_key_is_not_taken_for_one(text: str) -> None:
    assert find_long_key(text) is None


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 32_000, '"""' + '\\"""a' * 12_000, "a." + "'" * 65_001, "a" * 65_000, "." * 65_000],
    ids=["string", "multiline string", "quotes", "bare", "dots"],
)
def test_inv8_no_text_is_gone_through_again_and_again(text: str) -> None:
    started = time.process_time()
    assert find_long_key(text) is None
    assert time.process_time() - started < 0.5  # some milliseconds; by the square it would be seconds


def test_inv8_the_walk_ends_where_values_lie_deeper_than_any_of_ours() -> None:
    text = "a = [" + ", ".join(["[" * 300 + "1" + "]" * 300] * 100) + "]"
    tomli.loads(text)
    assert max(map(len, find_lines(text))) < 100

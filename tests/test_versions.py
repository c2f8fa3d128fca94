"""The order of versions."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.versions import VersionTag, compare, is_semantic

# The example of Semantic Versioning 2.0.0, section 11.4.4, with a few neighbours.
ASCENDING = [
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
]


def test_semantic_versions_follow_the_specification() -> None:
    for (low, one), (high, other) in itertools.product(enumerate(ASCENDING), repeat=2):
        expected = (low > high) - (low < high)
        assert compare(VersionTag(one), VersionTag(other)) == expected, (one, other)


def test_build_metadata_has_no_rank() -> None:
    assert compare(VersionTag("1.0.0+a"), VersionTag("1.0.0+b")) == 0


@pytest.mark.parametrize(
    "version", ["1.0", "v1.0.0", "01.0.0", "1.0.0-01", "build-7", "", "1.0.0 ", "9" * 5000 + ".0.0"]
)
def test_other_text_cannot_be_compared_without_a_sequence(version: str) -> None:
    assert not is_semantic(version)
    assert compare(VersionTag(version), VersionTag("1.0.0")) is None
    assert compare(VersionTag("1.0.0"), VersionTag(version)) is None


def test_the_same_text_is_the_same_version() -> None:
    assert compare(VersionTag("build-7"), VersionTag("build-7")) == 0
    assert compare(VersionTag("build-7", 7), VersionTag("build-7")) == 0


def test_a_sequence_decides_where_both_have_one() -> None:
    assert compare(VersionTag("2.0.0", 1), VersionTag("1.0.0", 2)) == -1
    assert compare(VersionTag("build-b", 3), VersionTag("build-a", 3)) == 0
    assert compare(VersionTag("build-b", 4), VersionTag("1.0.0", 3)) == 1


def test_a_sequence_on_one_side_decides_nothing() -> None:
    assert compare(VersionTag("2.0.0", 1), VersionTag("1.0.0")) == 1
    assert compare(VersionTag("build-7", 7), VersionTag("1.0.0")) is None


NUMBERS = st.integers(0, 3)
SEMANTIC = st.builds(
    lambda numbers, rest: ".".join(map(str, numbers)) + rest,
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.sampled_from(["", "-a", "-a.1", "-2", "+b", "-a+b"]),
).map(VersionTag)
SEQUENCED = st.builds(VersionTag, st.text(max_size=3), st.integers(-2, 2))


@given(st.one_of(st.tuples(*[SEMANTIC] * 3), st.tuples(*[SEQUENCED] * 3)))
def test_it_is_a_total_order_where_nothing_is_mixed(tags: tuple[VersionTag, VersionTag, VersionTag]) -> None:
    a, b, c = tags
    ab, ba, bc, ac = compare(a, b), compare(b, a), compare(b, c), compare(a, c)
    assert ab is not None
    assert ba is not None
    assert bc is not None
    assert ac is not None
    assert ab == -ba
    if ab <= 0 and bc <= 0:
        assert ac <= 0

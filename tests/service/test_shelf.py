"""Which releases of a class can stand side by side."""

import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import ClassName, ImageHash, Release
from firmwarden.service.shelf import misfits
from firmwarden.versions import VersionTag, compare


def release(
    manifest: str, version: str, image: str, sequence: int | None = None, device_class: str = "panel"
) -> Release:
    return Release(
        device_class=ClassName(device_class),
        version=version,
        sequence=sequence,
        image=ImageHash(image),
        size=1,
        manifest=manifest,
    )


@pytest.mark.parametrize(
    ("releases", "refused"),
    [
        ([], {}),
        ([release("a", "1.0.0", "x"), release("b", "1.0.1", "y"), release("c", "1.0.2", "x")], {}),
        ([release("a", "1.0.0", "x"), release("b", "1.0.0", "y", device_class="pump")], {}),
        ([release("a", "one", "x", 1), release("b", "two", "y", 2)], {}),
        (
            [release("a", "1.0.0", "x"), release("b", "1.0.0", "y")],
            {
                "a": "has the same version as b (1.0.0), but another image",
                "b": "has the same version as a (1.0.0), but another image",
            },
        ),
        (
            [release("a", "1.0.0+a", "x"), release("b", "1.0.0+b", "y")],
            {
                "a": "has the same rank as b (1.0.0+b), but another image",
                "b": "has the same rank as a (1.0.0+a), but another image",
            },
        ),
        (
            [release("a", "one", "x", 1), release("b", "two", "y", 1)],
            {
                "a": "has the same rank as b (two), but another image",
                "b": "has the same rank as a (one), but another image",
            },
        ),
        (
            [release("a", "1.0.0", "x", 1), release("b", "1.0.0", "y", 2)],
            {
                "a": "has the same version as b (1.0.0), but another image",
                "b": "has the same version as a (1.0.0), but another image",
            },
        ),
        (
            [release("a", "1.0.0", "x"), release("b", "1.0.0", "x")],
            {"b": "has the same version as a (1.0.0), and the same image"},
        ),
        (
            [release("a", "1.0.0+a", "x"), release("b", "1.0.0+b", "x")],
            {"b": "has the same rank as a (1.0.0+a), and the same image"},
        ),
        (
            [release("a", "1.0.0", "x"), release("b", "2.0.0", "y", 7), release("c", "build", "z", 8)],
            {"a": "has no sequence, so it cannot be compared with b, which has one"},
        ),
        (
            [release("a", "1.0.0", "x"), release("b", "1.0.0", "x"), release("c", "1.0.0", "y")],
            {
                "a": "has the same version as c (1.0.0), but another image",
                "b": "has the same version as c (1.0.0), but another image",
                "c": "has the same version as a (1.0.0), but another image",
            },
        ),
    ],
)
def test_inv8_misfits(releases: list[Release], refused: dict[str, str]) -> None:
    for order in permutations(releases):
        assert misfits(order) == refused


RELEASES = st.lists(
    st.builds(
        release,
        st.text("abcdef", min_size=1, max_size=3),
        st.sampled_from(["1.0.0", "1.0.0+b", "1.0.1", "2.0.0-a", "2.0.0"]),
        st.sampled_from("xyz"),
        st.one_of(st.none(), st.integers(0, 3)),
        st.sampled_from(["panel", "pump"]),
    ),
    unique_by=lambda each: each.manifest,
    max_size=8,
)


@given(RELEASES)
def test_what_is_left_of_a_class_has_one_strict_order(releases: list[Release]) -> None:
    refused = misfits(releases)
    left = [each for each in releases if each.manifest not in refused]
    for one in left:
        for other in left:
            if one is not other and one.device_class == other.device_class:
                order = compare(
                    VersionTag(one.version, one.sequence), VersionTag(other.version, other.sequence)
                )
                assert order in (-1, 1)
                assert one.version != other.version


@given(RELEASES)
def test_classes_do_not_concern_each_other(releases: list[Release]) -> None:
    apart = {
        manifest: reason
        for name in ("panel", "pump")
        for manifest, reason in misfits(each for each in releases if each.device_class == name).items()
    }
    assert misfits(releases) == apart


def test_inv8_one_release_by_thousands_of_names_is_soon_told_apart() -> None:
    releases = [release(f"{number:04}", "1.0.0", "x") for number in range(8192)]
    started = time.process_time()
    assert len(misfits(releases)) == 8191
    assert time.process_time() - started < 1.0  # some 50 ms; each held against each would be seconds

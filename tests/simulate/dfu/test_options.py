from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.simulate.dfu.options import G4_DUAL, L47X, OptionLayout, level, pack
from firmwarden.simulate.dfu.parts import PARTS

LAYOUTS = {id(part.options): part.options for part in PARTS.values()}.values()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_what_is_stored_is_loaded(layout: OptionLayout, data: st.DataObject) -> None:
    settings = {
        name: data.draw(st.integers(0, place.mask), label=name) for name, place in layout.fields.items()
    }
    assert layout.load(layout.factory(settings)) == settings


def test_where_st_has_its_fields() -> None:
    """RM0351, 3.7.8 and 3.7.12: FLASH_OPTR and FLASH_WRP1AR."""
    stored = L47X.factory({"BFB2": 1, "WRP1A_STRT": 0x12, "WRP1A_END": 0x34})
    words = [int.from_bytes(stored[at : at + 4], "little") for at in range(0, 40, 8)]
    assert words[0] & 0x0010_00FF == 0x0010_00AA
    assert words[3] & 0x00FF_00FF == 0x0034_0012
    assert int.from_bytes(G4_DUAL.factory({"nBOOT0": 0, "DBANK": 0})[:4], "little") & 0x0840_0000 == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_words_whose_complement_does_not_fit(layout: OptionLayout) -> None:
    loaded = layout.load(b"\xff" * 8 * layout.words)
    assert level(loaded["RDP"]) == 1
    for area in layout.protected:
        covers_everything = loaded[area.first] == 0 and loaded[area.last] == 0xFFFF
        assert covers_everything if area.first.startswith("PCROP") else loaded[area.first] > loaded[area.last]
    user_options = {name for name, place in layout.fields.items() if place.word == 0 and name != "RDP"}
    assert all(loaded[name] == 1 for name in user_options)


@pytest.mark.parametrize("settings", [{"NO_SUCH": 1}, {"BFB2": 2}, {"RDP": -1}])
def test_settings_that_cannot_be(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"NO_SUCH|does not fit"):
        L47X.factory(settings)


def test_levels() -> None:
    assert [level(value) for value in (0xAA, 0x00, 0xFF, 0xCC)] == [0, 1, 1, 2]
    assert pack([0x1234_5678]).hex() == "78563412" + "87a9cbed"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("stm32l476", "@Option Bytes  /0x1FFF7800/01*040 e"),
        ("stm32l4s5", "@Option Bytes  /0x1FF00000/01*040 e/0x1FF01000/01*040 e"),
        ("stm32g474", "@Option Bytes  /0x1FFF7800/01*048 e/0x1FFFF800/01*048 e"),
        ("stm32g431", "@Option Bytes  /0x1FFF7800/01*040 e"),
    ],
)
def test_loaders_show_what_real_ones_do(part: str, text: str) -> None:
    """As dfu-util lists them; blanks behind the name differ."""
    assert PARTS[part].maps[1] == text


def test_the_words_of_each_bank_are_where_they_are_shown() -> None:
    layout = PARTS["stm32g474"].options
    assert [layout.place(address, 8) for address in (0x1FFF_7800, 0x1FFF_7828, 0x1FFF_F800, 0x1FFF_F828)] == [
        0,
        40,
        48,
        88,
    ]
    assert layout.place(0x1FFF_7828, 16) is None
    stored = layout.factory({"WRP2A_STRT": 3, "BOOT_LOCK": 1})
    assert stored[48 + 24] == 3
    assert stored[42] & 1 == 1
    assert layout.factory({})[42] & 1 == 0

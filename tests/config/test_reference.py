"""The sample file and the reference page say what the code does."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, replace
from enum import Enum
from pathlib import Path

from firmwarden.config import Config, DeviceClass, DriverName, EnterDetach, Settings, UsbId, load
from firmwarden.config.load import MainFile
from firmwarden.toml.keys import Key, Table, keys_of

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "config" / "firmwarden.toml"
REFERENCE = ROOT / "docs" / "reference" / "configuration.md"
EXAMPLE = ROOT / "config" / "devices.d" / "README"

WITHOUT_DEFAULT = {
    DriverName.MDFU: {
        "label", "parallel", "hardware", "windows", "time_zone", "inhibit", "condition", "rollout",
        "version_query", "health", "hand_over", "on_outcome",
    },
    DriverName.DFU: {"part", "failsafe", "image_address"},
}  # fmt: skip
"""Keys of a class that the sample shows by an example."""

SETTINGS_WITHOUT_DEFAULT = {"read_group", "act_group", "listen", "token_file"}
"""Those of the service."""


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[^ #\n])", "", SAMPLE.read_text())


def test_the_sample_as_shipped_is_the_default() -> None:
    assert load(SAMPLE) == Config()


def test_every_setting_in_the_sample_is_at_its_default(tmp_path: Path) -> None:
    file = tmp_path / "firmwarden.toml"
    file.write_text(uncommented())

    config = load(file)

    examples = {name: getattr(config.settings, name) for name in SETTINGS_WITHOUT_DEFAULT}
    assert None not in examples.values()
    assert config.settings == replace(Settings(), **examples)
    assert [device.driver for device in config.devices] == list(DriverName)
    for device in config.devices:
        examples = {name: getattr(device, name) for name in WITHOUT_DEFAULT[device.driver]}
        assert all(value is not None and value != () for value in examples.values())
        least = DeviceClass(name=device.name, driver=device.driver, match=device.match)
        if device.driver is DriverName.DFU:
            least = replace(least, enter=EnterDetach())
        assert device == replace(least, **examples)


def test_every_key_is_in_the_sample() -> None:
    text = uncommented()
    for path, _ in keys_of(MainFile):
        assert re.search(rf"\b{path[-1]}\b", text), path


def test_every_key_has_its_own_line_in_the_sample() -> None:
    lines = re.findall(r"(?m)^(?:\[+(\w+)\]+|(\w+) =)", uncommented())
    shown: list[list[str]] = []
    for header, key in lines:
        if header:
            shown.append([header])
        else:
            shown[-1].append(key)
    assert [keys[0] for keys in shown] == ["firmwarden", "retry", "wear", "key", "device", "device"]
    *shared, mdfu, dfu = shown
    known: dict[str, list[str]] = {}
    for path, _ in keys_of(MainFile):
        if len(path) == 1:
            known[path[0]] = []
        elif len(path) == 2:
            known[path[0]].append(path[1])
    for name, *keys in shared:
        assert keys == known[name]
    for _, *keys in (mdfu, dfu):  # in the order of the code
        assert keys == [key for key in known["device"] if key in keys]
    assert {*mdfu, *dfu} == {"device", *known["device"]}


def test_the_example_of_a_file_in_devices_d_is_good(tmp_path: Path) -> None:
    (tmp_path / "devices.d").mkdir()
    (tmp_path / "main.toml").write_text("")
    example = re.findall(r"(?m)^    (.*)$", EXAMPLE.read_text())
    (tmp_path / "devices.d" / "front-panel.toml").write_text("\n".join(example))

    assert [device.name for device in load(tmp_path / "main.toml").devices] == ["front-panel"]


# --- the reference page ----------------------------------------------------------------------------------

SECTIONS = {
    "[firmwarden]": ("firmwarden",),
    "[retry]": ("retry",),
    "[wear]": ("wear",),
    "[[key]]": ("key",),
    "[[device]]": ("device",),
    "match": ("device", "match"),
    "enter": ("device", "enter"),
    "condition": ("device", "condition"),
    "rollout": ("device", "rollout"),
    "version_query": ("device", "version_query"),
    "hand_over": ("device", "hand_over"),
    "health": ("device", "health"),
    "health.query": ("device", "health", "query"),
    "mdfu": ("device", "mdfu"),
    "dfu": ("device", "dfu"),
    "dfu.version": ("device", "dfu", "version"),
    "failsafe": (),
}


def rows() -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Read the tables: path, default and what it takes."""
    section: tuple[str, ...] = ()
    for line in REFERENCE.read_text().splitlines():
        if heading := re.fullmatch(r"#+ `(.+)`", line):
            section = SECTIONS[heading[1]]
        elif method := re.match(r'\| `method = "(.+?)"`', line):
            section = (*SECTIONS["enter"], f"<{method[1]}>")
            yield (*section, "method"), "", ""
        elif row := re.match(r"\| `(\w+)` \| (.*?) \| (.*?) \|", line):
            yield (*section, row[1]), row[2], row[3]


def written(value: object) -> str:
    """Write a default as the page does."""
    match value:
        case None | ():
            return "none"
        case tuple():
            return f"`{list(value)}`"
        case bool():
            return f"`{str(value).lower()}`"
        case Enum() | Path() | UsbId():
            return f'`"{value}"`'
        case float():
            for unit, length in (("h", 3600), ("min", 60), ("s", 1)):
                if value and value % length == 0:
                    return f'`"{value / length:g}{unit}"`'
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def taken(key: Key) -> str:
    """Write what a key takes as the page does, as far as that is a rule."""
    if key.expected.startswith("a duration"):
        return "duration"
    if numbers := re.fullmatch(r"a whole number from (.*)", key.expected):
        return numbers[1]
    if key.expected.startswith(('"', "true")) and "wait=" not in key.expected:
        return re.sub(r'"[^"]*"|true|false', r"`\g<0>`", key.expected)
    return ""


def test_every_key_is_on_the_page_and_no_other() -> None:
    told_once = ("retry", "wear")  # a class may have the keys of these tables too
    expected = [
        path
        for path, _ in keys_of(MainFile)
        if len(path) > 1 and not (len(path) > 2 and path[1] in told_once)
    ]
    assert sorted(path for path, *_ in rows()) == sorted(expected)


def test_defaults_and_limits_on_the_page_are_those_of_the_code() -> None:
    keys = dict(keys_of(MainFile))
    for path, default, takes in rows():
        key = keys[path]
        if path[-1] == "method" or isinstance(key.default, Table):
            continue
        assert default == ("required" if key.default is MISSING else written(key.default)), path
        assert not taken(key) or takes == taken(key), path

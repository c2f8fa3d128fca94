"""The keys of a class that say when its units may be updated."""

from pathlib import Path

import pytest

from firmwarden.config import Condition, load
from firmwarden.errors import BadConfig
from firmwarden.service.windows import Window

CLASS = '[[device]]\nname = "panel"\ndriver = "mdfu"\nmatch = { path = "/dev/panel" }\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "firmwarden.toml"
    file.write_text(CLASS + text)
    return file


def test_every_key_is_read(tmp_path: Path) -> None:
    (panel,) = load(
        written(
            tmp_path,
            'windows = ["Mon-Fri 22:00-04:00", "Sat,Sun 00:00-24:00"]\ntime_zone = "Europe/Berlin"\n'
            'inhibit = "/run/kiosk/busy"\ninhibit_for = "30min"\n'
            'condition = { argv = ["/bin/may", "now"], again = "5min" }\n',
        )
    ).devices
    assert panel.windows == (Window.parse("Mon-Fri 22:00-04:00"), Window.parse("Sat,Sun 00:00-24:00"))
    assert panel.time_zone == "Europe/Berlin"
    assert (panel.inhibit, panel.inhibit_for) == (Path("/run/kiosk/busy"), 1800.0)
    assert panel.condition == Condition(argv=("/bin/may", "now"), timeout=10.0, again=300.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('windows = ["Mon 22:00-04:00", "Mo 22:00-04:00"]', ":5: device[0].windows[1]: expected days and hours"),
        ('windows = ["Mon 22:00-22:00"]', "the whole day is 00:00-24:00"),
        ('windows = "Mon 22:00-04:00"', ":5: device[0].windows: expected an array"),
        (
            'windows = ["Mon 22:00-04:00"]\ntime_zone = "Europe/Atlantis"',
            ":6: device[0].time_zone: expected the name of a time zone that this machine knows, such as",
        ),
        ('time_zone = "Europe/Berlin"', ":5: device[0].time_zone: expected only with windows"),
        ('inhibit = "busy"', ":5: device[0].inhibit: expected an absolute path"),
        ('inhibit_for = "1h"', ":5: device[0].inhibit_for: expected only with inhibit"),
        ("condition = { argv = [] }", ":5: device[0].condition.argv: expected a program and its arguments"),
        ('condition = { argv = ["a"], timeout = 0 }', "device[0].condition.timeout: expected a duration"),
        ('condition = { argv = ["a"], every = 1 }', "device[0].condition.every: unknown key"),
    ],
)  # fmt: skip
def test_inv8_what_cannot_be_meant_is_refused_with_line_and_key(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(BadConfig) as refused:
        load(written(tmp_path, text))
    assert problem in str(refused.value)
    assert len(refused.value.problems) == 1

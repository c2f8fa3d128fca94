"""Classes with ``driver = "dfu"``: what they may say, and what contradicts the driver or the silicon."""

import re
from pathlib import Path

import pytest

from firmwarden.config import (
    DeviceClass,
    DfuTuning,
    DfuVersion,
    DriverName,
    EnterCommand,
    EnterDetach,
    EnterNone,
    Failsafe,
    Match,
    UsbId,
    VersionSource,
    load,
)
from firmwarden.errors import BadConfig
from firmwarden.images.formats import ImageFormat
from firmwarden.model import ClassName

METER = """[[device]]
name = "meter"
driver = "dfu"
image_address = 0x08000000
match = { usb = "1209:0001" }
"""
NO_ADDRESS = METER.replace("image_address = 0x08000000", "")
PANEL = """
[[device]]
name = "panel"
driver = "mdfu"
match = { usb = "04d8:000a" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "firmwarden.toml"


def device(file: Path, lines: str = "", *, start: str = METER) -> DeviceClass:
    file.write_text(f"{start}{lines}\n")
    [only] = load(file).devices
    return only


def refusals(file: Path, lines: str = "", *, start: str = METER) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        device(file, lines, start=start)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def test_the_least_that_a_class_says(file: Path) -> None:
    """It is asked to detach; what it relies on nobody said, which is no fault but makes updates wait."""
    assert device(file) == DeviceClass(
        name=ClassName("meter"),
        driver=DriverName.DFU,
        image_address=0x0800_0000,
        match=Match(usb=UsbId(vendor_id=0x1209, product_id=1)),
        enter=EnterDetach(),
    )


def test_everything_that_can_be_said(file: Path) -> None:
    said = device(
        file,
        """
part = "stm32l476rg"
failsafe = "resident-loader"
image_format = "raw"
image_address = 0x08004000
enter = { method = "command", argv = ["boot"] }
[device.dfu]
loader = "1209:DF11"
alternate = 0
application = 0x08004000
enter_within = "3s"
return_within = 20
version = { from = "product", expect = 'Meter (\\d+)' }
""",
        start=NO_ADDRESS.replace("}", ', serial = "M*", port = "usb-*-1.[0-9]" }'),
    )
    assert said.match == Match(usb=UsbId(vendor_id=0x1209, product_id=1), serial="M*", port="usb-*-1.[0-9]")
    assert (said.part, said.failsafe) == ("stm32l476rg", Failsafe.RESIDENT_LOADER)
    assert said.image_address == 0x0800_4000
    assert said.enter == EnterCommand(argv=("boot",), timeout=30.0)
    assert said.dfu == DfuTuning(
        loader=UsbId(vendor_id=0x1209, product_id=0xDF11),
        alternate=0,
        application=0x0800_4000,
        enter_within=3.0,
        return_within=20.0,
        version=DfuVersion(from_=VersionSource.PRODUCT, expect=re.compile(r"Meter (\d+)")),
    )


def test_it_may_come_up_in_its_loader_by_itself(file: Path) -> None:
    assert device(file, 'enter = { method = "none" }').enter == EnterNone()


@pytest.mark.parametrize("image_format", ["raw", "intel-hex", "dfu", "dfuse"])
def test_what_its_images_may_be(file: Path, image_format: str) -> None:
    start = METER if image_format == "raw" else NO_ADDRESS
    assert device(file, f'image_format = "{image_format}"', start=start).image_format == ImageFormat(
        image_format
    )


@pytest.mark.parametrize(
    "line",
    [
        "baud = 115200",
        'settle = "1s"',
        'boot_delay = "2s"',
        'version_query = { send = "v", expect = "(v)" }',
        "mdfu = {}",
        "[device.mdfu]\nretries = 5",
    ],
)
def test_inv8_keys_of_mdfu_are_refused_also_at_their_default(file: Path, line: str) -> None:
    [key] = re.findall(r"^(?:\[device\.)?(\w+)", line)
    assert refusals(file, line) == [
        f'6: device[0].{key}: belongs to driver = "mdfu", and this class has driver = "dfu"'
    ]


@pytest.mark.parametrize(
    "line",
    [
        'part = "STM32L476RG"',
        'failsafe = "none"',
        "image_address = 0",
        "dfu = {}",
    ],
)
def test_inv8_keys_of_dfu_are_refused_for_mdfu(file: Path, line: str) -> None:
    key = line.partition(" =")[0]
    assert refusals(file, line, start=PANEL) == [
        f'6: device[0].{key}: belongs to driver = "dfu", and this class has driver = "mdfu"'
    ]


@pytest.mark.parametrize(
    ("match", "key", "owner"),
    [
        ('{ usb = "1209:0001", path = "/dev/x" }', "path", "mdfu"),
        ('{ usb = "1209:0001", interface = 0 }', "interface", "mdfu"),
        ('{ usb = "1209:0001", tcp = ["a:1"] }', "tcp", "mdfu"),
        ('{ usb = "1209:0001", port = "usb-*" }', "port", "dfu"),
    ],
)
def test_inv8_keys_of_a_match_that_belong_to_the_other_driver(
    file: Path, match: str, key: str, owner: str
) -> None:
    start = (METER if owner == "mdfu" else PANEL).replace(METER.splitlines()[-1], f"match = {match}")
    start = start.replace(PANEL.splitlines()[-1], f"match = {match}")
    [problem, *_] = refusals(file, start=start)
    assert problem.startswith(f'5: device[0].match.{key}: belongs to driver = "{owner}"')


def test_inv4_a_class_without_ids_is_refused(file: Path) -> None:
    start = METER.replace('usb = "1209:0001"', 'serial = "M*"')
    assert refusals(file, start=start) == [
        '5: device[0].match.usb: is missing; driver = "dfu" needs the ids that the application shows'
    ]


@pytest.mark.parametrize(
    ("start", "line", "said"),
    [
        (
            NO_ADDRESS,
            'image_format = "mdfu-8bit"',
            'image_format: expected "raw", "intel-hex", "dfu" or "dfuse" with driver = "dfu", got "mdfu-8bit"',
        ),
        (
            PANEL,
            'image_format = "dfuse"',
            'image_format: expected "raw", "mdfu-8bit", "mdfu-32bit" or "intel-hex" with driver = "mdfu", got "dfuse"',
        ),
        (
            METER,
            'enter = { method = "touch-1200" }',
            'enter.method: expected "none", "detach" or "command" with driver = "dfu", got "touch-1200"',
        ),
        (
            PANEL,
            'enter = { method = "detach" }',
            (
                'enter.method: expected "none", "pulse", "touch-1200", "send" or "command" with driver = "mdfu", '
                'got "detach"'
            ),
        ),
        (
            METER,
            "dfu = { application = 0 }",
            'dfu.application: expected only with failsafe = "resident-loader"',
        ),
        (
            METER,
            'dfu = { version = { from = "name", expect = "(.)" } }',
            'dfu.version.from: expected "product", "serial", "revision" or "manufacturer", got "name"',
        ),
        (
            METER,
            'dfu = { version = { from = "product", expect = "." } }',
            (
                "dfu.version.expect: expected a regular expression of Python with one group, which holds the version, "
                'got ".": it has 0 groups'
            ),
        ),
        (
            METER,
            'dfu = { version = { form = "product" } }',
            'dfu.version.form: unknown key; did you mean "from"?',
        ),
        (METER, "dfu = { alternate = 256 }", "dfu.alternate: expected a whole number from 0 to 255, got 256"),
        (METER, 'dfu = { loader = "df11" }', "dfu.loader: expected vendor and product in hexadecimal"),
        (
            NO_ADDRESS,
            "image_address = 0x100000000",
            "image_address: expected a whole number from 0 to 4294967295",
        ),
        (METER, 'failsafe = "bfb3"', 'failsafe: expected "bfb2", "empty-check", "resident-loader"'),
    ],
)
def test_inv8_what_a_class_may_not_say(file: Path, start: str, line: str, said: str) -> None:
    assert any(problem.startswith(f"6: device[0].{said}") for problem in refusals(file, line, start=start)), (
        refusals(file, line, start=start)
    )


@pytest.mark.parametrize("image_format", ["intel-hex", "dfu", "dfuse"])
def test_inv8_only_a_raw_image_is_given_an_address(file: Path, image_format: str) -> None:
    [problem] = refusals(file, f'image_format = "{image_format}"')
    assert problem.startswith('4: device[0].image_address: expected only with image_format = "raw"')


@pytest.mark.parametrize("line", ["", 'image_format = "raw"', 'dfu = { loader = "0483:DF11" }'])
def test_inv8_the_rom_of_an_stm32_has_to_be_told_where_a_raw_image_goes(file: Path, line: str) -> None:
    """Found out only by the device, it would be found out by one unit after the other."""
    [problem] = refusals(file, line, start=NO_ADDRESS)
    assert problem == (
        "1: device[0].image_address: is missing; the loader 0483:df11 has to be told where a raw image goes, "
        "such as 0x08000000"
    )


def test_another_loader_may_take_no_addresses(file: Path) -> None:
    assert device(file, 'dfu = { loader = "1209:df02" }', start=NO_ADDRESS).image_address is None


@pytest.mark.parametrize("method", ["none", "command", "detach"])
def test_inv4_a_loader_of_many_products_is_no_application_that_detaches(file: Path, method: str) -> None:
    start = METER.replace("1209:0001", "0483:df11")
    more = ', argv = ["boot"]' if method == "command" else ""
    line = f'enter = {{ method = "{method}"{more} }}'
    if method != "detach":
        assert device(file, line, start=start).enter.method == method
        return
    for way in (line, ""):
        [problem] = refusals(file, way, start=start)
        assert problem.startswith(
            "5: device[0].match.usb: expected the ids that the application shows: 0483:df11 is a loader"
        )


# --- the silicon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failsafe", ["bfb2", "empty-check", "golden-bank"])
def test_inv8_what_the_silicon_does_needs_a_part(file: Path, failsafe: str) -> None:
    assert refusals(file, f'failsafe = "{failsafe}"') == [
        f'1: device[0].part: is missing; failsafe = "{failsafe}" needs to know the silicon'
    ]


@pytest.mark.parametrize("failsafe", ["none", "resident-loader"])
def test_what_is_one_s_own_needs_none(file: Path, failsafe: str) -> None:
    assert device(file, f'failsafe = "{failsafe}"').failsafe == failsafe


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            "STM32L999",
            r"no facts are known of STM32L999; known families: STM32L471/.*; STM32L412 to L462; .*STM32L1;",
        ),
        ("GD32F103", r"no facts are known of GD32F103; known families: STM32L471/.*; STM32C5; "),
        ("STM32F429", r"expected more of the part number than STM32F429, up to the letter of the flash size"),
        ("stm32f429z", r"expected more of the part number than stm32f429z, up to"),
        ("STM32F070", r"expected more of the part number than STM32F070, up to"),
        ("", r'expected text that is not empty, got ""'),
    ],
)
def test_inv8_a_part_that_nothing_is_known_of(file: Path, part: str, said: str) -> None:
    [problem] = refusals(file, f'part = "{part}"')
    assert re.match(rf"6: device\[0\]\.part: {said}", problem), problem
    assert "STM32F4" not in problem.partition("known families:")[2] or "GD32" in problem


@pytest.mark.parametrize(
    ("part", "failsafe", "lack"),
    [
        ("STM32L476RG", "empty-check", "STM32L471/475/476/485/486 has no empty check"),
        ("STM32F072RB", "bfb2", "the ROM of STM32F072/078, F070xB does not look for a bank to start"),
        ("STM32G0B1RE", "golden-bank", "the ROM of STM32G0B0/B1/C1 does not look for a bank to start"),
        (
            "STM32F767ZI",
            "golden-bank",
            "the ROM of STM32F765/767/769/777/779 starts the image in bank 1 whatever",
        ),
    ],
)
def test_inv8_what_the_silicon_cannot_do_is_refused(file: Path, part: str, failsafe: str, lack: str) -> None:
    [problem] = refusals(file, f'part = "{part}"\nfailsafe = "{failsafe}"')
    assert problem.startswith(f'7: device[0].failsafe: expected another than "{failsafe}": {lack}')


@pytest.mark.parametrize(
    ("part", "failsafe"),
    [
        ("STM32L476RG", "bfb2"),
        ("STM32L432KC", "empty-check"),
        ("STM32F072RB", "resident-loader"),
        ("STM32F072RB", "none"),
        ("STM32L496ZG", "bfb2"),  # not proven: updates wait, which is no fault of the configuration
        ("STM32F429ZI", "bfb2"),
    ],
)
def test_what_the_silicon_can_do(file: Path, part: str, failsafe: str) -> None:
    said = device(file, f'part = "{part}"\nfailsafe = "{failsafe}"')
    assert (said.part, said.failsafe) == (part, Failsafe(failsafe))


def test_inv2_beside_a_golden_image_only_a_version_tells_which_one_runs(file: Path) -> None:
    golden = 'part = "STM32L476RG"\nfailsafe = "golden-bank"'
    [problem] = refusals(file, golden)
    assert 'device[0].dfu.version: is missing; with failsafe = "golden-bank" only a version tells' in problem
    told = "dfu = { version = { from = \"product\", expect = 'v(.+)' } }"
    assert device(file, f"{golden}\n{told}").failsafe is Failsafe.GOLDEN_BANK


@pytest.mark.parametrize("address", [0, 0x07FF_FFFF, 0x0810_0000, 0x8000_0000])
def test_inv8_a_raw_image_goes_into_the_flash_of_the_part(file: Path, address: int) -> None:
    [problem] = refusals(file, f'part = "STM32L476RG"\nimage_address = {address}', start=NO_ADDRESS)
    assert problem == (
        "7: device[0].image_address: expected an address in the flash of STM32L471/475/476/485/486, "
        f"0x08000000 to 0x080fffff, got 0x{address:08x}"
    )
    # Where nobody said which part it is, any may be right.
    assert device(file, f"image_address = {address}", start=NO_ADDRESS).image_address == address


def test_a_raw_image_may_go_to_the_last_byte_of_the_flash(file: Path) -> None:
    said = device(file, 'part = "STM32L476RG"\nimage_address = 0x080fffff', start=NO_ADDRESS)
    assert said.image_address == 0x080F_FFFF

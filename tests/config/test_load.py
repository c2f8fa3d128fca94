"""Loading a configuration: what good files become, and that bad ones are refused whole, each fault with its place."""

import os
import re
from collections.abc import Callable
from grp import getgrnam
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.config import (
    Config,
    DeviceClass,
    DriverName,
    EnterCommand,
    EnterPulse,
    EnterSend,
    EnterTouch1200,
    HandOver,
    Identity,
    LogLevel,
    Match,
    MdfuTuning,
    Pause,
    Retry,
    SetLine,
    Settings,
    UnknownVersion,
    UsbId,
    VersionQuery,
    WearLimits,
    load,
    needs_restart,
)
from firmwarden.errors import BadConfig
from firmwarden.images.formats import ImageFormat
from firmwarden.model import ClassName, TcpAddress, UnixGroup

PANEL = """
[[device]]
name = "front-panel"
driver = "mdfu"
match = { path = "/dev/serial/by-id/usb-Acme_Panel_*" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "firmwarden.toml"


def problems(file: Path) -> list[str]:
    """Load and return what is wrong, with the directory left out."""
    with pytest.raises(BadConfig) as caught:
        load(file)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return [problem.removeprefix(f"{file.parent}/") for problem in caught.value.problems]


def panel_with(lines: str) -> str:
    return PANEL + lines


def device(file: Path, lines: str = "", match: str | None = None) -> DeviceClass:
    text = PANEL if match is None else re.sub(r"match = .*", f"match = {match}", PANEL)
    file.write_text(f"{text}{lines}\n")
    [only] = load(file).devices
    return only


def refusal(file: Path, lines: str = "", match: str | None = None) -> str:
    with pytest.raises(BadConfig) as caught:
        device(file, lines, match)
    [problem] = caught.value.problems
    return problem.removeprefix(f"{file}:")


# --- what is good ----------------------------------------------------------------------------------------


def test_an_empty_file_has_every_default(file: Path) -> None:
    file.write_text("")
    assert load(file) == Config(settings=Settings(), devices=())


def test_the_least_that_a_class_says(file: Path) -> None:
    assert device(file) == DeviceClass(
        name=ClassName("front-panel"),
        driver=DriverName.MDFU,
        match=Match(path="/dev/serial/by-id/usb-Acme_Panel_*"),
    )


def test_everything_that_can_be_said(file: Path) -> None:
    file.write_text("""
[firmwarden]
firmware_dir = "/srv/firmware"
state_dir = "/srv/state"
socket = "/tmp/fw.sock"
read_group = "adm"
act_group = "root"
listen = "[::1]:8642"
token_file = "/etc/firmwarden/token"
parallel = 3
scan_interval = 0.5
grace = 0
log_level = "debug"

[retry]
attempts = 9

[wear]
per_life = 50

[[device]]
name = "pump-7"
driver = "mdfu"
match = { path = "/dev/ttyUSB?", usb = "04D8:000a", serial = "A[0-9]*", interface = 2 }
identity = "serial"
label = "pump {serial} at {port} ({class}, {id}, {{}})"
baud = 9600
parallel = 2
allow_downgrade = true
unknown = "hold"
image_format = "intel-hex"
image_fill = 0
enter = { method = "pulse", steps = ["dtr=1", "rts=0", "wait=50ms"] }
settle = "100ms"
boot_delay = "5s"
version_query = { send = [0x56, 0x0d], expect = "v(.+)\\r", timeout = 1, baud = 19200 }
hand_over = { stop = ["/bin/leave"], start = ["/bin/come", "back"], timeout = "1min" }
on_outcome = ["/bin/tell", "--me"]
on_outcome_timeout = "1min"
mdfu = { retries = 1, discovery = "1s", accept_newer = true, honour_delay = true }
retry = { back_off = "1s" }
wear = { per_day = 5 }
""")

    config = load(file)

    assert config.settings == Settings(
        firmware_dir=Path("/srv/firmware"),
        state_dir=Path("/srv/state"),
        socket=Path("/tmp/fw.sock"),
        read_group=UnixGroup(name="adm", gid=getgrnam("adm").gr_gid),
        act_group=UnixGroup(name="root", gid=0),
        listen=TcpAddress(host="::1", port=8642),
        token_file=Path("/etc/firmwarden/token"),
        parallel=3,
        scan_interval=0.5,
        grace=0.0,
        log_level=LogLevel.DEBUG,
    )
    [pump] = config.devices
    assert pump.match == Match(
        path="/dev/ttyUSB?", usb=UsbId(vendor_id=0x04D8, product_id=0x000A), serial="A[0-9]*", interface=2
    )
    assert pump == DeviceClass(
        name=ClassName("pump-7"),
        driver=DriverName.MDFU,
        match=pump.match,
        identity=Identity.SERIAL,
        label="pump {serial} at {port} ({class}, {id}, {{}})",
        baud=9600,
        parallel=2,
        allow_downgrade=True,
        unknown=UnknownVersion.HOLD,
        image_format=ImageFormat.INTEL_HEX,
        image_fill=0,
        enter=EnterPulse(
            steps=(SetLine(line="dtr", on=True), SetLine(line="rts", on=False), Pause(seconds=0.05))
        ),
        settle=0.1,
        boot_delay=5.0,
        version_query=VersionQuery(send=b"V\r", expect=re.compile(b"v(.+)\r"), timeout=1.0, baud=19_200),
        hand_over=HandOver(stop=("/bin/leave",), start=("/bin/come", "back"), timeout=60.0),
        on_outcome=("/bin/tell", "--me"),
        on_outcome_timeout=60.0,
        mdfu=MdfuTuning(retries=1, discovery=1.0, accept_newer=True, honour_delay=True),
        retry=Retry(attempts=9, back_off=1.0),
        wear=WearLimits(per_day=5, per_life=50),
    )


@pytest.mark.parametrize(
    ("lines", "way"),
    [
        ('enter = { method = "touch-1200" }', EnterTouch1200(wait=10.0)),
        (
            'enter = { method = "send", send = "böot\\r\\n", expect = "OK", timeout = "1s", baud = 9600 }',
            EnterSend(send="böot\r\n".encode(), expect=re.compile(b"OK"), timeout=1.0, baud=9600),
        ),
        ('[device.enter]\nmethod = "send"\nsend = [0, 255]', EnterSend(send=b"\x00\xff")),
        (
            'enter = { method = "command", argv = ["boot", "7"] }',
            EnterCommand(argv=("boot", "7"), timeout=30.0),
        ),
    ],
)
def test_ways_into_the_loader(file: Path, lines: str, way: object) -> None:
    assert device(file, lines).enter == way


def test_tcp_addresses(file: Path) -> None:
    addresses = device(
        file, match='{ tcp = ["gw.example:4001", "10.0.0.1:1", "[2001:db8::1]:65535"] }'
    ).match.tcp
    assert addresses == (
        TcpAddress(host="gw.example", port=4001),
        TcpAddress(host="10.0.0.1", port=1),
        TcpAddress(host="2001:db8::1", port=65_535),
    )
    assert [str(address) for address in addresses][2] == "[2001:db8::1]:65535"


def test_classes_come_from_devices_d_too_and_inherit_from_the_main_file(file: Path) -> None:
    file.write_text(f"[retry]\nattempts = 3\n{PANEL}")
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "20-valve.toml").write_text(PANEL.replace("front-panel", "valve").replace("Panel", "Valve"))
    (more / "10-pump.toml").write_text(PANEL.replace("front-panel", "pump").replace("Panel", "Pump"))
    for ignored in (".pump.toml", "pump.toml~", "pump.toml.dpkg-old", "README"):
        (more / ignored).write_text("not TOML")

    assert [(each.name, each.retry.attempts) for each in load(file).devices] == [
        ("front-panel", 3),
        ("pump", 3),
        ("valve", 3),
    ]


def test_only_some_settings_need_a_restart() -> None:
    old = Config()
    root = UnixGroup(name="root", gid=0)
    easy = Settings(read_group=root, act_group=root, token_file=Path("/t"), parallel=1, grace=1.0)
    assert needs_restart(old, Config(settings=easy)) == ()
    there = TcpAddress(host="::1", port=1)
    changed = Settings(firmware_dir=Path("/a"), state_dir=Path("/b"), socket=Path("/c"), listen=there)
    assert needs_restart(old, Config(settings=changed)) == ("firmware_dir", "state_dir", "socket", "listen")


# --- what is refused -------------------------------------------------------------------------------------


def test_inv8_every_problem_of_every_file_is_told_at_once(file: Path) -> None:
    file.write_text(f"""\
[firmwarden]
paralel = 4
state_dir = "relative"
{PANEL}
baud = "fast"
[wear]
per_day = 0
""")
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "a.toml").write_text("[[device]\n")
    (more / "b.toml").write_text(f"{PANEL}[firmwarden]\n")
    (more / "c.toml").write_bytes(b"\xff")

    assert problems(file) == [
        'firmwarden.toml:2: firmwarden.paralel: unknown key; did you mean "parallel"?',
        'firmwarden.toml:3: firmwarden.state_dir: expected an absolute path without "..", got "relative"',
        'firmwarden.toml:10: device[0].baud: expected a whole number from 50 to 20000000, got "fast"',
        "firmwarden.toml:12: wear.per_day: expected a whole number from 1 to 1000000, got 0",
        "devices.d/a.toml:1:9: expected TOML: Expected ']]' at the end of an array declaration",
        "devices.d/b.toml:6: firmwarden: unknown key; known here: device",
        "devices.d/c.toml:1: expected UTF-8, got the byte 0xff",
    ]


def test_one_bracket_is_not_enough(file: Path) -> None:
    file.write_text(PANEL.replace("[[device]]", "[device]"))
    assert problems(file) == [
        "firmwarden.toml:2: device: expected [[device]], with two brackets, got [device]"
    ]


def test_a_table_that_is_missing_is_told_with_its_keys(file: Path) -> None:
    file.write_text(PANEL.replace("match", "# match"))
    assert problems(file) == [
        "firmwarden.toml:2: device[0].match: is missing; expected a table with path, usb, serial, interface, port, tcp"
    ]


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("name2 = 1", "name2", 'unknown key; did you mean "name"?'),
        ('label = "{unit}"', "label", "{unit} is none of them"),
        ('label = "{serial!r}"', "label", "expected a text with the fields"),
        ('label = "{serial:>9}"', "label", "expected a text with the fields"),
        ('label = "{serial"', "label", "expected '}' before end of string"),
        ('label = "{}"', "label", "{} is none of them"),
        ('label = "a\\nb"', "label", "expected a text with the fields"),
        ('identity = "usb"', "identity", 'expected "port" or "serial"'),
        ("baud = 49", "baud", "from 50 to 20000000, got 49"),
        ("parallel = 0", "parallel", "from 1 to 1024, got 0"),
        ("parallel = true", "parallel", "got true"),
        ("allow_downgrade = 1", "allow_downgrade", "expected true or false, got 1"),
        ('image_format = "hex"', "image_format", '"intel-hex", "dfu" or "dfuse", got "hex"'),
        ("image_fill = 256", "image_fill", "from 0 to 255"),
        ('settle = "-1s"', "settle", "expected a duration"),
        ("hand_over = {}", "hand_over", "expected a unit, or the two commands stop and start"),
        ('hand_over = { stop = ["a"] }', "hand_over", "expected a unit, or the two commands stop and start"),
        (
            'hand_over = { unit = "a.service", start = ["b"] }',
            "hand_over",
            "expected either a unit, or the two",
        ),
        ('hand_over = { unit = "gpsd" }', "hand_over.unit", 'of systemd, such as "gpsd.service"'),
        (
            'hand_over = { unit = "getty@.service" }',
            "hand_over.unit",
            "the name of a service, socket or target",
        ),
        ('hand_over = { unit = "-x.service" }', "hand_over.unit", "the name of a service, socket or target"),
        ('hand_over = { unit = "firmwarden.service" }', "hand_over.unit", "that is Firmwarden itself"),
        ("on_outcome_timeout = 0", "on_outcome_timeout", "must be more than 0"),
        ('on_outcome = "tell"', "on_outcome", "expected an array"),
        ('on_outcome = [""]', "on_outcome[0]", "expected text that is not empty"),
        ('on_outcome = ["a\\u0000"]', "on_outcome[0]", "expected text that is not empty"),
        ("enter = {}", "enter", 'expected a table with method = "none", "detach", "pulse"'),
        ('enter = { method = "kick" }', "enter", "expected a table with method"),
        ('enter = { method = "none", wait = 1 }', "enter.wait", "unknown key; known here: method"),
        ('enter = { method = "pulse" }', "enter.steps", "is missing; expected an array"),
        ('enter = { method = "pulse", steps = [] }', "enter.steps", "expected at least one step"),
        ('enter = { method = "pulse", steps = ["dtr=2"] }', "enter.steps[0]", '"rts=1" or "wait=50ms"'),
        ('enter = { method = "pulse", steps = ["wait=2min"] }', "enter.steps[0]", "waits 60 s at most"),
        ('enter = { method = "send" }', "enter.send", "is missing; expected text, or bytes"),
        ('enter = { method = "send", send = "" }', "enter.send", "not empty"),
        ('enter = { method = "send", send = [256] }', "enter.send", "got an array"),
        ('enter = { method = "send", send = "x", expect = "(" }', "enter.expect", "unterminated subpattern"),
        ('enter = { method = "command", argv = [] }', "enter.argv", "expected a program and its arguments"),
        ("version_query = {}", "version_query.send", "is missing"),
        ('version_query = { send = "?", expect = "v" }', "version_query.expect", "it has 0 groups"),
        ('version_query = { send = "?", expect = "(v)(w)" }', "version_query.expect", "it has 2 groups"),
        ('version_query = { send = "?", expect = "[[a](" }', "version_query.expect", "unterminated"),
        ("mdfu = { retries = -1 }", "mdfu.retries", "from 0 to 100"),
        ('retry = { back_off = "1h" }', "retry.back_off_max", "expected no less than back_off"),
        ("retry = { attempts = 0 }", "retry.attempts", "from 1 to 1000"),
        ("retry = 3", "retry", "expected a table, got 3"),
        ("roll_back = true", "roll_back", "expected only with health"),
        ('health = { timeout = "1s" }', "health.timeout", "expected only with command"),
        ('health = { return_within = "0s" }', "health.return_within", "expected"),
        ('health = { query = { expect = "!" } }', "health.query.send", "is missing"),
        (
            'health = { query = { send = "?", expect = "(v)(w)" } }',
            "health.query.expect",
            "expected one group, which holds the version, or none",
        ),
        ("rollout = { first = 0 }", "rollout.first", "from 1 to 1000000"),
        ("rollout = { stop_at = 101 }", "rollout.stop_at", "from 0 to 100"),
        *(
            (
                f"rollout = {{ waves = {waves} }}",
                "rollout.waves",
                "percentages that rise, the last of them 100",
            )
            for waves in ("[]", "[25]", "[50, 25, 100]", "[50, 50, 100]")
        ),
        ("wear = []", "wear", "expected a table, got an array"),
    ],
)
def test_inv8_what_a_class_may_not_say(file: Path, line: str, key: str, said: str) -> None:
    problem = (
        refusal(file, line) if not line.startswith("version_query = {}") else problems_of_two(file, line)
    )
    place, _, rest = problem.partition(": ")
    assert rest.startswith(f"device[0].{key}: ")
    assert said in rest
    assert place == ("2" if key == "retry.back_off_max" and "retry" not in line else "6")


def problems_of_two(file: Path, line: str) -> str:
    file.write_text(PANEL + line)
    first, second = problems(file)
    assert "version_query.expect: is missing" in second
    return first.removeprefix("firmwarden.toml:")


@pytest.mark.parametrize(
    ("match", "key", "said"),
    [
        ("{}", "match", "expected at least one of path, usb, serial or tcp"),
        ("{ interface = 0 }", "match", "expected at least one of"),
        ('"/dev/ttyS0"', "match", "expected a table"),
        ('{ path = "ttyS0" }', "match.path", "expected an absolute path"),
        ('{ path = "/dev/" }', "match.path", "expected an absolute path"),
        ('{ path = "/dev/../etc/x" }', "match.path", "expected an absolute path"),
        ('{ path = "/dev//ttyS0" }', "match.path", "expected an absolute path"),
        ('{ path = "/dev/*/x" }', "match.path", "only the last part may have wildcards"),
        ('{ usb = "4d8:a" }', "match.usb", 'such as "04d8:000a"'),
        ('{ usb = "04d8:000g" }', "match.usb", 'such as "04d8:000a"'),
        ('{ serial = "" }', "match.serial", "expected text, which may have"),
        ('{ path = "/dev/x", interface = 256 }', "match.interface", "from 0 to 255"),
        ('{ tcp = "a:1" }', "match.tcp", "expected an array"),
        ('{ tcp = ["a"] }', "match.tcp[0]", '"host:port"'),
        ('{ tcp = ["a:0"] }', "match.tcp[0]", '"host:port"'),
        ('{ tcp = ["a:65536"] }', "match.tcp[0]", '"host:port"'),
        ('{ tcp = ["::1:3"] }', "match.tcp[0]", '"[address]:port"'),
        ('{ tcp = ["http://a:1"] }', "match.tcp[0]", '"host:port"'),
        ('{ tcp = ["a:1", "a:1"] }', "match.tcp", "expected each address once"),
        ('{ tcp = ["a:1"], path = "/dev/x" }', "match.tcp", "expected alone"),
        ('{ tcp = ["a:1"], interface = 1 }', "match.tcp", "expected alone"),
    ],
)
def test_inv8_what_a_match_may_not_say(file: Path, match: str, key: str, said: str) -> None:
    problem = refusal(file, match=match)
    assert problem.startswith(f"5: device[0].{key}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('identity = "serial"', "identity"),
        ('enter = { method = "touch-1200" }', "enter.method"),
        ('enter = { method = "pulse", steps = ["dtr=1"] }', "enter.method"),
        ('enter = { method = "send", send = "x", baud = 9600 }', "enter.baud"),
        ('version_query = { send = "?", expect = "(v)", baud = 9600 }', "version_query.baud"),
    ],
)
def test_inv8_what_makes_no_sense_over_tcp(file: Path, line: str, key: str) -> None:
    assert refusal(file, line, match='{ tcp = ["a:1"] }').startswith(f"6: device[0].{key}: expected ")


def test_a_fault_in_the_shared_budgets_is_told_once(file: Path) -> None:
    file.write_text(
        f'[retry]\nback_off_max = "1s"\n{PANEL}{PANEL.replace("front-panel", "b").replace("Panel", "B")}'
    )
    assert problems(file) == ["firmwarden.toml:2: retry.back_off_max: expected no less than back_off"]


def test_the_firmware_directory_is_not_the_state_directory(file: Path) -> None:
    file.write_text('[firmwarden]\nstate_dir = "/x"\nfirmware_dir = "/x/"')
    [problem] = problems(file)
    assert problem.startswith(
        "firmwarden.toml:3: firmwarden.firmware_dir: expected another directory than state_dir"
    )


def test_a_socket_name_has_to_fit(file: Path) -> None:
    file.write_text(f'[firmwarden]\nsocket = "/{"s" * 106}"')
    assert len(str(load(file).settings.socket)) == 107
    file.write_text(f'[firmwarden]\nsocket = "/{"s" * 107}"')
    assert problems(file)[0].endswith(": Linux takes at most 107 bytes")


def test_a_group_that_does_not_exist_is_a_mistake(file: Path) -> None:
    file.write_text('[firmwarden]\nread_group = "adm"\nact_group = "oprators"')
    [problem] = problems(file)
    expected = 'expected the name of a group that exists on this machine, got "oprators"'
    assert problem == f"firmwarden.toml:3: firmwarden.act_group: {expected}"


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "8642", ":8642", "127.0.0.1:65536", "127.0.0.1:http", "1.2.3:80", "::1"]
)
def test_where_to_listen_is_an_address_and_a_port(file: Path, text: str) -> None:
    file.write_text(f'[firmwarden]\nlisten = "{text}"')
    assert "firmwarden.toml:2: firmwarden.listen: expected an address and a port" in problems(file)[0]


def test_a_name_to_listen_at_is_refused_with_the_reason(file: Path) -> None:
    file.write_text('[firmwarden]\nlisten = "localhost:8642"')
    assert problems(file)[0].endswith('got "localhost:8642": a name is no address')


def test_any_free_port_and_any_address_may_be_asked_for(file: Path) -> None:
    file.write_text('[firmwarden]\nlisten = "0.0.0.0:0"')
    assert load(file).settings.listen == TcpAddress(host="0.0.0.0", port=0)


def two(file: Path, one: str, other: str) -> list[str]:
    head = '[[device]]\nname = "{}"\ndriver = "mdfu"\nmatch = {}\n'
    file.write_text(head.format("one", one) + head.format("other", other))
    try:
        load(file)
    except BadConfig as exc:
        return [problem.removeprefix(f"{file}:") for problem in exc.problems]
    return []


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ('{ path = "/dev/ttyS0" }', '{ path = "/dev/ttyS0" }', "both match the same devices"),
        ('{ usb = "04d8:000a" }', '{ usb = "04D8:000A" }', "both match the same devices"),
        ('{ tcp = ["a:1", "b:2"] }', '{ tcp = ["b:2", "c:3"] }', "b:2 is in both"),
        ('{ path = "/dev/ttyS0" }', '{ path = "/dev/ttyS*" }', "/dev/ttyS0 is in both"),
        ('{ path = "/dev/ttyS*" }', '{ path = "/dev/ttyS0" }', "/dev/ttyS0 is in both"),
    ],
)
def test_inv4_classes_that_certainly_match_one_device_are_refused(
    file: Path, one: str, other: str, why: str
) -> None:
    [problem] = two(file, one, other)
    assert problem == f'8: device[1].match: expected other devices than those of "one" at {file}:1: {why}'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{ path = "/dev/ttyS0" }', '{ path = "/dev/ttyS1" }'),
        ('{ path = "/dev/ttyS0" }', '{ path = "/dev/ttyS*", serial = "A*" }'),
        ('{ path = "/dev/serial/by-id/x" }', '{ path = "/dev/*" }'),
        ('{ path = "/dev/ttyS*" }', '{ path = "/dev/tty*" }'),
        ('{ usb = "04d8:000a" }', '{ usb = "04d8:000a", serial = "A*" }'),
        ('{ tcp = ["a:1"] }', '{ tcp = ["a:2"] }'),
    ],
)
def test_classes_that_may_differ_are_left_to_the_devices(file: Path, one: str, other: str) -> None:
    assert two(file, one, other) == []


def test_inv8_two_classes_with_one_name_are_refused_with_both_places(file: Path) -> None:
    file.write_text(PANEL)
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "panel.toml").write_text(PANEL.replace("Panel", "Other"))
    assert problems(file) == [
        (
            "devices.d/panel.toml:3: device[0].name: expected a name of its own, "
            f'but there is "front-panel" at {file}:2 already'
        )
    ]


@pytest.mark.parametrize(
    "text", ["device = 1", "device = [1]", 'device = "x"', "[device]", "retry = 1", "wear = []"]
)
def test_inv8_what_is_no_table_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    [problem] = problems(file)
    assert problem.startswith("firmwarden.toml:1: ")
    assert "expected " in problem


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def a_broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_terminal(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "there is no such file; `--config FILE` names another"),
        (a_directory, "is a directory, not a regular file"),
        (a_pipe, "is a pipe, not a regular file"),
        (a_huge_file, "is larger than 1048576 bytes"),
        (a_broken_link, "there is no such file; `--config FILE` names another"),
        (a_terminal, "is a device, not a regular file"),
    ],
)
def test_inv8_what_is_no_file_is_refused(file: Path, make: Callable[[Path], None], said: str) -> None:
    make(file)
    assert problems(file) == [f"firmwarden.toml: {said}"]


def test_a_link_to_a_file_is_as_good_as_the_file(file: Path) -> None:
    (file.parent / "elsewhere.toml").write_text(PANEL)
    file.symlink_to("elsewhere.toml")
    assert len(load(file).devices) == 1


def test_inv8_devices_d_that_is_no_directory_is_told(file: Path) -> None:
    file.write_text("")
    (file.parent / "devices.d").write_text("")
    assert problems(file) == ["devices.d: cannot be read: Not a directory"]


# --- noise -----------------------------------------------------------------------------------------------


def outcome(file: Path, raw: bytes) -> Config | list[str]:
    file.write_bytes(raw)
    try:
        return load(file)
    except BadConfig as exc:
        return [problem.removeprefix(f"{file}:") for problem in exc.problems]


@given(st.binary(max_size=300))
def test_inv8_any_bytes_are_a_configuration_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "noise.toml"
    assert outcome(file, raw)


SAMPLE = (Path(__file__).parent.parent.parent / "config" / "firmwarden.toml").read_text()
LINES = re.sub(r"(?m)^#(?=[^ #\n])", "", SAMPLE).splitlines()
VALUES = [
    "1",
    "-1",
    "0.5",
    "true",
    '"x"',
    '""',
    "[]",
    "[1]",
    '["a:1"]',
    "{}",
    "{ x = 1 }",
    '"1h"',
    "1979-05-27",
    "inf",
]


@given(
    st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(VALUES)), min_size=1, max_size=4),
    st.sets(st.integers(0, len(LINES) - 1), max_size=4),
)
def test_inv8_a_spoilt_sample_is_a_configuration_or_refused_at_a_line(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, str]], gone: set[int]
) -> None:
    lines = list(LINES)
    for index, value in changes:
        lines[index] = re.sub(r"^(\w+) = .*", rf"\g<1> = {value}", lines[index])
    text = "\n".join(line for index, line in enumerate(lines) if index not in gone)

    told = outcome(tmp_path_factory.getbasetemp() / "spoilt.toml", text.encode())

    assert isinstance(told, Config) or all(
        re.match(r"[1-9][0-9]*(:[1-9][0-9]*)?: ", problem) for problem in told
    )

"""Who may ask and who may give orders, over real sockets and as real users."""

from __future__ import annotations

import os
import pwd
import re
import socket
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.control import connection
from firmwarden.control.access import Access, Guard, Rules, Standing
from firmwarden.control.peer import Remote, User
from firmwarden.model import UnixGroup
from support.memory_desk import MemoryDesk, a_device
from support.served import Served, served
from support.wire_http import Answer, Somebody, ask, ask_as, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Receive, Scope, Send

ACTORS = UnixGroup(name="operators", gid=54_321)
READERS = UnixGroup(name="onlookers", gid=54_322)
TOKEN = "a-token-of-some-length"
RULES = Rules(act_group=ACTORS, read_group=READERS, token=TOKEN)
NOBODY = pwd.getpwnam("nobody")
ROOT = os.geteuid() == 0
as_others = pytest.mark.skipif(not ROOT, reason="only root can be others")


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk(a_device(id="panel-1"))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Make a directory that other users reach; those of ``tmp_path`` are kept closed by any pytest that runs."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def api(desk: MemoryDesk, open_directory: Path) -> Iterator[Served]:
    with served(desk, open_directory / "control.sock", rules=RULES, tcp=True) as running:
        yield running


# --- on the unix socket


@pytest.mark.parametrize(
    ("uid", "gids", "standing"),
    [
        (0, {0}, Standing.ACTS),
        (os.geteuid(), {1}, Standing.ACTS),
        (54_000, {ACTORS.gid}, Standing.ACTS),
        (54_000, {100, ACTORS.gid, READERS.gid}, Standing.ACTS),
        (54_000, {100, READERS.gid}, Standing.READS),
        (54_000, {0}, Standing.STRANGER),
        (54_000, set(), Standing.STRANGER),
    ],
)
def test_users_and_groups_have_their_standing(uid: int, gids: set[int], standing: Standing) -> None:
    assert RULES.standing(User(uid=uid, gids=frozenset(gids))) is standing


def test_without_a_group_for_reading_nobody_only_reads() -> None:
    reader = User(uid=54_000, gids=frozenset({READERS.gid}))
    assert Rules(act_group=ACTORS).standing(reader) is Standing.STRANGER


def test_the_network_is_a_standing_of_its_own() -> None:
    assert RULES.standing(Remote(host="127.0.0.1")) is Standing.REMOTE


ASK_AND_ORDER = (("GET", "/v1/status"), ("HEAD", "/v1/status"), ("POST", "/v1/unhold"))

STRANGER = Somebody(NOBODY.pw_uid, NOBODY.pw_gid)
OTHERS = [
    (STRANGER, [403, 403, 403]),
    (Somebody(NOBODY.pw_uid, NOBODY.pw_gid, (7, READERS.gid)), [200, 200, 403]),
    (Somebody(NOBODY.pw_uid, READERS.gid), [200, 200, 403]),
    (Somebody(NOBODY.pw_uid, NOBODY.pw_gid, (7, ACTORS.gid)), [200, 200, 200]),
    (Somebody(NOBODY.pw_uid, ACTORS.gid), [200, 200, 200]),
]


@pytest.mark.parametrize(
    ("person", "statuses"),
    [(Somebody(os.geteuid(), os.getegid()), [200, 200, 200]), *(OTHERS if ROOT else [])],
)
def test_the_kernels_word_about_the_peer_decides(
    api: Served, desk: MemoryDesk, person: Somebody, statuses: list[int]
) -> None:
    assert [status for status, _ in ask_as(person, api.path, *ASK_AND_ORDER)] == statuses
    name = pwd.getpwuid(person.uid).pw_name
    assert [action["who"] for action in desk.actions] == [name] * (statuses[-1] == 200)


@as_others
def test_who_may_not_is_told_which_group_may_and_the_command(api: Served) -> None:
    (status, question), (_, order) = ask_as(
        STRANGER, api.path, ("GET", "/v1/devices"), ("POST", "/v1/unhold")
    )
    assert status == 403
    assert question["type"] == "forbidden"
    assert "nobody may not ask the service: that is for members of the group onlookers." in question["detail"]
    assert "`sudo usermod --append --groups onlookers nobody`" in question["detail"]
    assert "nobody may not give orders to the service" in order["detail"]
    assert "`sudo usermod --append --groups operators nobody`" in order["detail"]


@as_others
def test_nobody_is_told_to_join_the_group_of_root(api: Served) -> None:
    api.access.rules = Rules(act_group=UnixGroup(name="root", gid=0))
    [(status, answer)] = ask_as(STRANGER, api.path, ("GET", "/v1/devices"))
    assert status == 403
    assert answer["detail"] == "nobody may not ask the service: that is for root alone. Use sudo."


@as_others
@pytest.mark.parametrize("groups", [256, 300])
def test_more_groups_than_the_kernel_can_tell_are_looked_up(api: Served, groups: int) -> None:
    """Of more than 256 the kernel's answer is too long for Python; then the user database is asked."""
    member = UnixGroup(name="nogroup", gid=NOBODY.pw_gid)
    api.access.rules = Rules(act_group=ACTORS, read_group=member)
    many = Somebody(NOBODY.pw_uid, 60_000, tuple(range(60_001, 60_001 + groups)))
    [(status, _)] = ask_as(many, api.path, ("GET", "/v1/status"))
    assert status == (200 if groups > 256 else 403), "groups that the process has not are not given to it"


@as_others
def test_a_user_without_a_name_is_a_number(api: Served, desk: MemoryDesk) -> None:
    [(status, _)] = ask_as(Somebody(54_000, ACTORS.gid), api.path, ("POST", "/v1/unhold"))
    assert status == 200
    assert desk.actions[0]["who"] == "uid 54000"


def test_the_socket_takes_any_name_for_us(api: Served) -> None:
    assert ask(api, "GET", "/v1/status", headers={"Host": "anything"}).status == 200


# --- on TCP


def test_whoever_reaches_the_port_may_ask(api: Served) -> None:
    assert ask(api, "GET", "/v1/devices", tcp=True).json["devices"][0]["id"] == "panel-1"
    assert ask(api, "HEAD", "/v1/devices", tcp=True).status == 200


@pytest.mark.parametrize(
    ("shown", "challenge", "says"),
    [
        (None, 'Bearer realm="firmwarden"', "needs the token"),
        ("", 'Bearer realm="firmwarden"', "needs the token"),
        (f"Basic {TOKEN}", 'Bearer realm="firmwarden"', "needs the token"),
        (TOKEN, 'Bearer realm="firmwarden"', "needs the token"),
        ("Bearer", 'Bearer realm="firmwarden", error="invalid_token"', "not the token"),
        (f"Bearer {TOKEN[:-1]}", 'Bearer realm="firmwarden", error="invalid_token"', "not the token"),
        (f"Bearer {TOKEN}x", 'Bearer realm="firmwarden", error="invalid_token"', "not the token"),
        ("Bearer t\xf6ken", 'Bearer realm="firmwarden", error="invalid_token"', "not the token"),
    ],
)
def test_inv8_without_the_token_no_order_is_taken(
    api: Served, desk: MemoryDesk, shown: str | None, challenge: str, says: str
) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    answer = ask(api, "DELETE", "/v1/devices/panel-1", tcp=True, headers=headers)
    assert (answer.status, answer.json["type"]) == (401, "token-needed")
    assert answer.headers["WWW-Authenticate"] == challenge
    assert says in answer.json["detail"]
    assert desk.actions == []
    assert desk.fleet.keys() == {"panel-1"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_orders_are_taken_and_recorded(api: Served, desk: MemoryDesk, scheme: str) -> None:
    answer = ask(
        api, "POST", "/v1/hold", {"reason": "x"}, tcp=True, headers={"Authorization": f"{scheme} {TOKEN}"}
    )
    assert answer.status == 200
    assert [action["who"] for action in desk.actions] == ["token from 127.0.0.1"]


def test_without_a_token_in_force_none_is_right(api: Served, desk: MemoryDesk) -> None:
    api.access.rules = Rules(act_group=ACTORS)
    for shown in ("Bearer ", f"Bearer {TOKEN}"):
        answer = ask(api, "POST", "/v1/unhold", tcp=True, headers={"Authorization": shown})
        assert answer.status == 401
        assert "nobody gives orders: there is no token" in answer.json["detail"]
    assert desk.actions == []


def test_other_rules_hold_from_the_next_request_on(api: Served) -> None:
    with connect(api, tcp=True) as sock:
        connection = HTTPConnection("127.0.0.1", api.port)
        connection.sock = sock
        for token, status in ((TOKEN, 200), ("another-token-of-some-length", 401)):
            api.access.rules = Rules(act_group=ACTORS, token=token)
            connection.request("POST", "/v1/unhold", headers={"Authorization": f"Bearer {TOKEN}"})
            assert Answer(connection.getresponse()).status == status


def test_the_token_is_not_shown_with_the_rules() -> None:
    assert TOKEN not in repr(RULES)


HOST = socket.gethostname()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:{port}", "127.0.0.1", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "192.0.2.7:80"),
        *(HOST, f"{HOST.upper()}:{{port}}", HOST.partition(".")[0], f"{HOST.partition('.')[0]}.local"),
    ],
)
def test_addresses_and_our_own_names_are_ours(api: Served, host: str) -> None:
    assert ask(api, "GET", "/v1/status", tcp=True, headers={"Host": host.format(port=api.port)}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "local"),
        *("2130706433", "0x7f.1", "[::1", "[evil.example]", ":{port}", "", ".local"),
    ],
)
def test_inv8_other_names_are_not_ours(api: Served, host: str) -> None:
    answer = ask(api, "GET", "/v1/status", tcp=True, headers={"Host": host.format(port=api.port)})
    assert (answer.status, answer.json["type"]) == (421, "misdirected-request")
    assert socket.gethostname() in answer.json["detail"]


@given(host=st.binary(max_size=40), origin=st.none() | st.binary(max_size=40))
def test_inv8_whatever_a_browser_says_is_judged(host: bytes, origin: bytes | None) -> None:
    judged: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        judged.append("let through")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] in {403, 421}
            judged.append("refused")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    headers = [(b"host", host), (b"authorization", f"Bearer {TOKEN}".encode())]
    headers += [] if origin is None else [(b"origin", origin)]
    scope = {
        "type": "http",
        "method": "POST",
        "headers": headers,
        "state": {"peer": Remote(host="192.0.2.1"), "crowded": False},
    }
    anyio.run(Guard(app, Access(RULES)), scope, receive, send)
    assert len(judged) == 1


def test_a_request_that_asks_for_no_host_is_not_ours(api: Served) -> None:
    with connect(api, tcp=True) as sock:
        sock.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_inv8_a_page_of_another_site_gives_no_orders(
    api: Served, desk: MemoryDesk, said: dict[str, str], status: int
) -> None:
    headers = {name: value.format(port=api.port) for name, value in said.items()}
    headers |= {"Authorization": f"Bearer {TOKEN}", "Host": f"127.0.0.1:{api.port}"}
    assert ask(api, "POST", "/v1/unhold", tcp=True, headers=headers).status == status
    assert len(desk.actions) == (status == 200)
    # It may lead there, and see nothing: no answer lets another site read it.
    asked = ask(api, "GET", "/v1/status", tcp=True, headers=headers)
    assert asked.status == 200
    assert not [name for name in asked.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"Host": "localhost:8642", "Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example:8642", "Origin": "http://evil.example:8642"}, 421),
        ({"Host": "localhost:8642", "Origin": "http://localhost:8642"}, 200),
        ({"Host": "firmwarden"}, 200),
    ],
)
def test_inv8_nor_does_it_where_somebody_forwards_the_socket(
    api: Served, desk: MemoryDesk, said: dict[str, str], status: int
) -> None:
    """As with ssh -L: the request comes with all the rights of the person whose browser sends it."""
    assert ask(api, "POST", "/v1/unhold", headers=said).status == status
    assert len(desk.actions) == (status == 200)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:8642", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:8642", 200),
        ("localhost", 200),
    ],
)
def test_inv8_nor_is_it_told_anything_there(api: Served, host: str, status: int) -> None:
    for path in ("/", "/v1/devices"):
        assert ask(api, "GET", path, headers={"Host": host}).status == status


# --- what the page says


def test_the_figures_on_the_page_are_those_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "who-may-do-what.md").read_text(encoding="utf-8")
    assert [int(places) for places in re.findall(r"^\| [^|]+ \| (\d+) \|$", page, re.MULTILINE)] == list(
        connection.PLACES.values()
    )
    assert list(connection.PLACES) == [Standing.ACTS, Standing.READS, Standing.STRANGER, Standing.REMOTE]
    text = " ".join(page.split())
    assert f"a request within {connection.HEAD_S:.0f} s" in text
    assert f"less than {connection.LEAST // 1024} KiB of a body in {connection.STALL_S:.0f} s" in text

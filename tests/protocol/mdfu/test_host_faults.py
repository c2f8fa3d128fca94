"""The MDFU host against a client that is right and a line that is not: what holds whatever happens."""

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.machine import Milestone, Receive, Send
from firmwarden.protocol.mdfu.client_info import OUR_VERSION, ClientInfo
from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.host import Ended, MdfuHost, Settings
from support.mdfu_client import Fault, FaultyLine, ModelClient
from support.wire import Wire

# One byte a chunk: numbers wrap more than once in a short time.
_INFO = ClientInfo(version=OUR_VERSION, buffer_size=1, default_timeout_s=0.5)
_IMAGE = bytes(range(0x40, 0x90))
_LATE_S = 0.52
"""After the time-out, but while the resend is under way."""

_TRANSPORT = {CauseCode.NO_ANSWER, CauseCode.RETRIES_EXHAUSTED, CauseCode.CLIENT_REBOOTED}

_ENDS = {Ended(acknowledged=True), Ended(acknowledged=False)}

_LINE_FAULTS = st.sampled_from([fault for fault in Fault if fault is not Fault.REBOOT])
_MANY_FAULTS = st.lists(st.just(Fault.NONE) | st.sampled_from(Fault), max_size=150)


def _run(wire: Wire) -> Milestone | CauseCode:
    try:
        return wire.run_through(Ended)[-1]
    except AttemptFailed as failed:
        return failed.cause.code


@given(st.dictionaries(st.integers(0, 90), _LINE_FAULTS, max_size=5))
@example({1: Fault.COMMAND_LOST, 2: Fault.ANSWER_LATE, 3: Fault.ANSWER_DAMAGED})
def test_no_five_faults_of_the_line_stop_an_update(faults: dict[int, Fault]) -> None:
    client = ModelClient(_INFO, _IMAGE)
    script = (faults.get(index, Fault.NONE) for index in range(100))
    host = MdfuHost(_IMAGE)

    milestones = Wire(host, FaultyLine(client, script, _LATE_S)).run_through(Ended)

    # The end may be lost altogether (the client has left when asked again), the image may not.
    assert client.ended_with == [_IMAGE]
    assert isinstance(milestones[-1], Ended)
    assert milestones[-1].acknowledged or len(faults) > 0
    assert host.bytes_accepted == len(_IMAGE)


@given(_MANY_FAULTS)
def test_inv1_inv2_whatever_happens_no_partial_image_is_started_and_no_success_is_made_up(
    faults: list[Fault],
) -> None:
    client = ModelClient(_INFO, _IMAGE)

    result = _run(Wire(MdfuHost(_IMAGE), FaultyLine(client, iter(faults), _LATE_S)))

    # A client that rebooted may store a chunk in the wrong place; its check of the image finds it.
    assert result in {*_TRANSPORT, CauseCode.IMAGE_INVALID, *_ENDS}
    assert result is not CauseCode.IMAGE_INVALID or Fault.REBOOT in faults
    assert all(stored == _IMAGE for stored in client.ended_with)
    assert result in _ENDS or client.ended_with == []
    assert result != Ended(acknowledged=True) or client.ended_with != []


_FRAMES = st.binary(min_size=2, max_size=6).map(encode_frame)
_INPUT = st.one_of(
    st.none(),
    st.binary(max_size=12),
    _FRAMES,
    st.builds(
        lambda number, status: encode_frame(bytes((number, status, 1))), st.integers(0, 9), st.integers(1, 5)
    ),
)


@given(st.lists(_INPUT, max_size=80))
def test_any_bytes_at_all_raise_nothing_but_the_one_error(inputs: list[bytes | None]) -> None:
    host = MdfuHost(_IMAGE, Settings(retries=3))
    host.next_event()
    host.receive(encode_frame(b"\x00\x01" + _INFO.encode()))

    with contextlib.suppress(AttemptFailed):
        for data in inputs:
            while not isinstance(event := host.next_event(), Receive | Ended):
                # Never a second command before the first is done with.
                assert not isinstance(event, Send) or isinstance(host.next_event(), Receive)
            if isinstance(event, Ended):
                break
            if data is None:
                host.timed_out()
            else:
                host.receive(data)

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.requests import (
    STATUSES,
    MalformedTransfer,
    Request,
    Setup,
    State,
    Status,
    StatusReport,
    decode_state,
)

_WORDS = st.integers(0, 0xFFFF)
_BYTES = st.integers(0, 0xFF)


@given(
    st.builds(Setup, request_type=_BYTES, request=_BYTES, value=_WORDS, index=_WORDS, length=_WORDS),
)
def test_a_setup_packet_survives_the_way(setup: Setup) -> None:
    assert Setup.decode(setup.encode()) == setup


@given(
    st.builds(
        StatusReport,
        status=_BYTES.map(lambda code: STATUSES.get(code, code)),
        state=st.sampled_from(State),
        poll_timeout_ms=st.integers(0, 0xFF_FFFF),
        string_index=_BYTES,
    )
)
def test_a_status_report_survives_the_way(report: StatusReport) -> None:
    assert StatusReport.decode(report.encode()) == report


@given(st.binary(max_size=12))
def test_noise_raises_only_one_error(noise: bytes) -> None:
    for decode in (Setup.decode, StatusReport.decode, decode_state):
        with contextlib.suppress(MalformedTransfer):
            decode(noise)


@given(st.sampled_from(Request), _WORDS, _WORDS, _WORDS)
def test_a_request_is_known_again(request: Request, interface: int, value: int, length: int) -> None:
    setup = Setup.of(request, interface=interface, value=value, length=length)

    assert Setup.decode(setup.encode()).dfu_request is request


@pytest.mark.parametrize(
    "raw",
    [
        "21 05 00 00 00 00 01 00",  # GETSTATE in the direction that AN3156 misprints
        "a1 01 00 00 00 00 01 00",
        "21 07 00 00 00 00 00 00",
        "01 0b 00 00 00 00 00 00",  # SET_INTERFACE
        "80 06 00 01 00 00 12 00",  # GET_DESCRIPTOR
    ],
)
def test_what_is_no_dfu_request(raw: str) -> None:
    assert Setup.decode(bytes.fromhex(raw)).dfu_request is None


@pytest.mark.parametrize(
    ("raw", "report"),
    [
        ("00 00 00 00 02 00", StatusReport(status=Status.OK, state=State.DFU_IDLE)),
        ("00 e8 03 00 07 00", StatusReport(status=Status.OK, state=State.MANIFEST, poll_timeout_ms=1000)),
        (
            "0b ff ff ff 0a 04",
            StatusReport(
                status=Status.ERR_VENDOR, state=State.ERROR, poll_timeout_ms=0xFF_FFFF, string_index=4
            ),
        ),
        ("10 00 00 00 0a 00", StatusReport(status=0x10, state=State.ERROR)),
    ],
)
def test_status_reports(raw: str, report: StatusReport) -> None:
    assert StatusReport.decode(bytes.fromhex(raw)) == report


@pytest.mark.parametrize("raw", ["", "00 00 00 00 02", "00 00 00 00 02 00 00", "00 00 00 00 0b 00"])
def test_malformed_status_reports(raw: str) -> None:
    with pytest.raises(MalformedTransfer):
        StatusReport.decode(bytes.fromhex(raw))


@pytest.mark.parametrize("raw", ["", "02 02", "0b"])
def test_malformed_states(raw: str) -> None:
    with pytest.raises(MalformedTransfer):
        decode_state(bytes.fromhex(raw))


def test_a_state() -> None:
    assert decode_state(b"\x05") is State.DNLOAD_IDLE


@pytest.mark.parametrize("field", ["request_type", "request", "value", "index", "length"])
@pytest.mark.parametrize("value", [-1, 0x1_0000])
def test_fields_that_do_not_fit_are_refused(field: str, value: int) -> None:
    fields = {"request_type": 0x21, "request": 1, "value": 0, "index": 0, "length": 0} | {field: value}
    with pytest.raises(ValueError, match="must fit"):
        Setup(**fields)


def test_a_report_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="three bytes"):
        StatusReport(status=Status.OK, state=State.DNBUSY, poll_timeout_ms=1 << 24)
    with pytest.raises(ValueError, match="one byte"):
        StatusReport(status=256, state=State.ERROR)


def test_only_two_states_are_the_application_s() -> None:
    assert {state for state in State if state.in_application} == {State.APP_IDLE, State.APP_DETACH}

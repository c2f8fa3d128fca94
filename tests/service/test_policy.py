"""The one table that decides what follows a failed attempt, walked through every member of every enum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import Cause, CauseCode, LatchScope, Phase
from firmwarden.protocol.dfu.requests import Status as DfuStatus
from firmwarden.protocol.dfu.verdicts import DFUSE_STATUS_CODES, STATUS_CODES
from firmwarden.protocol.mdfu.packet import AbortCause, Status
from firmwarden.service.policy import (
    DISPOSITIONS,
    MEANINGS,
    AskAgain,
    Budgets,
    Decision,
    Disposition,
    Fail,
    History,
    Release,
    Retry,
    back_off_s,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

BUDGETS = Budgets()
FIRST = History(attempts=1, present_s=0.0)


def after(
    code: CauseCode,
    *,
    phase: Phase = Phase.WRITING,
    history: History = FIRST,
    chunk: int | None = None,
    sequence: int | None = None,
) -> Decision:
    cause = Cause(code=code, chunk=chunk, sequence=sequence)
    return decide(cause, phase=phase, history=history, budgets=BUDGETS, dice=0.5)


def test_every_cause_has_a_disposition_and_a_meaning() -> None:
    assert set(DISPOSITIONS) == set(CauseCode)
    assert set(MEANINGS) == set(CauseCode)


VERDICTS = {
    CauseCode.INVALID_FILE: LatchScope.PAIR,
    CauseCode.ADDRESS_ERROR: LatchScope.PAIR,
    CauseCode.WRONG_DEVICE_ID: LatchScope.PAIR,
    CauseCode.VERSION_REFUSED: LatchScope.PAIR,
    CauseCode.CLIENT_ERROR: LatchScope.PAIR,
    CauseCode.ABORT_WITHOUT_CAUSE: LatchScope.PAIR,
    CauseCode.ABORT_UNKNOWN: LatchScope.PAIR,
    CauseCode.NOT_AUTHORIZED: LatchScope.PAIR,
    CauseCode.NOT_SUPPORTED: LatchScope.PAIR,
    CauseCode.IMAGE_INVALID: LatchScope.PAIR,
    CauseCode.CLIENT_INFO_MALFORMED: LatchScope.PAIR,
    CauseCode.ERASE_ERROR: LatchScope.DEVICE,
    CauseCode.WRITE_ERROR: LatchScope.DEVICE,
    CauseCode.READ_ERROR: LatchScope.DEVICE,
    CauseCode.PROTOCOL_TOO_NEW: LatchScope.DEVICE,
    CauseCode.WRONG_TARGET: LatchScope.PAIR,
    CauseCode.FIRMWARE_CORRUPT: LatchScope.PAIR,
    CauseCode.VENDOR_ERROR: LatchScope.PAIR,
    CauseCode.NOT_BLANK: LatchScope.DEVICE,
    CauseCode.VERIFY_ERROR: LatchScope.DEVICE,
    CauseCode.READ_PROTECTED: LatchScope.DEVICE,
    CauseCode.READ_BACK_DIFFERS: LatchScope.DEVICE,
}


@pytest.mark.parametrize(("code", "scope"), VERDICTS.items(), ids=str)
@pytest.mark.parametrize("phase", Phase)
def test_inv3_a_verdict_of_the_device_latches_in_every_phase(
    code: CauseCode, scope: LatchScope, phase: Phase
) -> None:
    assert after(code, phase=phase) == Fail(code=code, latches=(scope,))


@pytest.mark.parametrize("cause", AbortCause, ids=lambda cause: cause.name)
def test_inv3_every_abort_cause_of_mdfu_is_final(cause: AbortCause) -> None:
    code = {
        AbortCause.GENERIC_CLIENT_ERROR: CauseCode.CLIENT_ERROR,
        AbortCause.INVALID_FILE: CauseCode.INVALID_FILE,
        AbortCause.INVALID_CLIENT_DEVICE_ID: CauseCode.WRONG_DEVICE_ID,
        AbortCause.ADDRESS_ERROR: CauseCode.ADDRESS_ERROR,
        AbortCause.ERASE_ERROR: CauseCode.ERASE_ERROR,
        AbortCause.WRITE_ERROR: CauseCode.WRITE_ERROR,
        AbortCause.READ_ERROR: CauseCode.READ_ERROR,
        AbortCause.APPLICATION_VERSION_ERROR: CauseCode.VERSION_REFUSED,
    }[cause]
    assert isinstance(after(code), Fail)


@pytest.mark.parametrize("status", Status, ids=lambda status: status.name)
def test_inv3_every_terminal_status_of_mdfu_has_a_final_cause(status: Status) -> None:
    finals = {
        Status.COMMAND_NOT_SUPPORTED: CauseCode.NOT_SUPPORTED,
        Status.NOT_AUTHORIZED: CauseCode.NOT_AUTHORIZED,
        Status.ABORT_FILE_TRANSFER: CauseCode.ABORT_WITHOUT_CAUSE,
    }
    if status in finals:
        assert isinstance(after(finals[status]), Fail)
    else:  # executed, or to be sent again: no verdict
        assert status in (Status.SUCCESS, Status.COMMAND_NOT_EXECUTED)


@pytest.mark.parametrize("codes", [STATUS_CODES, DFUSE_STATUS_CODES], ids=["dfu", "dfuse"])
@pytest.mark.parametrize("status", DfuStatus, ids=lambda status: status.name)
def test_inv3_every_error_of_dfu_is_final_unless_it_tells_of_the_bus(
    status: DfuStatus, codes: Mapping[DfuStatus, CauseCode]
) -> None:
    decision = after(codes[status])
    # dfuERROR with the status OK is no verdict: the device and we disagree about where we are.
    retried = {
        DfuStatus.OK,
        DfuStatus.ERR_USBR,
        DfuStatus.ERR_POR,
        DfuStatus.ERR_STALLEDPKT,
        DfuStatus.ERR_NOTDONE,
    }
    assert isinstance(decision, Retry if status in retried else Fail)


@pytest.mark.parametrize(
    ("status", "dfu", "dfuse"),
    [
        (DfuStatus.ERR_TARGET, LatchScope.PAIR, LatchScope.PAIR),
        (DfuStatus.ERR_FILE, LatchScope.PAIR, LatchScope.PAIR),
        (DfuStatus.ERR_ADDRESS, LatchScope.PAIR, LatchScope.PAIR),
        (DfuStatus.ERR_WRITE, LatchScope.DEVICE, LatchScope.DEVICE),
        (DfuStatus.ERR_ERASE, LatchScope.DEVICE, LatchScope.DEVICE),
        (DfuStatus.ERR_CHECK_ERASED, LatchScope.DEVICE, LatchScope.DEVICE),
        (DfuStatus.ERR_PROG, LatchScope.DEVICE, LatchScope.DEVICE),
        (DfuStatus.ERR_VERIFY, LatchScope.DEVICE, LatchScope.DEVICE),
        (DfuStatus.ERR_VENDOR, LatchScope.PAIR, LatchScope.DEVICE),
        (DfuStatus.ERR_FIRMWARE, LatchScope.PAIR, LatchScope.PAIR),
        (DfuStatus.ERR_UNKNOWN, LatchScope.PAIR, LatchScope.PAIR),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_inv3_what_each_error_of_dfu_latches(status: DfuStatus, dfu: LatchScope, dfuse: LatchScope) -> None:
    assert after(STATUS_CODES[status]) == Fail(code=STATUS_CODES[status], latches=(dfu,))
    assert after(DFUSE_STATUS_CODES[status]) == Fail(code=DFUSE_STATUS_CODES[status], latches=(dfuse,))


TRANSPORT = [code for code, disposition in DISPOSITIONS.items() if disposition is Disposition.RETRY]


@pytest.mark.parametrize("code", TRANSPORT, ids=str)
@pytest.mark.parametrize("phase", [Phase.PROBING, Phase.WRITING])
def test_transport_is_retried_and_never_latches(code: CauseCode, phase: Phase) -> None:
    assert after(code, phase=phase) == Retry(delay_s=2.0)


@pytest.mark.parametrize("code", TRANSPORT, ids=str)
def test_inv2_transport_trouble_while_ending_is_neither_success_nor_failure(code: CauseCode) -> None:
    assert after(code, phase=Phase.ENDING) == AskAgain()


@pytest.mark.parametrize("phase", Phase)
def test_a_device_that_was_seen_in_its_loader_is_not_asked_what_became_of_it(phase: Phase) -> None:
    assert after(CauseCode.NOT_STARTED, phase=phase) == Retry(delay_s=2.0)


@pytest.mark.parametrize("code", [*TRANSPORT, CauseCode.NOT_STARTED], ids=str)
@pytest.mark.parametrize(
    "history",
    [History(attempts=5, present_s=0.0), History(attempts=1, present_s=86_400.0)],
    ids=["attempts", "time"],
)
def test_a_used_up_budget_fails_the_job_without_a_latch(code: CauseCode, history: History) -> None:
    assert after(code, history=history) == Fail(code=CauseCode.TRANSPORT_EXHAUSTED)


@pytest.mark.parametrize("code", [CauseCode.INVALID_FILE, CauseCode.ADDRESS_ERROR, CauseCode.WRONG_TARGET])
def test_a_second_unit_s_verdict_latches_the_image(code: CauseCode) -> None:
    history = History(attempts=1, present_s=0.0, other_suspects=1)
    assert after(code, history=history) == Fail(code=code, latches=(LatchScope.PAIR, LatchScope.IMAGE))


def test_a_wrong_device_id_never_latches_the_image() -> None:
    history = History(attempts=1, present_s=0.0, other_suspects=3)
    assert after(CauseCode.WRONG_DEVICE_ID, history=history) == Fail(
        code=CauseCode.WRONG_DEVICE_ID, latches=(LatchScope.PAIR,)
    )


def test_an_invalid_file_that_a_reboot_may_explain_gets_one_fresh_attempt() -> None:
    assert after(CauseCode.INVALID_FILE, chunk=31, sequence=1) == Retry(delay_s=2.0)
    again = History(attempts=2, present_s=0.0, stray_verdicts=1)
    assert isinstance(after(CauseCode.INVALID_FILE, chunk=31, sequence=1, history=again), Fail)


@pytest.mark.parametrize(("chunk", "sequence"), [(0, 1), (31, 2), (0, 2)])
def test_an_invalid_file_that_no_reboot_explains_is_final_at_once(chunk: int, sequence: int) -> None:
    assert isinstance(after(CauseCode.INVALID_FILE, chunk=chunk, sequence=sequence), Fail)


@pytest.mark.parametrize(
    "code", [CauseCode.CANCELLED, CauseCode.STOPPING, CauseCode.PORT_HELD, CauseCode.STATE_UNWRITABLE]
)
def test_what_is_nobody_s_fault_gives_the_job_back(code: CauseCode) -> None:
    assert after(code, phase=Phase.WRITING) == Release()
    assert after(code, phase=Phase.ENDING) == AskAgain()


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_doubles_to_its_ceiling_and_moves_by_its_jitter(attempts: int, dice: float) -> None:
    base = min(2.0 * 2.0 ** min(attempts - 1, 60), 900.0)
    assert base * 0.8 <= back_off_s(attempts, BUDGETS, dice) <= base * 1.2


@given(
    st.sampled_from(CauseCode),
    st.sampled_from(Phase),
    st.integers(1, 9),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_inv3_only_transport_or_one_possible_stray_is_ever_retried(
    code: CauseCode, phase: Phase, attempts: int, strays: int, suspects: int
) -> None:
    history = History(attempts=attempts, present_s=0.0, stray_verdicts=strays, other_suspects=suspects)
    decision = decide(
        Cause(code=code, chunk=31, sequence=1), phase=phase, history=history, budgets=BUDGETS, dice=0.0
    )
    if isinstance(decision, Retry):
        again = DISPOSITIONS[code] in {Disposition.RETRY, Disposition.AGAIN}
        assert again or (code is CauseCode.INVALID_FILE and strays == 0)
        assert phase is not Phase.ENDING or code in {CauseCode.INVALID_FILE, CauseCode.NOT_STARTED}

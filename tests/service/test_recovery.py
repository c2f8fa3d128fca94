"""What a start closes and lifts, before anything is planned."""

from __future__ import annotations

import pytest

from firmwarden.model import Cause, CauseCode, JobState, LatchScope, Outcome
from firmwarden.protocol.mdfu.client_info import OUR_VERSION, ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.host import speaks_by_now
from firmwarden.protocol.mdfu.packet import ResponsePacket, Status
from firmwarden.service.recovery import recover
from support.stored import bare_ledger, enroll, image, release

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("phase", "outcome", "state"),
    [
        ("probing", Outcome.INTERRUPTED, JobState.QUEUED),
        ("writing", Outcome.INTERRUPTED, JobState.QUEUED),
        ("ending", Outcome.UNKNOWN, JobState.UNKNOWN),
    ],
)
def test_inv5_an_attempt_found_running_is_closed_by_its_phase(
    phase: str, outcome: Outcome, state: JobState
) -> None:
    with bare_ledger() as ledger:
        device = enroll(ledger, 1)
        job = ledger.create_job(device, release(1), NOW)
        attempt = ledger.claim(job.id, NOW)
        if phase != "probing":
            ledger.erase_starting(attempt.id, NOW)
        if phase == "ending":
            ledger.ending(attempt.id, NOW)
        (closed,) = recover(ledger, NOW + 1).attempts
        assert closed.id == attempt.id
        found, now = ledger.attempt(attempt.id), ledger.job(job.id)
        assert found is not None
        assert found.outcome is outcome
        assert now is not None
        assert now.state is state
        assert recover(ledger, NOW + 2).attempts == []


def too_new(version: ProtocolVersion) -> Cause:
    info = ClientInfo(version=version, buffer_size=128, default_timeout_s=1.0)
    answer = ResponsePacket(sequence=0, status=Status.SUCCESS, payload=info.encode())
    return Cause(code=CauseCode.PROTOCOL_TOO_NEW, raw=answer.encode())


def test_a_latch_for_a_protocol_is_lifted_by_a_firmwarden_that_speaks_it() -> None:
    with bare_ledger() as ledger:
        device = enroll(ledger, 1)
        spoken, foreign = too_new(OUR_VERSION), too_new(ProtocolVersion(OUR_VERSION.major + 1, 0, 0))
        worn = Cause(code=CauseCode.WRITE_ERROR, raw=spoken.raw)
        ledger.latch(LatchScope.DEVICE, device=device, image=None, cause=spoken, attempt=None, now=NOW)
        (lifted,) = recover(ledger, NOW, speaks_by_now).lifted
        assert (lifted.device, lifted.lifted_by) == (device, "firmwarden")
        for cause in (foreign, worn):
            latch = ledger.latch(
                LatchScope.PAIR, device=device, image=image(1), cause=cause, attempt=None, now=NOW
            )
            assert recover(ledger, NOW, speaks_by_now).lifted == []
            ledger.lift(latch.id, "test", NOW)


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x00\x01\x01\x03\x01"])
def test_an_answer_that_cannot_be_read_lifts_nothing(raw: bytes) -> None:
    assert not speaks_by_now(Cause(code=CauseCode.PROTOCOL_TOO_NEW, raw=raw))

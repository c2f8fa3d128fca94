"""Tells the log how an attempt ended, once that is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from firmwarden.events import LogEvent
from firmwarden.model import CauseCode, Outcome
from firmwarden.service.policy import AskAgain, Fail, Retry

if TYPE_CHECKING:
    from firmwarden.service.conclude import Conclusion

log = structlog.get_logger()


def tell(conclusion: Conclusion, seconds: float) -> None:
    """Log a conclusion of an attempt, or of a question, that took ``seconds``."""
    if conclusion.attempt.outcome is Outcome.UNKNOWN and conclusion.outcome is not Outcome.UNKNOWN:
        log.info(LogEvent.UPDATE_SETTLED, outcome=conclusion.outcome.value, evidence=conclusion.evidence)
    elif conclusion.outcome is Outcome.SUCCEEDED:
        log.info(LogEvent.UPDATE_SUCCEEDED, evidence=conclusion.evidence, seconds=round(seconds, 3))
    if conclusion.outcome is not Outcome.SUCCEEDED:
        _tell_failure(conclusion)


def _tell_failure(conclusion: Conclusion) -> None:
    cause = conclusion.cause
    told: dict[str, object] = {} if cause is None else {"cause": cause.code.value, "detail": cause.detail}
    if cause is not None and cause.offset is not None:
        told["offset"] = cause.offset
    match conclusion.decision:
        case Retry(delay_s=delay_s):
            log.warning(LogEvent.ATTEMPT_FAILED, **told, next="retry", retry_in_s=round(delay_s, 1))
        case Fail(code=code):
            log.warning(LogEvent.ATTEMPT_FAILED, **told, next="none")
            log.error(LogEvent.UPDATE_FAILED, **{**told, "cause": code.value})
        case AskAgain():
            log.warning(LogEvent.UPDATE_UNKNOWN, **told)
        case _ if cause is not None and cause.code is CauseCode.CANCELLED:
            log.info(LogEvent.JOB_CANCELLED, **told)
        case _:
            log.warning(LogEvent.ATTEMPT_FAILED, **told, next="queued")
    for latch in conclusion.latches:
        log.error(LogEvent.LATCH_SET, scope=latch.scope.value, image=latch.image, **told)

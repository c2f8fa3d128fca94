-- Version 3: what happened, counted for good.  Attempts and jobs are folded or forgotten one day; these never fall.

-- Attempts that are over, by the outcome and the code of the cause with which they ended first.
CREATE TABLE counted_attempts (
    device_class   TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    cause          TEXT    NOT NULL,                -- '' where there is none
    attempts       INTEGER NOT NULL DEFAULT 0,
    settled        INTEGER NOT NULL DEFAULT 0,      -- those that had ended unknown, when they became this
    retried        INTEGER NOT NULL DEFAULT 0,      -- those after which the job was queued again with a pause
    commands       INTEGER NOT NULL DEFAULT 0,
    resends        INTEGER NOT NULL DEFAULT 0,
    timeouts       INTEGER NOT NULL DEFAULT 0,
    damaged        INTEGER NOT NULL DEFAULT 0,
    strays         INTEGER NOT NULL DEFAULT 0,
    sent_bytes     INTEGER NOT NULL DEFAULT 0,
    received_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device_class, outcome, cause)
) STRICT, WITHOUT ROWID;

-- Jobs that are over.
CREATE TABLE counted_jobs (
    device_class TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    cause        TEXT    NOT NULL,
    jobs         INTEGER NOT NULL,
    PRIMARY KEY (device_class, state, cause)
) STRICT, WITHOUT ROWID;

-- How long attempts took, by a clock that does not jump: how many took longer than so much, and no longer than the next.
CREATE TABLE counted_seconds (
    device_class TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,
    longer_than  REAL    NOT NULL,
    attempts     INTEGER NOT NULL,
    seconds      REAL    NOT NULL,
    PRIMARY KEY (device_class, outcome, longer_than)
) STRICT, WITHOUT ROWID;

INSERT INTO counted_attempts
SELECT device_class, outcome, cause, sum(attempts), 0, 0, sum(commands), sum(resends), sum(timeouts), sum(damaged),
    sum(strays), sum(sent_bytes), sum(received_bytes)
FROM (
    SELECT jobs.device_class, attempts.outcome, coalesce(json_extract(attempts.cause, '$.code'), '') AS cause,
        1 AS attempts, commands, resends, timeouts, damaged, strays, sent_bytes, received_bytes
    FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE attempts.outcome <> 'running'
    UNION ALL
    SELECT devices.device_class, folded.outcome, '', folded.attempts, 0, 0, 0, 0, 0, 0, 0
    FROM folded JOIN devices ON devices.id = folded.device
) GROUP BY device_class, outcome, cause;

INSERT INTO counted_jobs
SELECT device_class, state, cause, count(*)
FROM (
    -- One that succeeded or was superseded may still have the cause of an attempt before.
    SELECT device_class, state, iif(state IN ('failed', 'cancelled'), coalesce(json_extract(cause, '$.code'), ''), '') AS cause
    FROM jobs WHERE state NOT IN ('queued', 'running', 'unknown')
) GROUP BY device_class, state, cause;

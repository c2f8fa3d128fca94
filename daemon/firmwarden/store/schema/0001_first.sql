-- Version 1.
--
-- Instants are wall-clock seconds since the epoch in UTC (REAL), days are whole UTC days since the epoch.
-- What the code branches on is CHECKed here; cause codes are not, so that a row written by a program that knows
-- more of them can still be read.  AUTOINCREMENT: the id of something folded or forgotten never names another.

PRAGMA application_id = 0x46574452;     -- "FWDR"

CREATE TABLE devices (
    id               TEXT    NOT NULL PRIMARY KEY,
    device_class     TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    label            TEXT    NOT NULL,
    port             TEXT    NOT NULL,
    serial           TEXT    NOT NULL,
    running_version  TEXT,
    running_sequence INTEGER,
    running_image    TEXT,
    running_evidence TEXT    NOT NULL DEFAULT '',
    complete         INTEGER CHECK (complete IN (0, 1)),
    pinned           TEXT,
    first_seen       REAL    NOT NULL,
    last_seen        REAL    NOT NULL,
    -- A forgotten unit keeps this row, because its flash keeps its wear and its latches still hold when it returns.
    forgotten        INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1)),
    UNIQUE (device_class, key)
) STRICT;

CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    device       TEXT    NOT NULL REFERENCES devices (id),
    device_class TEXT    NOT NULL,
    image        TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    sequence     INTEGER,
    size         INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN
                     ('queued', 'running', 'unknown', 'succeeded', 'failed', 'superseded', 'cancelled')),
    created_at   REAL    NOT NULL,
    updated_at   REAL    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    not_before   REAL,
    present_s    REAL    NOT NULL DEFAULT 0,
    cause        TEXT
) STRICT;

CREATE INDEX jobs_of_device ON jobs (device, image);
-- Two jobs must never write to one unit, and a pair has one open job at most.
CREATE UNIQUE INDEX one_running_job ON jobs (device) WHERE state = 'running';
CREATE UNIQUE INDEX one_open_job ON jobs (device, image) WHERE state IN ('queued', 'running', 'unknown');

CREATE TABLE attempts (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job            INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number         INTEGER NOT NULL,
    started_at     REAL    NOT NULL,
    phase          TEXT    NOT NULL CHECK (phase IN ('probing', 'writing', 'ending')),
    outcome        TEXT    NOT NULL CHECK (outcome IN
                       ('running', 'succeeded', 'failed', 'unknown', 'interrupted', 'cancelled')),
    ended_at       REAL,
    cause          TEXT,
    evidence       TEXT    NOT NULL DEFAULT '',
    erase_starts   INTEGER NOT NULL DEFAULT 0,
    commands       INTEGER NOT NULL DEFAULT 0,
    resends        INTEGER NOT NULL DEFAULT 0,
    timeouts       INTEGER NOT NULL DEFAULT 0,
    damaged        INTEGER NOT NULL DEFAULT 0,
    strays         INTEGER NOT NULL DEFAULT 0,
    sent_bytes     INTEGER NOT NULL DEFAULT 0,
    received_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job, number)
) STRICT;

CREATE INDEX open_attempts ON attempts (outcome) WHERE outcome IN ('running', 'unknown');

CREATE TABLE wear (
    device TEXT    NOT NULL REFERENCES devices (id),
    day    INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    PRIMARY KEY (device, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE latches (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    scope     TEXT    NOT NULL CHECK (scope IN ('pair', 'image', 'device')),
    device    TEXT    REFERENCES devices (id),
    image     TEXT,
    cause     TEXT    NOT NULL,
    set_at    REAL    NOT NULL,
    attempt   INTEGER,      -- may name one that was folded or forgotten since
    lifted_at REAL,
    lifted_by TEXT    NOT NULL DEFAULT '',
    CHECK ((device IS NULL) = (scope = 'image') AND (image IS NULL) = (scope = 'device'))
) STRICT;

CREATE INDEX active_latches ON latches (image) WHERE lifted_at IS NULL;

CREATE TABLE holds (
    device TEXT UNIQUE REFERENCES devices (id),     -- NULL: everything
    reason TEXT NOT NULL,
    owner  TEXT NOT NULL,
    at     REAL NOT NULL
) STRICT;

CREATE TABLE actions (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    who    TEXT NOT NULL,
    what   TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

-- Attempts that were folded, counted by their outcome.
CREATE TABLE folded (
    device   TEXT    NOT NULL REFERENCES devices (id),
    outcome  TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (device, outcome)
) STRICT, WITHOUT ROWID;

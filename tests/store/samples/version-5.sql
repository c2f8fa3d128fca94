PRAGMA application_id = 0x46574452;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE actions (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    who    TEXT NOT NULL,
    what   TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
INSERT INTO "actions" VALUES(1,1728043200.0,'ann','hold','all','fair');
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
    received_bytes INTEGER NOT NULL DEFAULT 0, mark_before BLOB, mark_after BLOB CHECK ((mark_before IS NULL) = (mark_after IS NULL)),
    UNIQUE (job, number)
) STRICT;
INSERT INTO "attempts" VALUES(1,1,1,1728043201.0,'ending','succeeded',1728043204.0,NULL,'END acknowledged',1,11,12,13,14,15,16,17,NULL,NULL);
INSERT INTO "attempts" VALUES(2,2,1,1728043201.0,'writing','failed',1728043204.0,'{"code": "erase-error", "detail": "the client could not erase", "raw": "00ff04", "offset": 512, "chunk": 2, "sequence": 7}','',2,0,0,0,0,0,0,0,NULL,NULL);
INSERT INTO "attempts" VALUES(3,3,1,1728043205.0,'ending','unknown',1728043208.0,'{"code": "end-unanswered", "detail": "", "raw": "", "offset": null, "chunk": null, "sequence": null}','',2,0,0,0,0,0,0,0,X'00FF',X'6E6577');
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
INSERT INTO "counted_attempts" VALUES('panel','failed','',3,0,0,0,0,0,0,0,0,0);
INSERT INTO "counted_attempts" VALUES('panel','failed','erase-error',1,2,3,0,0,0,0,0,0,0);
INSERT INTO "counted_attempts" VALUES('panel','succeeded','',1,0,0,11,12,13,14,15,16,17);
INSERT INTO "counted_attempts" VALUES('panel','unknown','end-unanswered',1,0,0,0,0,0,0,0,0,0);
CREATE TABLE counted_jobs (
    device_class TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    cause        TEXT    NOT NULL,
    jobs         INTEGER NOT NULL,
    PRIMARY KEY (device_class, state, cause)
) STRICT, WITHOUT ROWID;
INSERT INTO "counted_jobs" VALUES('panel','failed','erase-error',1);
INSERT INTO "counted_jobs" VALUES('panel','succeeded','',1);
CREATE TABLE counted_probations (
    device_class TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,              -- passed, failed or overtaken
    probations   INTEGER NOT NULL,
    PRIMARY KEY (device_class, outcome)
) STRICT, WITHOUT ROWID;
INSERT INTO "counted_probations" VALUES('panel','passed',1);
CREATE TABLE counted_seconds (
    device_class TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,
    longer_than  REAL    NOT NULL,
    attempts     INTEGER NOT NULL,
    seconds      REAL    NOT NULL,
    PRIMARY KEY (device_class, outcome, longer_than)
) STRICT, WITHOUT ROWID;
INSERT INTO "counted_seconds" VALUES('panel','failed',1800.0,1,4000.5);
INSERT INTO "counted_seconds" VALUES('panel','succeeded',2.0,1,3.0);
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
    forgotten        INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1)), vouched_after INTEGER NOT NULL DEFAULT 0, entered INTEGER NOT NULL DEFAULT 0 CHECK (entered IN (0, 1)), floor INTEGER, may_go_back_to TEXT, good_version TEXT, good_sequence INTEGER, good_image TEXT, good_size INTEGER CHECK ((good_size IS NULL) = (good_image IS NULL)), good_before_version TEXT, good_before_sequence INTEGER, good_before_image TEXT, good_before_size INTEGER
    CHECK ((good_before_size IS NULL) = (good_before_image IS NULL)),
    UNIQUE (device_class, key)
) STRICT;
INSERT INTO "devices" VALUES('aaaaaa','panel','serial:A1','panel 1','/dev/ttyACM1','1','1.1.0',NULL,'0000000000000000000000000000000000000000000000000000000000000001','END acknowledged',1,NULL,1728043200.0,1728043204.0,0,0,1,7,NULL,'1.1.0',7,'0000000000000000000000000000000000000000000000000000000000000001',1001,'1.0.0',NULL,'0000000000000000000000000000000000000000000000000000000000000000',1000);
INSERT INTO "devices" VALUES('bbbbbb','panel','port:1-1.4:0','panel 2','/dev/ttyACM2','2',NULL,NULL,NULL,'',0,'1.1.0',1728043200.0,1728043200.0,0,2,0,NULL,'1.0.0',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE folded (
    device   TEXT    NOT NULL REFERENCES devices (id),
    outcome  TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (device, outcome)
) STRICT, WITHOUT ROWID;
INSERT INTO "folded" VALUES('bbbbbb','failed',3);
CREATE TABLE handed_over (
    owner TEXT NOT NULL PRIMARY KEY,            -- the unit, or the commands that stop and start it, as JSON
    since REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "handed_over" VALUES('modem.service',1728043200.0);
CREATE TABLE holds (
    device     TEXT REFERENCES devices (id),    -- NULL: everything
    reason     TEXT NOT NULL,
    owner      TEXT NOT NULL,
    at         REAL NOT NULL,
    expires_at REAL
) STRICT;
INSERT INTO "holds" VALUES(NULL,'fair','ann',1728043200.0,NULL);
INSERT INTO "holds" VALUES('aaaaaa','calibration','bob',1728043200.0,1728050400.0);
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
INSERT INTO "jobs" VALUES(1,'aaaaaa','panel','0000000000000000000000000000000000000000000000000000000000000001','1.1.0',42,1001,'succeeded',1728043200.0,1728043204.0,1,NULL,0.0,NULL);
INSERT INTO "jobs" VALUES(2,'bbbbbb','panel','0000000000000000000000000000000000000000000000000000000000000002','1.2.0',NULL,1002,'failed',1728043200.0,1728043204.0,1,NULL,0.0,'{"code": "erase-error", "detail": "the client could not erase", "raw": "00ff04", "offset": 512, "chunk": 2, "sequence": 7}');
INSERT INTO "jobs" VALUES(3,'bbbbbb','panel','0000000000000000000000000000000000000000000000000000000000000003','1.3.0',NULL,1003,'unknown',1728043200.0,1728043208.0,1,1728043202.5,30.25,NULL);
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
INSERT INTO "latches" VALUES(1,'device','bbbbbb',NULL,'{"code": "erase-error", "detail": "the client could not erase", "raw": "00ff04", "offset": 512, "chunk": 2, "sequence": 7}',1728043204.0,2,NULL,'');
INSERT INTO "latches" VALUES(2,'image',NULL,'0000000000000000000000000000000000000000000000000000000000000009','{"code": "erase-error", "detail": "the client could not erase", "raw": "00ff04", "offset": 512, "chunk": 2, "sequence": 7}',1728043204.0,NULL,1728043209.0,'root');
CREATE TABLE probations (
    device   TEXT    NOT NULL PRIMARY KEY REFERENCES devices (id),
    job      INTEGER NOT NULL,
    image    TEXT    NOT NULL,
    version  TEXT    NOT NULL,
    sequence INTEGER,
    size     INTEGER NOT NULL,
    began_at REAL    NOT NULL,
    soaked_s REAL    NOT NULL DEFAULT 0         -- how long it has been here since, by a clock that does not jump
) STRICT, WITHOUT ROWID;
INSERT INTO "probations" VALUES('bbbbbb',3,'0000000000000000000000000000000000000000000000000000000000000001','1.1.0',NULL,1001,1728043200.0,12.5);
CREATE TABLE rollouts (
    device_class TEXT    NOT NULL,
    image        TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('canary', 'waves', 'stopped', 'done', 'recalled')),
    wave         INTEGER NOT NULL DEFAULT 0,    -- 0: the canaries
    began_at     REAL    NOT NULL,
    wave_at      REAL    NOT NULL,
    soaks_since  REAL,                          -- when all of the wave had it in good health
    forgiven     INTEGER NOT NULL DEFAULT 0,    -- failures at which a person let it go on
    changed_by   TEXT    NOT NULL DEFAULT '',
    reason       TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (device_class, image)
) STRICT, WITHOUT ROWID;
INSERT INTO "rollouts" VALUES('panel','0000000000000000000000000000000000000000000000000000000000000001','1.1.0','waves',1,1728043200.0,1728043300.0,1728043400.0,1,'ann','looked at it');
CREATE TABLE wear (
    device TEXT    NOT NULL REFERENCES devices (id),
    day    INTEGER NOT NULL,
    starts INTEGER NOT NULL, watched_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (device, day)
) STRICT, WITHOUT ROWID;
INSERT INTO "wear" VALUES('aaaaaa',20000,1,0.0);
INSERT INTO "wear" VALUES('aaaaaa',40000,3,90000.0);
INSERT INTO "wear" VALUES('bbbbbb',19998,1,0.0);
INSERT INTO "wear" VALUES('bbbbbb',19999,2,0.0);
INSERT INTO "wear" VALUES('bbbbbb',20000,2,0.0);
CREATE INDEX jobs_of_device ON jobs (device, image);
CREATE UNIQUE INDEX one_running_job ON jobs (device) WHERE state = 'running';
CREATE UNIQUE INDEX one_open_job ON jobs (device, image) WHERE state IN ('queued', 'running', 'unknown');
CREATE INDEX open_attempts ON attempts (outcome) WHERE outcome IN ('running', 'unknown');
CREATE INDEX active_latches ON latches (image) WHERE lifted_at IS NULL;
CREATE INDEX acts_on ON actions (target);
CREATE UNIQUE INDEX one_hold_of_an_owner ON holds (coalesce(device, ''), owner);
CREATE INDEX jobs_of_image ON jobs (image, device);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
INSERT INTO "sqlite_sequence" VALUES('attempts',3);
INSERT INTO "sqlite_sequence" VALUES('latches',2);
INSERT INTO "sqlite_sequence" VALUES('actions',1);
CREATE TABLE dropped (
    manifest TEXT NOT NULL PRIMARY KEY,
    what     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "dropped" VALUES('panel-1.toml','panel 1.1.0, image 000000000000');
COMMIT;

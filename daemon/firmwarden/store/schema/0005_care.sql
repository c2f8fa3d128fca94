-- Version 5: what may be given to a unit, when, in which order, and what it goes back to.

-- The greatest sequence with which the unit was confirmed: nothing below it is given to it any more.
ALTER TABLE devices ADD COLUMN floor INTEGER;
-- The version to which a person allowed it to go back all the same, once.
ALTER TABLE devices ADD COLUMN may_go_back_to TEXT;
-- What it ran last and kept its health with.
ALTER TABLE devices ADD COLUMN good_version TEXT;
ALTER TABLE devices ADD COLUMN good_sequence INTEGER;
ALTER TABLE devices ADD COLUMN good_image TEXT;
ALTER TABLE devices ADD COLUMN good_size INTEGER CHECK ((good_size IS NULL) = (good_image IS NULL));
-- And before that, should the last be called back.
ALTER TABLE devices ADD COLUMN good_before_version TEXT;
ALTER TABLE devices ADD COLUMN good_before_sequence INTEGER;
ALTER TABLE devices ADD COLUMN good_before_image TEXT;
ALTER TABLE devices ADD COLUMN good_before_size INTEGER
    CHECK ((good_before_size IS NULL) = (good_before_image IS NULL));
UPDATE devices SET (good_version, good_sequence, good_image, good_size) = (
    SELECT version, sequence, image, size FROM jobs
    WHERE jobs.device = devices.id AND jobs.image = devices.running_image AND jobs.state = 'succeeded'
    ORDER BY jobs.id DESC LIMIT 1
) WHERE complete = 1;
UPDATE devices SET floor = good_sequence;

-- Units that were updated and have yet to show that they keep well.
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

-- Probations that are over.
CREATE TABLE counted_probations (
    device_class TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,              -- passed, failed or overtaken
    probations   INTEGER NOT NULL,
    PRIMARY KEY (device_class, outcome)
) STRICT, WITHOUT ROWID;

-- A hold may end by itself, and two who hold the same do not take each other's back.
ALTER TABLE holds RENAME TO holds_of_version_4;
CREATE TABLE holds (
    device     TEXT REFERENCES devices (id),    -- NULL: everything
    reason     TEXT NOT NULL,
    owner      TEXT NOT NULL,
    at         REAL NOT NULL,
    expires_at REAL
) STRICT;
INSERT INTO holds (device, reason, owner, at) SELECT device, reason, owner, at FROM holds_of_version_4;
DROP TABLE holds_of_version_4;
CREATE UNIQUE INDEX one_hold_of_an_owner ON holds (coalesce(device, ''), owner);

-- How far a release has come among the units of its class.
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

-- By which it is told how the units of a class fared with an image.
CREATE INDEX jobs_of_image ON jobs (image, device);

-- Who was asked to leave a port and has yet to be started again.
CREATE TABLE handed_over (
    owner TEXT NOT NULL PRIMARY KEY,            -- the unit, or the commands that stop and start it, as JSON
    since REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- What is on record of each manifest that lies in the firmware directory.
CREATE TABLE dropped (
    manifest TEXT NOT NULL PRIMARY KEY,
    what     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX acts_on ON actions (target);

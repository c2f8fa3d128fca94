-- Version 2: by which bytes the half-done update of a unit is recognised in its flash.

ALTER TABLE attempts ADD COLUMN mark_before BLOB;
ALTER TABLE attempts ADD COLUMN mark_after BLOB CHECK ((mark_before IS NULL) = (mark_after IS NULL));
-- Attempts up to this one are no longer asked for: a person said that this is the unit, whatever its flash holds.
ALTER TABLE devices ADD COLUMN vouched_after INTEGER NOT NULL DEFAULT 0;

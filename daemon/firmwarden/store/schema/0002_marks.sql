-- Version 2: by which bytes the half-done update of a unit is recognised in its flash.

ALTER TABLE attempts ADD COLUMN mark_before BLOB;
ALTER TABLE attempts ADD COLUMN mark_after BLOB CHECK ((mark_before IS NULL) = (mark_after IS NULL));
-- What attempts up to this one left need not be recognised: a person said that this is the unit, whatever its flash holds.
ALTER TABLE devices ADD COLUMN vouched_after INTEGER NOT NULL DEFAULT 0;
-- Brought out of its application, into its loader, and neither erased nor seen running since.
ALTER TABLE devices ADD COLUMN entered INTEGER NOT NULL DEFAULT 0 CHECK (entered IN (0, 1));

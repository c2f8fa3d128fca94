-- Version 4: for how long wear has been watched that a clock which was ahead dated on a day to come, in seconds by a clock
-- that does not jump.

ALTER TABLE wear ADD COLUMN watched_s REAL NOT NULL DEFAULT 0;

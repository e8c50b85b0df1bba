-- How many witnesses cosigned a published checkpoint (services/witnesses.py).
ALTER TABLE remit.checkpoints ADD COLUMN cosigned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX checkpoints_cosigned ON remit.checkpoints (size) WHERE cosigned > 0;

-- What decided calls were given, sealed, where [ledger] keep_values says so: one row a decision (drivers/value_sealing.py).
CREATE TABLE remit.sealed_values (decision TEXT COLLATE "C" PRIMARY KEY, sealed BYTEA NOT NULL);
-- Numbers that only rise: which signed bundle of policies was in force last (services/rules.py).
CREATE TABLE remit.marks (name TEXT COLLATE "C" PRIMARY KEY, number BIGINT NOT NULL, text TEXT NOT NULL);

-- What decided calls were given, sealed, where [ledger] keep_values says so: one row a decision (drivers/value_sealing.py).
CREATE TABLE sealed_values (decision TEXT PRIMARY KEY, sealed BLOB NOT NULL);

-- Numbers that only rise: which signed bundle of policies was in force last (services/rules.py).
CREATE TABLE marks (name TEXT PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL);

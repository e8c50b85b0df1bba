-- One row an entry of the ledger. `hashes` holds the Merkle hashes that the entry completes, the leaf first (logic/merkle.py).
-- Texts compare by code point (COLLATE "C"), as they do in SQLite.
CREATE TABLE remit.entries (
    position BIGINT PRIMARY KEY,
    task TEXT COLLATE "C",
    seq BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    body BYTEA NOT NULL
);
CREATE UNIQUE INDEX entries_of_task ON remit.entries (task, seq) WHERE task IS NOT NULL;
CREATE TABLE remit.head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size BIGINT NOT NULL,
    frontier BYTEA NOT NULL,
    checkpoint TEXT NOT NULL
);
CREATE TABLE remit.checkpoints (size BIGINT PRIMARY KEY, note TEXT NOT NULL);
CREATE TABLE remit.tasks (
    task TEXT COLLATE "C" PRIMARY KEY,
    type TEXT NOT NULL,
    agent TEXT NOT NULL,
    on_behalf_of TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at TEXT COLLATE "C" NOT NULL,
    deadline TEXT COLLATE "C" NOT NULL
);
CREATE INDEX tasks_by_age ON remit.tasks (opened_at, task);
CREATE INDEX tasks_by_deadline ON remit.tasks (state, deadline);
CREATE TABLE remit.approvals (
    approval TEXT COLLATE "C" PRIMARY KEY,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TEXT COLLATE "C" NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX approvals_by_state ON remit.approvals (state, asked_at);
CREATE TABLE remit.documents (digest TEXT COLLATE "C" PRIMARY KEY, text TEXT NOT NULL);

-- One row an entry of the ledger. `hashes` holds the Merkle hashes that the entry completes, the leaf first (logic/merkle.py).
CREATE TABLE entries (
    position INTEGER PRIMARY KEY,
    task TEXT,
    seq INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX entries_of_task ON entries (task, seq) WHERE task IS NOT NULL;

-- The tree's head: exactly one row.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    checkpoint TEXT NOT NULL
);

-- Checkpoints that left the house.
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL);

-- Projections for lists; the entries are the truth.
CREATE TABLE tasks (
    task TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    agent TEXT NOT NULL,
    on_behalf_of TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    deadline TEXT NOT NULL
);
CREATE INDEX tasks_by_age ON tasks (opened_at, task);
CREATE INDEX tasks_by_deadline ON tasks (state, deadline);
CREATE TABLE approvals (
    approval TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX approvals_by_state ON approvals (state, asked_at);

-- Texts that records name by digest.
CREATE TABLE documents (digest TEXT PRIMARY KEY, text TEXT NOT NULL);

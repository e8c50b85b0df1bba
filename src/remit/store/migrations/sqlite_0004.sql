-- One row a credential on a target: a projection of its task's entries, and the credential itself, sealed, until it is gone.
-- The indexes hold live leases only, so that nothing grows with what is over.
CREATE TABLE leases (
    lease TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    agent TEXT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    due_at TEXT NOT NULL,
    sealed TEXT NOT NULL
);
CREATE INDEX leases_due ON leases (target, due_at) WHERE state <> 'revoked';
CREATE INDEX leases_of_agent ON leases (agent) WHERE state <> 'revoked';
CREATE INDEX leases_live ON leases (lease) WHERE state <> 'revoked';

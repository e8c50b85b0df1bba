-- One row a credential on a target: a projection of its task's entries, and the credential itself, sealed, until it is gone.
-- The indexes hold live leases only, so that nothing grows with what is over.
CREATE TABLE remit.leases (
    lease TEXT COLLATE "C" PRIMARY KEY,
    task TEXT NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    state TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    due_at TEXT COLLATE "C" NOT NULL,
    sealed TEXT NOT NULL
);
CREATE INDEX leases_due ON remit.leases (target, due_at) WHERE state <> 'revoked';
CREATE INDEX leases_of_agent ON remit.leases (agent) WHERE state <> 'revoked';
CREATE INDEX leases_live ON remit.leases (lease) WHERE state <> 'revoked';

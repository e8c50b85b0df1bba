-- What each task has seen, by keyed digests: one row a result (services/sightings.py).
CREATE TABLE remit.sightings (
    task TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (task, number)
);
-- Values that a task wrote to a server from material nobody vouches for, by keyed digests.
CREATE TABLE remit.taints (
    server TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    task TEXT NOT NULL,
    PRIMARY KEY (server, key)
);

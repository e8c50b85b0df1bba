-- What each task has seen, by keyed digests: one row a result (services/sightings.py).
CREATE TABLE sightings (
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;

-- Values that a task wrote to a server from material nobody vouches for, by keyed digests.
CREATE TABLE taints (
    server TEXT NOT NULL,
    key BLOB NOT NULL,
    task TEXT NOT NULL,
    PRIMARY KEY (server, key)
) WITHOUT ROWID;

-- name: head
-- The tree's head.
SELECT size, frontier, checkpoint FROM head WHERE id = 1;

-- name: set_head
-- Move the head.
UPDATE head SET size = ?, frontier = ?, checkpoint = ? WHERE id = 1;

-- name: first_head
-- Make the head of an empty tree, once.
INSERT OR IGNORE INTO head (id, size, frontier, checkpoint) VALUES (1, 0, x'', ?);

-- name: last_of_task
-- The latest entry of a task: its seq and its leaf hash.
SELECT seq, substr(hashes, 1, 32) FROM entries WHERE task = ? ORDER BY seq DESC LIMIT 1;

-- name: add_entry
-- One entry.
INSERT INTO entries (position, task, seq, hashes, body) VALUES (?, ?, ?, ?, ?);

-- name: put_task
-- Replace a task's row.
INSERT INTO tasks (task, type, agent, on_behalf_of, state, opened_at, deadline) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (task) DO UPDATE SET state = excluded.state, deadline = excluded.deadline;

-- name: put_approval
-- Replace an approval's row.
INSERT INTO approvals (approval, task, state, asked_at, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (approval) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at;

-- name: entries_of_task
-- Entries of one task after a number, in order.
SELECT position, task, seq, substr(hashes, 1, 32), body FROM entries WHERE task = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: entries
-- Entries from an index, in order.
SELECT position, task, seq, substr(hashes, 1, 32), body FROM entries WHERE position >= ? ORDER BY position LIMIT ?;

-- name: hashes
-- The hashes kept with one entry.
SELECT hashes FROM entries WHERE position = ?;

-- name: publish
-- Keep a checkpoint that leaves the house.
INSERT OR IGNORE INTO checkpoints (size, note) VALUES (?, ?);

-- name: keep_cosigned
-- Give a published checkpoint its witnesses' cosignatures; the note with more of them stays.
UPDATE checkpoints SET note = ?, cosigned = ? WHERE size = ? AND cosigned < ?;

-- name: cosigned
-- The latest checkpoint that a witness cosigned.
SELECT note FROM checkpoints WHERE cosigned > 0 ORDER BY size DESC LIMIT 1;

-- name: checkpoints
-- Published checkpoints above a size, smallest first.
SELECT note FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?;

-- name: opened_at
-- When a task was opened, to page after it.
SELECT opened_at FROM tasks WHERE task = ?;

-- name: tasks
-- Rows of tasks, newest first, after a place.
SELECT task, type, agent, on_behalf_of, state, opened_at, deadline FROM tasks
WHERE (opened_at, task) < (?, ?) ORDER BY opened_at DESC, task DESC LIMIT ?;

-- name: tasks_in_state
-- The same of one state: costs what is shown, however many tasks are in others.
SELECT task, type, agent, on_behalf_of, state, opened_at, deadline FROM tasks
WHERE state = ? AND (opened_at, task) < (?, ?) ORDER BY opened_at DESC, task DESC LIMIT ?;

-- name: approvals
-- Rows of approvals in some states (a JSON array) that expire after a time, oldest first.
SELECT approval, task, state, asked_at, expires_at FROM approvals
WHERE state IN (SELECT value FROM json_each(?)) AND expires_at > ? ORDER BY asked_at, approval LIMIT ?;

-- name: approval
-- One approval.
SELECT approval, task, state, asked_at, expires_at FROM approvals WHERE approval = ?;

-- name: put_document
-- Keep a text under its digest.
INSERT OR IGNORE INTO documents (digest, text) VALUES (?, ?);

-- name: document
-- The text of a digest.
SELECT text FROM documents WHERE digest = ?;

-- name: document_keys
-- Keys of documents that begin with a text, after one of them, in order.
SELECT digest FROM documents WHERE digest > ?1 AND substr(digest, 1, length(?2)) = ?2 ORDER BY digest LIMIT ?3;

-- name: drop_document
-- Forget a document.
DELETE FROM documents WHERE digest = ?;

-- name: due_tasks
-- Tasks past their deadline that have not ended.
SELECT task FROM tasks WHERE state IN ('pending', 'active', 'suspended') AND deadline <= ? ORDER BY deadline LIMIT ?;

-- name: put_sighting
-- What a result taught a task.
INSERT INTO sightings (task, number, data) VALUES (?, ?, ?) ON CONFLICT (task, number) DO UPDATE SET data = excluded.data;

-- name: sightings
-- What a task's results taught it, from a number on.
SELECT number, data FROM sightings WHERE task = ? AND number > ? ORDER BY number;

-- name: drop_sightings
-- Forget what an ended task has seen.
DELETE FROM sightings WHERE task = ?;

-- name: put_taint
-- A value that was written from material nobody vouches for.
INSERT OR IGNORE INTO taints (server, key, task) VALUES (?, ?, ?);

-- name: any_taint
-- Whether anything was ever tainted at a server.
SELECT 1 FROM taints WHERE server = ? LIMIT 1;

-- name: tainted
-- Whether a value is tainted at a server.
SELECT 1 FROM taints WHERE server = ? AND key = ?;

-- name: put_value
-- Keep what a decided call was given, sealed.
INSERT INTO sealed_values (decision, sealed) VALUES (?, ?) ON CONFLICT (decision) DO UPDATE SET sealed = excluded.sealed;

-- name: drop_values
-- Forget the sealed values of some decisions.
DELETE FROM sealed_values WHERE decision IN (SELECT value FROM json_each(?));

-- name: values
-- The sealed values of some decisions (a JSON array).
SELECT decision, sealed FROM sealed_values WHERE decision IN (SELECT value FROM json_each(?));

-- name: put_mark
-- Raise a mark; one that stands higher stays.
INSERT INTO marks (name, number, text) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET number = excluded.number, text = excluded.text WHERE excluded.number > marks.number;

-- name: mark
-- The highest mark of a name.
SELECT number, text FROM marks WHERE name = ?;

-- name: put_lease
-- Replace a lease's row; its credential stays until it is revoked, unless there is a new one.
INSERT INTO leases AS kept (lease, task, agent, target, state, expires_at, due_at, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (lease) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, sealed = CASE
    WHEN excluded.state = 'revoked' THEN '' WHEN excluded.sealed = '' THEN kept.sealed ELSE excluded.sealed END

-- name: lease
-- One lease.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM leases WHERE lease = ?

-- name: live_leases
-- Live leases of one target, or of all, in order.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM leases
WHERE state <> 'revoked' AND (? = '' OR target = ?) AND lease > ? ORDER BY lease LIMIT ?

-- name: due_leases
-- Live leases of a target that are due, the longest overdue first.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM leases
WHERE state <> 'revoked' AND target = ? AND due_at <= ? ORDER BY due_at LIMIT ?

-- name: claim_lease
-- Move the due time of a live lease on, unless somebody else did.
UPDATE leases SET due_at = ? WHERE lease = ? AND due_at = ? AND state <> 'revoked'

-- name: lease_counts
-- Live leases of an agent and of a target, each counted up to a number.
SELECT (SELECT count(*) FROM (SELECT 1 FROM leases WHERE state <> 'revoked' AND agent = ? LIMIT ?) AS a),
       (SELECT count(*) FROM (SELECT 1 FROM leases WHERE state <> 'revoked' AND target = ? LIMIT ?) AS b)

-- name: lease_targets
-- Targets that have live leases: from one to the next along the index.
WITH RECURSIVE found (target) AS (
    SELECT (SELECT min(target) FROM leases WHERE state <> 'revoked')
    UNION ALL
    SELECT (SELECT min(target) FROM leases WHERE state <> 'revoked' AND target > found.target) FROM found WHERE found.target IS NOT NULL
)
SELECT target FROM found WHERE target IS NOT NULL;

-- name: leases_below_suspended
-- Leases that are in use or being made although a task above is suspended: down from such tasks, never over all that lives.
WITH RECURSIVE below (task) AS (
    SELECT child.task FROM tasks AS above JOIN children AS child ON child.parent = above.task
    WHERE above.state = 'suspended' AND child.settled = 0
    UNION
    SELECT child.task FROM below JOIN children AS child ON child.parent = below.task WHERE child.settled = 0
)
SELECT lease, held.task, agent, target, state, expires_at, due_at, sealed FROM below JOIN leases AS held ON held.task = below.task
WHERE held.state <> 'revoked' AND held.state IN ('intended', 'issued') LIMIT ?;

-- name: put_child
-- A child task; one that is settled stays settled.
INSERT INTO children (task, parent, settled) VALUES (?, ?, ?)
ON CONFLICT (task) DO UPDATE SET settled = excluded.settled WHERE children.settled = 0;

-- name: children
-- Tasks that were delegated by one.
SELECT task FROM children WHERE parent = ? ORDER BY task LIMIT ?;

-- name: unsettled
-- Children for which something can be done: their parents have ended, or they have and nothing below them is unsettled.
SELECT child.task, child.parent, own.state NOT IN ('pending', 'active', 'suspended'), above.state NOT IN ('pending', 'active', 'suspended')
FROM children AS child JOIN tasks AS own ON own.task = child.task JOIN tasks AS above ON above.task = child.parent
WHERE child.settled = 0
AND CASE WHEN own.state IN ('pending', 'active', 'suspended') THEN above.state NOT IN ('pending', 'active', 'suspended')
    ELSE NOT EXISTS (SELECT 1 FROM children AS below WHERE below.parent = child.task AND below.settled = 0) END LIMIT ?;

-- name: living_tasks
-- Tasks of some agents that have not ended.
SELECT task FROM tasks WHERE state IN ('pending', 'active', 'suspended') AND (EXISTS (SELECT 1 FROM json_each(?1) WHERE value = '*') OR agent IN (SELECT value FROM json_each(?1))) LIMIT ?;

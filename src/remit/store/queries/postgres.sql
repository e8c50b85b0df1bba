-- name: head
-- The tree's head.
SELECT size, frontier, checkpoint FROM remit.head WHERE id = 1

-- name: lock_head
-- The tree's head, held until the transaction ends: nodes append one after the other.
SELECT size, frontier FROM remit.head WHERE id = 1 FOR UPDATE

-- name: set_head
-- Move the head, and wake whoever listens, in the moment of the commit.
WITH moved AS (UPDATE remit.head SET size = %s, frontier = %s, checkpoint = %s WHERE id = 1 RETURNING size)
SELECT pg_notify('remit_ledger', size::text) FROM moved

-- name: listen
-- Be woken by it.
LISTEN remit_ledger

-- name: first_head
-- Make the head of an empty tree, once.
INSERT INTO remit.head (id, size, frontier, checkpoint) VALUES (1, 0, ''::bytea, %s) ON CONFLICT DO NOTHING

-- name: last_of_task
-- The latest entry of a task: its seq and its leaf hash.
SELECT seq, substring(hashes FROM 1 FOR 32) FROM remit.entries WHERE task = %s ORDER BY seq DESC LIMIT 1

-- name: add_entry
-- One entry.
INSERT INTO remit.entries (position, task, seq, hashes, body) VALUES (%s, %s, %s, %s, %s)

-- name: put_task
-- Replace a task's row.
INSERT INTO remit.tasks (task, type, agent, on_behalf_of, state, opened_at, deadline) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (task) DO UPDATE SET state = excluded.state, deadline = excluded.deadline

-- name: put_approval
-- Replace an approval's row.
INSERT INTO remit.approvals (approval, task, state, asked_at, expires_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (approval) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at

-- name: entries_of_task
-- Entries of one task after a number, in order; all where there is no limit.
SELECT position, task, seq, substring(hashes FROM 1 FOR 32), body FROM remit.entries WHERE task = %s AND seq > %s ORDER BY seq LIMIT %s::bigint

-- name: entries
-- Entries from an index, in order.
SELECT position, task, seq, substring(hashes FROM 1 FOR 32), body FROM remit.entries WHERE position >= %s ORDER BY position LIMIT %s

-- name: hashes
-- The hashes kept with some entries.
SELECT position, hashes FROM remit.entries WHERE position = ANY(%s)

-- name: publish
-- Keep a checkpoint that leaves the house.
INSERT INTO remit.checkpoints (size, note) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: keep_cosigned
-- Give a published checkpoint its witnesses' cosignatures; the note with more of them stays.
UPDATE remit.checkpoints SET note = %s, cosigned = %s WHERE size = %s AND cosigned < %s

-- name: cosigned
-- The latest checkpoint that a witness cosigned.
SELECT note FROM remit.checkpoints WHERE cosigned > 0 ORDER BY size DESC LIMIT 1

-- name: checkpoints
-- Published checkpoints above a size, smallest first.
SELECT note FROM remit.checkpoints WHERE size > %s ORDER BY size LIMIT %s

-- name: opened_at
-- When a task was opened, to page after it.
SELECT opened_at FROM remit.tasks WHERE task = %s

-- name: tasks
-- Rows of tasks, newest first, after a place.
SELECT task, type, agent, on_behalf_of, state, opened_at, deadline FROM remit.tasks
WHERE (opened_at, task) < (%s, %s) ORDER BY opened_at DESC, task DESC LIMIT %s

-- name: tasks_in_state
-- The same of one state: costs what is shown, however many tasks are in others.
SELECT task, type, agent, on_behalf_of, state, opened_at, deadline FROM remit.tasks
WHERE state = %s AND (opened_at, task) < (%s, %s) ORDER BY opened_at DESC, task DESC LIMIT %s

-- name: approvals
-- Rows of approvals in some states that expire after a time, oldest first.
SELECT approval, task, state, asked_at, expires_at FROM remit.approvals
WHERE state = ANY(%s) AND expires_at > %s ORDER BY asked_at, approval LIMIT %s

-- name: approval
-- One approval.
SELECT approval, task, state, asked_at, expires_at FROM remit.approvals WHERE approval = %s

-- name: document_keys
-- Keys of documents that begin with a text, after one of them, in order.
SELECT digest FROM remit.documents
WHERE digest COLLATE "C" > %s AND starts_with(digest, %s) ORDER BY digest COLLATE "C" LIMIT %s

-- name: drop_document
-- Forget a document.
DELETE FROM remit.documents WHERE digest = %s

-- name: due_tasks
-- Tasks past their deadline that have not ended.
SELECT task FROM remit.tasks WHERE state IN ('pending', 'active', 'suspended') AND deadline <= %s ORDER BY deadline LIMIT %s

-- name: put_document
-- Keep a text under its digest.
INSERT INTO remit.documents (digest, text) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: document
-- The text of a digest.
SELECT text FROM remit.documents WHERE digest = %s

-- name: put_sighting
-- What a result taught a task.
INSERT INTO remit.sightings (task, number, data) VALUES (%s, %s, %s) ON CONFLICT (task, number) DO UPDATE SET data = excluded.data;

-- name: sightings
-- What a task's results taught it, from a number on.
SELECT number, data FROM remit.sightings WHERE task = %s AND number > %s ORDER BY number;

-- name: drop_sightings
-- Forget what an ended task has seen.
DELETE FROM remit.sightings WHERE task = %s;

-- name: put_taint
-- A value that was written from material nobody vouches for.
INSERT INTO remit.taints (server, key, task) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING;

-- name: tainted
-- Which of some values are tainted at a server.
SELECT key FROM remit.taints WHERE server = %s AND key = ANY(%s);

-- name: put_value
-- Keep what a decided call was given, sealed.
INSERT INTO remit.sealed_values (decision, sealed) VALUES (%s, %s) ON CONFLICT (decision) DO UPDATE SET sealed = excluded.sealed

-- name: drop_values
-- Forget the sealed values of some decisions.
DELETE FROM remit.sealed_values WHERE decision = ANY(%s)

-- name: values
-- The sealed values of some decisions.
SELECT decision, sealed FROM remit.sealed_values WHERE decision = ANY(%s)

-- name: put_mark
-- Raise a mark; one that stands higher stays.
INSERT INTO remit.marks AS kept (name, number, text) VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET number = excluded.number, text = excluded.text WHERE excluded.number > kept.number

-- name: mark
-- The highest mark of a name.
SELECT number, text FROM remit.marks WHERE name = %s

-- name: put_lease
-- Replace a lease's row; its credential stays until it is revoked, unless there is a new one.
INSERT INTO remit.leases AS kept (lease, task, agent, target, state, expires_at, due_at, sealed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (lease) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, sealed = CASE
    WHEN excluded.state = 'revoked' THEN '' WHEN excluded.sealed = '' THEN kept.sealed ELSE excluded.sealed END

-- name: lease
-- One lease.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM remit.leases WHERE lease = %s

-- name: live_leases
-- Live leases of one target, or of all, in order.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM remit.leases
WHERE state <> 'revoked' AND (%s = '' OR target = %s) AND lease > %s ORDER BY lease LIMIT %s

-- name: due_leases
-- Live leases of a target that are due, the longest overdue first.
SELECT lease, task, agent, target, state, expires_at, due_at, sealed FROM remit.leases
WHERE state <> 'revoked' AND target = %s AND due_at <= %s ORDER BY due_at LIMIT %s

-- name: claim_lease
-- Move the due time of a live lease on, unless somebody else did.
UPDATE remit.leases SET due_at = %s WHERE lease = %s AND due_at = %s AND state <> 'revoked'

-- name: lease_counts
-- Live leases of an agent and of a target, each counted up to a number.
SELECT (SELECT count(*) FROM (SELECT 1 FROM remit.leases WHERE state <> 'revoked' AND agent = %s LIMIT %s) AS a),
       (SELECT count(*) FROM (SELECT 1 FROM remit.leases WHERE state <> 'revoked' AND target = %s LIMIT %s) AS b)

-- name: lease_targets
-- Targets that have live leases: from one to the next along the index.
WITH RECURSIVE found (target) AS (
    SELECT (SELECT min(target) FROM remit.leases WHERE state <> 'revoked')
    UNION ALL
    SELECT (SELECT min(target) FROM remit.leases WHERE state <> 'revoked' AND target > found.target) FROM found WHERE found.target IS NOT NULL
)
SELECT target FROM found WHERE target IS NOT NULL;

-- name: leases_below_suspended
-- Leases that are in use or being made although a task above is suspended: down from such tasks, never over all that lives.
WITH RECURSIVE below (task) AS (
    SELECT child.task FROM remit.tasks AS above JOIN remit.children AS child ON child.parent = above.task
    WHERE above.state = 'suspended' AND child.settled = 0
    UNION
    SELECT child.task FROM below JOIN remit.children AS child ON child.parent = below.task WHERE child.settled = 0
)
SELECT lease, held.task, agent, target, state, expires_at, due_at, sealed FROM below JOIN remit.leases AS held ON held.task = below.task
WHERE held.state <> 'revoked' AND held.state IN ('intended', 'issued') LIMIT %s;

-- name: put_child
-- A child task; one that is settled stays settled.
INSERT INTO remit.children AS kept (task, parent, settled) VALUES (%s, %s, %s)
ON CONFLICT (task) DO UPDATE SET settled = excluded.settled WHERE kept.settled = 0;

-- name: children
-- Tasks that were delegated by one.
SELECT task FROM remit.children WHERE parent = %s ORDER BY task LIMIT %s;

-- name: unsettled
-- Children for which something can be done: their parents have ended, or they have and nothing below them is unsettled.
SELECT child.task, child.parent, own.state NOT IN ('pending', 'active', 'suspended'), above.state NOT IN ('pending', 'active', 'suspended')
FROM remit.children AS child JOIN remit.tasks AS own ON own.task = child.task JOIN remit.tasks AS above ON above.task = child.parent
WHERE child.settled = 0
AND CASE WHEN own.state IN ('pending', 'active', 'suspended') THEN above.state NOT IN ('pending', 'active', 'suspended')
    ELSE NOT EXISTS (SELECT 1 FROM remit.children AS below WHERE below.parent = child.task AND below.settled = 0) END LIMIT %s;

-- name: living_tasks
-- Tasks of some agents that have not ended.
SELECT task FROM remit.tasks WHERE state IN ('pending', 'active', 'suspended') AND ('*' = ANY(%s) OR agent = ANY(%s)) LIMIT %s;

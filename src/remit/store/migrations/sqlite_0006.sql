-- Leases by their task, live ones only: what a suspended task above takes away (services/subtrees.py).
CREATE INDEX leases_of_task ON leases (task) WHERE state <> 'revoked';

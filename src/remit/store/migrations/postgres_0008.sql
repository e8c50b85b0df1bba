-- First pages of lists cost what they show, however many tasks have ended and questions have expired.
CREATE INDEX tasks_by_state ON remit.tasks (state, opened_at, task);
CREATE INDEX approvals_alive ON remit.approvals (state, expires_at);

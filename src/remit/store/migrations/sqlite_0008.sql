-- First pages of lists cost what they show, however many tasks have ended and questions have expired.
CREATE INDEX tasks_by_state ON tasks (state, opened_at, task);
CREATE INDEX approvals_alive ON approvals (state, expires_at);

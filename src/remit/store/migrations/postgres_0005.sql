-- Child tasks and their parents, and whether the parent has taken back what was not spent (services/subtrees.py).
CREATE TABLE remit.children (task TEXT COLLATE "C" PRIMARY KEY, parent TEXT COLLATE "C" NOT NULL, settled SMALLINT NOT NULL);
CREATE INDEX children_of_task ON remit.children (parent, task);
CREATE INDEX children_unsettled ON remit.children (task) WHERE settled = 0;
CREATE INDEX tasks_of_agent ON remit.tasks (agent, state);

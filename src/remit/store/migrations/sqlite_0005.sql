-- Child tasks and their parents, and whether the parent has taken back what was not spent (services/subtrees.py).
CREATE TABLE children (task TEXT PRIMARY KEY, parent TEXT NOT NULL, settled INTEGER NOT NULL);
CREATE INDEX children_of_task ON children (parent, task);
CREATE INDEX children_unsettled ON children (task) WHERE settled = 0;
CREATE INDEX tasks_of_agent ON tasks (agent, state);

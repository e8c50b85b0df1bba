"""AgentDojo without a model: its tasks and its injections replayed by an agent that obeys every one, judged by AgentDojo itself.

Rules
* The agent is the worst there is: from the moment it has seen an injection it makes exactly the attacker's calls, then goes on.
* Nothing here knows a task, a value or an injection. What a task may do comes from the catalog and the policies below
  ``folders/``, which were written from the tools' documentation alone, and from the task's scope.
* A refused call is not made: the tools are a real MCP server behind remit's real gateway, and its state is what is judged.
* Left out: models, and therefore agents that resist. docs/agentdojo.md has the protocol and the figures.
"""

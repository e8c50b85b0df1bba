"""The demo: ``make demo``. Real published MCP servers, a real MCP client, a hijacked agent, and what remit did about it."""

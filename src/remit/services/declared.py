"""The agents that ``remit.toml`` declares, by name and by identity: found at the same cost, however many there are.

Rules: the mapping of a configuration never changes; another configuration brings another one, and the index is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.settings import Agent


class Declared:
    """Looks up agents as they are declared now."""

    def __init__(self, agents: Callable[[], Mapping[str, Agent]]) -> None:
        """``agents``: by name; the same object as long as nothing has changed."""
        self._agents = agents
        self._indexed: Mapping[str, Agent] | None = None
        self._by_identity: dict[str, Agent] = {}

    def named(self, name: str) -> Agent | None:
        """The agent of a name."""
        return self._agents().get(name)

    def names(self) -> list[str]:
        """Of all, sorted."""
        return sorted(self._agents())

    def identified(self, spiffe_id: str) -> Agent | None:
        """The agent that has a SPIFFE ID."""
        agents = self._agents()
        if agents is not self._indexed:
            self._by_identity, self._indexed = {agent.spiffe_id.text: agent for agent in agents.values()}, agents
        return self._by_identity.get(spiffe_id)

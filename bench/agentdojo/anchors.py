"""Deciders that know only names: what there was before, and what any scope alone is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.agentdojo.script import Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Collection

    from bench.agentdojo.suites import Environment


class Named:
    """Makes the calls of the named tools, straight on the environment; ``None`` makes them all."""

    def __init__(self, environment: Environment, allowed: Collection[str] | None) -> None:
        self._environment, self._allowed = environment, allowed

    async def call(self, step: Step) -> Outcome:
        """Make one call."""
        if self._allowed is not None and step.tool not in self._allowed:
            return Outcome(made=False, reasons=("not_granted",))
        answer, _, _ = self._environment.call(step.tool, step.arguments)
        return Outcome(made=True, answer=answer)

"""Assembles the console's pages that look back: Ledger, Exposure, Agents, Policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.doors.console.agents import AgentsDoor
from remit.doors.console.exposure import ExposureDoor
from remit.doors.console.ledger import LedgerDoor
from remit.doors.console.policy import PolicyDoor
from remit.drivers.rehearsal import Rehearsals
from remit.services.agent_views import AgentViews
from remit.services.exposure import Exposures, RecentExposures
from remit.services.ledger_search import LedgerSearch

if TYPE_CHECKING:
    from remit.doors.console.frame import Page
    from remit.node import Node


def record_pages(node: Node) -> list[Page]:
    """The pages."""
    rules, search = node.rules, LedgerSearch(node.store)
    exposures = RecentExposures(Exposures(node.store, search, node.clock))
    agents = AgentViews(node.tasks, lambda: rules.configuration.agents)
    policy = PolicyDoor(
        rehearsals=Rehearsals(node.folder),
        configuration=lambda: rules.configuration,
        rulebook=lambda: rules.rulebook,
        clock=node.clock,
    )
    return [
        *LedgerDoor(ledger=node.ledger, search=search).pages(),
        *ExposureDoor(exposures=exposures, clock=node.clock).pages(),
        *AgentsDoor(agents=agents, exposures=exposures, clock=node.clock).pages(),
        *policy.pages(),
    ]

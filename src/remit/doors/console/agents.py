"""The page Agents: identity, manifest and its changes, task types used, granted against used. Translates; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.doors.console.exposure import STRIP_HEIGHT, strips
from remit.doors.console.frame import Page
from remit.model.console import Action
from remit.services.agent_views import ROWS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.services.agent_views import AgentViews
    from remit.services.exposure import RecentExposures

_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsDoor:
    """For everybody who may look."""

    agents: AgentViews
    exposures: RecentExposures
    clock: Callable[[], datetime]

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path="/console/agents", action=Action.LOOK, show=self._all),
            Page(method="GET", path="/console/agents/{agent}", action=Action.LOOK, show=self._one),
        ]

    async def _all(self, visit: Visit) -> Response:
        return visit.page("agents.html", agents=await self.agents.all(), rows_max=ROWS_MAX)

    async def _one(self, visit: Visit) -> Response:
        details = await self.agents.one(visit.request.path_params["agent"])
        now = self.clock()
        found = await self.exposures.of(now - timedelta(days=_DAYS), now, agent=details.view.spiffe_id)
        return visit.page(
            "agent.html",
            one=details,
            days=_DAYS,
            found=found,
            privileges=strips(found.privileges, found),
            never=[one.what for one in found.privileges if not one.uses],
            height=STRIP_HEIGHT,
            rows_max=ROWS_MAX,
        )

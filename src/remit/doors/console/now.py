"""The page Now: what runs, what waits, what was just decided, which credentials stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.console.frame import Page
from remit.model.console import Action

if TYPE_CHECKING:
    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.services.overview import Overviews


@dataclass(frozen=True, slots=True, kw_only=True)
class NowDoor:
    """The first page."""

    overviews: Overviews

    def pages(self) -> list[Page]:
        """What is served here."""
        return [Page(method="GET", path="/", action=Action.LOOK, show=self._now)]

    async def _now(self, visit: Visit) -> Response:
        overview = await self.overviews.now()
        return visit.page("now.html", now=overview, may_answer=visit.may(Action.ANSWER))

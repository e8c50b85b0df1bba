"""The page Exposure: how long access stood open, against what was used and what would have stood. Translates; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.doors.console.frame import Page
from remit.doors.console.pictures import bar, lasting, strip
from remit.errors import Mistake
from remit.model.console import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.model.exposure import Excess, Exposure, Standing
    from remit.services.exposure import RecentExposures

DAYS = (1, 7, 30, 90)
_STRIPS_MAX, _EXCESSES_MAX = 20, 12
STRIP_HEIGHT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureDoor:
    """For everybody who may look."""

    exposures: RecentExposures
    clock: Callable[[], datetime]

    def pages(self) -> list[Page]:
        """What is served here."""
        return [Page(method="GET", path="/console/exposure", action=Action.LOOK, show=self._show)]

    async def _show(self, visit: Visit) -> Response:
        asked = visit.request.query_params.get("days", "7")
        if asked not in map(str, DAYS):
            raise Mistake("there is no such period", code="period", hint=", ".join(map(str, DAYS)))
        now = self.clock()
        found = await self.exposures.of(now - timedelta(days=int(asked)), now)
        return visit.page(
            "exposure.html",
            days=int(asked),
            choices=DAYS,
            found=found,
            credentials=strips(found.credentials, found),
            privileges=strips(found.privileges, found),
            more={"credentials": len(found.credentials) - _STRIPS_MAX, "privileges": len(found.privileges) - _STRIPS_MAX},
            totals=[_totals(found, of) for of in ("credentials", "privileges") if getattr(found, of)],
            excesses=_excesses(found.excesses[:_EXCESSES_MAX]),
            height=STRIP_HEIGHT,
        )


def strips(standings: Sequence[Standing], found: Exposure) -> list[dict[str, Any]]:
    """Of each credential or privilege its line through the period: those that stood longest first."""
    longest = sorted(standings, key=lambda one: -one.live_ms)[:_STRIPS_MAX]
    return [
        {
            "agent": one.agent,
            "what": one.what,
            "path": strip(one.live, found.begin, found.end, STRIP_HEIGHT),
            "live": lasting(one.live_ms),
            "used": lasting(one.used_ms) if one.uses else "",
            "uses": one.uses,
            "static": lasting(one.static_ms),
            "open": one.open_still,
        }
        for one in longest
    ]


def _totals(found: Exposure, of: str) -> dict[str, Any]:
    static, live, used = (found.total(of, field) for field in ("static_ms", "live_ms", "used_ms"))
    return {
        "of": of,
        "bars": [
            ("static", "standing, as static access", bar(static, static), lasting(static)),
            ("live", "open under remit", bar(live, static), lasting(live)),
            ("used", "in use", bar(used, static), lasting(used)),
        ],
        "share": f"{live / static * 100:.2g}" if static else "0",
    }


def _excesses(excesses: Sequence[Excess]) -> list[dict[str, Any]]:
    most = max((one.quarterly_ms for one in excesses), default=0)
    return [
        {
            "agent": one.agent,
            "what": one.what,
            "used": one.used,
            "at": one.last_needed,
            "bars": [
                ("live", "remit", bar(one.remit_ms, most), lasting(one.remit_ms)),
                ("monthly", "monthly review", bar(one.monthly_ms, most), lasting(one.monthly_ms)),
                ("static", "quarterly review", bar(one.quarterly_ms, most), lasting(one.quarterly_ms)),
            ],
        }
        for one in excesses
    ]

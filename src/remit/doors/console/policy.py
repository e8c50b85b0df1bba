"""The page Policy: the set in force, its check, its scenario tests, and what a candidate would have changed. Translates only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.doors.console.frame import Page
from remit.doors.console.rendering import in_lines
from remit.errors import Mistake, RemitError
from remit.model.console import Action

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.drivers.rehearsal import Rehearsals
    from remit.logic.rulebook import Rulebook
    from remit.settings import Configuration

DAYS = (1, 7, 30, 90)
CANDIDATE_CHARACTERS_MAX = 20_000  # a form is 64 KB, and a sign may take three bytes of it
_FLIPS_MAX = 50
_FILES_MAX, _FILES_CHARACTERS_MAX = 100, 60_000  # of the set in force that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDoor:
    """``configuration``, ``rulebook``: those in force."""

    rehearsals: Rehearsals
    configuration: Callable[[], Configuration]
    rulebook: Callable[[], Rulebook]
    clock: Callable[[], datetime]

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path="/console/policy", action=Action.REHEARSE, show=self._show),
            Page(method="POST", path="/console/policy/check", action=Action.REHEARSE, show=self._check),
            Page(method="POST", path="/console/policy/test", action=Action.REHEARSE, show=self._test),
            Page(method="POST", path="/console/policy/replay", action=Action.REHEARSE, show=self._replay),
        ]

    async def _show(self, visit: Visit) -> Response:
        return self._page(visit)

    async def _check(self, visit: Visit) -> Response:
        return self._page(visit, checked=await self.rehearsals.check())

    async def _test(self, visit: Visit) -> Response:
        return self._page(visit, tested=await self.rehearsals.test())

    async def _replay(self, visit: Visit) -> Response:
        candidate, days = visit.field("candidate").replace("\r\n", "\n"), visit.field("days")
        if not candidate.strip() or len(candidate) > CANDIDATE_CHARACTERS_MAX or days not in map(str, DAYS):
            hint = f"Cedar, up to {CANDIDATE_CHARACTERS_MAX:,} characters; `remit policy replay` takes more"
            raise Mistake("there is no candidate to replay", code="candidate", hint=hint)
        since = (self.clock() - timedelta(days=int(days))).isoformat(timespec="seconds")
        try:
            replayed = await self.rehearsals.replay(candidate, since)
        except RemitError as error:  # what was typed stays
            return self._page(visit, candidate=candidate, days=int(days), wrong=error)
        return self._page(visit, candidate=candidate, days=int(days), replayed=replayed)

    def _page(self, visit: Visit, **values: Any) -> Response:
        configuration, rulebook = self.configuration(), self.rulebook()
        files = sorted(configuration.policies.items())
        shown: dict[str, Any] = {"checked": None, "tested": None, "replayed": None, "wrong": None, "candidate": "", "days": 7}
        return visit.page(
            "policy.html",
            **{**shown, **values},
            files=[(name, in_lines(text, _FILES_CHARACTERS_MAX // len(files))) for name, text in files[:_FILES_MAX]],
            more_files=len(files) - _FILES_MAX,
            ids=rulebook.policies.ids,
            digest=rulebook.policies.digest,
            bundle=configuration.bundle,
            choices=DAYS,
            characters_max=CANDIDATE_CHARACTERS_MAX,
            flips_max=_FLIPS_MAX,
        )

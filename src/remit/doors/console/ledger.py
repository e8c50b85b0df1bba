"""The page Ledger: entries with search, proofs that the browser itself checks, checkpoints, export. Translates; decides nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from remit.doors.console.frame import Page
from remit.doors.console.rendering import HEADERS, in_lines
from remit.errors import Mistake, NotFound
from remit.model.console import Action
from remit.model.record import KINDS
from remit.services.ledger_search import Wanted, pretty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.doors.console.frame import Visit
    from remit.logic.checkpoint import Checkpoint
    from remit.model.record import Record
    from remit.services.ledger import Ledger
    from remit.services.ledger_search import LedgerSearch
    from remit.store.database import Entry

_ROWS = 50
_RECORD_CHARACTERS_MAX = 60_000
_INDEX = re.compile(r"0|[1-9]\d{0,14}", re.ASCII)
_FIELDS = ("task", "agent", "tool", "kind", "since", "until")
_FIELD_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry in the list."""

    index: int
    at: datetime
    kind: str
    task: str
    what: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDoor:
    """Pages for who goes through the ledger."""

    ledger: Ledger
    search: LedgerSearch

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path="/console/ledger", action=Action.AUDIT, show=self._entries),
            Page(method="GET", path="/console/ledger/export", action=Action.AUDIT, show=self._export),
            Page(method="GET", path="/console/ledger/{index}", action=Action.AUDIT, show=self._entry),
            Page(method="GET", path="/console/ledger/{index}/bytes", action=Action.AUDIT, show=self._bytes),
            Page(method="GET", path="/console/ledger/{index}/proof", action=Action.AUDIT, show=self._proof),
        ]

    async def _entries(self, visit: Visit) -> Response:
        asked = {name: visit.request.query_params.get(name, "").strip()[:_FIELD_CHARACTERS_MAX] for name in _FIELDS}
        before = visit.request.query_params.get("before", "")
        if before and not _INDEX.fullmatch(before):
            raise Mistake("there is no such page", code="page")
        found = await self.search.find(_wanted(asked), before=int(before) if before else -1, most=_ROWS)
        filled = {name: text for name, text in asked.items() if text}
        shown, head = await self._heads()
        return visit.page(
            "ledger.html",
            asked=asked,
            filled=bool(filled),
            kinds=sorted(KINDS),
            rows=[_row(*one) for one in found.entries],
            looked_at=found.looked_at,
            older=f"/console/ledger?{urlencode({**filled, 'before': found.next_before})}" if found.next_before > 0 else "",
            first_page=not before,
            key=str(self.ledger.verifier),
            shown=shown,
            size=head.size,
        )

    async def _entry(self, visit: Visit) -> Response:
        entry = await self._found(visit)
        return visit.page(
            "entry.html",
            entry=entry,
            text=in_lines(pretty(entry), _RECORD_CHARACTERS_MAX),
            key=str(self.ledger.verifier),
            leaf=entry.leaf.hex(),
        )

    async def _bytes(self, visit: Visit) -> Response:
        """The bytes that were hashed."""
        return Response((await self._found(visit)).body, 200, {**HEADERS, "content-type": "application/octet-stream"})

    async def _proof(self, visit: Visit) -> Response:
        index = (await self._found(visit)).index
        return PlainTextResponse(await self.ledger.proof_file(index), 200, HEADERS)

    async def _export(self, _visit: Visit) -> Response:
        async def lines() -> AsyncIterator[str]:
            async for text, _ in self.ledger.exported():
                yield text

        named = {"content-disposition": 'attachment; filename="remit-ledger.txt"'}
        return StreamingResponse(lines(), 200, {**HEADERS, **named}, "text/plain; charset=utf-8")

    async def _found(self, visit: Visit) -> Entry:
        text = visit.request.path_params["index"]
        entries = await self.ledger.entries(int(text), 1) if _INDEX.fullmatch(text) else ()
        if not entries:
            raise NotFound("the ledger has no such entry")
        return entries[0]

    async def _heads(self) -> tuple[Checkpoint, Checkpoint]:
        """The head that is shown to the outside, and the latest."""
        latest, _ = await self.ledger.checkpoint()
        return self.ledger.opened(await self.ledger.served()), latest


def _wanted(asked: dict[str, str]) -> Wanted:
    if asked["kind"] and asked["kind"] not in KINDS:
        raise Mistake("there is no such kind of entry", code="kind", hint=", ".join(sorted(KINDS)))
    return Wanted(
        task=asked["task"],
        agent=asked["agent"],
        tool=asked["tool"],
        kind=asked["kind"],
        since=_moment(asked["since"]),
        until=_moment(asked["until"]),
    )


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Mistake("this is no time", code="time", hint="2026-11-24T08:00, or 2026-11-24; UTC") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(entry: Entry, record: Record) -> Row:
    body = record.body
    server, name = getattr(body, "server", ""), getattr(body, "name", "")
    words = [f"{server}/{name}" if server and name else ""]
    words += [
        str(getattr(body, field, "")) for field in ("type", "to", "target", "lease", "use", "ending", "state", "person", "why", "reason")
    ]
    kind = next(kind for kind, of in KINDS.items() if of is type(body))
    return Row(
        index=entry.index,
        at=record.at,
        kind=kind,
        task=entry.task or "",
        what=" ".join(word for word in words if word)[:_FIELD_CHARACTERS_MAX],
        outcome=str(getattr(body, "outcome", "")),
    )

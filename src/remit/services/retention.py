"""Forgets what was kept of calls beside the ledger: the sealed values (``[ledger] keep_values``) of calls, and of questions about
applications, decided before some time.

Rules: the record of it is durable before anything is deleted, and deleting is done again where it was interrupted. The ledger itself
never forgets; it holds no values. What was forgotten cannot be replayed in full any more, and replay says so. Left out: backups, and
what a database keeps of deleted rows until it writes over them; both hold sealed values only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.records import decode, encode
from remit.model.call_record import CallDecided, ValuesForgotten
from remit.model.record import AccessDecided, Record
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime, timedelta

    from remit.store.database import Store

_PAGE = 1_000
_DECIDED = (b'"kind":"call.decided"', b'"kind":"access.decided"')


class Retention:
    """What is kept of one store, and for how long."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock = store, clock

    async def forget_values(self, older_than: timedelta, by: str) -> int:
        """Forget the values of calls decided so long ago; returns how many calls that are. Raises Mistake, Outage."""
        now = self._clock()
        if older_than.total_seconds() < 0:
            raise Mistake("values of the future cannot be forgotten", code="older_than", hint="--older-than 30d")
        before = now - older_than
        calls = 0
        async for page in self._decided(before):
            calls += len(page)
        if not calls:
            return 0
        await self._store.append(Append(body=encode(Record(at=now, body=ValuesForgotten(before=before, calls=calls, by=by)))))
        async for page in self._decided(before):
            await self._store.drop_values(page)
        return calls

    async def _decided(self, before: datetime) -> AsyncIterator[list[str]]:
        """Ids of the decisions made before a time, by pages. The ledger is in the order of time."""
        index = 0
        while entries := await self._store.entries(index, _PAGE):
            index += len(entries)
            records = [decode(entry.body) for entry in entries if any(kind in entry.body for kind in _DECIDED)]
            yield [
                record.body.decision for record in records if isinstance(record.body, CallDecided | AccessDecided) and record.at < before
            ]
            if records and records[-1].at >= before:
                return

"""Refusals of the token service, in the ledger before they are told.

Rules: the ledger has the reason, outside it is told in a few plain words. Of very many the rest is
counted (``sparing.py``). What may hold values of a task's inputs is not recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.records import encode
from remit.model.record import Record
from remit.model.token_record import TokenRefused
from remit.services.sparing import Sparing
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.errors import RemitError
    from remit.store.database import Store

_CUT = 200
_OF_INPUTS = "invalid_authorization_details"


class Refusals:
    """Writes them down."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock, self._sparing = store, clock, Sparing()

    async def note(self, refusal: RemitError, *, exchange: str, claimed: str) -> None:
        """``exchange``: the grant type, or what else was tried. ``claimed``: who it said it was. Raises Outage."""
        why = "the task cannot be opened so" if refusal.code == _OF_INPUTS else refusal.message
        now = self._clock()
        skipped = self._sparing.admit("", now)
        if skipped is None:
            return
        body = TokenRefused(why=why[:_CUT], claimed=claimed[:_CUT], exchange=exchange[:_CUT], code=refusal.code, skipped=skipped)
        await self._store.append(Append(body=encode(Record(at=now, body=body))))

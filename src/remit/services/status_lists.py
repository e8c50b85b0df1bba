"""What task tokens are worth, for verifiers that work offline: a number for each token, and signed lists of what has become of them.

Rules
* Numbers are unique on all nodes: each takes blocks of them in the store, first come first served; a restart begins another block.
* A list is made from the ledger, of the tokens that could still be alive. Where that cannot be read as far back, there is no list, and
  a verifier that has none takes no token.
* A list is made once in some seconds, whoever asks. It says less than remit itself: a call is still decided at the moment of use.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import NotFound, Outage, RemitError
from remit.logic.claims import LEEWAY, LIFETIME_MAX
from remit.logic.records import decode
from remit.logic.status_list import LIST_SIZE, STATUS_LIST_TYPE, Status, list_claims
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.key_ring import KeyRing
    from remit.services.tasks import Tasks
    from remit.store.database import Entry, Store

_BLOCK, _BLOCKS_TRIED_MAX, _BLOCKS_KEPT = 256, 1_000, 1_000
_PAGE, _SCANNED_MAX, _ISSUED_MAX = 500, 1_000_000, 200_000
_TTL, _LIFETIME, _AGE_MAX = timedelta(seconds=30), timedelta(minutes=2), timedelta(seconds=5)
_TOKEN_ISSUED = b'"kind":"token.issued"'
_BLOCKS = "status/block/"


class StatusNumbers:
    """Gives tokens their numbers."""

    def __init__(self, store: Store, new_id: Callable[[str], str]) -> None:
        """``new_id``: as of ``Tasks``."""
        self._store, self._new_id = store, new_id
        self._next = self._end = 0
        self._taking = asyncio.Lock()

    async def take(self) -> int:
        """A number that no other token has. Raises Outage."""
        async with self._taking:
            if self._next == self._end:
                self._next = await self._free_block() * _BLOCK
                self._end = self._next + _BLOCK
            self._next += 1
            return self._next - 1

    async def _free_block(self) -> int:
        mine, after = self._new_id("block"), ""
        taken: list[str] = []
        while page := await self._store.document_keys(_BLOCKS, after, _PAGE):
            taken, after = [*taken, *page], page[-1]
        first = int(taken[-1].removeprefix(_BLOCKS)) + 1 if taken else 0
        for block in range(first, first + _BLOCKS_TRIED_MAX):
            key = f"{_BLOCKS}{block:012d}"
            await self._store.put_document(key, mine)  # the first text of a key stays
            if await self._store.document(key) == mine:
                for old in taken[:-_BLOCKS_KEPT]:  # the last ones tell where it goes on
                    await self._store.drop_document(old)
                return block
        raise Outage("no numbers for tokens can be had", code="status_numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    task: str
    jti: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    token: str
    at: datetime


class StatusLists:
    """Serves the lists."""

    def __init__(self, store: Store, tasks: Tasks, signer: KeyRing, clock: Callable[[], datetime], *, issuer: str) -> None:
        """``issuer``: our URL."""
        self._store, self._tasks, self._signer, self._clock, self._issuer = store, tasks, signer, clock, issuer
        self._issued: dict[int, _Issued] = {}  # by number
        self._mark = -1
        self._made: dict[int, _Made] = {}
        self._making = asyncio.Lock()

    async def list(self, which: int) -> tuple[str, int]:
        """A signed list and for how many seconds it may be kept. Raises NotFound (no living token is in it), Outage."""
        async with self._making:
            made, now = self._made.get(which), self._clock()
            if made is None or now - made.at >= _AGE_MAX:
                self._made = {kept: one for kept, one in self._made.items() if now - one.at < _AGE_MAX}
                made = self._made[which] = _Made(token=await self._make(which, now), at=now)
            return made.token, int(_TTL.total_seconds())

    async def _make(self, which: int, now: datetime) -> str:
        await self._read(now)
        own = {number % LIST_SIZE: one for number, one in self._issued.items() if number // LIST_SIZE == which}
        if not own:
            raise NotFound("there is no such list")
        await self._tasks.standing.read()
        worth = {task: await self._worth(task, now) for task in {one.task for one in own.values()}}
        statuses = {}
        for index, one in own.items():
            status, revoked = worth[one.task]
            statuses[index] = int(Status.INVALID if one.jti in revoked else status)
        return self._signer.sign(list_claims(which, statuses, self._issuer, now, _TTL, _LIFETIME), STATUS_LIST_TYPE)

    async def _worth(self, task_id: str, now: datetime) -> tuple[Status, frozenset[str]]:
        """What all tokens of a task are worth, and those that were revoked. Raises Outage."""
        try:
            task = await self._tasks.view(task_id)
            above = await self._tasks.ancestors(task)
        except Outage:
            raise
        except RemitError:
            return Status.INVALID, frozenset()
        if not self._tasks.opens(task, above, now):
            return Status.INVALID, frozenset()
        waits = any(one.state is not TaskState.ACTIVE for one in (task, *above))
        return Status.SUSPENDED if waits else Status.VALID, frozenset(task.revoked_tokens)

    async def _read(self, now: datetime) -> None:
        """Learn of the tokens that were issued since, at first of all that could still be alive."""
        if self._mark < 0:
            self._mark = await self._beginning(now)
        while entries := await self._store.entries(self._mark, _PAGE):
            for entry in entries:
                self._learn(entry)
            self._mark = entries[-1].index + 1
        self._issued = {number: one for number, one in self._issued.items() if now < one.expires_at + LEEWAY}
        if len(self._issued) > _ISSUED_MAX:
            raise Outage("more tokens are alive than a status list is made for", code="status_list")

    async def _beginning(self, now: datetime) -> int:
        end = await self._store.change_mark()
        oldest = now - LIFETIME_MAX - LEEWAY
        for start in range(end - _PAGE, end - _SCANNED_MAX, -_PAGE):
            if start <= 0:
                return 0
            if decode((await self._store.entries(start, 1))[0].body).at < oldest:
                return start
        raise Outage("the ledger is too long for a status list", code="status_list")

    def _learn(self, entry: Entry) -> None:
        if entry.task is None or _TOKEN_ISSUED not in entry.body:
            return
        body = decode(entry.body).body
        if isinstance(body, TokenIssued) and body.status_number >= 0:
            self._issued[body.status_number] = _Issued(task=entry.task, jti=body.jti, expires_at=body.expires_at)

"""Takes authority back from all tasks that something concerns: a person, an agent, a task, a token.

Rules: when ``take_back`` returns, no call of any task that was open when it was called and is concerned will be allowed at any door: each
was moved by compare and swap, and is found by its row, which is as durable as its opening. Doing it twice does no harm. Tasks are moved in
bounded batches, so it takes as long as there are tasks. Where a token alone is named, that token is revoked and its task lives on: a token
cannot wait, so it is revoked too where others are suspended.

The place to grow: one durable record that every decision honours (``remit kill``) can take the place of the batches; callers see
nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Broken, Conflict, NotFound
from remit.logic.claims import LEEWAY, LIFETIME_MAX
from remit.logic.records import decode
from remit.logic.subjects import concerns, only_tokens, replaced, tokens_of
from remit.model.signal import Consequence
from remit.model.task import TASK_MOVES, TaskState
from remit.services.tokens import revoke_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from datetime import datetime

    from remit.model.signal import Concern
    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_LIVE = tuple(state.value for state in TaskState if TASK_MOVES[state])
_PAGE, _AT_ONCE_MAX, _SCANNED_MAX = 500, 64, 2_000_000
_TOKEN_ISSUED = b'"kind":"token.issued"'


@dataclass(slots=True, kw_only=True)
class TakenBack:
    """Tasks that were moved, those that were damaged (they are opened for nobody), and tokens that were revoked."""

    revoked: list[str] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


class TakingBack:
    """Moves tasks of one store."""

    def __init__(self, store: Store, tasks: Tasks, clock: Callable[[], datetime]) -> None:
        """``on_persons`` may be set to whoever ends what persons have open besides: it is called with their names and who says so."""
        self._store, self._tasks, self._clock = store, tasks, clock
        self.on_persons: Callable[[frozenset[str], str], Awaitable[None]] = _nobody

    async def take_back(self, concern: Concern, consequence: Consequence, *, by: str, reason: str) -> TakenBack:
        """Revoke or suspend all live tasks that are concerned. Raises Outage; then some of them may still be open: try again."""
        done = TakenBack()
        if consequence is Consequence.RECORD or not concern:
            return done
        opened = await self._opened_by(tokens_of(concern))
        known = replaced(concern, opened)
        if persons := frozenset(name for clause in concern for name in clause.persons):
            await self.on_persons(persons, by)
        if alone := only_tokens(concern):
            await self._revoke_tokens({token: opened[token] for token in alone if token in opened}, known, by, done)
            return done
        batch: list[str] = []
        async for task, agent, on_behalf_of in self._candidates(known):
            if concerns(known, task=task, agent=agent, on_behalf_of=on_behalf_of):
                batch.append(task)
            if len(batch) == _AT_ONCE_MAX:
                await self._move_all(batch, consequence, by, reason, done)
                batch = []
        await self._move_all(batch, consequence, by, reason, done)
        return done

    async def _revoke_tokens(self, tokens: Mapping[str, str], concern: Concern, by: str, done: TakenBack) -> None:
        """Revoke tokens, by id, of tasks for which all else that was said holds."""
        for token, task_id in sorted(tokens.items()):
            try:
                task = await self._tasks.view(task_id)
                if concerns(concern, task=task.id, agent=task.agent.text, on_behalf_of=task.on_behalf_of):
                    await revoke_token(self._tasks, task_id, token, by)
                    done.tokens.append(token)
            except Broken as error:
                _LOG.error("task %s is damaged; nothing can be opened by it: %s", task_id, error.message)
                done.damaged.append(task_id)

    async def _candidates(self, concern: Concern) -> AsyncIterator[tuple[str, str, str]]:
        """Live tasks, each with its agent and on whose behalf it runs; all of them, or where ids are named those."""
        named = [clause.tasks for clause in concern if not clause.persons and not clause.agents]
        if named:
            for task_id in sorted(frozenset.intersection(*named)):
                with contextlib.suppress(NotFound):
                    task = await self._tasks.view(task_id)
                    yield task.id, task.agent.text, task.on_behalf_of
            return
        after = ""
        while page := await self._store.tasks(states=_LIVE, after=after, limit=_PAGE):
            for row in page:
                yield row.task, row.agent, row.on_behalf_of
            after = page[-1].task

    async def _move_all(self, batch: list[str], consequence: Consequence, by: str, reason: str, done: TakenBack) -> None:
        moved = await asyncio.gather(*(self._move(task, consequence, by, reason) for task in batch), return_exceptions=True)
        for task_id, outcome in zip(batch, moved, strict=True):
            if isinstance(outcome, Broken):
                _LOG.error("task %s is damaged; nothing can be opened by it: %s", task_id, outcome.message)
                done.damaged.append(task_id)
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome.note == reason and outcome.state is TaskState.REVOKED:
                done.revoked.append(task_id)
            elif outcome.note == reason and outcome.state is TaskState.SUSPENDED:
                done.suspended.append(task_id)

    async def _move(self, task_id: str, consequence: Consequence, by: str, reason: str) -> Task:
        if consequence is Consequence.SUSPEND:
            try:
                return await self._tasks.move(task_id, TaskState.SUSPENDED, by=by, reason=reason)
            except Conflict:
                pass  # it has ended, or has not begun: what has not begun cannot wait, so it is revoked
        return await self._tasks.end(task_id, TaskState.REVOKED, by=by, reason=reason)

    async def _opened_by(self, tokens: frozenset[str]) -> dict[str, str]:
        """The task of each token, of those that may still be alive. The ledger is read backwards as far as a token lives."""
        found: dict[str, str] = {}
        needles = {token: b'"jti":' + msgspec.json.encode(token) for token in tokens}
        oldest = self._clock() - LIFETIME_MAX - LEEWAY
        end = await self._store.change_mark()
        for start in range(end - _PAGE, end - _SCANNED_MAX, -_PAGE):
            if len(found) == len(tokens) or start <= -_PAGE:
                break
            entries = await self._store.entries(max(start, 0), _PAGE if start >= 0 else _PAGE + start)
            for entry in entries:
                if entry.task is None or _TOKEN_ISSUED not in entry.body:
                    continue
                for token, needle in needles.items():
                    if needle in entry.body and getattr(decode(entry.body).body, "jti", "") == token:
                        found[token] = entry.task
            if not entries or decode(entries[0].body).at < oldest:
                break
        return found


async def _nobody(_persons: frozenset[str], _by: str) -> None:
    """Nobody has anything open besides."""

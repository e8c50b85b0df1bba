"""Which agents are stopped. ``remit kill`` is one durable record, and from its return no node decides as if it had not been.

Rules: the record, and a mark with all that are stopped, are one transaction; whatever gives authority (a decision, a task, a token)
is appended under the condition that this mark is as it was seen. A stopped agent is stopped until a person restores it; what has
ended meanwhile stays ended. Ending the stopped agents' tasks follows behind (``services/subtrees.py``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from remit.errors import Conflict, Outage, Refusal
from remit.logic.records import encode
from remit.model.delegation_record import AgentsRestored, AgentsStopped
from remit.model.record import Record
from remit.store.database import Append, Given, MarkRow, StaleTask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from remit.model.record import Body
    from remit.store.database import Store

EVERY = "*"
MARK = "agents/stopped"
_ATTEMPTS = 16


class Standing:
    """The stopped agents of one store, as far as this process knows; ``given`` makes every append check it."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock = store, clock
        self._number = -1  # not read yet
        self._agents: frozenset[str] = frozenset()
        self._given = Given(name=MARK, number=0)

    @property
    def given(self) -> Given:
        """The condition under which something was decided."""
        if self._given.number < self._number:
            self._given = Given(name=MARK, number=self._number)
        return self._given

    @property
    def agents(self) -> frozenset[str]:
        """SPIFFE IDs of the stopped agents; ``*`` among them: every agent is."""
        return self._agents

    def stopped(self, agents: Iterable[str]) -> tuple[str, ...]:
        """Which of some agents are stopped."""
        if not self._agents:
            return ()
        return tuple(dict.fromkeys(agent for agent in agents if agent in self._agents or EVERY in self._agents))

    async def check(self, agent: str) -> None:
        """Raise Refusal where an agent is stopped; it may have been restored by another process. Raises Outage."""
        await self.load()
        if self.stopped([agent]):
            await self.read()
        if self.stopped([agent]):
            raise Refusal(f"{agent} is stopped", code="agent_stopped", hint="`remit agent restore` lets it work again")

    async def load(self) -> None:
        """Read it where that was not done yet. Raises Outage."""
        if self._number < 0:
            await self.read()

    async def read(self) -> None:
        """Read it, whatever is known. Raises Outage."""
        mark = await self._store.mark(MARK)
        if mark is None:
            self._number = max(self._number, 0)
        elif mark.number > self._number:  # of two readings the later one counts
            self._number, self._agents = mark.number, frozenset(json.loads(mark.text))

    async def append(self, agent: str, body: Callable[[datetime], Body]) -> datetime:
        """Record something that gives an agent authority outside of any task; when that was. Raises Refusal (it is stopped), Outage."""
        for _ in range(_ATTEMPTS):
            await self.check(agent)
            now = self._clock()
            try:
                await self._store.append(Append(body=encode(Record(at=now, body=body(now))), given=(self.given,)))
            except StaleTask:
                await self.read()
                continue
            return now
        raise Outage("agents are stopped and restored by too many at once", code="agents_busy")

    async def stop(self, agents: Collection[str], *, by: str, reason: str = "", declared: Collection[str] = ()) -> None:
        """From its return no call of these agents is allowed anywhere. Stopping a stopped one is a success. ``declared``: all agents that
        are, so that others can be told who was stopped where every one was. Raises Outage.
        """
        named = sorted(declared) if EVERY in agents else []
        await self._change(lambda before: before | {*agents}, AgentsStopped(agents=sorted(agents), by=by, reason=reason, declared=named))

    async def restore(self, agents: Collection[str], *, by: str, reason: str = "", declared: Collection[str] = ()) -> None:
        """Let agents work again; ``Subtrees.restore`` ends first what is left of them. ``declared``: as of ``stop``.

        Raises Conflict where all agents are stopped and only some are named, Outage.
        """

        def without(before: frozenset[str]) -> frozenset[str]:
            if EVERY in agents:
                return frozenset()
            if EVERY in before:
                hint = "`remit agent restore --all`, then stop those that must not work"
                raise Conflict("every agent is stopped", code="all_stopped", hint=hint)
            return before - {*agents}

        named = sorted(declared) if EVERY in agents else []
        await self._change(without, AgentsRestored(agents=sorted(agents), by=by, reason=reason, declared=named))

    async def _change(self, changed: Callable[[frozenset[str]], frozenset[str]], body: Body) -> None:
        for _ in range(_ATTEMPTS):
            await self.read()
            number, after = self._number + 1, changed(self._agents)
            row = MarkRow(name=MARK, number=number, text=json.dumps(sorted(after)))
            record = encode(Record(at=self._clock(), body=body))
            try:
                await self._store.append(Append(body=record, rows=(row,), given=(self.given,)))
            except StaleTask:
                continue
            if number > self._number:
                self._number, self._agents = number, after
            return
        raise Outage("agents are stopped and restored by too many at once", code="agents_busy")

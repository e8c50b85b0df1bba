"""Tells sinks of every entry of the ledger, as events of OCSF, from a cursor of each sink that is kept in the store.

Rules: the ledger is the queue, so nothing is lost: what a sink has not taken is read again, after a restart, by another node, or when it is
back. It may be told an event twice, always with the same uid, and of each of them in order; ``metadata.sequence`` counts without a gap. Of
several nodes one tells a sink at a time (``turns.py``). A sink that fails is tried again with growing pauses, in smaller batches where it
refuses one, and no event is ever skipped: it waits, and that is shown. Nothing here is on the road of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Mistake, Outage, RemitError
from remit.logic.ocsf import entry_event, event_uid
from remit.model.event import OutgoingEvent
from remit.services.kept_state import KeptState
from remit.services.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.drivers.event_sinks import Sink
    from remit.model.event import EventSink
    from remit.store.database import Entry, Store

_LOG = logging.getLogger("remit")
_BATCH, _BATCH_BYTES = 200, 1_048_576
_LOOK_SECONDS, _APART_SECONDS = 2.0, 0.25
_FIRST_WAIT_SECONDS, _WAIT_SECONDS_MAX = 1.0, 300.0
_CLOSE_SECONDS = 12.0  # longer than one attempt may take


class Cursor(msgspec.Struct, frozen=True):
    """How far a sink was told: the entry that comes next, and when it last moved (Unix time)."""

    entry: int
    at: int = 0


@dataclass(slots=True)
class SinkState:
    """What is known of a sink here. ``why``: of the last failure ("" : it takes what it is given)."""

    waiting: int = 0
    failing_since: datetime | None = None
    why: str = ""


class Events:
    """The events of one node."""

    def __init__(
        self,
        store: Store,
        sinks: Mapping[str, tuple[EventSink, Sink]],
        clock: Callable[[], datetime],
        *,
        log: str,
        node: str,
        product_version: str,
    ) -> None:
        """``log``: the ledger's name. ``node``: names this process among others on the same store."""
        self._store, self._sinks, self._clock = store, sinks, clock
        self._log, self._product_version = log, product_version
        self._turns = {name: Turn(store, f"events/turn/{name}", node, clock) for name in sinks}
        self._delivering: set[asyncio.Task[None]] = set()
        self.states = {name: SinkState() for name in sinks}

    async def run(self) -> None:
        """Tell every sink, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._sinks:
                group.create_task(self._tell_all(name))

    async def close(self) -> None:
        """Finish what is being told, let other nodes go on at once, and let go of connections."""
        if self._delivering:
            await asyncio.wait(set(self._delivering), timeout=_CLOSE_SECONDS)
        for name, (_, sink) in self._sinks.items():
            with contextlib.suppress(Outage):
                await self._turns[name].give_up()
            await sink.close()

    def failing_seconds(self, name: str) -> float:
        """For how long a sink has taken nothing of what waits for it."""
        since = self.states[name].failing_since
        return max((self._clock() - since).total_seconds(), 0.0) if since is not None else 0.0

    async def tell_once(self, name: str, most: int = _BATCH) -> bool:
        """Tell a sink its next batch; False where there is none, or another node has the turn. Raises what its sink raises."""
        configured, sink = self._sinks[name]
        kept = KeptState(self._store, _key(name))
        version, cursor = await read_cursor(self._store, configured)
        self.states[name].waiting = max(await self._store.change_mark() - cursor.entry, 0)
        if not version:  # where it begins is kept before anything is told, so that what comes meanwhile is not left out
            await kept.write(0, _text(Cursor(cursor.entry, int(self._clock().timestamp()))))
            return True
        if not self.states[name].waiting or not await self._turns[name].ours():
            return False
        version, cursor = await read_cursor(self._store, configured)  # again: whoever had the turn before may have moved it
        entries = await self._store.entries(cursor.entry, most)
        if not entries:
            return False
        delivery = asyncio.create_task(self._deliver(name, kept, version, cursor, self._batch(entries), sink))
        self._delivering.add(delivery)
        delivery.add_done_callback(self._delivered)
        await asyncio.shield(delivery)  # an end of the node comes between batches, so that none is told twice for it
        return True

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        self._delivering.discard(delivery)
        if not delivery.cancelled():
            delivery.exception()  # whoever waited for it knows; at an end nobody waits

    async def _deliver(self, name: str, kept: KeptState, version: int, cursor: Cursor, batch: list[OutgoingEvent], sink: Sink) -> None:
        await sink.take(batch, self._clock())
        if await kept.write(version, _text(Cursor(cursor.entry + len(batch), int(self._clock().timestamp())))):
            self.states[name].waiting = max(self.states[name].waiting - len(batch), 0)

    def _batch(self, entries: tuple[Entry, ...]) -> list[OutgoingEvent]:
        """As many of the entries as go together, one at least."""
        batch: list[OutgoingEvent] = []
        size = 0
        for entry in entries:
            kind, event = entry_event(entry.body, index=entry.index, log=self._log, product_version=self._product_version)
            body = msgspec.json.encode(event)
            size += len(body)
            if batch and size > _BATCH_BYTES:
                break
            at = datetime.fromtimestamp(event["time"] / 1_000, UTC)
            uid = event_uid(self._log, entry.index)
            batch.append(OutgoingEvent(uid=uid, kind=kind, severity_id=event["severity_id"], at=at, body=body))
        return batch

    async def _tell_all(self, name: str) -> None:
        wait, most, state = _FIRST_WAIT_SECONDS, _BATCH, self.states[name]
        while True:
            pause = 0.0
            try:
                mark = await self._store.change_mark()
                if not await self.tell_once(name, most):
                    await self._store.wait_for_change(mark, _LOOK_SECONDS)
                    pause = _APART_SECONDS  # a busy ledger is told in batches, not entry by entry
                if state.failing_since is not None:
                    _LOG.warning("events: %s takes them again", name)
                state.failing_since, state.why = None, ""
                wait, most = _FIRST_WAIT_SECONDS, min(most + 1, _BATCH)  # what was refused as too large is come near slowly
            except RemitError as error:
                if state.failing_since is None:
                    state.failing_since = self._clock()
                    _LOG.warning("events: %s is not told: %s", name, error.message)
                state.why = error.message
                most = max(most // 4, 1) if isinstance(error, Mistake) else most  # a batch may be too large for it
                pause = max(wait, float(getattr(error, "retry_after_seconds", 0)))
                wait = min(wait * 2, _WAIT_SECONDS_MAX)
            except Exception as error:
                state.failing_since = state.failing_since or self._clock()
                _LOG.error("a fault of remit while it tells %s of events", name, exc_info=error)
                pause = _WAIT_SECONDS_MAX
            await asyncio.sleep(pause)


async def read_cursor(store: Store, sink: EventSink) -> tuple[int, Cursor]:
    """Version and cursor of a sink; version 0: it was never told anything, and this is where it begins. Raises Outage."""
    version, text = await KeptState(store, _key(sink.name)).read()
    if text:
        return version, msgspec.json.decode(text, type=Cursor)
    return 0, Cursor(0 if sink.beginning else await store.change_mark())


def _key(name: str) -> str:
    return f"events/cursor/{name}"


def _text(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()

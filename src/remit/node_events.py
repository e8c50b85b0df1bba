"""Assembles what tells events of a node: nothing, where no ``[[events]]`` are configured."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from remit.drivers.event_sinks import open_sink
from remit.drivers.outward import Outward
from remit.services.events import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from typing import Any

    from remit.model.event import EventSink
    from remit.store.database import Store


@dataclass(slots=True, kw_only=True)
class EventParts:
    """What there is of it on this node."""

    events: Events
    reach: Outward
    sinks: tuple[EventSink, ...]

    def work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the calls, until cancelled."""
        return (self.events.run(),) if self.sinks else ()

    async def close(self) -> None:
        """Let go of connections, and of what another node could do."""
        await self.events.close()
        await self.reach.close()


def event_parts(sinks: tuple[EventSink, ...], store: Store, clock: Callable[[], datetime], *, log: str, node: str) -> EventParts:
    """Assemble it. ``log``: the ledger's name; ``node``: names this process."""
    reach = Outward()
    opened = {sink.name: (sink, open_sink(sink, reach)) for sink in sinks}
    events = Events(store, opened, clock, log=log, node=node, product_version=version("remit"))
    return EventParts(events=events, reach=reach, sinks=sinks)

"""Assembles what a node does with Shared Signals: the receiver where transmitters are configured, the transmitter where receivers are.

Left out: the rest of a node (``node.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.doors.api.signals import SignalsDoor
from remit.doors.api.streams import StreamsDoor
from remit.drivers.event_tokens import EventSigner
from remit.drivers.keys import signals_key
from remit.drivers.outward import Outward
from remit.drivers.sealing import Sealer
from remit.errors import Outage
from remit.services.signal_keys import TransmitterKeys
from remit.services.signal_polls import SignalPolls
from remit.services.signals import Signals
from remit.services.streams import Streams
from remit.services.taking_back import TakingBack
from remit.services.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from typing import Any

    from starlette.routing import Route

    from remit.drivers.keys import Keys
    from remit.services.tasks import Tasks
    from remit.settings import Configuration
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_SWEEP_SECONDS, _FORGET_SWEEPS = 30.0, 20


@dataclass(slots=True, kw_only=True)
class SignalParts:
    """What there is of it on this node. ``telling``: ``None`` where nobody is told."""

    reach: Outward
    signals: Signals
    taking_back: TakingBack
    polls: SignalPolls
    streams: Streams | None
    telling: Telling | None
    doors: list[Route] = field(default_factory=list)

    def work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the calls, until cancelled."""
        receiving = (self.polls.run(), self._sweep()) if self.signals.rules else ()
        return (*receiving, *((self.telling.run(),) if self.telling else ()))

    async def close(self) -> None:
        """Let go of connections, and of what another node could do."""
        await self.reach.close()
        if self.telling is not None:
            with contextlib.suppress(Outage):
                await self.telling.close()

    async def _sweep(self) -> None:
        """Finish what a crash left open, forget what is too old to count."""
        sweeps = 0
        while True:
            try:
                await self.signals.finish()
                if sweeps % _FORGET_SWEEPS == 0:
                    await self.signals.forget()
            except Outage:
                pass  # tried again a moment later
            except Exception as error:
                _LOG.error("a fault of remit in what signals left open", exc_info=error)
            sweeps += 1
            await asyncio.sleep(_SWEEP_SECONDS)


def signal_parts(
    configuration: Configuration, keys: Keys, store: Store, tasks: Tasks, clock: Callable[[], datetime], new_id: Callable[[str], str]
) -> SignalParts:
    """Assemble it. Raises Mistake for a key file that cannot be trusted."""
    settings, rules, reach = configuration.settings, configuration.signals, Outward()
    taking_back = TakingBack(store, tasks, clock)
    signals = Signals(
        store,
        taking_back,
        rules.transmitters,
        {name: TransmitterKeys(rule, reach, clock) for name, rule in rules.transmitters.items()},
        clock,
        new_id,
        issuer=settings.issuer,
        bytes_max=settings.limits.signal_bytes,
        kept_max=settings.limits.signals_kept,
    )
    polls = SignalPolls(signals, reach)
    parts = SignalParts(reach=reach, signals=signals, taking_back=taking_back, polls=polls, streams=None, telling=None)
    if rules.transmitters:
        parts.doors += SignalsDoor(signals=signals).routes()
    if rules.receivers:
        signer = EventSigner(signals_key(settings.keys / "signals.key", keys.folder_key))
        parts.streams = Streams(store, rules, Sealer(keys.derived("streams")), clock, new_id)
        parts.telling = Telling(store, parts.streams, signer, reach, clock, issuer=settings.issuer, node=new_id("node"))
        parts.doors += StreamsDoor(streams=parts.streams, telling=parts.telling, signer=signer, issuer=settings.issuer).routes()
    return parts

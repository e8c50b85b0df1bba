"""Pins the tools of servers: those never seen, or on a person's word those that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.drivers.base import UpstreamLimits
from remit.drivers.upstream_http import http_session
from remit.drivers.upstreams import discover_tools
from remit.errors import NotFound
from remit.services.pins import PinChange, Pins

if TYPE_CHECKING:
    from collections.abc import Collection

    from remit.settings import Configuration


async def pin_servers(configuration: Configuration, names: Collection[str], *, only_new: bool) -> list[PinChange]:
    """Ask servers for their tools and accept them; ``only_new`` leaves pinned servers alone. Raises NotFound, Outage, Mistake."""
    pins = Pins(configuration.settings.folder)
    limits = UpstreamLimits(start_seconds=configuration.settings.limits.server_start_seconds)
    changes = []
    client = http_session()
    try:
        for name in names:
            server = configuration.servers.get(name)
            if server is None:
                known = ", ".join(sorted(configuration.servers)) or "none"
                raise NotFound(f"there is no server {name[:80]!r}", hint=f"configured: {known}")
            if only_new and name in pins.servers:
                continue
            listed = await discover_tools(server, limits, client)
            change = pins.compare(name, listed)
            if name not in pins.servers or not change.nothing:
                pins.pin(name, listed)
                changes.append(change)
    finally:
        await client.close()
    return changes

"""Pins the tools of servers: those never seen, or on a person's word those that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.drivers.base import PythonServer, UpstreamLimits
from remit.drivers.python_tools import declared_tools
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.drivers.upstream_http import http_session
from remit.drivers.upstreams import discover_tools
from remit.errors import NotFound
from remit.services.pins import PinChange, Pins
from remit.services.target_configuration import without_task

if TYPE_CHECKING:
    from collections.abc import Collection

    from remit.drivers.base import HttpServer, StdioServer
    from remit.settings import Configuration


async def pin_servers(configuration: Configuration, names: Collection[str], *, only_new: bool) -> list[PinChange]:
    """Ask servers for their tools and accept them; ``only_new`` leaves pinned servers alone. Raises NotFound, Outage, Mistake."""
    pins = Pins(configuration.settings.folder)
    limits = UpstreamLimits(start_seconds=configuration.settings.limits.server_start_seconds)
    servers: dict[str, StdioServer | HttpServer | PythonServer] = {**configuration.servers, **configuration.python_servers}
    changes = []
    client = http_session()
    try:
        for name in names:
            server = servers.get(name)
            if server is None:
                raise NotFound(f"there is no server {name[:80]!r}", hint=f"configured: {', '.join(sorted(servers)) or 'none'}")
            if only_new and name in pins.servers:
                continue
            if isinstance(server, PythonServer):
                listed = declared_tools(server)
            else:
                listed = await discover_tools(taskless(configuration, server), limits, client)
            change = pins.compare(name, listed)
            if name not in pins.servers or not change.nothing:
                pins.pin(name, listed)
                changes.append(change)
    finally:
        await client.close()
    return changes


def taskless(configuration: Configuration, server: StdioServer | HttpServer) -> StdioServer | HttpServer:
    """A server as it is started to list its tools: without any task's credentials."""
    return without_task(server, list(configuration.task_types.values()), configuration.targets, TARGET_KINDS)

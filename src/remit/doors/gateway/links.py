"""Conversations with upstream servers, one for each place that must not be shared.

Rules: a process belongs to one task and server; an HTTP conversation belongs to one session of an agent, or for stateless
agents to one task. When the task ends, all of them end. What a server lists of its tools is looked at before the first
call and after every notice of change, so that a changed tool is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from remit.drivers.base import StdioServer, UpstreamLimits
from remit.drivers.upstream_http import HttpUpstream
from remit.drivers.upstreams import AnyUpstream, list_all_tools, open_upstream
from remit.errors import Mistake, NotFound, Outage
from remit.logic.narrow import tool_digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import aiohttp

    from remit.drivers.base import HttpServer, Message

ABSENT = "absent"
_LIST_CHANGED = "notifications/tools/list_changed"


class Link:
    """One upstream conversation and what was seen of its server's tools."""

    def __init__(self, server: str, limits: UpstreamLimits) -> None:
        self.server = server
        self.upstream: AnyUpstream
        self.listeners: list[Callable[[Message], Awaitable[None]]] = []
        self._limits = limits
        self._seen: dict[str, str] | None = None
        self._looking = asyncio.Lock()

    async def unsolicited(self, message: Message) -> None:
        """What the server says by itself goes to every session that shares the conversation."""
        self.notice(message)
        for listener in list(self.listeners):
            await listener(message)

    def notice(self, message: Message) -> None:
        """Learn from a message that passes by."""
        if message.get("method") == _LIST_CHANGED:
            self._seen = None

    def learn(self, tools: list[dict[str, Any]]) -> None:
        """Remember what a complete list of tools says."""
        self._seen = {}
        for tool in tools:
            if isinstance(tool.get("name"), str):
                with contextlib.suppress(Mistake):
                    self._seen[tool["name"]] = tool_digest(tool)

    async def seen_digest(self, tool: str) -> str:
        """Digest of a tool as the server lists it now; ``absent`` where it does not. Raises Outage."""
        if self._seen is None:
            async with self._looking:
                if self._seen is None:
                    self.learn(await list_all_tools(self.upstream, self._limits))
        return (self._seen or {}).get(tool, ABSENT)


class Links:
    """All conversations of this node."""

    def __init__(
        self,
        servers: Callable[[], Mapping[str, StdioServer | HttpServer]],
        limits: UpstreamLimits,
        client: aiohttp.ClientSession,
        links_max: int,
    ) -> None:
        """``servers``: as configured now. ``links_max``: conversations at one time."""
        self._servers, self._limits, self._client, self._links_max = servers, limits, client, links_max
        self._open: dict[tuple[str, ...], asyncio.Task[Link]] = {}

    async def get(self, task: str, server: str, session: str, initialize: Message | None) -> Link:
        """The conversation for a task's session (``session`` "" and no ``initialize``: a stateless agent).

        Raises NotFound, Outage.
        """
        configured = self._servers().get(server)
        if configured is None:
            raise NotFound(f"there is no server {server[:80]!r} here")
        era = "modern" if initialize is None else "legacy"
        place = (task, server, era) if isinstance(configured, StdioServer) else (task, server, era, session)
        opening = self._open.get(place)
        if opening is None:
            if len(self._open) >= self._links_max:
                raise Outage("too many conversations with servers are open", code="overload")
            opening = self._open[place] = asyncio.create_task(self._begin(configured, initialize))
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done() and self._open.get(place) is opening:
                del self._open[place]
            raise

    async def drop(self, link: Link) -> None:
        """End one conversation."""
        for place, opening in list(self._open.items()):
            if opening.done() and not opening.cancelled() and opening.exception() is None and opening.result() is link:
                del self._open[place]
                await link.upstream.close()

    async def leave(self, link: Link) -> None:
        """A session leaves: an HTTP conversation ends with it, a process stays with its task."""
        if isinstance(link.upstream, HttpUpstream):
            await self.drop(link)

    async def end_task(self, task: str) -> None:
        """End every conversation of a task."""
        places = [place for place in self._open if place[0] == task]
        await self._end(places)

    async def close(self) -> None:
        """End all."""
        await self._end(list(self._open))

    async def _end(self, places: list[tuple[str, ...]]) -> None:
        ending = [self._open.pop(place) for place in places]
        results = await asyncio.gather(*ending, return_exceptions=True)
        links = [result for result in results if isinstance(result, Link)]
        await asyncio.gather(*(link.upstream.close() for link in links), return_exceptions=True)

    async def _begin(self, server: StdioServer | HttpServer, initialize: Message | None) -> Link:
        link = Link(server.name, self._limits)
        link.upstream = await open_upstream(
            server, initialize=initialize, limits=self._limits, unsolicited=link.unsolicited, client=self._client
        )
        return link

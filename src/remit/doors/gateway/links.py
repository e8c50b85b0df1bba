"""Conversations with upstream servers, one for each place that must not be shared.

Rules: a process belongs to one task and server; an HTTP conversation belongs to one session of an agent, or for stateless
agents to one task. When the task ends, all of them end. What a server lists of its tools is looked at before the first
call, after every notice of change, and again at a call when some seconds have passed, so that a changed tool is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.beside import LIST_CHANGED, UNANSWERED, Beside
from remit.doors.gateway.headers import header_parameters, parameter_headers
from remit.doors.gateway.requests import plain_request
from remit.doors.problems import INTERNAL, METHOD_NOT_FOUND, rpc_error
from remit.drivers.base import HttpServer, StdioServer, UpstreamLimits
from remit.drivers.upstream_http import HttpUpstream
from remit.drivers.upstream_stdio import StdioUpstream
from remit.drivers.upstreams import AnyUpstream, list_all_tools, modern_meta, open_upstream
from remit.errors import Mistake, NotFound, Outage, Refusal
from remit.logic.arguments import digest_json
from remit.logic.narrow import tool_digest
from remit.model.lease import ROTATION_GRACE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    import aiohttp

    from remit.doors.gateway.beside import Still
    from remit.doors.gateway.headers import HeaderParameters
    from remit.drivers.base import Message

    Told = Callable[[str, list[dict[str, Any]]], Awaitable[None]]
    Wire = Callable[[Message], Awaitable[bool]]

ABSENT = "absent"
_CURSORS_MAX, _CURSOR_CHARACTERS_MAX = 1_000, 4_096
_LOOK_SECONDS = 0.25  # from a notice of change to the look at it
_FRESH_SECONDS = 10.0  # a look is believed for so long where no change is told: a server need not tell
_LOOKS_MAX = 3  # at a list of tools that changes while it is read
_OF_A_PROCESS = 3  # parts of the place of a server that is a process: task, server, era
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 1.0, 30.0
_RETIRE_SECONDS = ROTATION_GRACE.total_seconds() - 5.0
_RETIRE_LOOK_SECONDS = 0.05
_CARRIED = "a leased credential"
# answers to these are looked through where they are observed, as results of calls
_OBSERVED = frozenset(
    {"tools/call", "resources/read", "prompts/get", "completion/complete", "resources/subscribe", "resources/unsubscribe"}
)
_WATCHED = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


class Link:
    """One upstream conversation and what was seen of its server's tools.

    ``listeners`` hear what the server says by itself; of the ``askers`` the last one is asked what it asks by itself.
    ``subscriptions``: the resources that each session watches, by session. ``in_use``: leases of the task
    as they are now; where the conversation holds others, ``reopen`` gives one with these before the next request.
    """

    def __init__(
        self,
        server: str,
        limits: UpstreamLimits,
        capabilities: Message,
        told: Told | None = None,
        wire: Wire | None = None,
        adds_nothing: Still | None = None,
        unread: Still | None = None,
    ) -> None:
        """``capabilities``: of the agent for which a legacy server was initialised. ``told``: hears every whole list of tools
        before anything is made of it. ``wire``: whether a message may pass between agent and server; if not, all is done about it.
        ``adds_nothing``, ``unread``: see Beside.
        """
        self.server, self.capabilities, self._told, self._wire = server, capabilities, told, wire
        self.aside = Beside(adds_nothing, unread)
        self._cursors: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.upstream: AnyUpstream
        self.listeners: list[Callable[[Message], Awaitable[None]]] = []
        self.askers: list[Callable[[Message], Awaitable[None]]] = []
        self.subscriptions: dict[str, set[str]] = {}
        self.closed = asyncio.Event()
        self.reopen: Callable[[], Awaitable[AnyUpstream]] | None = None
        self.in_use: Callable[[], Awaitable[Collection[str]]] | None = None
        self._renewing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.changes = 0
        self._over = False
        self.answer_seconds = limits.exchange_seconds
        self._limits = limits
        self._seen: dict[str, str] | None = None
        self._seen_at = 0.0
        self._headers: dict[str, HeaderParameters] = {}
        self._looking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._look: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether no call can be made any more: ended here, forgotten by the server, or its process has ended."""
        return self._over or (isinstance(self.upstream, StdioUpstream) and self.upstream.ended)

    async def exchange(
        self, message: Message, sink: Callable[[Message], Awaitable[None]], headers: Mapping[str, str] | None = None
    ) -> Message:
        """Send one request in the server's own era. ``headers``: for a server that reads arguments from headers. Raises Outage."""
        await self._check_sent(message.get("params"))
        if self.upstream.server.held and self.in_use is not None:
            await self._renew_stale(self.in_use)

        async def looked_at(said: Message) -> None:
            if await self._passes(said):
                await sink(said)

        try:
            if isinstance(self.upstream, HttpUpstream):
                answer = await self.upstream.exchange(message, looked_at, headers)
            else:
                answer = await self.upstream.exchange(message, looked_at)
        except Outage as outage:
            self._over = self._over or outage.code == "upstream_session"
            raise
        if not _is_result(message, answer) and not await self._passes(answer):
            raise Outage(f"what {self.server} said carried {_CARRIED}, and was not passed on", code="upstream_secret")
        return answer

    async def send(self, message: Message) -> None:
        """Send what the agent says outside of its calls: a notification, or its answer to a question. Raises Outage."""
        await self._check_sent(message)
        if "method" not in message and not await self.aside.may_answer(message["id"]):
            message = rpc_error(message["id"], INTERNAL, UNANSWERED)
        await self.upstream.send(message)

    async def beside(self, message: Message) -> Message | None:
        """What the server says outside of the exchange of a call, as far as the agent may hear it (``None``: it may not). Raises Outage."""
        heard = await self.aside.heard(message)
        if heard is None and "id" in message:
            await self.refuse(message)
        return heard

    async def check_opening(self) -> None:
        """Whether what the server says of itself may be shown. Raises Outage."""
        if not await self._passes(self.upstream.opening):
            raise Outage(f"what {self.server} says of itself carries {_CARRIED}", code="upstream_secret", unsent=True)

    async def unsolicited(self, message: Message) -> None:
        """What the server says by itself goes to every session that shares the conversation, a question to one of them."""
        self.notice(message)
        if not await self._passes(message) or (said := await self.beside(message)) is None:
            return
        if "id" in said:
            if self.askers:
                await self.askers[-1](said)
            else:
                await self.refuse(said)
            return
        for listener in list(self.listeners):
            await listener(said)

    async def refuse(self, question: Message) -> None:
        """Answer a server's question that nobody can be asked."""
        with contextlib.suppress(Outage):
            if question.get("method") == "ping":
                await self.upstream.send({"jsonrpc": "2.0", "id": question["id"], "result": {}})
            else:
                await self.upstream.send(rpc_error(question["id"], METHOD_NOT_FOUND, "the client does not answer this"))

    def gave(self, method: str, cursor: object) -> bool:
        """Whether the server gave this cursor for such a list here: any other would be a word of the agent's own."""
        return isinstance(cursor, str) and (method, cursor) in self._cursors

    def gives(self, method: str, cursor: object) -> None:
        """Remember a cursor that the server gives."""
        if isinstance(cursor, str) and len(cursor) <= _CURSOR_CHARACTERS_MAX:
            self._cursors[method, cursor] = None
            self._cursors.move_to_end((method, cursor))
            if len(self._cursors) > _CURSORS_MAX:
                self._cursors.popitem(last=False)

    async def opening(self, opening: Message) -> Message:
        """What the server says of itself, as far as the agent may hear it: its words only where they cannot raise the labels."""
        if await self.aside.adds_nothing():
            return opening
        return {name: member for name, member in opening.items() if name != "instructions"}

    def notice(self, message: Message) -> None:
        """Learn from a message that passes by."""
        if message.get("method") == LIST_CHANGED:
            self.forget()

    def forget(self) -> None:
        """What was seen of the tools may have changed: they are looked at again, without waiting for a call."""
        self.changes += 1
        self._seen = None
        if self._told is not None and (self._look is None or self._look.done()) and not self._over:
            self._look = asyncio.create_task(self._look_again())

    async def learn(self, tools: list[dict[str, Any]], changes: int) -> None:
        """Remember what a complete list of tools says, unless they have changed since it was asked for (``changes`` was then).

        Raises Outage where a change cannot be recorded: then nothing was seen.
        """
        if self._told is not None:
            await self._told(self.server, tools)
        if changes != self.changes:
            return
        seen, headers = {}, {}
        for tool in tools:
            if isinstance(name := tool.get("name"), str):
                with contextlib.suppress(Mistake):
                    seen[name] = tool_digest(tool)
                if parameters := header_parameters(tool.get("inputSchema")):
                    headers[name] = parameters
        self._seen, self._headers, self._seen_at = seen, headers, time.monotonic()

    async def seen_digest(self, tool: str) -> str:
        """Digest of a tool as the server lists it now; ``absent`` where it does not. Raises Outage."""
        if self._seen is not None and time.monotonic() - self._seen_at > _FRESH_SECONDS:
            self._seen = None
        if self._seen is None:
            async with self._looking:
                for _ in range(_LOOKS_MAX):
                    changes = self.changes
                    if self._seen is None:
                        await self.learn(await list_all_tools(self.upstream, self._limits), changes)
        if self._seen is None:
            raise Outage(f"{self.server} changes its tools all the time", code="upstream_rubbish")
        return self._seen.get(tool, ABSENT)

    def header_parameters(self, tool: str) -> HeaderParameters:
        """Arguments that the server wants to see as headers as well, as it was last seen to declare them."""
        return self._headers.get(tool, ())

    def headers_for(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, str] | None:
        """The ``Mcp-Param-*`` headers of a call, made from the arguments that were decided on."""
        parameters = self._headers.get(tool)
        return parameter_headers(parameters, arguments) if parameters else None

    def watch(self) -> None:
        """Hear of changes: the server's own stream (legacy HTTP), or a subscription (stateless)."""
        if self.upstream.era == "modern":
            self._watching = asyncio.create_task(self._watch())
        elif isinstance(self.upstream, HttpUpstream):
            self.upstream.listen(self.forget)

    async def rewatch(self) -> None:
        """Begin a stateless server's subscription anew, because sessions watch other resources than before."""
        if self.upstream.era == "modern":
            await self._stop_watching()
            self.watch()

    async def close(self) -> None:
        """End the conversation."""
        self._over = True
        self.closed.set()
        await self._stop_watching()
        if self._look is not None and self._look is not asyncio.current_task():
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        for retiring in list(self._retiring):
            retiring.cancel()
        if self._retiring:
            await asyncio.wait(set(self._retiring))
        await self.upstream.close()

    async def _renew_stale(self, in_use: Callable[[], Awaitable[Collection[str]]]) -> None:
        """Go on with a new credential where there is one. What is under way ends where it began. Raises Outage."""
        if self.upstream.server.held <= set(await in_use()):
            return
        async with self._renewing:
            if self.upstream.server.held <= set(await in_use()) or self._over or self.reopen is None:
                return
            old, fresh = self.upstream, await self.reopen()
            if fresh is old:
                return
            self.upstream = fresh
            retiring = asyncio.create_task(_retire(old))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            if self.closed.is_set():  # ended meanwhile
                await fresh.close()
                raise Outage(f"the conversation with {self.server} is over", code="upstream_gone", unsent=True)
            self.forget()
            await self.rewatch()
            for uri in sorted(set().union(*self.subscriptions.values())) if fresh.era == "legacy" else ():
                again = {"jsonrpc": "2.0", "id": 0, "method": "resources/subscribe", "params": {"uri": uri}}
                with contextlib.suppress(Outage):
                    await fresh.exchange(again, _unheard)

    async def plain(self, message: Message) -> Message:
        """A request with what its method knows. What is left out of it is searched all the same. Raises Outage: it held a secret."""
        plain = plain_request(message)
        if plain != message:
            await self._check_sent(message.get("params"))
        return plain

    async def _check_sent(self, said: Any) -> None:
        if self._wire is not None and said and not await self._wire(said):
            raise Outage(f"it carried {_CARRIED}, and was not sent to {self.server}", code="upstream_secret", unsent=True)

    async def _passes(self, said: Message) -> bool:
        """Whether the agent may be shown it; a question of the server that it may not be shown is refused."""
        if self._wire is None or await self._wire(said):
            return True
        if "id" in said and "method" in said:
            await self.refuse(said)
        return False

    async def _look_again(self) -> None:
        await asyncio.sleep(_LOOK_SECONDS)  # notices that come together are one
        with contextlib.suppress(Outage):  # the next call looks again
            await self.seen_digest("")

    async def _watch(self) -> None:
        pause = _RETRY_SECONDS
        while True:
            uris = sorted(set().union(*self.subscriptions.values()))
            wanted = {**_WATCHED, "resourceSubscriptions": uris} if uris else _WATCHED
            params = {"notifications": wanted, "_meta": modern_meta()}
            try:
                answer = await self.upstream.exchange(
                    {"jsonrpc": "2.0", "id": 0, "method": "subscriptions/listen", "params": params}, self._heard
                )
                if "error" in answer:
                    return  # it offers none
            except Outage as outage:
                if outage.code != "upstream_timeout":  # the server may have changed meanwhile
                    pause = min(pause * 2, _RETRY_SECONDS_MAX)
            self.forget()
            if self.gone:
                return
            await asyncio.sleep(pause)

    async def _heard(self, message: Message) -> None:
        if message.get("method") != "notifications/subscriptions/acknowledged":
            await self.unsolicited(_untagged(message))

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None


async def _unheard(_message: Message) -> None:
    """Nobody waits for what comes before the answer."""


async def _retire(old: AnyUpstream) -> None:
    """Let a process end what it has begun, as long as its credential lives, and then go."""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETIRE_SECONDS):
                while isinstance(old, StdioUpstream) and old.busy:
                    await asyncio.sleep(_RETIRE_LOOK_SECONDS)
    finally:
        await old.close()


def _is_result(message: Message, answer: Message) -> bool:
    result = answer.get("result")
    asks = isinstance(result, dict) and result.get("resultType") == "input_required"
    return message.get("method") in _OBSERVED and not asks


def _untagged(message: Message) -> Message:
    """A notice without the number of our own subscription."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(meta, dict):
        return message
    kept = {key: value for key, value in meta.items() if key != "io.modelcontextprotocol/subscriptionId"}
    return {**message, "params": {**params, "_meta": kept} if kept else {key: params[key] for key in params if key != "_meta"}}


class Links:
    """All conversations of this node."""

    def __init__(
        self,
        servers: Callable[[], Mapping[str, StdioServer | HttpServer]],
        limits: UpstreamLimits,
        client: aiohttp.ClientSession,
        links_max: int,
        equip: Callable[[str, StdioServer | HttpServer], Awaitable[StdioServer | HttpServer]],
        listed: Callable[[str, str, list[dict[str, Any]]], Awaitable[None]] | None = None,
        wire: Callable[[str, Message], Awaitable[bool]] | None = None,
        in_use: Callable[[str], Awaitable[Collection[str]]] | None = None,
        adds_nothing: Callable[[str, str], Awaitable[bool]] | None = None,
        unread: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """``servers``: as configured now. ``links_max``: conversations at one time. ``equip``: a server with a task's credentials.
        ``listed``: hears what a task's server lists. ``wire``, ``in_use``, ``adds_nothing``, ``unread``: see
        Link, of a task, of its server.
        """
        self._servers, self._limits, self._client, self._links_max = servers, limits, client, links_max
        self._equip, self._listed, self._wire, self._in_use = equip, listed, wire, in_use
        self._adds_nothing, self._unread = adds_nothing, unread
        self._open: dict[tuple[str, ...], asyncio.Task[Link]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def get(self, task: str, server: str, session: str, initialize: Message | None, capabilities: Message | None = None) -> Link:
        """The conversation for a task's session (``session`` "" and no ``initialize``: a stateless agent).

        ``capabilities``: what a stateless agent declares, for a server that has to be initialised. A legacy server over HTTP
        gets a conversation for each set of them, because it is told of them only once. Raises NotFound, Outage.
        """
        configured = self._servers().get(server)
        if configured is None:
            raise NotFound(f"there is no server {server[:80]!r} here")
        era = "modern" if initialize is None else "legacy"
        place = (task, server, era) if isinstance(configured, StdioServer) else (task, server, era, session)
        link = await self._opened(place, configured, initialize, capabilities or {})
        if initialize is None and link.upstream.era == "legacy" and len(place) > _OF_A_PROCESS and link.capabilities != capabilities:
            place = (task, server, era, digest_json(capabilities))
            return await self._opened(place, configured, None, capabilities or {})
        return link

    async def drop(self, link: Link) -> None:
        """End one conversation."""
        for place, opening in list(self._open.items()):
            if opening.done() and not opening.cancelled() and opening.exception() is None and opening.result() is link:
                del self._open[place]
                await link.close()

    async def leave(self, link: Link) -> None:
        """A session leaves: an HTTP conversation ends with it, a process stays with its task."""
        if isinstance(link.upstream, HttpUpstream):
            await self.drop(link)

    async def end_task(self, task: str) -> None:
        """End every conversation of a task."""
        places = [place for place in self._open if place[0] == task]
        await self._end(places)

    async def end_leased(self, task: str, leases: Collection[str]) -> None:
        """End those of a task's processes that hold one of these leases: the next call starts one with a new credential."""

        def holds(opening: asyncio.Task[Link]) -> bool:
            if not opening.done() or opening.cancelled() or opening.exception() is not None:
                return False
            upstream = opening.result().upstream
            return isinstance(upstream, StdioUpstream) and not set(leases).isdisjoint(upstream.server.leases)

        await self._end([place for place, opening in self._open.items() if place[0] == task and holds(opening)])

    async def close(self) -> None:
        """End all, and wait for what others have begun to end."""
        await self._end(list(self._open))
        if self._ending:
            await asyncio.wait(set(self._ending))

    async def _end(self, places: list[tuple[str, ...]]) -> None:
        """Beside whoever asks for it: what has left the table is ended, even where nobody waits for that any more."""
        ending = [asyncio.create_task(_let_go(self._open.pop(place))) for place in places]
        for one in ending:
            self._ending.add(one)
            one.add_done_callback(self._ending.discard)
        if ending:
            await asyncio.wait(ending)

    async def _opened(
        self, place: tuple[str, ...], server: StdioServer | HttpServer, initialize: Message | None, capabilities: Message
    ) -> Link:
        opening = self._open.get(place)
        if opening is not None and opening.done() and (opening.cancelled() or opening.exception() is not None):
            del self._open[place]  # nobody waited for it to fail: tried again
            opening = None
        if opening is not None and opening.done():
            if not opening.result().gone:
                return opening.result()
            del self._open[place]  # the process has died: a new one for this task
            await opening.result().close()
            opening = self._open.get(place)
        if opening is None:
            if len(self._open) >= self._links_max:
                raise Outage("too many conversations with servers are open", code="overload")
            opening = self._open[place] = asyncio.create_task(self._begin(place[0], server, initialize, capabilities))
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done() and self._open.get(place) is opening:
                del self._open[place]
            raise

    async def _begin(self, task: str, server: StdioServer | HttpServer, initialize: Message | None, capabilities: Message) -> Link:
        told = functools.partial(self._listed, task) if self._listed is not None else None
        wire = functools.partial(self._wire, task) if self._wire is not None else None
        adds_nothing = functools.partial(self._adds_nothing, task, server.name) if self._adds_nothing is not None else None
        unread = functools.partial(self._unread, task) if self._unread is not None else None
        link = Link(server.name, self._limits, capabilities, told, wire, adds_nothing, unread)

        async def begin(equipped: StdioServer | HttpServer) -> AnyUpstream:
            return await open_upstream(
                equipped,
                initialize=initialize,
                capabilities=capabilities,
                limits=self._limits,
                unsolicited=link.unsolicited,
                client=self._client,
            )

        async def reopen() -> AnyUpstream:
            equipped = await self._equipped(task, self._servers().get(server.name) or server)
            if isinstance(link.upstream, HttpUpstream) and isinstance(equipped, HttpServer):
                link.upstream.server = equipped  # the same conversation, with other headers
                return link.upstream
            return await begin(equipped)

        link.upstream = await begin(await self._equipped(task, server))
        link.reopen = reopen
        link.in_use = functools.partial(self._in_use, task) if self._in_use is not None else None
        try:
            await link.check_opening()
        except BaseException:
            await link.close()
            raise
        link.watch()
        return link

    async def _equipped(self, task: str, server: StdioServer | HttpServer) -> StdioServer | HttpServer:
        try:
            return await self._equip(task, server)
        except (NotFound, Refusal) as refused:
            raise Outage(f"{server.name} gets no credential: {refused.message}", code="upstream_credential", unsent=True) from None


async def _let_go(opening: asyncio.Task[Link]) -> None:
    """End a conversation, once it has begun."""
    (link,) = await asyncio.gather(opening, return_exceptions=True)
    if isinstance(link, Link):
        with contextlib.suppress(Exception):
            await link.close()

"""Stateless requests (MCP 2026-07-28) to all servers of a task's grant as one.

Rules: a request goes the road of the one server that it is for; its rounds of questions come back by the same name, so nothing is kept.
A subscription is one with each server; it holds while any of them does, and one that broke off is begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.joint import ROUTED, asked_by, instructions, joint_log, progress_token, union
from remit.doors.gateway.joint_sessions import SERVER_INFO
from remit.doors.gateway.listening import LISTEN
from remit.doors.gateway.modern import ModernDoor
from remit.doors.gateway.relay import unopened
from remit.doors.gateway.requests import LISTS
from remit.doors.gateway.translate import META
from remit.doors.problems import INTERNAL, INVALID_PARAMS, METHOD_NOT_FOUND, MODERN_DENIED, rpc_error
from remit.drivers.conversation import MODERN_VERSION
from remit.errors import Mistake, NotFound, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.doors.gateway.asking import Asking
    from remit.doors.gateway.joint import Joint
    from remit.doors.gateway.links import Links
    from remit.doors.gateway.modern import Asked
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

_TTL_MS = 1_000
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 1.0, 30.0
_HELD_MAX = 1_000  # notices that wait for the word that opens the subscription
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
_LISTS = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
_UPDATED = "notifications/resources/updated"


@dataclass(slots=True)
class _Through:
    """A request as one server's door sees it (``modern.Asked``)."""

    headers: dict[str, str]
    said: Callable[[Message], Awaitable[None]]

    async def interim(self, message: Message) -> None:
        """See Asked."""
        await self.said(message)


class JointModernDoor(ModernDoor):
    """Stateless requests to one server, and to all of them."""

    def __init__(self, relay: Relay, links: Links, asking: Asking | None, joint: Joint) -> None:
        super().__init__(relay, links, asking)
        self._questions, self._joint = asking, joint

    async def served(self, http: Asked, bearer: Bearer, server: str, message: Message) -> Message:
        """See ModernDoor."""
        if server:
            return await super().served(http, bearer, server, message)
        method = message["method"]
        ask = functools.partial(self._asked, http, bearer)
        if method == "server/discover":
            return await self._discovered(bearer, message, ask)
        if method in LISTS:
            return await self._joint.listed(bearer.task, message, ask, modern=True)
        if method == LISTEN:
            return await self._listened(http, bearer, message)
        if method not in ROUTED:
            return rpc_error(message["id"], METHOD_NOT_FOUND, f"remit does not pass on {str(method)[:80]!r}")
        try:
            name, routed = await self._joint.routed(bearer.task, message, ask)
            answer = await ask(name, routed)
        except Mistake as mistake:
            return rpc_error(message["id"], INVALID_PARAMS, mistake.message)
        except Outage as outage:
            return unopened(message, outage)
        return await self._joint.told(bearer.task, name, routed, self._named(name, answer))

    async def _asked(self, http: Asked, bearer: Bearer, server: str, message: Message) -> Message:
        """Ask one server, on the road of a request to it alone. Raises Outage."""
        token = progress_token(message)

        async def said(heard: Message) -> None:
            if heard.get("method") == "notifications/progress":
                if token is not None and (heard.get("params") or {}).get("progressToken") == token:
                    await http.interim(heard)
            else:
                await http.interim(joint_log(server, heard) if heard.get("method") == "notifications/message" else heard)

        try:
            return await super().served(_Through(http.headers, said), bearer, server, message)
        except NotFound:  # taken out of the configuration meanwhile
            raise Outage(f"there is no server {server} any more", code="upstream_gone", unsent=True) from None

    def _named(self, server: str, answer: Message) -> Message:
        """An answer that asks back says who asks, unless it is remit itself."""
        result = answer.get("result")
        requests = result.get("inputRequests") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(requests, dict):
            return answer
        if self._questions is not None and self._questions.made(result.get("requestState")):
            return answer
        named = {key: asked_by(server, one) if isinstance(one, dict) else one for key, one in requests.items()}
        return {**answer, "result": {**result, "inputRequests": named}}

    async def _discovered(self, bearer: Bearer, message: Message, ask: Callable[[str, Message], Awaitable[Message]]) -> Message:
        servers = await self._joint.servers(bearer.task)
        answers, left_out = await self._joint.gathered(servers, lambda server: ask(server, message))
        found: dict[str, Message] = {}
        for server, answer in answers.items():
            if isinstance(result := answer.get("result"), dict):
                found[server] = result
            else:
                left_out[server] = str((answer.get("error") or {}).get("message"))
        capabilities = union(one.get("capabilities") or {} for one in found.values())
        if left_out or not servers:  # what comes later would be looked for in vain
            capabilities = union([capabilities, {"tools": {}, "prompts": {}, "resources": {}}])
        result = {
            "resultType": "complete",
            "supportedVersions": [MODERN_VERSION],
            "capabilities": capabilities,
            "instructions": instructions({name: found.get(name, {}).get("instructions") for name in servers}),
            "ttlMs": 0 if left_out else _TTL_MS,
            "cacheScope": "private",
            "_meta": {f"{META}serverInfo": SERVER_INFO},
        }
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    async def _listened(self, http: Asked, bearer: Bearer, message: Message) -> Message:
        """Serve one subscription until the agent leaves, the task ends, or a server may no longer be listened to."""
        wanted = message["params"].get("notifications")
        if not isinstance(wanted, dict):
            return rpc_error(message["id"], INVALID_PARAMS, "notifications must be an object")
        uris = wanted.get("resourceSubscriptions", [])
        if not isinstance(uris, list):
            return rpc_error(message["id"], INVALID_PARAMS, "resourceSubscriptions must be a list of URIs")
        watched: dict[str, list[str]] = {server: [] for server in await self._joint.servers(bearer.task)}
        try:
            for uri, server in await self._joint.owners_of(bearer.task, uris):
                watched.setdefault(server, []).append(uri)
        except Mistake as mistake:
            return rpc_error(message["id"], INVALID_PARAMS, mistake.message)
        this = _Subscription(http, message, watched)
        holding = {asyncio.create_task(self._held(this, bearer, server)) for server in watched}
        try:
            await this.begun(self._joint.patience_seconds)
            if this.refused is None and any(not one.done() for one in holding):
                await this.acknowledge()
            pending = set(holding)
            while pending and this.refused is None:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
        finally:
            for one in holding:
                one.cancel()
            await asyncio.gather(*holding, return_exceptions=True)
        if this.refused is None and not await self._joint.over(bearer.task):
            this.refused = rpc_error(message["id"], METHOD_NOT_FOUND, "no server of this task tells of changes")
        return this.refused or {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete"}}

    async def _held(self, this: _Subscription, bearer: Bearer, server: str) -> None:
        """One server's part of a subscription, begun anew where it broke off. Raises Outage where remit itself is short."""
        pause = _PAUSE_SECONDS
        through = _Through(this.http.headers, functools.partial(this.heard, server))
        try:
            while True:
                try:
                    answer = await self._asked(through, bearer, server, this.part(server))
                except Outage as outage:
                    answer = unopened(this.message, outage)
                if await self._joint.over(bearer.task):
                    return
                code = (answer.get("error") or {}).get("code", INTERNAL)
                if code in {INVALID_PARAMS, MODERN_DENIED} or (code != INTERNAL and this.watched[server]):
                    this.refused = answer
                    return
                if code != INTERNAL:
                    return  # it offers none
                this.opened[server].set()
                await this.changed()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)
        finally:
            this.opened[server].set()


class _Subscription:
    """What an agent of a subscription was promised, and hears."""

    def __init__(self, http: Asked, message: Message, watched: Mapping[str, list[str]]) -> None:
        """``watched``: the resources, by their servers."""
        self.http, self.message, self.watched = http, message, watched
        self.opened = {server: asyncio.Event() for server in watched}
        self.refused: Message | None = None
        self._honoured: dict[str, Any] = {}
        self._held: list[Message] = []
        self._acknowledged = False

    def part(self, server: str) -> Message:
        """What one server is asked."""
        params = self.message["params"]
        wanted = {**params["notifications"], "resourceSubscriptions": self.watched[server]}
        return {**self.message, "params": {**params, "notifications": wanted}}

    async def begun(self, seconds: float) -> None:
        """Wait until every server has said what it honours, or cannot, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for opened in self.opened.values():
                    await opened.wait()

    async def heard(self, server: str, notice: Message) -> None:
        """Take what one server tells."""
        if notice.get("method") == _ACKNOWLEDGED:
            self._honour(notice)
            self.opened[server].set()
        elif notice.get("method") != _UPDATED or self._watches(server, notice.get("params")):
            await self._tell(notice)

    async def changed(self) -> None:
        """A server has gone, and with it what it listed."""
        for method, name in _LISTS.items():
            if self.message["params"]["notifications"].get(name) is True:
                await self._tell({"jsonrpc": "2.0", "method": method, "params": {"_meta": self._meta()}})

    async def acknowledge(self) -> None:
        """Say what is honoured, before anything else."""
        params = {"notifications": self._honoured, "_meta": self._meta()}
        await self.http.interim({"jsonrpc": "2.0", "method": _ACKNOWLEDGED, "params": params})
        self._acknowledged = True
        held, self._held = self._held, []
        for notice in held:
            await self._tell(notice)

    async def _tell(self, notice: Message) -> None:
        """Tell what was promised, once that was said."""
        if not self._acknowledged:
            if len(self._held) < _HELD_MAX:
                self._held.append(notice)
            return
        method, params = notice.get("method"), notice.get("params") or {}
        promised = self._honoured.get("resourceSubscriptions", ())
        if method == _UPDATED and not any(str(params.get("uri")).startswith(uri) for uri in promised):
            return
        if method in _LISTS and not self._honoured.get(_LISTS[str(method)]):
            return
        await self.http.interim(notice)

    def _honour(self, notice: Message) -> None:
        """Add what a server honours; a later one can no longer add to what was said."""
        if self._acknowledged:
            return
        for name, value in notice["params"]["notifications"].items():
            if name == "resourceSubscriptions":
                self._honoured[name] = sorted({*self._honoured.get(name, ()), *value})
            elif value is True:
                self._honoured[name] = True

    def _watches(self, server: str, params: object) -> bool:
        uri = params.get("uri") if isinstance(params, dict) else None
        return isinstance(uri, str) and any(uri.startswith(watched) for watched in self.watched[server])

    def _meta(self) -> Message:
        return {f"{META}subscriptionId": self.message["id"]}

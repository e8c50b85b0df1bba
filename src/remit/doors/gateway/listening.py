"""``subscriptions/listen`` of stateless agents: one long stream of notices, whatever the era of the server.

Rules: only what the task may read can be watched, and each resource is decided and recorded. Every notice carries the id of the
agent's own request. When the task ends, so does the stream, with a last word that its tools have changed (MCP 2026-07-28).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.requests import NAME_CHARACTERS_MAX
from remit.doors.gateway.translate import META, known_capabilities
from remit.doors.problems import INTERNAL, INVALID_PARAMS, MODERN_DENIED, rpc_error
from remit.errors import Mistake, Outage
from remit.logic.arguments import make_call
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.services.mediation import Mediation, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.doors.gateway.links import Link
    from remit.drivers.base import Message
    from remit.model.identity import Bearer
    from remit.services.tasks import Tasks

LISTEN = "subscriptions/listen"
_RESOURCES_MAX = 100
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
_LISTS = {
    "toolsListChanged": ("tools", "notifications/tools/list_changed"),
    "promptsListChanged": ("prompts", "notifications/prompts/list_changed"),
    "resourcesListChanged": ("resources", "notifications/resources/list_changed"),
}
_UPDATED = "notifications/resources/updated"


async def listen(
    mediation: Mediation, tasks: Tasks, bearer: Bearer, link: Link, message: Message, sink: Callable[[Message], Awaitable[None]]
) -> Message:
    """Serve one subscription until the agent leaves or the task ends. Raises Outage where nothing could be recorded."""
    wanted = message["params"].get("notifications")
    try:
        uris = _watched(wanted)
    except Mistake as mistake:
        return rpc_error(message["id"], INVALID_PARAMS, mistake.message)
    for uri in uris:
        verdict = await mediation.authorize(bearer, make_call(Kind.RESOURCE, link.server, uri, {"uri": uri}))
        if isinstance(verdict, Refused):
            return rpc_error(message["id"], MODERN_DENIED, verdict.message)
        await mediation.observe(verdict, Ending.OK)

    async def tagged(notice: Message) -> None:
        params = notice.get("params") or {}
        meta = {**(params.get("_meta") or {}), f"{META}subscriptionId": message["id"]}
        await sink({**notice, "params": {**params, "_meta": meta}})

    try:
        if link.upstream.era == "modern":
            answer = await _passed_on(link, message, tagged)
        else:
            answer = await _served(link, message, _honoured(link, wanted, uris), uris, tagged)
    except Outage as outage:
        if not (await tasks.view(bearer.task)).over:
            return rpc_error(message["id"], INTERNAL, outage.message)
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {}}
    if (await tasks.view(bearer.task)).over and isinstance(wanted, dict) and wanted.get("toolsListChanged"):
        await tagged({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    result = answer.get("result")
    return {**answer, "result": {"resultType": "complete", **result}} if isinstance(result, dict) else answer


def _acknowledged(notice: Message) -> Message:
    """What a server says it will tell, in nothing but the words of the protocol and names of resources."""
    params = notice.get("params") or {}
    said = params.get("notifications")
    said = said if isinstance(said, dict) else {}
    honoured: dict[str, Any] = {name: said[name] for name in _LISTS if isinstance(said.get(name), bool)}
    uris = said.get("resourceSubscriptions")
    if isinstance(uris, list):
        honoured["resourceSubscriptions"] = [uri for uri in uris if isinstance(uri, str) and len(uri) <= NAME_CHARACTERS_MAX]
    return {"jsonrpc": "2.0", "method": _ACKNOWLEDGED, "params": {"notifications": honoured}}


def _watched(wanted: object) -> list[str]:
    """The resources to be watched. Raises Mistake."""
    if not isinstance(wanted, dict):
        raise Mistake("notifications must be an object")
    uris = wanted.get("resourceSubscriptions", [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) and len(uri) <= NAME_CHARACTERS_MAX for uri in uris):
        raise Mistake("resourceSubscriptions must be a list of URIs")
    if len(uris) > _RESOURCES_MAX:
        raise Mistake(f"a subscription watches at most {_RESOURCES_MAX} resources")
    return uris


async def _passed_on(link: Link, message: Message, tagged: Callable[[Message], Awaitable[None]]) -> Message:
    """The server's own subscription, begun anew where only its time ran out."""
    acknowledged = False

    async def once(notice: Message) -> None:
        nonlocal acknowledged
        if notice.get("method") == _ACKNOWLEDGED:
            if acknowledged:
                return
            acknowledged = True
            await tagged(_acknowledged(notice))
            return
        link.notice(notice)
        if (passed := await link.beside(notice)) is not None:
            await tagged(passed)

    while True:
        try:
            return await link.exchange(message, once)
        except Outage as outage:
            if outage.code != "upstream_timeout" or not acknowledged:
                raise


async def _served(
    link: Link, message: Message, honoured: dict[str, Any], uris: list[str], tagged: Callable[[Message], Awaitable[None]]
) -> Message:
    """A subscription made of a legacy server's notices."""
    methods = {_LISTS[name][1] for name in honoured if name in _LISTS}

    async def heard(notice: Message) -> None:
        params = notice.get("params")
        uri = params.get("uri") if isinstance(params, dict) else None
        if notice.get("method") in methods or (notice.get("method") == _UPDATED and uri in honoured.get("resourceSubscriptions", ())):
            await tagged(notice)

    await tagged({"jsonrpc": "2.0", "method": _ACKNOWLEDGED, "params": {"notifications": honoured}})
    link.listeners.append(heard)
    try:
        for uri in honoured.get("resourceSubscriptions", ()):
            await _subscribe(link, "resources/subscribe", uri)
        await link.closed.wait()
    finally:
        link.listeners.remove(heard)
        for uri in uris:
            with contextlib.suppress(Outage):
                await asyncio.shield(_subscribe(link, "resources/unsubscribe", uri))
    return {"jsonrpc": "2.0", "id": message["id"], "result": {}}


async def _subscribe(link: Link, method: str, uri: str) -> None:
    async def ignore(_message: Message) -> None:
        pass

    if not link.closed.is_set():
        await link.exchange({"jsonrpc": "2.0", "id": 0, "method": method, "params": {"uri": uri}}, ignore)


def _honoured(link: Link, wanted: dict[str, Any], uris: list[str]) -> dict[str, Any]:
    """What of a subscription the server can serve."""
    capabilities = known_capabilities(link.upstream.opening.get("capabilities"))
    honoured: dict[str, Any] = {}
    for name, (capability, _) in _LISTS.items():
        able = capabilities.get(capability)
        if wanted.get(name) is True and isinstance(able, dict) and able.get("listChanged"):
            honoured[name] = True
    resources = capabilities.get("resources")
    if uris and isinstance(resources, dict) and resources.get("subscribe"):
        honoured["resourceSubscriptions"] = uris
    return honoured

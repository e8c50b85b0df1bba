"""The joint endpoint: all servers of a task's grant as one. Where each request goes, and how what comes back is put together.

Rules: nothing here decides. Every request goes the road of the one server that it is for, with that server's own name of the tool, and
what cannot be told apart goes nowhere. A tool or prompt tells its server by its name (``logic/joint_names.py``). A resource is its URI: it
goes to the one server whose grant covers it, whatever servers list, and nowhere where two are granted it. A server that fails or
is slow is left out of what is put together, and named. Left out: how sessions and stateless requests keep their parts
(``joint_sessions.py``, ``joint_stateless.py``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from remit.doors.gateway.requests import LISTS, NAME_CHARACTERS_MAX
from remit.doors.problems import INTERNAL, INVALID_PARAMS, METHOD_NOT_FOUND, rpc_error
from remit.errors import Mistake, Outage, Unauthenticated
from remit.logic.joint_names import is_cut, looked_up, plain_parts, short_server, told_names, unambiguous
from remit.model.catalog import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from remit.drivers.base import Message
    from remit.drivers.sealing import Sealer
    from remit.model.task import Task
    from remit.services.tasks import Tasks

    Ask = Callable[[str, Message], Awaitable[Message]]

_Answer = TypeVar("_Answer")
RESOURCES = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
ROUTED = frozenset({"tools/call", "prompts/get", "completion/complete"}) | RESOURCES
_PAGES_MAX = 100  # of one list, put together
_PROMPT_PAGES_MAX = 20  # looked through for one name
_CURSOR_CHARACTERS_MAX = 4_096
_INSTRUCTIONS_CHARACTERS_MAX = 8_192  # of each server
_URIS_MAX = 1_000
_LINKS_REQUIRED = -32042
_DECISION = "dev.remit/decision"
_LEFT_OUT = "dev.remit/left_out"
_NAMED_BY = {"tools": Kind.TOOL, "prompts": Kind.PROMPT}


class _Position(msgspec.Struct, frozen=True):
    """How far a list has been read. ``servers``: the cursor of each that has more ("" : its beginning)."""

    task: str
    method: str
    page: int
    servers: dict[str, str]


class Joint:
    """What the doors of both eras share of it."""

    def __init__(
        self,
        tasks: Tasks,
        configured: Callable[[], Collection[str]],
        sealer: Sealer,
        *,
        patience_seconds: float,
        page_bytes_max: int,
    ) -> None:
        """``configured``: the servers behind the gateway now. ``patience_seconds``: how long one server is waited for where the others
        have answered; ``page_bytes_max``: of one page of a list.
        """
        self._tasks, self._configured, self._sealer = tasks, configured, sealer
        self.patience_seconds, self._page_bytes_max = patience_seconds, page_bytes_max

    async def servers(self, task_id: str) -> tuple[str, ...]:
        """The servers of a task's grant, in their order. Raises NotFound, Outage."""
        configured = self._configured()
        return tuple(sorted({grant.server for grant in (await self._tasks.view(task_id)).grants if grant.server in configured}))

    async def over(self, task_id: str) -> bool:
        """Whether a task has ended. Raises NotFound, Outage."""
        return (await self._tasks.view(task_id)).over

    async def routed(self, task_id: str, message: Message, ask: Ask) -> tuple[str, Message]:
        """The server that a request is for, and the request as that one knows it. Raises Mistake, NotFound, Outage."""
        task, method, params = await self._tasks.view(task_id), message["method"], message.get("params") or {}
        if method in RESOURCES:
            return self.owner(task, params.get("uri")), message
        if method == "completion/complete":
            reference = params.get("ref")
            if not isinstance(reference, dict) or reference.get("type") not in {"ref/prompt", "ref/resource"}:
                raise Mistake("ref must be an object whose type is one of: ref/prompt, ref/resource")
            if reference["type"] == "ref/resource":
                return self.owner(task, reference.get("uri")), message
            server, name = await self._named(task, Kind.PROMPT, reference.get("name"), message, ask)
            return server, {**message, "params": {**params, "ref": {**reference, "name": name}}}
        kind = Kind.TOOL if method == "tools/call" else Kind.PROMPT
        server, name = await self._named(task, kind, params.get("name"), message, ask)
        return server, {**message, "params": {**params, "name": name}}

    async def owners_of(self, task_id: str, uris: list[object]) -> list[tuple[str, str]]:
        """Resources with the server of each. Raises Mistake, NotFound, Outage."""
        if len(uris) > _URIS_MAX:
            raise Mistake(f"a subscription watches at most {_URIS_MAX} resources")
        task = await self._tasks.view(task_id)
        return [(str(uri), self.owner(task, uri)) for uri in uris]

    def owner(self, task: Task, uri: object) -> str:
        """The server that a URI belongs to. Raises Mistake."""
        if not isinstance(uri, str) or not 0 < len(uri) <= NAME_CHARACTERS_MAX:
            raise Mistake(f"uri must be a string of at most {NAME_CHARACTERS_MAX} characters")
        owners = self._owners(task, uri)
        if len(owners) == 1:
            return owners[0]
        if owners:
            own = ", ".join(f"/mcp/{server}" for server in owners)
            raise Mistake(f"more than one server is granted that URI, so it names none here; ask at the endpoint of one server: {own}")
        granted = sorted({grant.server for grant in task.grants if grant.server in self._configured()})
        if len(granted) == 1:
            return granted[0]  # there it is refused, with reasons and on record
        raise Mistake("no server of this task is granted that URI; list the resources to see those that are")

    async def gathered(self, servers: Iterable[str], ask: Callable[[str], Awaitable[_Answer]]) -> tuple[dict[str, _Answer], dict[str, str]]:
        """What servers answer who are asked at once, and why others are left out. Raises what is no server's failure."""
        asking = {server: asyncio.ensure_future(ask(server)) for server in servers}
        try:
            if asking:
                await asyncio.wait(asking.values(), timeout=self.patience_seconds)
        finally:
            late = [one for one in asking.values() if one.cancel()]
            await asyncio.gather(*late, return_exceptions=True)
        answers: dict[str, _Answer] = {}
        left_out: dict[str, str] = {}
        for server, one in asking.items():
            if one.cancelled():
                left_out[server] = f"{server} did not answer in time"
                continue
            error = one.exception()
            if error is None:
                answers[server] = one.result()
            elif isinstance(error, Outage) and error.code.startswith("upstream_"):
                left_out[server] = error.message
            else:
                raise error
        return answers, left_out

    async def listed(self, task_id: str, message: Message, ask: Ask, *, modern: bool) -> Message:
        """One page of a list of all servers. Raises NotFound, Outage."""
        method = message["method"]
        member = LISTS[method]
        params = message.get("params") or {}
        try:
            position = await self._position(task_id, method, params.get("cursor"))
        except Mistake as mistake:
            return rpc_error(message["id"], INVALID_PARAMS, mistake.message)

        async def one(server: str) -> Message:
            cursor = {"cursor": position.servers[server]} if position.servers[server] else {}
            return await ask(server, _asking(message, method, **cursor))

        answers, left_out = await self.gathered(position.servers, one)
        task = await self._tasks.view(task_id)
        shown: list[tuple[str, Message]] = []
        further: dict[str, str] = {}
        size, ttl = 0, [1_000]
        for server, answer in answers.items():
            result = answer.get("result")
            items = result.get(member) if isinstance(result, dict) else None
            if not isinstance(result, dict) or not isinstance(items, list):
                error = answer.get("error") or {}
                if error.get("code") != METHOD_NOT_FOUND:
                    left_out[server] = str(error.get("message") or f"{server} lists nothing")
                continue
            weight = len(msgspec.json.encode(items))
            if shown and size + weight > self._page_bytes_max:
                further[server] = position.servers[server]  # the next page begins with it
                continue
            size += weight
            shown += [(server, item) for item in items]
            ttl.append(result["ttlMs"] if isinstance(result.get("ttlMs"), int) else ttl[0])
            if isinstance(following := result.get("nextCursor"), str):
                further[server] = following
        if left_out and len(left_out) == len(position.servers):
            return rpc_error(message["id"], INTERNAL, f"{'. '.join(left_out.values())}.")
        listed: Message = {member: self._called(task, member, shown)}
        if further and (following := self._following(position, further, left_out)):
            listed["nextCursor"] = following
        if left_out:
            listed["_meta"] = {_LEFT_OUT: left_out}
        if modern:
            listed |= {"resultType": "complete", "ttlMs": 0 if left_out else max(0, min(ttl)), "cacheScope": "private"}
        return {"jsonrpc": "2.0", "id": message["id"], "result": listed}

    async def told(self, task_id: str, server: str, sent: Message, answer: Message) -> Message:
        """A server's answer as it is told here: a refusal says how what it names is called."""
        result, error = answer.get("result"), answer.get("error")
        meta = result.get("_meta") if isinstance(result, dict) else None
        if isinstance(result, dict) and result.get("isError") is True and isinstance(meta, dict) and _DECISION in meta:
            content = result.get("content")
            if not isinstance(content, list) or not content or not isinstance(content[0], dict):
                return answer  # no refusal of ours looks so
            text = str(content[0].get("text"))
            names = told_names(text, self._known(await self._tasks.view(task_id), server, sent))
            told = [{**content[0], "text": f"{text}\n{names}"}, *content[1:]] if names else content
            return {**answer, "result": {**result, "content": told}}
        if isinstance(error, dict) and isinstance(error.get("data"), dict) and "outcome" in error["data"]:
            names = told_names(error["message"], self._known(await self._tasks.view(task_id), server, sent))
            return {**answer, "error": {**error, "message": f"{error['message']}\n{names}"}} if names else answer
        return answer

    def _known(self, task: Task, server: str, sent: Message) -> list[tuple[str, str]]:
        """What of a task's tools and prompts may stand in the words of a refusal."""
        known = [*_known_names(task, Kind.TOOL), *_known_names(task, Kind.PROMPT)]
        name = (sent.get("params") or {}).get("name")
        return [*known, (server, name)] if isinstance(name, str) else known

    def _owners(self, task: Task, uri: str) -> tuple[str, ...]:
        """Servers of which a line of the grant covers a URI, used up or not: where it leads does not change while the task runs."""
        configured = self._configured()
        lines = [grant for grant in task.grants if grant.kind is Kind.RESOURCE and grant.server in configured]
        return tuple(sorted({line.server for line in lines if line.names(Kind.RESOURCE, line.server, uri)}))

    async def _named(self, task: Task, kind: Kind, joint: object, message: Message, ask: Ask) -> tuple[str, str]:
        """Server and own name of a tool or prompt. Raises Mistake."""
        if not isinstance(joint, str) or not 0 < len(joint) <= NAME_CHARACTERS_MAX:
            raise Mistake(f"name must be a string of at most {NAME_CHARACTERS_MAX} characters")
        configured = self._configured()
        parts = plain_parts(joint)
        if parts is None and is_cut(joint):
            known = set(_known_names(task, kind))
            parts = looked_up(joint, known)
            if parts is None and kind is Kind.PROMPT:
                parts = looked_up(joint, known | await self._prompts(task, joint, message, ask))
        if parts is None or parts[0] not in configured:
            granted = ", ".join(sorted({grant.server for grant in task.grants if grant.server in configured})) or "none"
            what = "tool" if kind is Kind.TOOL else "prompt"
            raise Mistake(f"there is no such {what} here: a {what} is called SERVER__NAME, and the servers are: {granted}")
        return parts

    async def _prompts(self, task: Task, joint: str, message: Message, ask: Ask) -> set[tuple[str, str]]:
        """The prompts of those servers that could have one of a name that had to be cut, where the grant does not spell them out."""
        head = joint.partition("__")[0]
        servers = {grant.server for grant in task.grants if grant.kind is Kind.PROMPT and grant.name.endswith("*")}
        found: set[tuple[str, str]] = set()
        for server in sorted(one for one in servers & set(self._configured()) if short_server(one) == head):
            following: dict[str, Any] = {}
            for _ in range(_PROMPT_PAGES_MAX):
                result = (await ask(server, _asking(message, "prompts/list", **following))).get("result") or {}
                items = result.get("prompts")
                found |= {(server, item["name"]) for item in items or () if isinstance(item.get("name"), str)}
                if not isinstance(cursor := result.get("nextCursor"), str):
                    break
                following = {"cursor": cursor}
        return found

    def _called(self, task: Task, member: str, shown: list[tuple[str, Message]]) -> list[Message]:
        """What servers list, as it is called here; what could not be told apart here is not shown."""
        if member in _NAMED_BY:
            names = unambiguous((server, item["name"]) for server, item in shown if isinstance(item.get("name"), str))
            pairs = [(names.get((server, str(item.get("name")))), item) for server, item in shown]
            return [{**item, "name": name} for name, item in pairs if name is not None]
        if member == "resources":
            return [item for server, item in shown if self._owners(task, str(item.get("uri"))) == (server,)]
        return [item for _, item in shown]

    async def _position(self, task_id: str, method: str, cursor: object) -> _Position:
        """Where a page begins. Raises Mistake for a cursor that was not made here, for this list."""
        if cursor is None:
            return _Position(task_id, method, 0, dict.fromkeys(await self.servers(task_id), ""))
        try:
            position = msgspec.json.decode(self._sealer.open(str(cursor), "cursor"), type=_Position)
        except (Unauthenticated, msgspec.MsgspecError):
            raise Mistake("this cursor opens nothing; list from the beginning") from None
        if (position.task, position.method) != (task_id, method):
            raise Mistake("this cursor belongs to another list")
        return position

    def _following(self, position: _Position, further: Mapping[str, str], left_out: dict[str, str]) -> str:
        """The cursor of the next page ("" : there is none). A server that would list without end is left out of it."""
        kept = {server: cursor for server, cursor in further.items() if len(cursor) <= _CURSOR_CHARACTERS_MAX}
        if position.page + 1 >= _PAGES_MAX:
            kept = {}
        left_out |= {server: f"{server} lists more than is passed on" for server in further if server not in kept}
        following = _Position(position.task, position.method, position.page + 1, kept)
        return self._sealer.seal(msgspec.json.encode(following), "cursor") if kept else ""


def union(openings: Iterable[Message]) -> Message:
    """The capabilities of all servers together."""
    union: Message = {}
    for capabilities in openings:
        for name in ("tools", "prompts", "resources", "logging", "completions", "extensions"):
            able = capabilities.get(name)
            if isinstance(able, dict):
                own = union.setdefault(name, {})
                own |= {word: value or own.get(word, value) for word, value in able.items()}
    return union


def instructions(told: Mapping[str, object]) -> str:
    """What a client is told of the joint endpoint, and what servers tell of themselves."""
    own = f"Several servers in one: {', '.join(told) or 'none'}. Their tools and prompts are called SERVER__NAME."
    texts = [f"Of {server}: {text[:_INSTRUCTIONS_CHARACTERS_MAX]}" for server, text in told.items() if isinstance(text, str) and text]
    return "\n\n".join([own, *texts])


def asked_by(server: str, question: Message) -> Message:
    """A question to the person at the client, who sees but one server here, with the name of the one that asks."""
    params = question.get("params")
    if question.get("method") != "elicitation/create" or not isinstance(params, dict):
        return question
    params = {**params, "message": f"The server {server} asks: {params.get('message', '')}"}
    if isinstance(params.get("elicitationId"), str):
        params["elicitationId"] = joint_elicitation(server, params["elicitationId"])
    return {**question, "params": params}


def asked_by_error(server: str, answer: Message) -> Message:
    """An error that asks to open links first (MCP 2025-11-25), with whose they are."""
    error = answer.get("error") or {}
    data = error.get("data")
    if error.get("code") != _LINKS_REQUIRED or not isinstance(data, dict) or not isinstance(asked := data.get("elicitations"), list):
        return answer
    named = [asked_by(server, {"method": "elicitation/create", "params": one})["params"] for one in asked if isinstance(one, dict)]
    return {**answer, "error": {**error, "data": {**data, "elicitations": named}}}


def joint_elicitation(server: str, identifier: str) -> str:
    """The id of a question behind a link, which servers choose, so that none can speak of another's."""
    return f"{server}/{identifier}"


def joint_log(server: str, notice: Message) -> Message:
    """A line of a server's log, with whose it is."""
    params = notice.get("params") or {}
    logger = params.get("logger")
    return {**notice, "params": {**params, "logger": f"{server}/{logger}" if isinstance(logger, str) and logger else server}}


def progress_token(message: Message) -> object:
    """The token by which a request wants to hear of its progress."""
    meta = (message.get("params") or {}).get("_meta")
    return meta.get("progressToken") if isinstance(meta, dict) else None


def without_progress(message: Message) -> Message:
    """A request that goes to several servers, of whom none may count for all."""
    if progress_token(message) is None:
        return message
    meta = {name: value for name, value in message["params"]["_meta"].items() if name != "progressToken"}
    return {**message, "params": {**message["params"], "_meta": meta}}


def _asking(message: Message, method: str, **params: str) -> Message:
    """A request for a page of one server's list, on behalf of a request of the agent."""
    meta = (without_progress(message).get("params") or {}).get("_meta")
    sent: Message = dict(params)
    if meta:
        sent["_meta"] = meta
    return {"jsonrpc": "2.0", "id": message["id"], "method": method, "params": sent}


def _known_names(task: Task, kind: Kind) -> set[tuple[str, str]]:
    """What the task spells out: exact lines of its grant, and the tools as they were when it began."""
    known = {(grant.server, grant.name) for grant in task.grants if grant.kind is kind and not grant.name.endswith("*")}
    if kind is Kind.TOOL:
        known |= {(server, name) for server, _, name in (identifier.partition("/") for identifier in task.tools)}
    return known

"""The MCP gateway's endpoint on ASGI: checks what HTTP can tell, finds out who speaks, hands over to the era's door.

Paths: ``/mcp/{server}`` with a task token as Bearer, or as DPoP where it is bound to a key, and ``/run/{endpoint}/mcp/{server}``,
where the path itself is the secret of one task's own endpoint, opened by ``remit run`` and closed with the task. Without a server they
lead to all servers of the task in one (``joint.py``); the doors know that as the server "". Who shows no token that
opens a server is told where the server's metadata stands (RFC 9728 §5.1), and finds the token service by it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from remit.doors.challenges import ALGORITHMS_TOLD, dpop_challenge
from remit.doors.gateway.exchange import NO_TOKEN, HttpExchange
from remit.doors.gateway.listening import LISTEN
from remit.doors.gateway.modern import is_modern
from remit.doors.problems import INVALID_REQUEST, PARSE_ERROR, problem, rpc_error, rpc_status
from remit.drivers.conversation import is_response
from remit.drivers.spans import SPANS_OFF
from remit.errors import Broken, Mistake, NotFound, RemitError, Unauthenticated
from remit.logic.arguments import parse_json
from remit.logic.telemetry import incoming, method_name, request_attributes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping
    from contextlib import AbstractContextManager

    from remit.doors.gateway.legacy import LegacyDoor
    from remit.doors.gateway.modern import ModernDoor
    from remit.doors.gateway.open_streams import OpenStreams
    from remit.drivers.spans import Spans
    from remit.model.identity import Bearer
    from remit.model.token import Credential

_ID_CHARACTERS_MAX = 1_024
_ID_MAX = 2**63


class Gatekeeper(Protocol):
    """Who presents a token, and who speaks through a task's own endpoint."""

    async def bearer(self, shown: Credential, server: str) -> tuple[Bearer, str]:
        """Who presents a token at a server, and a new DPoP nonce where one is due. Raises Unauthenticated, Outage."""

    def nonce(self) -> str:
        """A fresh DPoP nonce."""

    async def endpoint(self, secret: str) -> Bearer:
        """Raises Unauthenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Bounds of the door."""

    body_bytes_max: int = 4_194_304
    body_seconds_max: float = 30.0
    depth_max: int = 64


class McpGateway:
    """An ASGI application."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        legacy: LegacyDoor,
        modern: ModernDoor,
        streams: OpenStreams,
        limits: GatewayLimits,
        *,
        issuer: str,
        hosts: Collection[str],
        origins: Collection[str],
        report: Callable[[BaseException], None],
        spans: Spans = SPANS_OFF,
        known: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``issuer``: our URL. ``report`` takes faults of remit itself, for its log. ``spans``: traces requests; ``known``: whether a
        server of that name is configured.
        """
        self._spans, self._known = spans, known
        self._gatekeeper, self._legacy, self._modern, self._limits = gatekeeper, legacy, modern, limits
        self._streams, self._issuer, self._hosts, self._origins, self._report = streams, issuer, hosts, origins, report

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        http = HttpExchange(scope, receive, send)
        try:
            await self._serve(http, scope["path"])
        except Unauthenticated as error:
            await http.fail(error, self._challenge(scope["path"], error))
        except RemitError as error:
            await http.fail(error)
        except OSError:
            return  # the agent has gone
        except Exception as error:
            self._report(error)
            await http.fail(Broken("fault"))

    async def _serve(self, http: HttpExchange, path: str) -> None:
        http.check_origin(self._hosts, self._origins)
        bearer, server = await self._who(http, path)
        if http.method == "POST":
            await self._post(http, bearer, server)
        elif http.method in {"GET", "DELETE"} and http.headers.get("mcp-session-id"):
            if http.method == "GET":
                await self._streams.hold(bearer, self._legacy.get(http, bearer, server))
            else:
                await self._legacy.delete(http, bearer, server)
        else:
            await http.respond(405, b"", [(b"allow", b"POST")])

    async def _who(self, http: HttpExchange, path: str) -> tuple[Bearer, str]:
        match path.strip("/").split("/"):
            case ["mcp"] | ["mcp", _] as parts:
                server = "".join(parts[1:])
                bearer, nonce = await self._gatekeeper.bearer(http.credential(self._issuer), server)
                if nonce:
                    http.extra.append((b"dpop-nonce", nonce.encode()))
                return bearer, server
            case ["run", secret, "mcp", *server] if len(server) <= 1:
                return await self._gatekeeper.endpoint(secret), "".join(server)
            case _:
                raise NotFound("there is nothing here", hint="the gateway serves /mcp and /mcp/<server>")

    def _challenge(self, path: str, error: Unauthenticated) -> list[tuple[bytes, bytes]]:
        parts = path.strip("/").split("/")
        is_server = len(parts) == 2 and parts[0] == "mcp" and parts[1].isascii() and parts[1].replace("-", "").replace("_", "").isalnum()
        metadata = f"{self._issuer}/.well-known/oauth-protected-resource/{'/'.join(parts)}" if is_server or parts == ["mcp"] else ""
        return challenge(error, self._gatekeeper.nonce, metadata)

    async def _post(self, http: HttpExchange, bearer: Bearer, server: str) -> None:
        try:
            message = parse_json(
                await http.body(self._limits.body_bytes_max, self._limits.body_seconds_max),
                depth_max=self._limits.depth_max,
                bytes_max=self._limits.body_bytes_max,
            )
        except Mistake as error:
            if error.code != "json":
                raise
            await http.answer(rpc_error(None, PARSE_ERROR, error.message), 400)
            return
        wrong = _malformed(message)
        if wrong:
            identifier = message.get("id") if isinstance(message, dict) and _is_id(message.get("id")) else None
            await http.answer(rpc_error(identifier, INVALID_REQUEST, wrong), 400)
            return
        http.asked = None if is_response(message) else message.get("id")
        door = self._modern if is_modern(http, message) else self._legacy
        try:
            with self._traced(http, bearer, server, message):
                answered = door.post(http, bearer, server, message)
                await (self._streams.hold(bearer, answered) if message.get("method") == LISTEN else answered)
        except RemitError as error:
            if http.asked is not None and isinstance(error, Mistake):
                answer = rpc_error(http.asked, INVALID_REQUEST, error.message, problem(error))
                await http.answer(answer, rpc_status(answer))
                return
            raise

    def _traced(self, http: HttpExchange, bearer: Bearer, server: str, message: dict[str, Any]) -> AbstractContextManager[object]:
        """The span of a request, below the agent's own where it tells of one."""
        if not self._spans.on:
            return contextlib.nullcontext()
        parent, link = incoming(message, http.headers)
        attributes = request_attributes(message, bearer.agent.text, bearer.task, server if self._known(server) else "")
        return self._spans.span(method_name(message), attributes, kind="server", parent=parent, link=link)


def challenge(error: Unauthenticated, nonce: Callable[[], str], metadata: str = "") -> list[tuple[bytes, bytes]]:
    """What a client needs to find its way to a token: RFC 6750 §3, RFC 9728 §5.1 (``metadata``: of the resource), RFC 9449 §7.1."""
    words = [f'resource_metadata="{metadata}"'] if metadata else []
    told = dpop_challenge(error, nonce, words)
    if not told:
        why = [] if error.code == NO_TOKEN else ['error="invalid_token"']
        told = {"www-authenticate": f"Bearer {', '.join([*why, *words, f'DPoP {ALGORITHMS_TOLD}'])}"}
    return [(name.encode(), value.encode()) for name, value in told.items()]


def _malformed(message: object) -> str:
    """What is wrong with a JSON-RPC message, in a few words; "" where nothing is."""
    if isinstance(message, list):
        return "batches are not spoken here: send one message a request"
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return "not a JSON-RPC 2.0 message"
    if "id" in message and not _is_id(message["id"]):
        return f"an id is a string of at most {_ID_CHARACTERS_MAX} characters or an integer of 64 bits"
    if is_response(message):
        return "" if "id" in message and ("result" in message) != ("error" in message) else "an answer has an id, and a result or an error"
    method = message.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= _ID_CHARACTERS_MAX:
        return "a message needs a method"
    if "params" in message and not isinstance(message["params"], dict):
        return "params must be an object"
    return ""


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _ID_CHARACTERS_MAX
    return isinstance(value, int) and not isinstance(value, bool) and -_ID_MAX <= value < _ID_MAX

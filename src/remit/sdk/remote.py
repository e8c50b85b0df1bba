"""remit over HTTP: the door of a server (``remit serve``) behind ``remit.connect``.

Rules: a server that is away, slow or no remit is an ``Outage``, which for a call is a denial. Redirects are not followed: the token
is for this server. Every wait and every answer is bounded.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from remit.errors import Mistake, Outage, RemitError, Unauthenticated
from remit.wire import AuthorizeCall, DecisionView, DelegateTask, ObserveCall, OpenTask, ReportManifest, TaskView, TokenView, read_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_ANSWER_BYTES_MAX = 4_194_304
_CREATED_OR_NOT = frozenset({200, 201})
_NO_CONTENT = 204


class RemoteDoor:
    """Calls one server. ``token``: a JWT-SVID or OIDC token, or what gives a fresh one; not needed where only task tokens are presented."""

    def __init__(self, url: str, client: aiohttp.ClientSession, token: Any) -> None:
        self._url, self._client, self._given = url.rstrip("/"), client, token

    async def prove(self, agent: str) -> str:  # noqa: ARG002 - the server compares the name with the proof
        """The token, asked for anew where it is a function. Raises Unauthenticated where there is none."""
        try:
            token = self._given() if callable(self._given) else self._given
            token = await token if inspect.isawaitable(token) else token
        except RemitError:
            raise
        except Exception as error:
            raise Outage(f"no proof of identity could be had: {type(error).__name__}", code="no_proof") from error
        if not isinstance(token, str) or not token:
            raise Unauthenticated("a proof of identity is needed", hint="remit.connect(url, token=<JWT-SVID, or what gives one>)")
        return token

    async def open(self, proof: str, wanted: OpenTask) -> TaskView:
        """POST /v1/tasks."""
        return await self._ask("POST", "", proof, wanted, TaskView)

    async def delegate(self, proof: str, task: str, wanted: DelegateTask) -> TaskView:
        """POST /v1/tasks/{task}/children."""
        return await self._ask("POST", f"/{quote(task, safe='')}/children", proof, wanted, TaskView)

    async def show(self, proof: str, task: str) -> TaskView:
        """GET /v1/tasks/{task}."""
        return await self._ask("GET", f"/{quote(task, safe='')}", proof, None, TaskView)

    async def renew(self, proof: str, task: str) -> TokenView:
        """POST /v1/tasks/{task}/token."""
        return await self._ask("POST", f"/{quote(task, safe='')}/token", proof, None, TokenView)

    async def complete(self, proof: str, task: str) -> TaskView:
        """POST /v1/tasks/{task}/complete."""
        return await self._ask("POST", f"/{quote(task, safe='')}/complete", proof, None, TaskView)

    async def manifest(self, token: str, task: str, told: ReportManifest) -> TaskView:
        """POST /v1/tasks/{task}/manifest."""
        return await self._ask("POST", f"/{quote(task, safe='')}/manifest", token, told, TaskView)

    async def authorize(self, token: str, task: str, wanted: AuthorizeCall) -> DecisionView:
        """POST /v1/tasks/{task}/authorize."""
        return await self._ask("POST", f"/{quote(task, safe='')}/authorize", token, wanted, DecisionView)

    async def observe(self, token: str, task: str, told: ObserveCall) -> None:
        """POST /v1/tasks/{task}/observe."""
        await self._ask("POST", f"/{quote(task, safe='')}/observe", token, told, type(None))

    async def _ask(self, method: str, path: str, token: str, body: msgspec.Struct | None, kind: type[T]) -> T:
        try:
            status, headers, data = await self._exchange(method, path, token, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Outage(f"the remit server at {self._url} cannot be reached: {type(error).__name__}") from None
        except (ValueError, OverflowError) as error:  # a token that is no header, an integer that is none in JSON
            raise Mistake(f"this cannot be sent: {str(error)[:100]}", code="json") from None
        if status == _NO_CONTENT:
            data = b"null"
        elif status not in _CREATED_OR_NOT:
            wait = headers.get("retry-after", "")
            raise read_problem(status, data, retry_after_seconds=int(wait) if wait.isascii() and wait.isdigit() else 1)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Outage(f"the server at {self._url} does not answer as remit does", code="not_remit") from None

    async def _exchange(self, method: str, path: str, token: str, body: msgspec.Struct | None) -> tuple[int, Any, bytes]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = io.BytesIO(msgspec.json.encode(body)) if body is not None else None  # read in pieces: large ones do not hold the loop
        url = f"{self._url}/v1/tasks{path}"
        async with self._client.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            read = await answer.content.read(_ANSWER_BYTES_MAX + 1)
            pieces = [read]
            size = len(read)
            while read and size <= _ANSWER_BYTES_MAX:
                read = await answer.content.read(_ANSWER_BYTES_MAX + 1)
                pieces.append(read)
                size += len(read)
            return answer.status, answer.headers, b"".join(pieces)[: _ANSWER_BYTES_MAX + 1]


@contextlib.asynccontextmanager
async def connection(url: str, token: Any) -> AsyncIterator[RemoteDoor]:
    """Hold connections to one server. Nothing is sent before the first question. Raises Mistake for an address that is none."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise Mistake(f"{str(url)[:80]!r} is no address of a server", code="url", hint="http://127.0.0.1:7411")
    async with aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield RemoteDoor(url, client, token)

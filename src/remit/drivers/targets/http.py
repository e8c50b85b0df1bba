"""HTTP to a target: small JSON answers from the addresses that its configuration names, over a few connections that are kept.

Rules: TLS is verified, by ``ca_file`` or the authorities of the system. No redirects, no cookies, no proxies of the environment, no
compression; time and size are bounded as a whole. With ``networks`` every address is checked as in ``fetching.py``: only public ones, and
those that are named. What the target answers stands in no error. Left out: what a status means, which each driver knows.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from yarl import URL

from remit.drivers.fetching import CheckedResolver, check_literal
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.trust import Network

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 10.0
_HEADER_BYTES_MAX = 8_190


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A status and what came with it: JSON, or ``None`` where that was something else."""

    status: int
    data: Any = field(repr=False)


class HttpClient:
    """One target's. ``networks``: ``None`` where the configuration alone says what is reached, whatever its address."""

    def __init__(self, name: str, *, connections: int, ca_file: str, bytes_max: int, networks: tuple[Network, ...] | None = None) -> None:
        self._name, self._connections, self._bytes_max, self._networks = name, connections, bytes_max, networks
        self._tls = ssl.create_default_context(cafile=ca_file or None)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answered:
        """One request. ``url`` is sent as it stands, escapes included. Raises Outage; ``unsent`` where no connection came about."""
        try:
            async with (
                asyncio.timeout(_ANSWER_SECONDS),
                self._opened(url).request(method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return Answered(status=answer.status, data=_decoded(await self._read(answer)))
        except Outage as error:
            if error.code != "trust_fetch":
                raise
            raise Outage(f"target {self._name}: {error.message}", code="target_unavailable", unsent=True) from None
        except TimeoutError:
            raise Outage(f"target {self._name} did not answer in time", code="target_unavailable") from None
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError)
            why = "does not prove itself by the authorities of ca_file or the system" if refused else "cannot be reached"
            raise Outage(f"target {self._name} {why}", code="target_unavailable", unsent=True) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Outage(f"target {self._name} does not answer as HTTP does", code="target_unavailable") from None

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self, url: str) -> aiohttp.ClientSession:
        if self._networks is not None:
            check_literal(URL(url).host or "", self._networks)  # a number is never looked up
        if self._session is None:
            resolver = None if self._networks is None else CheckedResolver(self._networks)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls, resolver=resolver, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                max_line_size=_HEADER_BYTES_MAX,
                max_field_size=_HEADER_BYTES_MAX,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            )
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > self._bytes_max:
                raise Outage(f"target {self._name} sent more than {self._bytes_max:,} bytes", code="target_unavailable")
        return bytes(body)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def check_authorities(ca_file: str) -> None:
    """Raises Mistake where ``ca_file`` is given and holds nothing to trust."""
    if not ca_file:
        return
    if not ca_file.startswith("/"):
        raise Mistake("ca_file is no absolute path", code="target", hint='ca_file = "/etc/remit/ca.pem"')
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise Mistake("ca_file holds no certificates that can be read", code="target", hint="a file of PEM") from None

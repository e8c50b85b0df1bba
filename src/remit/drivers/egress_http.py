"""Sends one request of an egress to its API, and reads the answer whole.

Rules: only the configured host is ever contacted, at an address of the public internet or of the egress's own networks, and without TLS
at the latter only. What counts is the address that is connected to, checked at the socket. No redirects, no cookies, no proxies of the
environment, nothing unpacked, and nothing sent twice: a connection that breaks is not tried again. Everything is bounded, and what an API
says stands in no error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from remit.drivers.fetching import reachable
from remit.drivers.outward import AddressRefusedError, address_refused, open_socket
from remit.drivers.patience import within
from remit.errors import Outage
from remit.logic.egress_sent import EVENT_STREAM, Incoming

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from aiohappyeyeballs import AddrInfoType

    from remit.logic.egress_sent import Outgoing
    from remit.model.egress import Egress
    from remit.model.trust import Network

_CONNECT_SECONDS = 10.0
_CLIENTS_MAX = 256
_PER_HOST = 64
_HEADER_BYTES_MAX, _HEADERS_MAX = 16_384, 200
_OWN = {"Accept-Encoding": "identity", "User-Agent": "remit"}
_OK = 200
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
Heard = Callable[[Incoming, bytes], Awaitable[bool]]
_Place = tuple[bool, tuple["Network", ...], str]


class EgressClient:
    """Connections to APIs, kept between requests: one pool for each set of networks and authorities."""

    def __init__(self, *, bytes_max: int, seconds_max: float) -> None:
        """Bounds of one answer, and of one request from its beginning to the end of its answer."""
        self._bytes_max, self._seconds_max = bytes_max, seconds_max
        self._clients: OrderedDict[_Place, aiohttp.ClientSession] = OrderedDict()

    async def send(self, egress: Egress, request: Outgoing, headers: Mapping[str, str], heard: Heard | None = None) -> Incoming:
        """The answer. ``headers``: the configured ones, with the credential; they go before the agent's. ``heard``: takes the events of
        a stream as they come, whole ones only, with the answer they belong to, and says whether it took them; what it raises ends all.

        Raises Outage (``egress_unreachable``, ``egress_failed``, ``egress_timeout``); ``unsent`` where nothing can have arrived.
        """
        own = {name.lower() for name in headers}
        sent = {**_OWN, **{name: value for name, value in request.headers.items() if name not in own}, **headers}
        client = await self._client(egress)
        try:
            with within(self._seconds_max):
                return await self._sent(client, egress, request, sent, heard)
        except TimeoutError:
            raise Outage(f"{egress.name} did not answer in time", code="egress_timeout") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:  # there was no connection to send anything on
            raise Outage(f"{egress.name} cannot be reached: {_why(error)}", code="egress_unreachable", unsent=True) from None
        except (aiohttp.InvalidURL, aiohttp.TooManyRedirects):
            raise Outage(f"{egress.name} has an address that cannot be asked", code="egress_unreachable", unsent=True) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Outage(f"{egress.name} broke off, or answered what is no HTTP", code="egress_failed") from None

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        clients, self._clients = self._clients, OrderedDict()
        for client in clients.values():
            await client.close()

    async def _sent(
        self, client: aiohttp.ClientSession, egress: Egress, request: Outgoing, headers: Mapping[str, str], heard: Heard | None
    ) -> Incoming:
        async with client.request(
            request.method,
            URL(request.url, encoded=True),  # as it was written from what was decided on
            data=request.body,
            headers=headers,
            allow_redirects=False,
            middlewares=(_Once(),),
        ) as answer:
            found: dict[str, str] = {}
            for name, value in answer.headers.items():
                found.setdefault(name.lower(), value)
            if found.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
                raise Outage(f"{egress.name} sent a packed answer, which was not asked for", code="egress_failed")
            head = Incoming(status=answer.status, headers=found, body=b"")
            is_stream = answer.status == _OK and answer.content_type == EVENT_STREAM
            body, told = bytearray(), 0
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > self._bytes_max:
                    answer.close()
                    raise Outage(f"{egress.name} answered more than {self._bytes_max:,} bytes", code="egress_failed")
                if (
                    heard is not None
                    and is_stream
                    and (end := _whole_events(body, told)) > told
                    and await heard(head, bytes(body[told:end]))
                ):
                    told = end
            return replace(head, body=bytes(body), told=told)

    async def _client(self, egress: Egress) -> aiohttp.ClientSession:
        is_tls = egress.url.startswith("https:")
        place = is_tls, egress.networks, egress.ca_file
        if place not in self._clients:
            context = await asyncio.to_thread(_context, egress) if is_tls else None
            if place not in self._clients:  # nobody else was quicker
                self._clients[place] = _session(egress.networks, context)
            if len(self._clients) > _CLIENTS_MAX:
                _, oldest = self._clients.popitem(last=False)
                await oldest.close()
        return self._clients[place]


def _whole_events(body: bytearray, begin: int) -> int:
    """Where the last event ends that is whole: behind an empty line (HTML, server-sent events)."""
    return max(begin, *(at + len(end) for end in _EVENT_ENDS if (at := body.rfind(end, begin)) >= 0), begin)


class _Once:
    """aiohttp asks again by itself where a connection breaks under a method that may be repeated. Whether it may is not ours to know."""

    def __init__(self) -> None:
        self._asked = False

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Pass on the first attempt."""
        if self._asked:
            raise aiohttp.ClientPayloadError("not a second time")
        self._asked = True
        return await handler(request)


def _session(networks: tuple[Network, ...], context: ssl.SSLContext | None) -> aiohttp.ClientSession:
    def checked(address: AddrInfoType) -> socket.socket:
        where = ipaddress.ip_address(str(address[4][0]).partition("%")[0])
        inside = any(where in network for network in networks)
        if not inside and (context is None or not reachable(where, networks)):
            raise AddressRefusedError("not an address of this egress")
        return open_socket(address)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=_PER_HOST, ssl=context or True, socket_factory=checked),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_line_size=_HEADER_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
        max_headers=_HEADERS_MAX,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
    )


def _context(egress: Egress) -> ssl.SSLContext:
    """Reading authorities takes a while. Raises Outage."""
    try:
        return ssl.create_default_context(cafile=egress.ca_file or None)
    except (OSError, ssl.SSLError):
        raise Outage(f"ca_file of {egress.name} cannot be used", code="egress_unreachable", unsent=True) from None


def _why(error: aiohttp.ClientError) -> str:
    if address_refused(error):
        return "its name leads to an address that networks does not name"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "no TLS with what stands there, by the authorities of ca_file or the public ones"
    return "there is no connection"

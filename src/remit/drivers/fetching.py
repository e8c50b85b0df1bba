"""Fetches small documents of those we trust (keys, discovery, bundles) from configured addresses, and from nowhere else.

Rules: names are looked up once, every address is checked, and exactly a checked one is connected to: private, loopback, link-local and
other special ranges (so the metadata address of a cloud) are refused unless the configuration names their network. No redirects, no
cookies, no proxies of the environment, no compression. Size and time are bounded as a whole. What a server says goes into no error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from remit.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address, IPv6Address

    from remit.model.trust import Endpoint, Network

_OK, _NOT_FOUND = 200, 404
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:[,\s]|$)", re.IGNORECASE)
_NO_STORE = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:[,\s=]|$)", re.IGNORECASE)
_EMBEDDED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64, RFC 6052: an IPv4 address in other words
_FORMER = tuple(  # not global by IANA's registries, or taken out of use; what Python's lists of its day leave out
    ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20", "5f00::/16")
)
_HEADER_BYTES_MAX = 8_190


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A document. ``max_age_seconds``: how long it holds by its own word (RFC 9111), or ``None`` where it says nothing."""

    data: bytes
    max_age_seconds: int | None = None


class Absent(Outage):
    """The server answered that there is no such document."""


def reachable(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    """Whether an address may be connected to: a public one, or one of these networks."""
    plain: IPv4Address | IPv6Address = address
    if isinstance(address, ipaddress.IPv6Address):
        inside = ipaddress.IPv4Address(address.packed[-4:]) if address in _EMBEDDED else None
        plain = address.ipv4_mapped or address.sixtofour or inside or address
        if address.teredo is not None or address.scope_id is not None:
            return False
    if any(one in network for network in networks for one in (address, plain)):
        return True
    return plain.is_global and not plain.is_multicast and not plain.is_reserved and not any(plain in one for one in _FORMER)


class CheckedResolver(AbstractResolver):
    """Looks names up and gives only addresses that may be reached; one that may not spoils the name."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Addresses of a name, all of them checked. Raises Outage."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results = []
        for kind, _, protocol, _, where in found:
            address = str(where[0])
            _check_address(address, self._networks)
            results.append(ResolveResult(hostname=host, host=address, port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST))
        return results

    async def close(self) -> None:
        """Nothing to let go."""


class Fetcher:
    """Gets documents. One connection each: they are fetched every few minutes."""

    def __init__(self, *, bytes_max: int, seconds_max: float) -> None:
        self._bytes_max, self._seconds_max = bytes_max, seconds_max

    async def get(self, url: str, endpoint: Endpoint) -> Fetched:
        """The document at a configured URL. Raises Outage (its sentence is for the ledger), Absent (404)."""
        return await self._bounded(url, endpoint, None, None)

    async def post(self, url: str, endpoint: Endpoint, form: Mapping[str, str], account: tuple[str, str] | None = None) -> Fetched:
        """The answer to a form; ``account``: id and secret, as Basic. Raises as ``get``, and Outage for a refusal."""
        return await self._bounded(url, endpoint, form, account)

    async def _bounded(self, url: str, endpoint: Endpoint, form: Mapping[str, str] | None, account: tuple[str, str] | None) -> Fetched:
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._ask(url, endpoint, form, account)
        except TimeoutError:
            raise Outage(f"no whole answer within {self._seconds_max:g} seconds", code="trust_fetch") from None
        except ssl.SSLError:
            raise Outage("no TLS with what stands there, by the authorities of ca_file or the public ones", code="trust_fetch") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Outage(f"it cannot be reached ({type(error).__name__})", code="trust_fetch") from None

    async def _ask(self, url: str, endpoint: Endpoint, form: Mapping[str, str] | None, account: tuple[str, str] | None) -> Fetched:
        where = URL(url)
        check_literal(where.host or "", endpoint.networks)  # these are never looked up
        tls = await asyncio.to_thread(_context, endpoint.ca_file) if where.scheme == "https" else True
        connector = aiohttp.TCPConnector(resolver=CheckedResolver(endpoint.networks), use_dns_cache=False, ssl=tls, force_close=True)
        headers = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}
        if account is not None:  # RFC 6749 §2.3.1: both in the encoding of a form first
            headers["Authorization"] = aiohttp.encode_basic_auth(quote_plus(account[0]), quote_plus(account[1]))
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                max_line_size=_HEADER_BYTES_MAX,
                max_field_size=_HEADER_BYTES_MAX,
            ) as client,
            client.request("GET" if form is None else "POST", where, data=form, headers=headers, allow_redirects=False) as response,
        ):
            if response.status == _NOT_FOUND:
                raise Absent("there is no such document (404)", code="trust_fetch")
            if response.status != _OK:
                raise Outage(f"it answered with status {response.status}, and redirects are not followed", code="trust_fetch")
            if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                raise Outage("it sent a compressed answer, which was not asked for", code="trust_fetch")
            return Fetched(data=await self._body(response), max_age_seconds=_max_age(response.headers.get("Cache-Control", "")))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._bytes_max:
                raise Outage(f"it sent more than {self._bytes_max:,} bytes", code="trust_fetch")
        return bytes(body)


def _context(ca_file: str) -> ssl.SSLContext:
    """Reading authorities takes a while. Raises Outage."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Outage(f"ca_file cannot be used: {error.strerror or 'no certificates in it'}", code="trust_fetch") from None


def check_literal(host: str, networks: tuple[Network, ...]) -> None:
    """Raise Outage where a host is an address by its number, and one that may not be reached."""
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        return
    _check_address(address, networks)


def _check_address(text: str, networks: tuple[Network, ...]) -> None:
    if not reachable(ipaddress.ip_address(text), networks):
        raise Outage("its address is not a public one, and networks does not name it", code="trust_fetch")


def _max_age(control: str) -> int | None:
    if _NO_STORE.search(control):
        return 0
    found = _MAX_AGE.search(control)
    return int(found[1]) if found else None

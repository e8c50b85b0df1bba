"""TLS of the server: our certificate, and who is on the other side, as the application is told (ASGI TLS extension 0.2).

Rules: TLS 1.2 or newer; no session is resumed, so every connection shows its certificate again. A certificate of a client is asked
for, never demanded, and has to lead to an authority of some trusted domain for the handshake to succeed; of which domain it is, and
all else, is checked at each request (``services/identities.py``). Authorities are only ever added to a running server: one that was
withdrawn still passes the handshake, and then nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, Protocol, cast

from cryptography.hazmat.primitives.serialization import Encoding
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from remit.errors import Mistake, Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from cryptography import x509

_LOG = logging.getLogger("remit")
_LOOK_SECONDS = 30.0
_DER, _CHAIN_MAX = 2, 10
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class _Presented(Protocol):
    """What OpenSSL holds of one certificate (``_ssl.Certificate``)."""

    def public_bytes(self, form: int) -> bytes: ...


class ServerTls:
    """The TLS of one running server."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """``certificate``: PEM, leaf first; ``key``: PEM. Raises Mistake where they do not serve."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self.context.num_tickets = 0
        self.context.set_alpn_protocols(["http/1.1"])
        self._files = (certificate, key)
        self._loaded: tuple[tuple[int, int], ...] = ()
        self.load()

    def load(self) -> None:
        """Take the certificate and the key as they are in their files now, where they changed: they may be replaced while the server
        runs. Raises Mistake where they do not serve; the running ones stay.
        """
        certificate, key = self._files
        try:
            stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in self._files)
            if stamps != self._loaded:
                self.context.load_cert_chain(certificate, key)
                self._loaded = stamps
        except (OSError, ssl.SSLError) as error:
            hint = "PEM files: the certificate with its chain, and its key without a passphrase"
            place = Place(file=f"{certificate}, {key}")
            raise Mistake(f"no TLS with these files: {error.strerror or error}", code="tls_files", hint=hint, place=place) from None

    def trust(self, authorities: Iterable[bytes]) -> None:
        """Take certificates of clients that lead to these authorities (DER) from now on as well."""
        data = b"".join(authorities)
        if data:
            self.context.load_verify_locations(cadata=data)
            self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what a bundle holds is an anchor, self-signed or not
            self.context.verify_mode = ssl.CERT_OPTIONAL


@contextlib.asynccontextmanager
async def trusting(tls: ServerTls | None, authorities: Callable[[], Awaitable[Iterable[x509.Certificate]]]) -> AsyncIterator[None]:
    """Keep a server's handshakes up with the bundles of trusted domains, and with its own files, while the block runs."""

    async def look() -> None:
        if tls is not None:
            tls.trust([one.public_bytes(Encoding.DER) for one in await authorities()])

    async def look_again() -> None:
        while tls is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            await look()
            try:
                tls.load()
            except Mistake as mistake:
                _LOG.error("the changed certificate is not used; the running one stays: %s", mistake)

    await look()
    looking = asyncio.create_task(look_again())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


class TlsProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which tells the application who is on the other side of TLS: ``scope["extensions"]["tls"]``."""

    _tls: dict[str, Any] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the class above
        """Look once a connection: the handshake is over."""
        super().connection_made(transport)
        spoken = transport.get_extra_info("ssl_object")
        self._tls = _extension(spoken) if spoken is not None else None

    def on_message_begin(self) -> None:
        """Each request has a scope of its own."""
        super().on_message_begin()
        if self._tls is not None:
            cast("dict[str, Any]", self.scope)["extensions"] = {"tls": self._tls}


def _extension(spoken: ssl.SSLObject) -> dict[str, Any]:
    chain = _chain(spoken)
    return {
        "server_cert": None,
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(certificate) for certificate in chain),
        "client_cert_name": None,  # a subject that nobody asks for: the identity is in the URI SAN
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(spoken.version() or ""),
        "cipher_suite": None,
    }


def _chain(spoken: ssl.SSLObject) -> list[bytes]:
    """What the client showed, leaf first, in DER. The whole of it is public in Python 3.13; before, the leaf alone is."""
    leaf = spoken.getpeercert(binary_form=True)
    if not leaf:
        return []
    below: Any = spoken if hasattr(spoken, "get_unverified_chain") else getattr(spoken, "_sslobj", None)
    shown: list[bytes | _Presented] = list(getattr(below, "get_unverified_chain", list)() or ())[:_CHAIN_MAX]
    chain = [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in shown]
    return chain if chain and chain[0] == leaf else [leaf]

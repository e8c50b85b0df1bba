"""A client of any SPIFFE Workload API (a SPIRE agent's, or another remit's): bundles of trust domains, and SVIDs of our own process.

Rules: everything is bounded (time, bytes, certificates), and whatever is wrong with an answer is an Outage: nothing is believed of it.
A bundle is that of one trust domain, picked by its name, never a union. Left out: what a bundle is worth; that is for whoever reads it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from cryptography import x509
from google.protobuf.message import DecodeError
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error
from joserfc.errors import JoseError

from remit.drivers.workload_messages import HEADER, MESSAGES, METHODS, SERVICE
from remit.drivers.x509 import authority_jwk
from remit.errors import Mistake, Outage
from remit.logic.arguments import parse_json
from remit.model.identity import SpiffeId
from remit.model.svid import X509Svid

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEME = "unix://"
_SECONDS = 10.0
_MESSAGE_BYTES_MAX = 4_194_304
_BROKEN = (OSError, TimeoutError, ProtocolError, StreamTerminatedError, H2Error, DecodeError, AssertionError, NotImplementedError)
_CERTIFICATES_MAX = 1_000
_LONG_FORM, _SEQUENCE_TAG = 0x80, 0x30


class WorkloadApiClient:
    """One Workload API, at ``unix:///path`` (SPIFFE Workload Endpoint §4)."""

    def __init__(self, endpoint: str) -> None:
        """Raises Mistake for what is no Unix socket's address; connects to nothing yet."""
        path = endpoint.removeprefix(_SCHEME)
        if not endpoint.startswith(f"{_SCHEME}/") or "?" in path or "#" in path:
            raise Mistake(
                f"{endpoint[:200]!r} is not the address of a Workload API", code="workload_api", hint="unix:///run/spire/agent.sock"
            )
        self._path = path

    async def bundle(self, trust_domain: str) -> bytes:
        """The bundle of a trust domain as JSON (SPIFFE Trust Domain and Bundle §4), its sequence left out. Raises Outage."""
        name = f"spiffe://{trust_domain}"
        x509_answer = await self._ask("FetchX509Bundles")
        jwt_answer = await self._ask("FetchJWTBundles")
        if name not in x509_answer.bundles and name not in jwt_answer.bundles:
            raise _outage(f"has no bundle of {trust_domain}")
        keys = [_authority(one) for one in certificates(x509_answer.bundles.get(name, b""))]
        try:
            jwks = parse_json(jwt_answer.bundles.get(name) or b'{"keys":[]}', bytes_max=_MESSAGE_BYTES_MAX)
            named = [{**key, "use": "jwt-svid"} for key in jwks["keys"] if key.get("use", "jwt-svid") == "jwt-svid"]
        except (Mistake, KeyError, TypeError, AttributeError):
            raise _outage("answers a JWK Set that cannot be read") from None
        return json.dumps({"keys": [*keys, *named]}).encode()

    async def x509_svid(self) -> tuple[X509Svid, bytes]:
        """Our own default X.509-SVID, and the authorities of its trust domain in DER, one after the other. Raises Outage."""
        answer = await self._ask("FetchX509SVID")
        if not answer.svids:
            raise _outage("has no identity for us")
        svid = answer.svids[0]
        try:
            leaf = x509.load_der_x509_certificate(certificates(svid.x509_svid)[0])
            spiffe_id = SpiffeId.parse(svid.spiffe_id)
        except (ValueError, IndexError, Mistake):
            raise _outage("answers an SVID that cannot be read") from None
        made = X509Svid(
            spiffe_id=spiffe_id,
            chain=svid.x509_svid,
            key=svid.x509_svid_key,
            serial=f"{leaf.serial_number:x}",
            expires_at=leaf.not_valid_after_utc,
        )
        return made, svid.bundle

    async def jwt_svid(self, audiences: Sequence[str]) -> str:
        """A JWT-SVID of our own. Raises Outage."""
        answer = await self._ask("FetchJWTSVID", audience=list(audiences))
        if not answer.svids:
            raise _outage("has no identity for us")
        return str(answer.svids[0].svid)

    async def _ask(self, method: str, **fields: Any) -> Any:
        """The first answer."""
        request, response, streams = METHODS[method]
        channel = Channel(path=self._path, config=Configuration(http2_connection_window_size=_MESSAGE_BYTES_MAX))
        kind = UnaryStreamMethod if streams else UnaryUnaryMethod
        call: Any = kind(channel, f"/{SERVICE}/{method}", MESSAGES[request], MESSAGES[response])
        try:
            async with asyncio.timeout(_SECONDS), call.open(metadata=[HEADER]) as stream:
                await stream.send_message(MESSAGES[request](**fields), end=True)
                _bound(stream)
                answer = await stream.recv_message()
                if streams:
                    await stream.cancel()
        except GRPCError as error:
            raise _outage(f"answers {error.status.name}") from None
        except _BROKEN as error:
            raise _outage(f"does not answer ({type(error).__name__})") from None
        finally:
            channel.close()
        if answer is None:
            raise _outage("answers nothing")
        return answer


def certificates(data: bytes) -> list[bytes]:
    """Certificates in DER that stand one after the other. Raises Outage."""
    found: list[bytes] = []
    while data:
        if len(found) >= _CERTIFICATES_MAX or len(data) < 2 or data[0] != _SEQUENCE_TAG:
            raise _outage("answers certificates that cannot be read")
        size, head = data[1], 2
        if size & _LONG_FORM:  # X.690 §8.1.3.5
            head += size & ~_LONG_FORM
            size = int.from_bytes(data[2:head], "big")
        if head + size > len(data) or head > 6:
            raise _outage("answers certificates that cannot be read")
        found.append(data[: head + size])
        data = data[head + size :]
    return found


def _authority(der: bytes) -> dict[str, Any]:
    try:
        return authority_jwk(x509.load_der_x509_certificate(der))
    except (ValueError, JoseError):
        raise _outage("answers an authority that cannot be read") from None


def _bound(stream: Any) -> None:
    read = stream._stream.recv_data

    async def bounded(size: int) -> bytes:
        if size > _MESSAGE_BYTES_MAX:
            raise _outage("answers too much")
        return bytes(await read(size))

    stream._stream.recv_data = bounded  # grpclib reads whatever length a message claims


def _outage(what: str) -> Outage:
    return Outage(f"the Workload API {what}", code="trust_fetch")

"""The SPIFFE Workload API for one connection: translates, decides nothing. Who asks is looked at for every request, and again while a
stream lasts; a stream ends when its process is no longer an agent.

Every message of a stream is the whole state (SPIFFE Workload API §5). A new X.509-SVID is pushed before half the life of the last one
has passed, and whenever the authorities change.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from remit.doors.problems import grpc_status
from remit.drivers.workload_messages import HEADER, MESSAGES, METHODS, SERVICE
from remit.errors import Broken, Mistake, RemitError, Unauthenticated
from remit.logic.attestation import wants_digest
from remit.logic.x509_svid import renewal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from grpclib.server import Stream

    from remit.drivers.processes import Peer, Processes
    from remit.model.attestation import Process
    from remit.services.workloads import Workloads

    AnyStream = Stream[Any, Any]
    Answer = Callable[[Any], AsyncIterator[Any]]

_LOG = logging.getLogger("remit")
_ASK_SECONDS = 10.0


class WorkloadApi:
    """What all connections share. ``requests_max``: requests under way of one connection."""

    def __init__(
        self, workloads: Workloads, processes: Processes, clock: Callable[[], datetime], *, requests_max: int, look_every_seconds: float
    ) -> None:
        self.workloads, self.processes, self.clock = workloads, processes, clock
        self.requests_max, self.look_every_seconds = requests_max, look_every_seconds


class Conversation:
    """The methods as one process may call them."""

    def __init__(self, api: WorkloadApi, peer: Peer) -> None:
        self._api, self._peer = api, peer
        self._under_way = 0

    def methods(self) -> dict[str, Handler]:
        """By their full names, as grpclib wants them."""
        answers: dict[str, Answer] = {
            "FetchX509SVID": self._x509_svids,
            "FetchX509Bundles": self._x509_bundles,
            "FetchJWTSVID": self._jwt_svid,
            "FetchJWTBundles": self._jwt_bundles,
            "ValidateJWTSVID": self._validate,
        }
        return {
            f"/{SERVICE}/{name}": Handler(
                self._guarded(answers[name]),
                Cardinality.UNARY_STREAM if streams else Cardinality.UNARY_UNARY,
                MESSAGES[request],
                MESSAGES[response],
            )
            for name, (request, response, streams) in METHODS.items()
        }

    def _guarded(self, answer: Answer) -> Callable[[AnyStream], Awaitable[None]]:
        """Errors in their gRPC form; no caller sees a stack trace."""

        async def call(stream: AnyStream) -> None:
            if self._under_way >= self._api.requests_max:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, "too many requests under way")
            self._under_way += 1
            try:
                async for message in answer(await _asked(stream)):
                    await stream.send_message(message)
            except RemitError as error:
                raise _refused(error) from None
            except (GRPCError, asyncio.CancelledError):
                raise
            except Exception as error:
                _LOG.error("a fault of remit", exc_info=error)
                raise _refused(Broken("fault")) from None
            finally:
                self._under_way -= 1

        return call

    async def _process(self) -> Process:
        process = await self._api.processes.look(self._peer, digest=False)
        if not wants_digest(self._api.workloads.process_rules, process):
            return process
        return await self._api.processes.look(self._peer, digest=True)

    async def _x509_svids(self, _request: Any) -> AsyncIterator[Any]:
        sent: object = None
        renew_at = self._api.clock()
        while True:
            process = await self._process()
            keys = await self._api.workloads.keys(process)
            state = (await self._api.workloads.identity(process), keys.sequence)
            if state != sent or self._api.clock() >= renew_at:
                now = self._api.clock()
                name, svid = await self._api.workloads.x509_svid(process)
                yield MESSAGES["X509SVIDResponse"](
                    svids=[
                        MESSAGES["X509SVID"](
                            spiffe_id=svid.spiffe_id.text, x509_svid=svid.chain, x509_svid_key=svid.key, bundle=keys.authorities, hint=name
                        )
                    ]
                )
                sent, renew_at = state, renewal(now, svid.expires_at)
            await self._pause((renew_at - self._api.clock()).total_seconds())

    async def _x509_bundles(self, _request: Any) -> AsyncIterator[Any]:
        async for domain, authorities, _ in self._changes():
            yield MESSAGES["X509BundlesResponse"](bundles={domain: authorities})

    async def _jwt_bundles(self, _request: Any) -> AsyncIterator[Any]:
        async for domain, _, jwks in self._changes():
            yield MESSAGES["JWTBundlesResponse"](bundles={domain: jwks})

    async def _jwt_svid(self, request: Any) -> AsyncIterator[Any]:
        name, svid = await self._api.workloads.jwt_svid(await self._process(), list(request.audience), request.spiffe_id)
        yield MESSAGES["JWTSVIDResponse"](svids=[MESSAGES["JWTSVID"](spiffe_id=svid.spiffe_id.text, svid=svid.token, hint=name)])

    async def _validate(self, request: Any) -> AsyncIterator[Any]:
        process = await self._process()
        if not request.audience or not request.svid:
            raise Mistake("audience and svid must be given", code="audience")
        try:
            spiffe_id, claims = await self._api.workloads.validate(process, request.audience, request.svid)
        except Unauthenticated:  # the question is answered: SPIFFE Workload API §6.2.5
            raise Mistake("the JWT-SVID does not hold", code="svid") from None
        answer = MESSAGES["ValidateJWTSVIDResponse"](spiffe_id=spiffe_id.text)
        answer.claims.update(claims)
        yield answer

    async def _changes(self) -> AsyncIterator[tuple[str, bytes, bytes]]:
        """The trust domain's ID, its authorities and its JWK Set, now and at each change."""
        sent = -1
        while True:
            keys = await self._api.workloads.keys(await self._process())
            if keys.sequence != sent:
                sent = keys.sequence
                yield f"spiffe://{keys.trust_domain}", keys.authorities, keys.jwks
            await self._pause(self._api.look_every_seconds)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self._api.look_every_seconds)))


async def _asked(stream: AnyStream) -> Any:
    """The one message of a request. Raises GRPCError."""
    if stream.metadata is None or stream.metadata.getall(HEADER[0], []) != [HEADER[1]]:
        raise GRPCError(Status.INVALID_ARGUMENT, f"the metadata {HEADER[0]}: {HEADER[1]} is missing")  # Workload Endpoint §3
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            message = await stream.recv_message()
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, "the request did not arrive") from None
    except (AssertionError, DecodeError, NotImplementedError):  # cut short, not protobuf, compressed
        raise GRPCError(Status.INVALID_ARGUMENT, "the request cannot be read") from None
    if message is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "the request is empty")
    return message


def _refused(error: RemitError) -> GRPCError:
    code, words = grpc_status(error)
    return GRPCError(Status(code), words)

"""Signals to outside: metadata, stream management and poll delivery of the Shared Signals Framework 1.0. Translates; decides nothing.

A receiver proves itself by its secret as Bearer, everywhere but at the metadata and the key set, which are public. Errors are problem
details (RFC 9457) with the statuses of SSF 1.0 §8.1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from remit.doors.answers import guarded, json_answer
from remit.doors.bodies import whole_body
from remit.errors import Mistake, NotFound
from remit.logic.arguments import parse_json
from remit.model.signal import POLL, PUSH
from remit.services.streams import VERIFY_SECONDS_MIN, Wish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from remit.drivers.event_tokens import EventSigner
    from remit.model.signal import ReceiverRule, Stream
    from remit.services.streams import Streams
    from remit.services.telling import Telling

_LOG = logging.getLogger("remit")
_BODY_BYTES_MAX = 131_072
METADATA_PATH, JWKS_PATH, STREAMS_PATH, STATUS_PATH = "/.well-known/ssf-configuration", "/ssf/jwks", "/ssf/streams", "/ssf/status"
ADD_PATH, REMOVE_PATH, VERIFY_PATH, POLL_PATH = "/ssf/subjects/add", "/ssf/subjects/remove", "/ssf/verify", "/ssf/poll"
Words = TypeVar("Words")
Json = dict[str, Any]


class DeliveryWords(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How a stream is delivered (SSF 1.0 §8.1.1)."""

    method: str
    endpoint_url: str = ""
    authorization_header: str | None = None


class StreamWords(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a receiver says of its stream; what only the transmitter says is not looked at."""

    stream_id: str = ""
    delivery: DeliveryWords | None = None
    events_requested: list[str] | None = None
    description: str | None = None
    iss: Any = None
    aud: Any = None
    events_supported: Any = None
    events_delivered: Any = None
    min_verification_interval: Any = None
    inactivity_timeout: Any = None


class StatusWords(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A status, asked for or told."""

    stream_id: str
    status: str
    reason: str = ""


class SubjectWords(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A subject to be added or removed."""

    stream_id: str
    subject: dict[str, Any]
    verified: bool = True


class VerificationWords(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A verification that is asked for."""

    stream_id: str
    state: str = ""


class PollWords(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A poll (RFC 8936 §2.2)."""

    max_events: int = 100
    return_immediately: bool = False
    ack: list[str] = []
    set_errs: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsDoor:
    """Where receivers manage their streams, and poll."""

    streams: Streams
    telling: Telling
    signer: EventSigner
    issuer: str

    def routes(self) -> list[Route]:
        """The endpoints."""
        endpoints: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", METADATA_PATH + "{tenant:path}", self._metadata),
            ("GET", JWKS_PATH, self._jwks),
            ("POST", STREAMS_PATH, self._create),
            ("GET", STREAMS_PATH, self._read),
            ("PATCH", STREAMS_PATH, self._update),
            ("PUT", STREAMS_PATH, self._replace),
            ("DELETE", STREAMS_PATH, self._delete),
            ("GET", STATUS_PATH, self._status),
            ("POST", STATUS_PATH, self._set_status),
            ("POST", ADD_PATH, self._add),
            ("POST", REMOVE_PATH, self._remove),
            ("POST", VERIFY_PATH, self._verify),
            ("POST", POLL_PATH, self._poll),
        ]
        return [Route(path, guarded(endpoint), methods=[method]) for method, path, endpoint in endpoints]

    async def _metadata(self, request: Request) -> Response:
        if request.path_params["tenant"].rstrip("/") != urlsplit(self.issuer).path:  # SSF 1.0 §7.2.1: between host and path
            raise NotFound("there is no metadata here: server.issuer has another path")
        found = {
            "spec_version": "1_0",
            "issuer": self.issuer,
            "jwks_uri": self.issuer + JWKS_PATH,
            "delivery_methods_supported": [PUSH, POLL],
            "configuration_endpoint": self.issuer + STREAMS_PATH,
            "status_endpoint": self.issuer + STATUS_PATH,
            "add_subject_endpoint": self.issuer + ADD_PATH,
            "remove_subject_endpoint": self.issuer + REMOVE_PATH,
            "verification_endpoint": self.issuer + VERIFY_PATH,
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL" if all(rule.everything for rule in self.streams.rules.receivers.values()) else "NONE",
        }
        return _json(found)

    async def _jwks(self, _request: Request) -> Response:
        return _json(self.signer.jwks())

    async def _create(self, request: Request) -> Response:
        rule, said = await self._asked(request, StreamWords)
        return _json(self._shown(rule, await self.streams.create(rule, _wish(said))), 201)

    async def _read(self, request: Request) -> Response:
        rule = self._receiver(request)
        stream_id = request.query_params.get("stream_id")
        if stream_id is None:
            stream = await self.streams.of(rule)
            return _json([self._shown(rule, stream)] if stream else [])
        return _json(self._shown(rule, await self.streams.named(rule, stream_id)))

    async def _update(self, request: Request) -> Response:
        rule, said = await self._asked(request, StreamWords)
        return _json(self._shown(rule, await self.streams.update(rule, said.stream_id, _wish(said))))

    async def _replace(self, request: Request) -> Response:
        rule, said = await self._asked(request, StreamWords)
        wish = _wish(said)
        whole = Wish(
            method=wish.method or POLL,
            endpoint=wish.endpoint or "",
            authorization=wish.authorization or "",
            events=wish.events or (),
            description=wish.description or "",
        )
        return _json(self._shown(rule, await self.streams.update(rule, said.stream_id, whole)))

    async def _delete(self, request: Request) -> Response:
        await self.streams.delete(self._receiver(request), request.query_params.get("stream_id", ""))
        return Response(status_code=204)

    async def _status(self, request: Request) -> Response:
        rule = self._receiver(request)
        stream = await self.streams.named(rule, request.query_params.get("stream_id", ""))
        return _json(StatusWords(stream_id=stream.id, status=stream.status, reason=stream.reason))

    async def _set_status(self, request: Request) -> Response:
        rule, said = await self._asked(request, StatusWords)
        stream = await self.streams.set_status(rule, said.stream_id, said.status, said.reason)
        return _json(StatusWords(stream_id=stream.id, status=stream.status, reason=stream.reason))

    async def _add(self, request: Request) -> Response:
        rule, said = await self._asked(request, SubjectWords)
        await self.streams.set_subject(rule, said.stream_id, said.subject, told=True)
        return Response(status_code=200)

    async def _remove(self, request: Request) -> Response:
        rule, said = await self._asked(request, SubjectWords)
        await self.streams.set_subject(rule, said.stream_id, said.subject, told=False)
        return Response(status_code=204)

    async def _verify(self, request: Request) -> Response:
        rule, said = await self._asked(request, VerificationWords)
        await self.streams.verify(rule, said.stream_id, said.state)
        return Response(status_code=204)

    async def _poll(self, request: Request) -> Response:
        rule, said = await self._asked(request, PollWords)
        stream = await self.streams.of(rule)
        if stream is None or stream.method != POLL:
            raise NotFound("there is no stream that is polled")
        for jti, error in list(said.set_errs.items())[:10]:
            _LOG.warning("receiver %s refused %.200r: %.200r", rule.name, jti, error.get("err"))
        acks = frozenset(said.ack) | frozenset(said.set_errs)  # what was refused is not sent again either (RFC 8936 §2.6)
        polled = await self.telling.poll(rule, stream, sets_max=said.max_events, acks=acks, at_once=said.return_immediately)
        return _json({"sets": polled.sets, "moreAvailable": polled.more})

    def _shown(self, rule: ReceiverRule, stream: Stream) -> Json:
        """A configuration as a receiver sees it (SSF 1.0 §8.1.1); the header it asked for is not repeated."""
        delivery = {"method": stream.method, "endpoint_url": stream.endpoint if stream.method == PUSH else self.issuer + POLL_PATH}
        return {
            "stream_id": stream.id,
            "iss": self.issuer,
            "aud": rule.audience,
            "events_supported": self.streams.supported(rule),
            "events_requested": stream.requested,
            "events_delivered": stream.events,
            "delivery": delivery,
            "min_verification_interval": VERIFY_SECONDS_MIN,
            "description": stream.description,
        }

    def _receiver(self, request: Request) -> ReceiverRule:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        return self.streams.receiver(secret.strip() if scheme.lower() == "bearer" else "")

    async def _asked(self, request: Request, kind: type[Words]) -> tuple[ReceiverRule, Words]:
        """Who asks, then what: a stranger's body is not read."""
        rule = self._receiver(request)
        body = await whole_body(request.receive, _BODY_BYTES_MAX)
        try:
            return rule, msgspec.convert(parse_json(body, depth_max=16), kind)
        except msgspec.ValidationError as error:
            raise Mistake(str(error), code="body") from None


def _wish(said: StreamWords) -> Wish:
    delivery = said.delivery
    return Wish(
        method=delivery.method if delivery else None,
        endpoint=delivery.endpoint_url if delivery else None,
        authorization=delivery.authorization_header if delivery else None,
        events=said.events_requested,
        description=said.description,
    )


def _json(value: object, status: int = 200) -> Response:
    return json_answer(value, status, kept=False)

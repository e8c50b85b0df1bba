"""Which client of people an id stands for: one that is written down, one by its document, one that registered itself.

Rules: only declared documents are fetched (``[sign_in.clients.NAME] documents``), so nothing in a request leads anywhere. A registration
is sealed into the client's id: there is nothing to fill up. A client that registered itself returns to the person's own machine only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from remit.drivers.key_sets import read_object
from remit.drivers.refreshing import Refreshing
from remit.errors import Mistake, Outage, Refusal, Unauthenticated
from remit.logic.arguments import parse_json
from remit.logic.front_channel import read_client
from remit.model.front_channel import Known, PublicClient
from remit.model.trust import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.drivers.fetching import Fetcher
    from remit.drivers.sealing import Sealer
    from remit.model.front_channel import ClientRule, SignIn

Json = dict[str, Any]
_REGISTERED = "reg."
_PURPOSE = "registered client"
_ID_CHARACTERS_MAX = 3_000
_BODY_DEPTH_MAX = 8
_AGE_SECONDS_MAX = 3_600.0


class _Registered(msgspec.Struct, array_like=True, frozen=True):
    name: str
    redirect_uris: tuple[str, ...]
    at: int
    must_push: bool = False


class PublicClients:
    """The clients of one node."""

    def __init__(
        self,
        rule: SignIn,
        fetcher: Fetcher,
        sealer: Sealer,
        clock: Callable[[], datetime],
        ticks: Callable[[], float],
        *,
        endpoint: Endpoint | None = None,
    ) -> None:
        """``ticks``: seconds that only grow. ``endpoint``: how documents are fetched; only public addresses, unless it says more."""
        self._rule, self._fetcher, self._sealer, self._clock = rule, fetcher, sealer, clock
        self._endpoint = endpoint or Endpoint()
        self._documents: dict[str, tuple[ClientRule, Refreshing[PublicClient]]] = {
            address: (one, Refreshing(self._reads(address, one), _AGE_SECONDS_MAX, ticks))
            for one in rule.clients.values()
            for address in one.documents
        }
        self._for_registered = next((one for one in rule.clients.values() if one.registered), None)

    @property
    def documents(self) -> bool:
        """Whether clients may be known by a document."""
        return bool(self._documents)

    @property
    def registration(self) -> bool:
        """Whether clients may register themselves."""
        return self._for_registered is not None

    @property
    def all_push(self) -> bool:
        """Whether requests of every client count only as pushed ones."""
        return self._rule.must_push

    async def known(self, client_id: str) -> PublicClient:
        """The client of an id. Raises Refusal (client): nobody, or its document cannot be had now."""
        unknown = Refusal("this client is not known here", code="client", hint="[sign_in.clients] names those that are")
        declared = self._rule.clients.get(client_id)
        if declared is not None and declared.redirect_uris:
            return self._client(declared, client_id, client_id, declared.redirect_uris, Known.DECLARED)
        if client_id in self._documents:
            try:
                return await self._documents[client_id][1].current()
            except Outage as error:
                text = f"the client's document cannot be had: {error.message}"
                raise Refusal(text, code="client", hint="try again in a moment") from None
        if not client_id.startswith(_REGISTERED) or len(client_id) > _ID_CHARACTERS_MAX or self._for_registered is None:
            raise unknown
        try:
            told = msgspec.json.decode(self._sealer.open(client_id.removeprefix(_REGISTERED), _PURPOSE), type=_Registered)
        except (Unauthenticated, msgspec.MsgspecError):
            raise unknown from None
        return self._client(self._for_registered, client_id, told.name, told.redirect_uris, Known.REGISTERED, must_push=told.must_push)

    def register(self, body: bytes) -> Json:
        """Register a client (RFC 7591 §3.2.1). Raises Refusal (nobody may), Mistake (invalid_client_metadata, invalid_redirect_uri)."""
        if self._for_registered is None:
            raise Refusal("clients do not register themselves here", code="access_denied")
        try:
            name, uris, must_push = read_client(parse_json(body, depth_max=_BODY_DEPTH_MAX, bytes_max=len(body)))
        except Mistake as mistake:
            code = mistake.code if mistake.code == "invalid_redirect_uri" else "invalid_client_metadata"
            raise Mistake(mistake.message, code=code) from None
        if any(urlsplit(uri).scheme == "https" for uri in uris):
            raise Mistake(
                "who registers itself returns to the person's own machine", code="invalid_redirect_uri", hint="http://127.0.0.1/…"
            )
        at = int(self._clock().timestamp())
        client_id = _REGISTERED + self._sealer.seal(msgspec.json.encode(_Registered(name, uris, at, must_push)), _PURPOSE)
        if len(client_id) > _ID_CHARACTERS_MAX:
            raise Mistake("name and addresses are too long together", code="invalid_client_metadata")
        return {
            "client_id": client_id,
            "client_id_issued_at": at,
            "client_name": name,
            "redirect_uris": list(uris),
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            **({"require_pushed_authorization_requests": True} if must_push else {}),
        }

    def _reads(self, address: str, rule: ClientRule) -> Callable[[], Awaitable[tuple[PublicClient, float | None]]]:
        async def read() -> tuple[PublicClient, float | None]:
            found = await self._fetcher.get(address, self._endpoint)
            try:
                name, uris, must_push = read_client(read_object(found.data, "the client's document"), address)
            except Mistake as mistake:
                raise Outage(mistake.message, code="trust_fetch") from None
            return self._client(rule, address, name, uris, Known.DOCUMENT, must_push=must_push), found.max_age_seconds

        return read

    def _client(
        self, rule: ClientRule, client_id: str, name: str, uris: tuple[str, ...], known: Known, *, must_push: bool = False
    ) -> PublicClient:
        pushes = must_push or rule.must_push or self._rule.must_push
        return PublicClient(id=client_id, name=name, redirect_uris=uris, known=known, agent=rule.agent, must_push=pushes)

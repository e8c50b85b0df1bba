"""The front channel over HTTP: what a person's browser asks for, requests that clients push beforehand, and the
registration of clients. Translates; decides nothing.

Rules: a cookie is sealed, for this path only, and read by no script. A form counts only where the browser says that it comes from our
own page (``Sec-Fetch-Site``, ``Origin``), and the service asks for the cookie besides. Nobody is sent anywhere by an address that is
not the client's own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from remit.doors.bodies import whole_body
from remit.doors.html import from_own_page, headers
from remit.doors.oauth.forms import credential_of, posted_form
from remit.doors.oauth.metadata import AUTHORIZE, PAR, REGISTER
from remit.doors.oauth.pages import choose_page, consent_page, notice
from remit.doors.problems import http_status, oauth_error
from remit.errors import Broken, Mistake, Outage, Refusal, RemitError, Unauthenticated
from remit.logic.token_requests import one, read_form
from remit.services.front_channel import CALLBACK, CONSENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from remit.logic.token_requests import Form
    from remit.services.front_channel import FrontChannel, Offer, Step
    from remit.services.possession import Possessions

_BODY_BYTES_MAX = 65_536
_PUSHED_BYTES_MAX = 32_768  # percent signs and all; what is kept fits into the cookies that a browser will carry
_COOKIE = "remit_sign_in"
_PIECES = 3
_PIECE_CHARACTERS = 3_700  # browsers keep 4,096 bytes of a cookie with its name and attributes
_COOKIE_SECONDS = 900
_INPUT = "input."
_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontDoor:
    """``issuer``: our URL, by which people reach us."""

    channel: FrontChannel
    issuer: str
    possessions: Possessions

    def routes(self) -> list[Route]:
        """The endpoints."""
        registered = [Route(REGISTER, self._registering, methods=["POST"])] if self.channel.clients.registration else []
        return [
            Route(PAR, self._pushing, methods=["POST"]),
            Route(AUTHORIZE, self._guarded(self._authorize), methods=["GET"]),
            Route(CALLBACK, self._guarded(self._callback), methods=["GET"]),
            Route(CONSENT, self._guarded(self._look), methods=["GET"]),
            Route(CONSENT, self._guarded(self._answer), methods=["POST"]),
            *registered,
        ]

    async def _authorize(self, request: Request) -> Response:
        return self._go(await self.channel.begin(_query(request)))

    async def _callback(self, request: Request) -> Response:
        return self._go(await self.channel.returned(_query(request), _cookie(request)))

    async def _look(self, request: Request) -> Response:
        return self._shown(await self.channel.offer(_cookie(request)))

    async def _answer(self, request: Request) -> Response:
        self._check_own(request)
        form = read_form(await whole_body(request.receive, _BODY_BYTES_MAX))
        cookie, answer = _cookie(request), one(form, "answer")
        if answer == "consent" and one(form, "form"):
            return self._go(await self.channel.consented(cookie, one(form, "form")))
        if answer == "deny":
            return self._go(await self.channel.declined(cookie))
        if answer != "look":
            raise Mistake("neither yes nor no", code="body")
        offer = await self.channel.offer(cookie)
        kind = next((kind for kind in offer.types if kind.name == one(form, "task_type")), None)
        if kind is None:
            raise Mistake("there is no such task for you", code="body")
        said = {input.name: value for input in kind.inputs if (value := _typed(one(form, _INPUT + input.name), input.schema)) is not None}
        return self._shown(await self.channel.offer(cookie, kind.name, said))

    async def _registering(self, request: Request) -> Response:
        """RFC 7591 §3."""
        try:
            body = await whole_body(request.receive, _BODY_BYTES_MAX)
            return _json(self.channel.clients.register(body), 201)
        except Mistake as mistake:
            if mistake.code in {"invalid_client_metadata", "invalid_redirect_uri"}:
                said = "".join(sign if " " <= sign <= "~" and sign not in '"\\' else "'" for sign in mistake.message)
                return _json({"error": mistake.code, "error_description": said}, 400)
            return _oauth(mistake)
        except RemitError as error:
            return _oauth(error)
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            return _oauth(Broken("fault"))

    async def _pushing(self, request: Request) -> Response:
        """RFC 9126 §2."""
        try:
            form = await posted_form(request, _PUSHED_BYTES_MAX)
            if "authorization" in request.headers:
                raise Mistake("a client of people proves nothing, and is named by client_id in the body", code="invalid_request")
            pushed = await self.channel.push(form, credential_of(request, self.issuer + PAR))
            return _json({"request_uri": pushed.request_uri, "expires_in": pushed.expires_in}, 201)
        except RemitError as error:
            answer = _oauth(error)
            if error.code == "use_dpop_nonce":
                answer.headers["DPoP-Nonce"] = self.possessions.nonce()
            return answer
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            return _oauth(Broken("fault"))

    def _shown(self, offer: Offer) -> Response:
        html = consent_page(offer) if offer.form else choose_page(offer)
        return HTMLResponse(html, headers=headers(f"'self' {_origin(offer.returns_to)}"))

    def _go(self, step: Step) -> Response:
        answer = RedirectResponse(step.to, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        where = urlsplit(self.issuer)
        for number in range(_PIECES):
            piece = step.cookie[number * _PIECE_CHARACTERS : (number + 1) * _PIECE_CHARACTERS]
            answer.set_cookie(
                f"{_COOKIE}_{number}",
                piece,
                max_age=_COOKIE_SECONDS if piece else 0,
                path=f"{where.path.rstrip('/')}/oauth",
                secure=where.scheme == "https",
                httponly=True,
                samesite="lax",
            )
        return answer

    def _check_own(self, request: Request) -> None:
        """Whether a form comes from our own page. Raises Refusal."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        where = urlsplit(self.issuer)
        if not from_own_page(site, origin, {f"{where.scheme}://{where.netloc}"}):
            raise Refusal("this form was sent by another page", code="sign_in", hint="begin again at your client")

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Errors as a page for people; no caller sees a stack trace."""

        async def call(request: Request) -> Response:
            try:
                return await endpoint(request)
            except RemitError as error:
                return _refused(error)
            except Exception as error:
                _LOG.error("a fault of remit", exc_info=error)
                return _refused(Broken("fault"))

        return call


def _refused(error: RemitError) -> Response:
    if isinstance(error, Unauthenticated):  # why, is in the ledger
        return HTMLResponse(
            notice("You could not be signed in", "The provider's answer does not hold.", "Begin again at your client."), 401
        )
    title = "This cannot go on" if isinstance(error, Refusal | Mistake) else "remit cannot do that now"
    said = error.message if isinstance(error, Refusal | Mistake | Outage) else "remit has a fault; its log says more"
    return HTMLResponse(notice(title, said, error.hint), http_status(error), headers())


def _oauth(error: RemitError) -> Response:
    status, body, more = oauth_error(error)
    return Response(msgspec.json.encode(body), status, more, media_type="application/json")


def _json(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, {"Cache-Control": "no-store"}, media_type="application/json")


def _query(request: Request) -> Form:
    return read_form(request.scope["query_string"])


def _cookie(request: Request) -> str:
    """The sealed cookie, put together; "" where there is none."""
    try:
        jar = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    pieces = (jar.get(f"{_COOKIE}_{number}") for number in range(_PIECES))
    return "".join(piece.value for piece in pieces if piece is not None)


def _origin(address: str) -> str:
    """A source expression for the address that a browser is sent back to."""
    where = urlsplit(address)
    return f"{where.scheme}://{where.netloc}" if where.netloc else f"{where.scheme}:"


def _typed(text: str, schema: dict[str, Any]) -> Any:
    """What a form's text means as an input; ``None`` where nothing was written. The service checks it."""
    if not text:
        return None
    kind = schema.get("type")
    if kind == "boolean":
        return text == "true"
    if kind == "integer" and text.strip().lstrip("-").isdecimal() and len(text) <= 20:
        return int(text)
    return text

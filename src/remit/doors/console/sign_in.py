"""Signing in and out of the console, over HTTP. Translates; decides nothing.

Rules: opening a link uses nothing up, pressing its button does: what fetches an address in advance signs nobody in. The session's cookie
is read by no script and sent by no other site (SameSite=Strict); after the provider a page of ours goes on, because a cookie that was set
on the way back from another site is not sent on that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from remit.doors.console.frame import SIGN_IN
from remit.doors.console.rendering import HEADERS, page, static_file
from remit.errors import Refusal
from remit.logic.token_requests import read_form
from remit.services.console_sign_in import LINK, RETURN

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.doors.console.frame import Frame
    from remit.services.console_sign_in import ConsoleSignIn

AWAY, OUT = f"{SIGN_IN}/provider", "/console/sign-out"
_AWAY_COOKIE = "remit_console_away"
_AWAY_SECONDS = 600
_TOKEN_CHARACTERS_MAX = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInDoor:
    """What needs no session."""

    frame: Frame
    signing: ConsoleSignIn

    def routes(self) -> list[Route]:
        """The endpoints; everybody may ask them."""
        guarded = self.frame.guarded
        return [
            Route(SIGN_IN, guarded(self._choose), methods=["GET"]),
            Route(f"{LINK}{{token}}", guarded(self._look), methods=["GET"]),
            Route(f"{LINK}{{token}}", guarded(self._use), methods=["POST"]),
            Route(AWAY, guarded(self._away), methods=["POST"]),
            Route(RETURN, guarded(self._returned), methods=["GET"]),
            Route(OUT, guarded(self._out), methods=["POST"]),
            Route("/console/static/{name}", guarded(self._static), methods=["GET"]),
        ]

    async def _choose(self, request: Request) -> Response:
        if await self.frame.session(request) is not None:
            return RedirectResponse("/", 303, HEADERS)
        return page("sign_in.html", elsewhere=self.signing.elsewhere, away=AWAY)

    async def _look(self, request: Request) -> Response:
        account = await self.signing.look(request.path_params["token"][:_TOKEN_CHARACTERS_MAX], _peer(request))
        return page("link.html", account=account)

    async def _use(self, request: Request) -> Response:
        self.frame.check_own(request)
        cookie = await self.signing.by_link(request.path_params["token"][:_TOKEN_CHARACTERS_MAX], _peer(request))
        return self._signed_in(RedirectResponse("/", 303, HEADERS), cookie)

    async def _away(self, request: Request) -> Response:
        self.frame.check_own(request)
        sent = await self.signing.begin()
        answer = page("away.html", to=sent.to)
        answer.set_cookie(_AWAY_COOKIE, sent.cookie, _AWAY_SECONDS, path=RETURN, secure=self.frame.secure, httponly=True, samesite="lax")
        return answer

    async def _returned(self, request: Request) -> Response:
        came = read_form(request.scope["query_string"])
        cookie = await self.signing.returned(came, request.cookies.get(_AWAY_COOKIE, ""))
        answer = self._signed_in(page("back.html"), cookie)
        answer.delete_cookie(_AWAY_COOKIE, path=RETURN, secure=self.frame.secure, httponly=True, samesite="lax")
        return answer

    async def _out(self, request: Request) -> Response:
        session = await self.frame.session(request)
        if session is not None:
            await self.frame.form(request, session)
            await self.frame.sessions.end(session)
        answer = RedirectResponse(SIGN_IN, 303, HEADERS)
        answer.delete_cookie(self.frame.cookie, path="/", secure=self.frame.secure, httponly=True, samesite="strict")
        return answer

    async def _static(self, request: Request) -> Response:
        return static_file(request.path_params["name"])

    def _signed_in(self, answer: Response, cookie: str) -> Response:
        answer.set_cookie(self.frame.cookie, cookie, path="/", secure=self.frame.secure, httponly=True, samesite="strict")
        return answer


def _peer(request: Request) -> str:
    """The address that the connection comes from; what proxies say of others is not believed."""
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        raise Refusal("a link is opened on the machine itself, not through a proxy", code="link_elsewhere", hint="`remit console` there")
    return request.client.host if request.client else ""

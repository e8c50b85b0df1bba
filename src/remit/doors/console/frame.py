"""The frame of the console: what every page goes through before it shows anything, in one place.

    host → session → form and its origin → task → Cedar → page

How a page is added
* A module of ``doors/console`` has a frozen dataclass with the services that it asks (services, never a store) and ``pages()``, which
  gives a ``Page`` for each method and path: the path begins with ``/console/``, the ``action`` is what Cedar is asked. With ``{task}`` in
  the path and ``of_task=True`` the task is loaded first and is the resource that Cedar decides about; it is then ``visit.task``.
* Its endpoint takes a ``Visit`` and gives ``visit.page("name.html", value=…)``: a template of ``templates/`` that begins with
  ``{% extends "frame.html" %}`` and fills the blocks ``title`` and ``main``. It escapes nothing itself and marks nothing safe.
* A form has ``method="post"`` and ``{{ csrf }}`` in it (a global of every page); its endpoint reads ``visit.field("name")``, does the work
  through a service that records ``visit.session.visitor.name``, and ends with ``visit.go("/console/…")``.
* What changes while somebody looks stands in an element with an ``id`` and ``data-live``; ``static/live.js`` fetches the page again when
  the ledger has grown, and puts those elements in place of the old ones. A form in one must be the same each time, or stand outside.
* A script or style is a file of ``static/``, named in the block ``head`` by ``{{ static('name.js') }}``.
* The pages go into ``node_console.py`` beside the others, the link into ``NAVIGATION`` below, and every route with what each role gets
  into ``tests/integration/test_console_roles.py``: without that line this test fails.

Rules: no page is shown to a connection that names another host (DNS rebinding). A form counts with the session's own token, and where the
browser says that it comes from our own page. Errors are pages; no caller sees a stack trace.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from remit.doors.bodies import whole_body
from remit.doors.console.rendering import HEADERS, page
from remit.doors.html import from_own_page
from remit.doors.problems import http_status
from remit.errors import Broken, Mistake, NotFound, Refusal, RemitError, Unauthenticated
from remit.logic.console import roles_of
from remit.logic.token_requests import one, read_form
from remit.model.console import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from remit.logic.console import ConsolePolicy
    from remit.logic.token_requests import Form
    from remit.model.console import ConsoleRules, Role
    from remit.model.task import Task
    from remit.services.console_sessions import Session, Sessions
    from remit.services.tasks import Tasks

_LOG = logging.getLogger("remit")
_BODY_BYTES_MAX = 65_536
SIGN_IN = "/console/sign-in"
BY_ITSELF = "x-remit-live"  # the header of what a page fetches by itself
NAVIGATION = (
    ("/", "Now", Action.LOOK),
    ("/console/approvals", "Approvals", Action.ANSWER),
    ("/console/agents", "Agents", Action.LOOK),
    ("/console/policy", "Policy", Action.REHEARSE),
    ("/console/exposure", "Exposure", Action.LOOK),
    ("/console/ledger", "Ledger", Action.AUDIT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a signed-in person who may make it."""

    request: Request
    session: Session
    roles: frozenset[Role]
    form: Form
    allowed: Callable[[Action, Task | None], bool] = field(repr=False)
    task: Task | None = None

    def may(self, action: Action) -> bool:
        """Whether they may do that too (to this task), so that a button is shown; it is decided again when it is pressed."""
        return self.allowed(action, self.task)

    def field(self, name: str) -> str:
        """What a form says ("" : nothing)."""
        return one(self.form, name)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page in the frame."""
        token = Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf)
        shown = [(path, name, path == self.request.url.path) for path, name, action in NAVIGATION if self.allowed(action, None)]
        frame = {"person": self.session.visitor.name, "roles": sorted(self.roles), "navigation": shown, "csrf": token}
        return page(template, status, **frame, **values)

    def go(self, path: str) -> Response:
        """See another page after a form."""
        return RedirectResponse(path, 303, HEADERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What answers one method at one path, and what a person must be allowed to do for that."""

    method: str
    path: str
    action: Action
    show: Callable[[Visit], Awaitable[Response]]
    of_task: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """``issuer``: our URL. ``hosts``: names by which we may be reached."""

    sessions: Sessions
    tasks: Tasks
    rules: Callable[[], ConsoleRules]
    policy: Callable[[], ConsolePolicy]
    issuer: str
    hosts: frozenset[str]

    def routes(self, pages: Sequence[Page]) -> list[Route]:
        """Each page behind the frame."""
        return [Route(one.path, self.guarded(self._behind(one)), methods=[one.method]) for one in pages]

    def guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Errors as a page for people."""

        async def call(request: Request) -> Response:
            try:
                self.check_host(request)
                return await endpoint(request)
            except RemitError as error:
                return refused(error)
            except Exception as error:
                _LOG.error("a fault of remit", exc_info=error)
                return refused(Broken("fault"))

        return call

    def check_host(self, request: Request) -> None:
        """Raises Refusal where a browser was told another name for us."""
        host = _hostname(request.headers.get("host", ""))
        if host not in self.hosts and host != urlsplit(self.issuer).hostname:
            raise Refusal("the console is not known by this name", code="host", hint="server.allowed_hosts in remit.toml")

    def check_own(self, request: Request) -> None:
        """Whether a form comes from our own page, as the browser tells (Fetch Metadata, RFC 6454). Raises Refusal."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        own = {self._origin(self.issuer), f"{request.url.scheme}://{request.headers.get('host', '')}"}
        if not from_own_page(site, origin, own):
            raise Refusal("this form was sent by another page", code="form", hint="go back to the console, and press the button there")

    @property
    def secure(self) -> bool:
        """Whether people reach us over https, so that cookies may ask for it."""
        return self.issuer.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie (RFC 6265bis §4.1.3.2)."""
        return "__Host-remit" if self.secure else "remit_console"

    async def session(self, request: Request) -> Session | None:
        """Who is signed in. What a page fetches by itself keeps nobody signed in. Raises Outage."""
        return await self.sessions.of(read_cookie(request, self.cookie), active=BY_ITSELF not in request.headers)

    async def form(self, request: Request, session: Session) -> Form:
        """The fields of a form of ours. Raises Refusal, Mistake."""
        self.check_own(request)
        form = read_form(await whole_body(request.receive, _BODY_BYTES_MAX))
        if not hmac.compare_digest(one(form, "csrf").encode(), session.csrf.encode()):
            raise Refusal("this form does not belong to your session", code="form", hint="go back, reload the page, and press again")
        return form

    def _behind(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            session = await self.session(request)
            if session is None and page.method == "GET":
                return RedirectResponse(SIGN_IN, 303, HEADERS)
            if session is None:
                raise Unauthenticated("you are not signed in, or your session is over", hint="sign in, and do it again")
            form = await self.form(request, session) if page.method == "POST" else {}
            roles, policy = roles_of(session.visitor, self.rules()), self.policy()

            def allowed(action: Action, task: Task | None) -> bool:
                return policy.permits(session.visitor, roles, action, task)

            task = await self.tasks.view(request.path_params["task"]) if page.of_task else None
            if not allowed(page.action, task):
                hint = f"you have the roles: {', '.join(sorted(roles)) or 'none'}"
                raise Refusal(f"you may not do this here ({page.action})", code="not_allowed", hint=hint)
            return await page.show(Visit(request=request, session=session, roles=roles, form=form, allowed=allowed, task=task))

        return call

    @staticmethod
    def _origin(address: str) -> str:
        where = urlsplit(address)
        return f"{where.scheme}://{where.netloc}"


def refused(error: RemitError) -> Response:
    """An error as a page."""
    titles = {NotFound: "There is no such page", Refusal: "You may not", Mistake: "That did not work"}
    title = next((said for kind, said in titles.items() if isinstance(error, kind)), "Not now")
    said = "remit has a fault; its log says more" if isinstance(error, Broken) else error.message
    return page("notice.html", http_status(error), title=title, said=said, hint=error.hint, code=error.code)


async def no_such_page(_request: Request, _error: Exception) -> Response:
    """Where nothing is served."""
    return refused(NotFound("nothing is here", hint="the page Now leads to the others"))


def read_cookie(request: Request, name: str) -> str:
    """A cookie's value, "" where there is none."""
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""

"""People who drive a client: who signs in, what they consent to, and the code that the client gets for it.

    authorize → (provider signs the person in) → callback → consent page → the task is opened → code → token endpoint

Rules
* Consent is what opens the task: by that person, on their behalf, proved by the provider; its grant is shown before, in plain words.
* Nothing is kept here between steps: what a browser carries is sealed, short-lived and of one use; a form counts only with the cookie of
  the browser it was shown to.
* A request may be pushed beforehand (RFC 9126): it is then checked where it is pushed, and anew, alone, where it is used.
* Where a client is not known, or the address is not its own, nothing is sent anywhere: the person reads why.

Left out: pages (``doors/oauth/pages.py``), who is which client (``services/public_clients.py``), codes (``services/codes.py``),
where pushed requests are kept (``services/pushed_requests.py``).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msgspec

from remit.drivers.fetching import Fetcher
from remit.drivers.provider import Provider
from remit.errors import Conflict, Mistake, NotFound, Refusal, RemitError, Unauthenticated
from remit.logic.front_channel import PUSHED, check_beside, check_plain, check_state, person_of, read_wish, redirect_of, with_key
from remit.logic.task_types import checked_inputs, fill_objective, open_grant
from remit.logic.token_requests import one, resource_server
from remit.services.codes import Codes
from remit.services.people import People
from remit.services.public_clients import PublicClients
from remit.services.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from remit.drivers.sealing import Sealer
    from remit.logic.token_requests import Form
    from remit.model.catalog import ToolFacts
    from remit.model.front_channel import PublicClient, SignIn
    from remit.model.grant import Grant
    from remit.model.task_type import TaskType
    from remit.model.token import Credential
    from remit.services.opening import Dispatcher
    from remit.services.possession import Possessions
    from remit.services.pushed_requests import Pushed, PushedRequests
    from remit.services.replays import Replays
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks
    from remit.store.database import Store

CONSENT = "/oauth/consent"
CALLBACK = "/oauth/callback"
_BROWSER_TTL = timedelta(minutes=15)
_SEALED_CHARACTERS_MAX = 11_000  # what three cookies hold
_STATE_CHARACTERS_MAX = 1_000
_SECRETS = ("client_secret", "client_assertion", "client_assertion_type")


class _Begun(msgspec.Struct, frozen=True):
    """A person was sent to the provider."""

    browser: str
    client: str
    redirect: str
    state: str
    challenge: str
    server: str
    task_type: str
    inputs: dict[str, Any]
    nonce: str
    verifier: str
    until: int
    person: str = ""
    key: str = ""


class _Shown(msgspec.Struct, frozen=True):
    """A grant was shown to a browser."""

    browser: str
    task_type: str
    inputs: dict[str, Any]
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a browser goes next, and the cookie it carries ("" : none any more)."""

    to: str
    cookie: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """One line of a grant to be shown. ``facts`` ``None``: nobody has declared the tool, so it will be refused."""

    grant: Grant
    facts: ToolFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a person is shown: who asks, to act as whom, and either the task types to choose from or one with its grant."""

    person: str
    client: PublicClient
    returns_to: str
    chosen: TaskType | None
    inputs: Mapping[str, Any]
    types: tuple[TaskType, ...] = ()
    objective: str = ""
    grants: tuple[Granted, ...] = ()
    form: str = field(default="", repr=False)
    wrong: str = ""


class FrontChannel:
    """The front channel of one node."""

    def __init__(
        self,
        rule: SignIn,
        provider: Provider,
        clients: PublicClients,
        codes: Codes,
        people: People,
        dispatcher: Dispatcher,
        rules: Rules,
        replays: Replays,
        sealer: Sealer,
        refusals: Refusals,
        pushed: PushedRequests,
        possessions: Possessions,
        clock: Callable[[], datetime],
        *,
        issuer: str,
        servers: Callable[[], Collection[str]],
    ) -> None:
        """``issuer``: our URL. ``servers``: names of the gateway's servers now."""
        self._rule, self._provider, self.clients, self.codes, self.people = rule, provider, clients, codes, people
        self._dispatcher, self._rules = dispatcher, rules
        self._replays, self._sealer, self._refusals, self._clock = replays, sealer, refusals, clock
        self._pushed, self._possessions = pushed, possessions
        self._issuer, self._servers = issuer, servers

    async def begin(self, form: Form) -> Step:
        """Send a person to sign in. Raises Refusal where the client or its address is not known, Outage."""
        client, address, beside = await self.clients.known(one(form, "client_id")), one(form, "request_uri"), form
        pushed = address.startswith(PUSHED)
        if pushed:
            form = await self._pushed.taken(client, address)
        redirect = redirect_of(one(form, "redirect_uri"), client.redirect_uris)
        state = one(form, "state")
        try:
            if pushed:
                check_beside(beside, form)
            elif client.must_push:
                raise Mistake("requests of this client are pushed first (RFC 9126)", code="invalid_request")
            begun, cookie = self._begun(client, redirect, form)
        except Mistake as mistake:
            return self._back(redirect, state if len(state) <= _STATE_CHARACTERS_MAX else "", mistake.code, mistake.message)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        return Step(to=await self._provider.address(state=_mark(begun.browser), nonce=begun.nonce, challenge=challenge), cookie=cookie)

    async def push(self, form: Form, credential: Credential) -> Pushed:
        """Keep a request for a client that is about to send its person (RFC 9126 §2). ``credential``: what the client shows to hold.

        Raises Unauthenticated (the client, a DPoP proof), Mistake (everything else that ``begin`` would tell the client), Outage.
        """
        if any(name in form for name in _SECRETS):
            raise Unauthenticated("a client of people has no secret, and proves nothing", code="invalid_client")
        try:
            client = await self.clients.known(one(form, "client_id"))
        except Refusal as refusal:
            raise Unauthenticated(refusal.message, code="invalid_client") from None
        check_plain(form)
        try:
            redirect = redirect_of(one(form, "redirect_uri"), client.redirect_uris)
        except Refusal as refusal:
            raise Mistake(refusal.message, code="invalid_request", hint=refusal.hint) from None
        held = self._possessions.shown(credential)
        form = with_key(form, held.possession.key)
        self._begun(client, redirect, form)
        await self._pushed.make_room(client)
        await self._possessions.spend_for_all(held)
        return await self._pushed.keep(client, form)

    def _begun(self, client: PublicClient, redirect: str, form: Form) -> tuple[_Begun, str]:
        """What a browser carries for a request, open and sealed. Raises Mistake."""
        state = one(form, "state")
        check_state(state)
        wish, resources = read_wish(form)
        server = resource_server(resources, f"{self._issuer}/mcp", self._servers())
        if wish.task_type and wish.task_type not in {kind.name for kind in self._types(client)}:
            code = "invalid_authorization_details" if "authorization_details" in form else "invalid_scope"
            raise Mistake("there is no such task type for you", code=code)
        verifier, browser, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        begun = _Begun(
            browser=browser,
            client=client.id,
            redirect=redirect,
            state=state,
            challenge=wish.challenge,
            server=server,
            task_type=wish.task_type,
            inputs=dict(wish.inputs),
            nonce=nonce,
            verifier=verifier,
            until=self._until(_BROWSER_TTL),
            key=wish.key,
        )
        cookie = self._seal(begun, "sign-in begun")
        if len(cookie) > _SEALED_CHARACTERS_MAX:
            raise Mistake("the request is too long", code="invalid_request")
        return begun, cookie

    async def returned(self, form: Form, cookie: str) -> Step:
        """A person comes back from the provider. Raises Refusal (another browser, not among the people), Unauthenticated, Outage."""
        begun = self._open(cookie, "sign-in begun", _Begun)
        if not secrets.compare_digest(one(form, "state").encode(), _mark(begun.browser).encode()):
            raise Refusal("this sign-in was begun in another browser, or long ago", code="sign_in", hint="begin again at your client")
        if not await self._provider.answers(one(form, "iss")):
            raise Refusal("this answer is of another provider", code="sign_in", hint="begin again at your client")
        if one(form, "error") or not one(form, "code"):
            return self._back(begun.redirect, begun.state, "access_denied", "nobody signed in")
        now = self._clock()
        try:
            claims = await self._provider.signed_in(one(form, "code"), verifier=begun.verifier, nonce=begun.nonce, now=now)
            person = person_of(claims, self._rule)
        except (Unauthenticated, Refusal) as refusal:
            await self._refused(refusal, begun.client)
            raise
        signed_in = msgspec.structs.replace(begun, person=person, nonce="", verifier="", until=self._until(_BROWSER_TTL))
        return Step(to=self._issuer + CONSENT, cookie=self._seal(signed_in, "signed in"))

    async def offer(self, cookie: str, task_type: str = "", inputs: Mapping[str, Any] | None = None) -> Offer:
        """What the person of a cookie may choose from, or consent to once a type and its inputs are known.

        Raises Refusal (not signed in, client not known any more), Outage.
        """
        signed_in = self._open(cookie, "signed in", _Begun)
        client = await self.clients.known(signed_in.client)
        rulebook, types = self._rules.rulebook, self._types(client)
        name = task_type or signed_in.task_type
        given = dict(inputs if inputs is not None else signed_in.inputs)
        chosen = next((one for one in types if one.name == name), None)
        plain = Offer(person=signed_in.person, client=client, returns_to=signed_in.redirect, chosen=chosen, inputs=given, types=types)
        if chosen is None or (inputs is None and not signed_in.task_type):
            return plain
        try:
            values = checked_inputs(chosen, given)
        except Mistake as mistake:
            return replace(plain, wrong=mistake.message if inputs is not None or given else "")
        grants = open_grant(chosen, values)
        shown = _Shown(browser=signed_in.browser, task_type=chosen.name, inputs=values, until=self._until(_BROWSER_TTL))
        return replace(
            plain,
            inputs=values,
            objective=fill_objective(chosen, values),
            grants=tuple(Granted(grant=grant, facts=rulebook.tool(grant.kind, grant.server, grant.name)) for grant in grants),
            form=self._seal(shown, "consent form"),
        )

    def _types(self, client: PublicClient) -> tuple[TaskType, ...]:
        """What the agent that a client acts as may be given."""
        configuration = self._rules.configuration
        declared = configuration.agents.get(client.agent)
        return tuple(configuration.task_types[name] for name in declared.tasks if name in configuration.task_types) if declared else ()

    async def declined(self, cookie: str) -> Step:
        """A person says no: the client is told so. Raises Refusal, Outage."""
        signed_in = self._open(cookie, "signed in", _Begun)
        await self._once_only(signed_in)
        await self._refused(Refusal(f"{signed_in.person} did not consent", code="access_denied"), signed_in.client)
        return self._back(signed_in.redirect, signed_in.state, "access_denied", "the person did not consent")

    async def consented(self, cookie: str, form: str) -> Step:
        """A person says yes to what was shown: the task is opened, and the browser goes back to the client with a code.

        Raises Refusal (another browser's form, used before, not signed in), Outage.
        """
        signed_in = self._open(cookie, "signed in", _Begun)
        shown = self._open(form, "consent form", _Shown)
        if shown.browser != signed_in.browser:
            raise Refusal("this form was shown to another browser", code="sign_in", hint="begin again at your client")
        await self._once_only(signed_in)
        client = await self.clients.known(signed_in.client)
        try:
            task = await self._dispatcher.open(
                agent=client.agent,
                task_type=shown.task_type,
                inputs=shown.inputs,
                on_behalf_of=signed_in.person,
                opened_by=signed_in.person,
                on_behalf_proof=f"oidc:{self._rule.issuer}",
            )
        except (NotFound, Conflict, Refusal, Mistake) as refusal:  # the configuration has changed meanwhile
            await self._refused(refusal, signed_in.client)
            return self._back(signed_in.redirect, signed_in.state, "access_denied", "the task cannot be opened any more")
        code = self.codes.code(task, signed_in.client, signed_in.redirect, signed_in.challenge, signed_in.server, signed_in.key)
        return self._to(signed_in.redirect, {"code": code, **_state(signed_in.state)})

    async def _once_only(self, signed_in: _Begun) -> None:
        try:
            await self._replays.take(f"consent {_mark(signed_in.browser)}", _moment(signed_in.until))
        except Unauthenticated:
            raise Refusal("this was answered before", code="sign_in", hint="begin again at your client") from None

    def _seal(self, value: msgspec.Struct, purpose: str) -> str:
        return self._sealer.seal(msgspec.json.encode(value), f"{purpose} of the front channel")

    def _open(self, text: str, purpose: str, kind: type[Any]) -> Any:
        gone = Refusal("this page is too old, or was opened in another browser", code="sign_in", hint="begin again at your client")
        if not 0 < len(text) <= _SEALED_CHARACTERS_MAX:
            raise gone
        try:
            value = msgspec.json.decode(self._sealer.open(text, f"{purpose} of the front channel"), type=kind)
        except (Unauthenticated, msgspec.MsgspecError):
            raise gone from None
        if self._clock() >= _moment(value.until):
            raise gone
        return value

    def _until(self, span: timedelta) -> int:
        return int((self._clock() + span).timestamp())

    def _back(self, redirect: str, state: str, code: str, message: str) -> Step:
        """Tell the client what went wrong (RFC 6749 §4.1.2.1)."""
        printable = "".join(sign if " " <= sign <= "~" and sign not in '"\\' else "'" for sign in message)
        return self._to(redirect, {"error": code, "error_description": printable, **_state(state)})

    def _to(self, redirect: str, answer: Mapping[str, str]) -> Step:
        joined = "&" if urlsplit(redirect).query else "?"
        return Step(to=f"{redirect}{joined}{urlencode({**answer, 'iss': self._issuer})}")

    async def _refused(self, refusal: RemitError, client: str) -> None:
        await self._refusals.note(refusal, exchange="authorization_code", claimed=client)


def _mark(browser: str) -> str:
    """What the provider carries of a browser: it does not open the cookie."""
    return hashlib.sha256(f"state\0{browser}".encode()).hexdigest()


def _state(state: str) -> dict[str, str]:
    return {"state": state} if state else {}


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def make_front(
    rule: SignIn | None,
    dispatcher: Dispatcher,
    tasks: Tasks,
    rules: Rules,
    replays: Replays,
    sealer: Sealer,
    store: Store,
    pushed: PushedRequests,
    possessions: Possessions,
    clock: Callable[[], datetime],
    *,
    issuer: str,
    end_task: Callable[[str], Awaitable[None]],
    document_bytes_max: int,
    fetch_seconds_max: float,
    ticks: Callable[[], float] = time.monotonic,
) -> FrontChannel | None:
    """The front channel that is configured, if one is, with its drivers. ``ticks``: seconds that only grow."""
    if rule is None or not rule.clients:
        return None
    fetcher = Fetcher(bytes_max=document_bytes_max, seconds_max=fetch_seconds_max)
    provider = Provider(rule, fetcher, ticks, returns_to=issuer + CALLBACK)
    return FrontChannel(
        rule,
        provider,
        PublicClients(rule, fetcher, sealer, clock, ticks, endpoint=rule.endpoint),
        Codes(tasks, replays, sealer, clock, agents=lambda: rules.configuration.agents, end_task=end_task),
        People(rule, provider, replays, clock),
        dispatcher,
        rules,
        replays,
        sealer,
        Refusals(store, clock),
        pushed,
        possessions,
        clock,
        issuer=issuer,
        servers=lambda: rules.configuration.servers,
    )

"""The token endpoint: what may be exchanged for a task token, as a table of grant types.

Rules
* What the table does not name is refused. Every exchange, given or refused, is in the ledger with its reason before its answer leaves.
* An agent proves itself; whoever it works for is proved by a token of theirs, or only said. A token alone never renews itself: a thief
  would have it for good. Nothing is passed on as it came.
* A token is for one task, and for the gateway or one server of it.

Left out: who is proved how (``services/clients.py``), the opening of tasks (``services/opening.py``), what a person consents to
(``services/front_channel.py``), whose token delegates what (``services/presenting.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from remit.errors import Conflict, Mistake, NotFound, Refusal, Unauthenticated
from remit.logic.token_requests import DETAIL_TYPE, resource_server, task_wanted
from remit.model.token import TokenAnswer
from remit.services.delegation_words import delegation_wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from datetime import datetime

    from remit.model.delegation import Wanted
    from remit.model.task import Task
    from remit.model.token import Client, Credential, Person, TaskWanted, TokenRequest
    from remit.services.clients import Clients
    from remit.services.codes import Codes, Redeemed
    from remit.services.opening import Dispatcher
    from remit.services.possession import Held, Possessions
    from remit.services.presenting import Presenting
    from remit.services.refusals import Refusals
    from remit.services.tasks import Tasks
    from remit.services.tokens import Tokens
    from remit.settings import Agent

CLIENT_CREDENTIALS = "client_credentials"
AUTHORIZATION_CODE, REFRESH_TOKEN = "authorization_code", "refresh_token"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant type
_TYPES = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN, ID_TOKEN, JWT = f"{_TYPES}access_token", f"{_TYPES}id_token", f"{_TYPES}jwt"


class Exchange:
    """Gives task tokens to agents that prove themselves."""

    def __init__(
        self,
        clients: Clients,
        possessions: Possessions,
        dispatcher: Dispatcher,
        tasks: Tasks,
        tokens: Tokens,
        refusals: Refusals,
        presenting: Presenting,
        clock: Callable[[], datetime],
        *,
        agents: Callable[[], Mapping[str, Agent]],
        servers: Callable[[], Collection[str]],
        person: Callable[[str], Awaitable[Person]] | None = None,
        codes: Codes | None = None,
    ) -> None:
        """``agents``: as declared now. ``servers``: names of the gateway's servers now. ``person``: whom a token of an issuer for people
        proves (it may raise Unauthenticated); ``None``: there are no such issuers. ``codes``: of the front channel, where people sign in.
        """
        self._clients, self._possessions, self._dispatcher = clients, possessions, dispatcher
        self._tasks, self._tokens, self._refusals, self._clock = tasks, tokens, refusals, clock
        self._presenting, self._agents, self._servers, self._person, self._codes = presenting, agents, servers, person, codes
        self._grants: dict[str, Callable[[TokenRequest, Held], Awaitable[TokenAnswer]]] = {
            CLIENT_CREDENTIALS: self._client_credentials,
            JWT_BEARER: self._assertion,
            TOKEN_EXCHANGE: self._exchanged,
            **({AUTHORIZATION_CODE: self._code, REFRESH_TOKEN: self._refresh} if codes else {}),
        }

    @property
    def grant_types(self) -> tuple[str, ...]:
        """What the table names."""
        return tuple(self._grants)

    async def answer(self, asked: TokenRequest, shown: Credential) -> TokenAnswer:
        """A token. ``shown``: what the request brought besides, a DPoP proof or a certificate.

        Raises Unauthenticated, Refusal, Mistake (their codes are OAuth's), Outage.
        """
        try:
            grant = self._grants.get(asked.grant_type)
            if grant is None:
                raise Mistake("this grant type is not supported", code="unsupported_grant_type")
            return await grant(asked, self._possessions.shown(shown))
        except (Refusal, Mistake) as refusal:
            await self._refusals.note(refusal, exchange=asked.grant_type, claimed=asked.client_id)
            raise

    async def _client_credentials(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """An agent speaks for itself (RFC 6749 §4.4)."""
        client = await self._client(asked)
        return await self._given(client, asked, held)

    async def _assertion(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """What vouches for a workload is its grant (RFC 7523 §2.1): tokens of CI jobs, clusters and clouds."""
        client = await self._proved(asked.assertion, "assertion")
        if asked.client_assertion and (await self._client(asked)).agent != client.agent:
            raise Unauthenticated("client and assertion are two agents", code="invalid_grant")
        return await self._given(client, asked, held)

    async def _exchanged(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """Token exchange (RFC 8693), by the kinds of subject and actor."""
        _check_exchange(asked)
        if asked.subject_token_type == ID_TOKEN:
            actor = await self._actor(asked)
            return await self._given(actor, asked, held, person=await self._on_behalf(asked.subject_token))
        if asked.subject_token_type == ACCESS_TOKEN:
            delegation = delegation_wanted(asked.authorization_details)
            return await (self._delegated(asked, held, *delegation) if delegation else self._narrowed(asked, held))
        if asked.subject_token_type != JWT or asked.actor_token:
            raise Mistake("these kinds of subject and actor are not exchanged", code="invalid_request")
        client = await self._proved(asked.subject_token, "subject_token")
        if asked.client_assertion and (await self._client(asked)).agent != client.agent:
            raise Mistake("client and subject are two agents", code="invalid_request")
        return await self._given(client, asked, held)

    async def _code(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """A client of people, for what a person has consented to (RFC 6749 §4.1.3)."""
        assert self._codes is not None
        await self._hold(held)
        return await self._continued(await self._codes.redeemed(asked, held.possession), asked, held)

    async def _refresh(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """The same client, while the task lives (RFC 6749 §6)."""
        assert self._codes is not None
        await self._hold(held)
        return await self._continued(await self._codes.refreshed(asked, held.possession), asked, held)

    async def _continued(self, redeemed: Redeemed, asked: TokenRequest, held: Held) -> TokenAnswer:
        assert self._codes is not None
        server = self._resource(asked) if asked.resources else redeemed.server
        if redeemed.server not in {"", server}:
            raise Mistake("consent was given for another server", code="invalid_target")
        answer = await self._issued(redeemed.client, redeemed.task, replace(asked, scope=""), held, server)
        return replace(answer, refresh_token=self._codes.refresh_token(asked, redeemed, held.possession))

    async def _narrowed(self, asked: TokenRequest, held: Held) -> TokenAnswer:
        """An agent's own task token for another of the same task: for one server, bound to another key."""
        client = await self._actor(asked)
        try:
            token, task = await self._tokens.look(asked.subject_token)
        except Unauthenticated:
            raise Mistake("the subject token is not acceptable", code="invalid_request") from None
        if task.agent != client.agent:
            raise Mistake("the subject token is another agent's", code="invalid_request")
        if asked.scope or asked.authorization_details:
            raise Mistake("the subject token names the task", code="invalid_request")
        server = self._resource(asked)
        if token.bearer.server not in {"", server}:
            raise Mistake("the subject token opens another server", code="invalid_target")
        await self._hold(held)
        return await self._issued(client, task, asked, held, server)

    async def _delegated(self, asked: TokenRequest, held: Held, wanted: Wanted, parent: str) -> TokenAnswer:
        """Another agent's task token, for a child of its task: the agent that gets the child presents it and proves itself."""
        if asked.scope:
            raise Mistake("name the task by authorization_details or by scope, not by both", code="invalid_request")
        server = self._resource(asked)
        bearer = await self._presenting.exchanged_subject(asked.subject_token, held.possession)
        await self._presenting.passed_on(bearer, asked.actor_token)
        actor = await self._actor(asked)
        await self._hold(held)  # before a child is opened that nobody could use
        try:
            child = await self._presenting.exchanged(bearer, actor, wanted, parent=parent)
        except Mistake as mistake:
            raise Mistake(mistake.message, code="invalid_authorization_details", hint=mistake.hint) from None
        return await self._issued(actor, child, asked, held, server)

    async def _given(self, client: Client, asked: TokenRequest, held: Held, person: Person | None = None) -> TokenAnswer:
        """A token for the task that is asked for."""
        declared = self._agents().get(client.name)
        wanted, server = task_wanted(asked, declared.default_task if declared else ""), self._resource(asked)
        await self._hold(held)  # before a task is opened that nobody could use
        task = await self._task(client, wanted, person)
        return await self._issued(client, task, asked, held, server)

    async def _issued(self, client: Client, task: Task, asked: TokenRequest, held: Held, server: str) -> TokenAnswer:
        bound = held.possession
        try:
            given = await self._tokens.give(task.id, client.workload.proof, server=server, bound=bound, exchange=asked.grant_type)
        except Unauthenticated:
            raise Mistake("the task has ended", code="invalid_grant") from None
        except Refusal as refusal:
            raise Refusal(refusal.message, code="unauthorized_client" if refusal.code == "agent_stopped" else refusal.code) from None
        detail = {"type": DETAIL_TYPE, "task": task.id, "task_type": task.type}
        return TokenAnswer(
            access_token=given.token,
            token_type="DPoP" if bound.key else "Bearer",
            expires_in=max(1, int((given.expires_at - self._clock()).total_seconds())),
            task=task.id,
            details=(detail, *given.details),
            scope=asked.scope,
        )

    async def _hold(self, held: Held) -> None:
        self._tokens.check_binding(held.possession)
        await self._possessions.spend_for_all(held)

    async def _task(self, client: Client, wanted: TaskWanted, person: Person | None) -> Task:
        """The task that is wanted: the agent's own, or a new one."""
        if wanted.agent:
            raise Mistake("delegation is asked for with the task's own token", code="invalid_authorization_details")
        if wanted.task:
            try:
                task = await self._tasks.view(wanted.task)
            except NotFound:
                task = None
            if task is None or task.agent != client.agent or task.over:
                raise Mistake("there is no such task of yours", code="invalid_authorization_details")
            if person is not None and (task.on_behalf_of, bool(task.on_behalf_proof)) != (person.name, True):
                raise Mistake("the task is for somebody else", code="invalid_request")
            return task
        if person is not None and wanted.on_behalf_of not in {"", person.name}:
            raise Mistake("on_behalf_of is somebody else than the subject token proves", code="invalid_request")
        try:
            return await self._dispatcher.open(
                agent=client.name,
                task_type=wanted.task_type,
                inputs=wanted.inputs,
                on_behalf_of=person.name if person else wanted.on_behalf_of,
                opened_by=client.agent.text,
                on_behalf_proof=person.proof if person else "",
                manifest=wanted.manifest,
            )
        except (NotFound, Conflict):
            _no_such_type()
        except Refusal as refusal:
            if refusal.code == "task_type_not_allowed":
                _no_such_type()
            raise Refusal(refusal.message, code="access_denied", hint=refusal.hint) from None
        except Mistake as mistake:
            raise Mistake(mistake.message, code="invalid_authorization_details", hint=mistake.hint) from None

    async def _client(self, asked: TokenRequest) -> Client:
        return await self._clients.client(asked.client_assertion_type, asked.client_assertion, asked.client_id)

    async def _actor(self, asked: TokenRequest) -> Client:
        """Who acts: the authenticated client, or the actor token's agent; where both are shown they are one (RFC 8693 §2.1)."""
        client = await self._client(asked) if asked.client_assertion or not asked.actor_token else None
        if not asked.actor_token:
            assert client is not None
            return client
        if asked.actor_token_type != JWT:
            raise Mistake("an actor proves itself with a JWT", code="invalid_request")
        actor = await self._proved(asked.actor_token, "actor_token")
        if client is not None and client.agent != actor.agent:
            raise Mistake("client and actor are two agents", code="invalid_request")
        return actor

    async def _proved(self, token: str, what: str) -> Client:
        if not token:
            raise Mistake(f"{what} is missing", code="invalid_request")
        try:
            return await self._clients.workload(token)
        except Unauthenticated:
            code = "invalid_grant" if what == "assertion" else "invalid_request"
            raise Mistake(f"the {what} is not acceptable", code=code) from None

    async def _on_behalf(self, token: str) -> Person:
        if self._person is None:
            raise Mistake("no issuer for people is trusted here", code="invalid_request")
        try:
            return await self._person(token)
        except Unauthenticated as refusal:
            await self._refusals.note(refusal, exchange=f"{TOKEN_EXCHANGE} id_token", claimed="")
            raise Mistake("the subject token is not acceptable", code="invalid_request") from None
        except Refusal as refusal:
            raise Refusal("the task is for nobody who may have one opened here", code="access_denied") from refusal

    def _resource(self, asked: TokenRequest) -> str:
        return resource_server(asked.resources, self._tokens.audience, self._servers())


def _check_exchange(asked: TokenRequest) -> None:
    if not asked.subject_token or not asked.subject_token_type:
        raise Mistake("subject_token and subject_token_type are needed", code="invalid_request")
    if bool(asked.actor_token) != bool(asked.actor_token_type):
        raise Mistake("actor_token and actor_token_type belong together", code="invalid_request")
    if asked.requested_token_type not in {"", ACCESS_TOKEN}:
        raise Mistake("only access tokens are issued here", code="invalid_request")


def _no_such_type() -> NoReturn:
    raise Mistake("there is no such task type for you", code="invalid_authorization_details") from None

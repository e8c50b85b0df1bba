"""Tasks and their calls in the words of the wire: what the HTTP routes answer and what ``remit.open`` answers in process.

An agent proves itself (a JWT-SVID, an OIDC issuer's token, the X.509-SVID of its connection) to open a task and to renew its token;
the task's own token is enough to look at it, to have its calls decided, to tell how they ended, and to end it. Translates; decides
nothing. What somebody says is read (``read``) once it is known who says it: a stranger's words are not parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.api.delegating import delegate
from remit.errors import Because, Mistake, NotFound, Refusal, Unauthenticated
from remit.logic.arguments import make_call, prompt_call, resource_call
from remit.model.call import Call, Ending
from remit.model.catalog import Kind
from remit.model.task import TaskState
from remit.model.token import NOTHING
from remit.services.bearers import identity_in, is_dpop
from remit.services.mediation import Ticket
from remit.wire import OWN_TASK, AuthorizeCall, DecisionView, DelegateTask, ObserveCall, OpenTask, ReportManifest, TaskView, TokenView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from remit.model.identity import Bearer, Workload
    from remit.model.task import Task
    from remit.model.token import Presented
    from remit.services.bearers import Bearers
    from remit.services.identities import Identities
    from remit.services.manifests import Manifests
    from remit.services.opening import Dispatcher
    from remit.services.presenting import Presenting
    from remit.services.tasks import Tasks
    from remit.services.tickets import Answer, Tickets
    from remit.services.tokens import Tokens

_NAME_CHARACTERS_MAX = 4_096
_CHILDREN_MAX = 100  # that are named
_TOLD = frozenset(Ending) - {Ending.NOT_MADE}  # that nothing was done gives back what was spent; a caller's word proves it not
_ENDINGS = ", ".join(sorted(_TOLD))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDoor:
    """``issuer``: our URL. ``mcp_servers``, ``egresses``: names of what the gateway serves. ``end_task`` lets go of an ended one.

    ``unbound_is_well``: tokens stay in this process, so they need not be bound to a key.
    """

    identities: Identities
    tokens: Tokens
    bearers: Bearers
    tasks: Tasks
    dispatcher: Dispatcher
    presenting: Presenting
    tickets: Tickets
    manifests: Manifests
    issuer: str
    mcp_servers: Callable[[], Collection[str]]
    end_task: Callable[[str], Awaitable[None]]
    unbound_is_well: bool = False
    egresses: Callable[[], Collection[str]] = tuple

    async def open(self, proof: Presented, read: Callable[[], Awaitable[OpenTask]]) -> TaskView:
        """A new task of the proved agent, with its token. Raises Unauthenticated, Refusal, NotFound, Mistake, Outage."""
        await self._agent(proof)
        wanted = await read()
        if not self.unbound_is_well:
            self.tokens.check_binding(NOTHING)  # before a task is opened that nobody could use
        name, workload = await self._agent(proof, once=True)  # now that there is something to use it up for
        if wanted.agent not in {"", name, workload.agent.text}:
            raise Refusal(f"the proof of identity is of agent {name}, not of {wanted.agent[:80]!r}", code="wrong_agent")
        task = await self.dispatcher.open(
            agent=name,
            task_type=wanted.type,
            inputs=wanted.inputs,
            on_behalf_of=wanted.on_behalf_of,
            opened_by=workload.agent.text,
            manifest=wanted.manifest,
        )
        return self._view(task, await self._token(task.id, workload))

    async def delegate(self, proof: Presented, task: str, read: Callable[[], Awaitable[DelegateTask]]) -> TaskView:
        """A child of the task whose token is shown (``delegating.py``). Raises Unauthenticated, Refusal, Mistake, Outage."""
        child, token = await delegate(self.presenting, proof, task, read)
        return self._view(child, TokenView(access_token=token[0], expires_at=token[1]) if token else None)

    async def show(self, proof: Presented, task: str) -> TaskView:
        """A task of the agent that is proved, or whose token it is. Raises Unauthenticated, NotFound, Outage."""
        return self._view((await self._own(proof, task))[0])

    async def renew(self, proof: Presented, task: str) -> TokenView:
        """A new token for a living task of the proved agent. A token alone renews nothing: a thief would have it for good."""
        _, workload = await self._agent(proof, once=True)
        return await self._token((await self._of(workload, task)).id, workload)

    async def manifest(self, proof: Presented, task: str, read: Callable[[], Awaitable[ReportManifest]]) -> TaskView:
        """Take what the agent is made of now; a change is recorded, and by default suspends the task, before this returns.

        Raises Unauthenticated, NotFound, Conflict (ended), Mistake, Outage.
        """
        own, by = await self._own(proof, task)
        told = await read()
        return self._view(await self.manifests.report(own.id, told.parts, by))

    async def complete(self, proof: Presented, task: str) -> TaskView:
        """End a task. Raises Unauthenticated, NotFound, Outage."""
        own, by = await self._own(proof, task)
        ended = await self.tasks.end(own.id, TaskState.COMPLETED, by=by)
        await self.end_task(own.id)
        return self._view(ended)

    async def authorize(self, token: Presented, task: str, read: Callable[[], Awaitable[AuthorizeCall]]) -> DecisionView:
        """Decide one call. Raises Unauthenticated, NotFound (another's task), Mistake, Refusal (task exhausted), Outage."""
        bearer = await self._bearer(token, task)
        wanted = await read()
        answer = await self.tickets.decide(bearer, _call(wanted), seen_digest=wanted.tool_digest)
        return _decision(answer)

    async def observe(self, token: Presented, task: str, read: Callable[[], Awaitable[ObserveCall]]) -> None:
        """Take the end of an allowed call. Raises Unauthenticated, NotFound, Conflict, Mistake, Outage."""
        bearer = await self._bearer(token, task)
        told = await read()
        if told.ending not in _TOLD:
            raise Mistake(f"ending {told.ending[:40]!r} is none", code="body", hint=f"one of: {_ENDINGS}")
        await self.tickets.observe(bearer, told.decision, Ending(told.ending), told.result, arguments=told.arguments)

    async def _token(self, task: str, workload: Workload) -> TokenView:
        given = await self.tokens.give(task, workload.proof, unbound_is_well=self.unbound_is_well)
        return TokenView(access_token=given.token, expires_at=given.expires_at)

    async def _bearer(self, token: Presented, task: str) -> Bearer:
        bearer = await self.bearers.bearer(token)
        if task not in {OWN_TASK, bearer.task}:
            raise NotFound("there is no such task")
        return bearer

    async def _own(self, proof: Presented, task: str) -> tuple[Task, str]:
        """The task of a path, by its own token or for its agent; to others it does not exist."""
        try:
            bearer = await self._bearer(proof, task)
        except Unauthenticated:
            if is_dpop(proof):
                raise
            _, workload = await self._agent(proof)
            return await self._of(workload, task), workload.agent.text
        return await self.tasks.view(bearer.task), bearer.agent.text

    async def _of(self, workload: Workload, task: str) -> Task:
        found = await self.tasks.view(task)
        if found.agent != workload.agent:
            raise NotFound("there is no such task")
        return found

    async def _agent(self, proof: Presented, *, once: bool = False) -> tuple[str, Workload]:
        """``once``: a proof that gives a token gives it once."""
        try:
            return await self.identities.verify_svid(identity_in(proof), once=once)
        except Unauthenticated:
            raise Unauthenticated("the proof of identity does not hold") from None

    def _view(self, task: Task, token: TokenView | None = None) -> TaskView:
        granted = {grant.server for grant in task.grants}
        servers, egresses = sorted(granted & set(self.mcp_servers())), sorted(granted & set(self.egresses()))
        return TaskView(
            task=task.id,
            type=task.type,
            agent=task.agent.text,
            on_behalf_of=task.on_behalf_of,
            objective=task.objective,
            state=task.state.value,
            deadline=task.deadline,
            calls_allowed=task.calls,
            calls_asked=task.asked,
            calls_denied=task.denied,
            budget_calls=task.budget.calls,
            mcp={server: f"{self.issuer}/mcp/{server}" for server in servers},
            drift=tuple(sorted(task.drift)),
            token=token,
            parent=task.parent,
            chain=list(task.chain),
            calls_lent=task.lent.calls,
            children=sorted(task.children)[:_CHILDREN_MAX],
            egress={name: f"{self.issuer}/egress/{name}" for name in egresses},
        )


def _call(wanted: AuthorizeCall) -> Call:
    """Raises Mistake."""
    named = [(kind, name) for kind in Kind if (name := getattr(wanted, kind.value))]
    if len(named) != 1:
        raise Mistake("a call names exactly one of tool, resource or prompt", code="call", hint='tool = "server/name"')
    kind, whole = named[0]
    server, slash, name = whole.partition("/")
    if not server or not slash or not name or len(whole) > _NAME_CHARACTERS_MAX:
        raise Mistake(f"{whole[:80]!r} is no name of a {kind}", code="call", hint='"server/name"')
    if kind is Kind.TOOL:
        return make_call(kind, server, name, wanted.arguments)
    if kind is Kind.PROMPT:
        return prompt_call(server, name, wanted.arguments)
    if wanted.arguments:
        raise Mistake("a resource takes no arguments: it is its URI", code="call")
    return resource_call(server, name)


def _decision(answer: Answer) -> DecisionView:
    verdict = answer.verdict
    decision, allowed = verdict.decision, isinstance(verdict, Ticket)
    return DecisionView(
        id=verdict.decision_id,
        outcome=type(decision).__name__.lower(),
        reasons=tuple(Because(reason.code.value, reason.text, reason.where) for reason in decision.reasons),
        policies=decision.policies,
        message="" if isinstance(verdict, Ticket) else verdict.message,
        approval=(verdict.decision.approval if isinstance(verdict, Ticket) else verdict.approval_id) or "",
        approval_expires_at=None if allowed else answer.expires_at,
        permit_expires_at=answer.expires_at if allowed else None,
        single_use=allowed,
    )

"""The words spoken over HTTP, as strict structs shared by the API and whoever calls it: requests, answers, problems.

Rules: one reader and one writer of each form, used at both ends. A problem (RFC 9457) says the sentence, the code and the hint of
a ``RemitError``; of anything else only that it happened. No stack trace, no path of this machine.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from remit.errors import (
    Because,
    Conflict,
    Denied,
    Mistake,
    NeedsApproval,
    NotFound,
    Outage,
    Refusal,
    RemitError,
    Unauthenticated,
)
from remit.logic.arguments import digest_bytes, parse_json
from remit.logic.narrow import tool_digest
from remit.model.evidence import Evidence

Json = dict[str, Any]
OWN_TASK = "current"  # in a path: the task whose token is presented
BODY_BYTES_MAX, DEPTH_MAX = 4_194_304, 64  # as the limits of a node are by default


class OpenTask(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent says to open a task. ``agent``: the name it believes to have; another one than was proved is refused.

    ``manifest``: what it is made of, digests by part.
    """

    type: str
    inputs: dict[str, Any] = {}
    on_behalf_of: str = ""
    agent: str = ""
    manifest: dict[str, str] = {}


class ReportManifest(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent is made of now: digests of the parts it tells of; "" for one that is gone. Others are as they were."""

    parts: dict[str, str]


class DelegatedLine(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the child's grant: exactly one of ``tool``, ``resource``, ``prompt``, as ``server/name``.

    ``arguments``: the narrowing schema. ``line``: the number of the parent's line that it is bound to (null: the first that names it).
    """

    tool: str = ""
    resource: str = ""
    prompt: str = ""
    arguments: dict[str, Any] = {}
    uses: int | None = None
    line: int | None = None


class DelegateTask(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A child task. ``request``: an id of the asker's, good for one delegation. ``lifetime`` in seconds (0: as long as may be).

    The amounts are taken out of the parent's budgets; ``sums`` in decimal digits. ``actor_token``: the JWT-SVID of the agent that gets
    the child, where that one asks; ``manifest``: then what it is made of.
    """

    request: str
    agent: str
    objective: str
    grant: list[DelegatedLine]
    calls: int
    inputs: dict[str, Any] = {}
    ceiling: str = ""
    lifetime: int = 0
    sums: dict[str, str] = {}
    bytes_read: int = 0
    resources: int = 0
    rate_calls: int = 0
    actor_token: str = ""
    manifest: dict[str, str] = {}


class TokenView(msgspec.Struct):
    """A task token (RFC 6749 §5.1 words)."""

    access_token: str
    expires_at: datetime
    token_type: str = "Bearer"  # noqa: S105 - the type's name


class TaskView(msgspec.Struct, omit_defaults=True):
    """A task as its agent sees it. ``mcp``: the gateway's address for each MCP server of the grant.

    ``drift``: parts of the manifest that changed and that nobody has accepted.
    ``egress``: the address of each HTTP API of the grant.
    ``parent``: the task that delegated it; ``chain``: the agents that did, the nearest first. ``calls_lent``: to its children;
    ``children``: those that are not settled, at most a hundred.
    """

    task: str
    type: str
    agent: str
    on_behalf_of: str
    objective: str
    state: str
    deadline: datetime
    calls_allowed: int
    calls_asked: int
    calls_denied: int
    budget_calls: int
    mcp: dict[str, str]
    drift: tuple[str, ...] = ()
    token: TokenView | None = None
    parent: str = ""
    chain: list[str] = []
    calls_lent: int = 0
    children: list[str] = []
    egress: dict[str, str] = {}


class LeaseView(msgspec.Struct):
    """A credential of the task on a target, by the name that servers call it. ``seconds_left``: 0 once it is gone. ``scope``: what it may
    do there, as the target reads it; ``may``: in words. ``parts``: numbers of the ``[[lease.part]]`` that this came from.
    """

    lease: str
    name: str
    target: str
    state: str
    expires_at: datetime
    seconds_left: int
    scope: dict[str, Any]
    may: list[str]
    parts: list[int]


class LeasesView(msgspec.Struct):
    """Leases of one task, also such as are gone."""

    leases: list[LeaseView]


class AnswerQuestion(msgspec.Struct, forbid_unknown_fields=True, rename={"lasts": "for", "free": "any"}):
    """What an approver says. ``calls``, ``for`` (seconds) and ``any`` (names of arguments) widen a yes to a class of calls."""

    answer: Literal["approve", "deny"]
    reason: str = ""
    calls: int = 1
    lasts: int = 0
    free: list[str] = []


class AnswerView(msgspec.Struct):
    """One person's answer."""

    by: str
    granted: bool
    at: datetime
    reason: str
    via: str


class QuestionView(msgspec.Struct):
    """A question as an approver sees it. ``evidence``: what tells friend from foe; null where it is no longer kept."""

    approval: str
    state: str
    call: str
    arguments_digest: str
    asked_at: datetime
    expires_at: datetime
    needed: int
    answers: list[AnswerView]
    task: str
    evidence: Evidence | None


class QuestionsView(msgspec.Struct):
    """Questions that wait for the approver who asks, the oldest first."""

    approvals: list[QuestionView]


class AuthorizeCall(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A call to be decided: exactly one of ``tool``, ``resource``, ``prompt``, as ``server/name``.

    ``tool_digest``: of the tool as whoever asks declares it now (python servers only; others are looked at by the gateway).
    """

    tool: str = ""
    resource: str = ""
    prompt: str = ""
    arguments: dict[str, Any] = {}
    tool_digest: str = ""


class DecisionView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer. ``outcome``: ``allow``, ``ask`` or ``deny``; ``message`` says a refusal to the model.

    An allowed call may be made once, before ``permit_expires_at``, and its end is told under ``id``.
    """

    id: str = msgspec.field(name="decision")
    outcome: str
    reasons: tuple[Because, ...] = ()
    policies: tuple[str, ...] = ()
    message: str = ""
    approval: str = ""
    approval_expires_at: datetime | None = None
    permit_expires_at: datetime | None = None
    single_use: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the call may be made."""
        return self.outcome == "allow"

    def refusal(self) -> Denied:
        """What is raised where the answer is not allow."""
        kind = NeedsApproval if self.outcome == "ask" else Denied
        return kind(
            self.message or "denied",
            decision=self.id,
            reasons=self.reasons,
            policies=self.policies,
            approval=self.approval,
            approval_expires_at=self.approval_expires_at,
        )


class ObserveCall(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How an allowed call ended: ``ok``, ``tool_error``, ``failed`` or ``cancelled``, and its result.

    ``arguments``: of the call, for a node that did not give the decision; they must be the ones that were decided on.
    """

    decision: str
    ending: str = "ok"
    result: Any = None
    arguments: dict[str, Any] | None = None


class Problem(msgspec.Struct, omit_defaults=True):
    """Problem details (RFC 9457 §3); of a refused call also what was decided."""

    title: str
    status: int
    code: str
    type: str = "about:blank"
    detail: str = ""
    decision: str = ""
    reasons: tuple[Because, ...] = ()
    policies: tuple[str, ...] = ()
    approval: str = ""
    approval_expires_at: datetime | None = None


_STATUS: tuple[tuple[type[RemitError], int], ...] = (
    (Unauthenticated, 401),
    (NotFound, 404),
    (Refusal, 403),
    (Conflict, 409),
    (Mistake, 400),
    (Outage, 503),
)
_STATUS_OF_CODE = {
    (Mistake, "too_large"): 413,
    (Mistake, "content_type"): 415,
    (Mistake, "too_slow"): 408,
    (Refusal, "too_often"): 429,
    (Outage, "egress_secret"): 403,
    (Outage, "egress_unreachable"): 502,
    (Outage, "egress_failed"): 502,
    (Outage, "egress_redirect"): 502,
    (Outage, "egress_timeout"): 504,
}
_KINDS: dict[int, type[RemitError]] = {401: Unauthenticated, 403: Refusal, 404: NotFound, 409: Conflict}


def http_status(error: RemitError) -> int:
    """The status an error is answered with."""
    for (kind, code), status in _STATUS_OF_CODE.items():
        if isinstance(error, kind) and error.code == code:
            return status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: RemitError) -> Json:
    """An ``application/problem+json`` body (RFC 9457 §3)."""
    status = http_status(error)
    if status == 500:
        return {"type": "about:blank", "title": "remit has a fault; its log says more", "status": status, "code": "broken"}
    body: Json = {"type": "about:blank", "title": error.message, "status": status, "code": error.code}
    if error.hint:
        body["detail"] = error.hint
    if isinstance(error, Denied):
        decided = {name: getattr(error, name) for name in ("decision", "reasons", "policies", "approval", "approval_expires_at")}
        body |= msgspec.to_builtins({name: value for name, value in decided.items() if value})
    return body


def problem_headers(error: RemitError) -> list[tuple[bytes, bytes]]:
    """Headers that go with it."""
    headers = [(b"content-type", b"application/problem+json")]
    if isinstance(error, Outage) and http_status(error) == 503:  # of the others nobody knows whether asking again is well
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def read_problem(status: int, body: bytes, *, retry_after_seconds: int = 1) -> RemitError:
    """The error that a problem tells of. What is no problem of remit, or a fault, counts as an outage for the caller."""
    try:
        told = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Outage(f"the server answered {status} and not as remit does", code="not_remit")
    if status >= 500:
        return Outage(told.title, code=told.code, hint=told.detail, retry_after_seconds=retry_after_seconds)
    if told.code in {Denied.default_code, NeedsApproval.default_code}:
        kind = NeedsApproval if told.code == NeedsApproval.default_code else Denied
        return kind(
            told.title,
            decision=told.decision,
            reasons=told.reasons,
            policies=told.policies,
            approval=told.approval,
            approval_expires_at=told.approval_expires_at,
        )
    return _KINDS.get(status, Mistake)(told.title, code=told.code, hint=told.detail)


def read_json(data: bytes, *, bytes_max: int = BODY_BYTES_MAX) -> Any:
    """JSON as remit reads it: strictly, so that nobody else reads it otherwise. Raises Mistake."""
    return parse_json(data, depth_max=DEPTH_MAX, bytes_max=bytes_max)


def declared_digest(tool: Json) -> str:
    """Digest of a declared tool (``name``, ``description``, ``inputSchema``), as it is pinned. Raises Mistake."""
    return tool_digest(tool)


def part_digest(value: bytes | Json) -> str:
    """Digest of a part of a manifest: of bytes as they are, of a tool as it would be pinned. Raises Mistake."""
    return digest_bytes(value) if isinstance(value, bytes) else tool_digest(value)

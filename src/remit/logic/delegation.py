"""May this task be delegated like that, and what does the child get? Pure.

Rules: the task type says to whom, how deep, how many and how long; the organisation's policy must permit ``task/delegate``; each line
must name what a line of the parent's grant names and is bound to it; amounts are taken out of what the parent has left. Schemas of a
line may be anything: at each call every task above decides as well. Inputs are what they were where the parent saw them; a value
seen nowhere good is an agent's word. A child begins with its parent's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import cedarpy
import rfc8785

from remit.errors import Mistake, Refusal, RemitError
from remit.logic.cedar_schema import DELEGATE
from remit.logic.grants import narrowing_schema_text, validator
from remit.logic.manifest import check_parts, check_required
from remit.logic.policy import Answer
from remit.logic.policy_context import origin_shown, task_shown
from remit.logic.schema_words import unenforced
from remit.logic.tracing import sources_of
from remit.logic.tree import delegable_line, purse_line, source_line
from remit.model.delegation import Delegable, Purse
from remit.model.delegation_record import AncestorLine, TaskDelegated
from remit.model.grant import Grant
from remit.model.origin import Traced
from remit.model.record import GrantLine, SumLine, TaskOpened
from remit.model.task import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remit.logic.policy import Policies
    from remit.logic.tracing import Seen
    from remit.model.delegation import Wanted, WantedLine
    from remit.model.identity import SpiffeId
    from remit.model.labels import DataClasses
    from remit.model.manifest import Parts

MISSION_CODES = {
    "parent_not_active": "parent_not_active",
    "parent_mismatch": "parent_mismatch",
    "wrong_actor": "parent_mismatch",
    "token_passed_on": "parent_mismatch",
    "delegation_replayed": "parent_mismatch",
    "delegation_not_permitted": "delegation_not_permitted",
    "delegation_too_deep": "delegation_not_permitted",
    "child_actor_not_allowed": "child_actor_not_allowed",
    "delegation_cycle": "child_actor_not_allowed",
    "agent_stopped": "child_actor_not_allowed",
    "manifest_missing": "child_actor_not_allowed",
    "not_strict_subset": "not_strict_subset",
    "budget_short": "not_strict_subset",
    "lease_not_divisible": "not_strict_subset",
    "fanout_exceeded": "fanout_exceeded",
    "policy_denied": "policy_denied",
}
"""Codes of refused delegations, each with its word of the mission drafts (child creation errors)."""

_LINES_MAX, _INPUTS_MAX, _TEXT_MAX, _REQUEST_MAX = 64, 32, 4_096, 64
_DEPTH_MAX = 16
_CALLS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """What a delegation is decided from. ``by``: the agent that asks; ``receiver``: the SPIFFE ID of the agent that gets the child.

    ``ancestors``: of the parent. ``stopped``: agents among all of these that are stopped.
    """

    parent: Task
    ancestors: tuple[Task, ...]
    wanted: Wanted
    receiver: SpiffeId
    by: SpiffeId
    now: datetime
    classes: DataClasses
    stopped: tuple[str, ...] = ()

    @property
    def deadline(self) -> datetime:
        """When the child would end: never after its parent."""
        terms = self.parent.delegable
        longest = terms.lifetime if terms else timedelta()
        return min(self.now + min(self.wanted.lifetime or longest, longest), *(one.deadline for one in (self.parent, *self.ancestors)))


def check_wanted(wanted: Wanted) -> None:
    """Bounds of what is asked for. Raises Mistake."""
    lifetime = wanted.lifetime
    if not 0 < len(wanted.request) <= _REQUEST_MAX or not wanted.request.isprintable():
        raise Mistake("request must be an id of 1 to 64 characters", code="body", hint="a new one for each delegation")
    if not 0 < len(wanted.objective) <= _TEXT_MAX or not wanted.objective.isprintable():
        raise Mistake("objective must say in a sentence what the child is for", code="body")
    if not 0 < len(wanted.lines) <= _LINES_MAX or len(wanted.inputs) > _INPUTS_MAX:
        raise Mistake(f"1 to {_LINES_MAX} lines of the grant and at most {_INPUTS_MAX} inputs", code="body")
    if not 0 < wanted.calls <= _CALLS_MAX or any(line.uses is not None and not 0 < line.uses <= _CALLS_MAX for line in wanted.lines):
        raise Mistake(f"calls and uses: 1 to {_CALLS_MAX:,}", code="body")
    amounts: tuple[int | Decimal, ...] = (wanted.bytes_read, wanted.resources, wanted.rate_calls, *wanted.sums.values())
    if min(amounts) < 0 or (lifetime is not None and lifetime < timedelta(seconds=1)):
        raise Mistake("an amount or a lifetime is negative", code="body")
    for name, value in wanted.inputs.items():
        if not isinstance(value, str | int) or len(str(value)) > _TEXT_MAX or not 0 < len(name) <= _REQUEST_MAX:
            raise Mistake(f"input {name[:80]!r} is no text, integer or truth value of at most {_TEXT_MAX} characters", code="body")
    for line in wanted.lines:
        for path, what, hint in unenforced(line.arguments):
            raise Mistake(f"arguments of {line.id[:80]}, {'.'.join(map(str, path))}: {what}", code="body", hint=hint)
        try:
            validator(narrowing_schema_text(_grant(line, 0)))
        except (RemitError, TypeError, AttributeError, ValueError) as error:
            raise Mistake(f"arguments of {line.id[:80]} are no JSON Schema: {str(error)[:200]}", code="body") from None


def check_permitted(facts: Delegation) -> Delegable:
    """Who may delegate what to whom now, by the task and its type. Raises Refusal."""
    parent, terms = facts.parent, facts.parent.delegable
    _check_alive(facts)
    if facts.by not in {parent.agent, facts.receiver}:
        raise refusal("wrong_actor", f"neither the agent of task {parent.id} asks nor the one that would get its child")
    if facts.stopped:
        raise refusal("agent_stopped", f"{facts.stopped[0]} is stopped")
    if terms is None:
        deep = bool(parent.ancestors)
        code = "delegation_too_deep" if deep else "delegation_not_permitted"
        raise refusal(code, f"task type {parent.type} does not let such a task be delegated{' further' if deep else ''}")
    if len(parent.ancestors) + 1 >= _DEPTH_MAX:
        raise refusal("delegation_too_deep", f"a chain ends at {_DEPTH_MAX} tasks")
    if facts.wanted.agent not in terms.to:
        raise refusal("child_actor_not_allowed", f"task type {parent.type} may not be delegated to {facts.wanted.agent[:80]}")
    if facts.receiver.text in {parent.agent.text, *parent.chain} and not terms.cycles:
        raise refusal("delegation_cycle", f"{facts.receiver} is in the chain already")
    if facts.wanted.request in parent.requests:
        raise refusal("delegation_replayed", "this request was used for a delegation before")
    if len(parent.children) >= terms.fan_out:
        raise refusal("fanout_exceeded", f"task {parent.id} has {len(parent.children)} children, and may have {terms.fan_out}")
    return terms


def check_told(facts: Delegation, required: Iterable[str]) -> Parts:
    """The manifest of the agent that gets the child, with the parts that its type and the agent demand. Only that agent tells of itself.

    Raises Refusal, Mistake.
    """
    wanted = facts.wanted
    if wanted.manifest and facts.by != facts.receiver:
        raise Mistake("an agent's manifest is told by that agent", code="body", hint="let the agent that gets the child ask for it")
    parts = check_parts(wanted.manifest)
    check_required(required, parts)
    return parts


def _check_alive(facts: Delegation) -> None:
    for one in (facts.parent, *facts.ancestors):
        if one.state is not TaskState.ACTIVE or facts.now >= one.deadline:
            what = one.state.value if one.state is not TaskState.ACTIVE else "past its deadline"
            raise refusal("parent_not_active", f"task {one.id} is {what}")


def refusal(code: str, text: str, hint: str = "") -> Refusal:
    """A refused delegation."""
    assert code in MISSION_CODES, code
    word = MISSION_CODES[code]
    return Refusal(text, code=code, hint=hint or ("" if word == code else f"in the mission drafts: {word}"))


def traced_inputs(facts: Delegation, seen: Seen) -> tuple[Traced, ...]:
    """Each input with where the parent saw it; what is made of several sources, or none, is an agent's word."""
    found = []
    for name, value in facts.wanted.inputs.items():
        sources = sources_of(value, seen) if not isinstance(value, bool) else ()
        found.append(Traced(pointer=f"/{name}", sources=sources if len(sources) == 1 else ()))
    return tuple(found)


def may_delegate(facts: Delegation, policies: Policies, inputs: tuple[Traced, ...]) -> Answer:
    """What the organisation's policies say of it. Nothing permits by default; an error denies."""
    parent, classes = facts.parent, facts.classes
    shown, schema = policies.of_action(DELEGATE)
    names = {"effect": "delegate", "data_class": classes.name(parent.labels.rank), "trust": "trusted", "sends": "internal"}
    entities = [
        {"uid": {"type": "Agent", "id": parent.agent.text}, "attrs": {"trust_domain": parent.agent.trust_domain}, "parents": []},
        {"uid": {"type": "Delegate", "id": facts.receiver.text}, "attrs": {**names, "name": facts.wanted.agent}, "parents": []},
    ]
    context = {
        **task_shown(parent, classes),
        "sink": "internal",
        "signals": [],
        "now": facts.now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{facts.now.microsecond // 1000:03d}Z",
        "arguments": {},
        "origins": {},
        "selectors": origin_shown(inputs),
        "references": origin_shown(()),
        "delegation": {
            "calls": facts.wanted.calls,
            "children": len(parent.children),
            "seconds": int((facts.deadline - facts.now).total_seconds()),
        },
    }
    result = cedarpy.is_authorized(
        {
            "principal": {"type": "Agent", "id": parent.agent.text},
            "action": {"type": "Action", "id": DELEGATE},
            "resource": {"type": "Delegate", "id": facts.receiver.text},
            "context": context,
        },
        shown,
        cedarpy.Entities.from_json_str(_json(entities), schema),
        schema,
    )
    reasons = tuple(sorted(result.diagnostics.reasons))
    if result.diagnostics.errors:
        return Answer(permitted=False, policies=reasons, error="; ".join(result.diagnostics.errors)[:300])
    return Answer(permitted=result.decision is cedarpy.Decision.Allow, policies=reasons)


def plan(facts: Delegation, terms: Delegable, inputs: tuple[Traced, ...], child: str, answer: Answer) -> tuple[TaskDelegated, TaskOpened]:
    """The parent's record and the child's opening record. Raises Refusal for more than the parent has."""
    parent, wanted = facts.parent, facts.wanted
    grants = _bound(parent, wanted)
    lent = _lent(parent, wanted, grants, facts.now)
    ceiling = min((wanted.ceiling or parent.ceiling, parent.ceiling), key=facts.classes.rank)
    if wanted.ceiling not in {"", *facts.classes.names}:
        raise Mistake(f"there is no data class {wanted.ceiling[:80]!r}", code="body", hint=", ".join(facts.classes.names))
    tools = {
        name: digest
        for name, digest in parent.tools.items()
        if any(grant.id == name or (grant.name.endswith("*") and name.startswith(grant.id[:-1])) for grant in grants)
    }
    sums = {one.name: wanted.sums.get(one.name, Decimal()) for one in parent.budget.sums}
    opened = TaskOpened(
        type=parent.type,
        agent=facts.receiver.text,
        on_behalf_of=parent.on_behalf_of,
        on_behalf_proof=parent.on_behalf_proof,
        opened_by=parent.agent.text,
        objective=wanted.objective,
        inputs=dict(wanted.inputs),
        grants=[
            GrantLine(kind=one.kind.value, server=one.server, name=one.name, arguments=one.arguments, uses=one.uses, of=one.of)
            for one in grants
        ],
        tools=tools,
        ceiling=ceiling,
        budget_calls=wanted.calls,
        deadline=facts.deadline,
        rate_calls=wanted.rate_calls,
        rate_seconds=parent.budget.rate_seconds if wanted.rate_calls else 0,
        bytes_read=wanted.bytes_read,
        resources=wanted.resources,
        sums=[
            SumLine(name=one.name, tool=one.tool, argument=one.argument, maximum=f"{sums[one.name]:f}", counted=one.counted)
            for one in parent.budget.sums
        ],
        autonomy=dict(parent.autonomy),
        watched=parent.watched,
        manifest=dict(wanted.manifest),
        drift=dict(parent.drift_rules),
        ancestors=[parent.id, *parent.ancestors],
        chain=[parent.agent.text, *parent.chain],
        begun_by=parent.begun_by or parent.opened_by,
        origins={leaf.pointer[1:]: source_line(leaf.sources[0]) for leaf in inputs if leaf.sources},
        rank=parent.labels.rank,
        untrusted=parent.labels.untrusted,
        delegable=delegable_line(
            Delegable(to=terms.to, depth=terms.depth - 1, fan_out=terms.fan_out, lifetime=terms.lifetime, cycles=terms.cycles)
        ),
    )
    delegated = TaskDelegated(
        child=child,
        agent=facts.receiver.text,
        request=wanted.request,
        by=facts.by.text,
        lent=purse_line(lent),
        policies=list(answer.policies),
        ancestors=[AncestorLine(task=one.id, seq=one.seq) for one in facts.ancestors],
    )
    return delegated, opened


def _bound(parent: Task, wanted: Wanted) -> tuple[Grant, ...]:
    """The child's grant, each line bound to the first of the parent's that names all that it names, or to the one that is asked for."""
    found = []
    for line in wanted.lines:
        numbers = range(len(parent.grants)) if line.of is None else (line.of,)
        of = next((number for number in numbers if 0 <= number < len(parent.grants) and _covers(parent.grants[number], line)), None)
        if of is None:
            raise refusal("not_strict_subset", f"task {parent.id} was not given {line.kind} {line.id[:80]}")
        found.append(_grant(line, of))
    return tuple(found)


def _grant(line: WantedLine, of: int) -> Grant:
    arguments = rfc8785.dumps(line.arguments).decode() if line.arguments else ""
    return Grant(kind=line.kind, server=line.server, name=line.name, arguments=arguments, uses=line.uses, of=of)


def _covers(grant: Grant, line: WantedLine) -> bool:
    """Whether a line names all that another one names. ``*`` stands only at the end."""
    if grant.uses == 0 or "*" in line.name[:-1] or not line.name:
        return False
    if not line.name.endswith("*"):
        return grant.names(line.kind, line.server, line.name)
    same = (grant.kind, grant.server) == (line.kind, line.server)
    return same and grant.name.endswith("*") and line.name[:-1].startswith(grant.name[:-1])


def _lent(parent: Task, wanted: Wanted, grants: tuple[Grant, ...], now: datetime) -> Purse:
    """What is taken out of the parent's budgets. Raises Refusal where it has not got it, or where an amount must be said."""
    budget, lent = parent.budget, parent.lent
    uses: dict[int, int] = {}
    for grant in grants:
        granted = parent.grants[grant.of].uses
        if granted is not None and grant.uses is None:
            raise refusal("budget_short", f"{grant.id} is granted {granted} times: say how many uses of it the child gets")
        if grant.uses is not None:
            uses[grant.of] = uses.get(grant.of, 0) + grant.uses
    for line, count in uses.items():
        granted = parent.grants[line].uses
        left = None if granted is None else granted - parent.uses[line] - lent.uses.get(line, 0)
        _enough(f"uses of {parent.grants[line].id}", count, left)
    _enough("calls", wanted.calls, budget.calls - parent.calls - lent.calls)
    _share("bytes_read", wanted.bytes_read, budget.bytes_read, parent.bytes_read + lent.bytes_read)
    _share("resources", wanted.resources, budget.resources, len(parent.resources) + lent.resources)
    window = now - timedelta(seconds=budget.rate_seconds)
    _share("rate_calls", wanted.rate_calls, budget.rate_calls, lent.rate_calls + sum(moment > window for moment in parent.recent))
    if wanted.rate_calls and not budget.rate_calls:
        raise Mistake("this task has no rate of which the child could get a share", code="body")
    known = {one.name: one for one in budget.sums}
    for name in wanted.sums:
        if name not in known:
            raise Mistake(f"there is no sum {name[:80]!r}", code="body", hint=f"the task's sums: {', '.join(sorted(known)) or 'none'}")
    for name, one in known.items():
        spent = parent.sums.get(name, Decimal()) + lent.sums.get(name, Decimal())
        _enough(f"sum {name}", wanted.sums.get(name, Decimal()), one.maximum - spent)
    return Purse(
        calls=wanted.calls,
        uses=uses,
        sums=dict(wanted.sums),
        bytes_read=wanted.bytes_read,
        resources=wanted.resources,
        rate_calls=wanted.rate_calls,
    )


def _share(what: str, wanted: int, budget: int, spent: int) -> None:
    if budget and not wanted:
        raise refusal("budget_short", f"{what} is bounded: say how much of it the child gets")
    _enough(what, wanted, budget - spent if budget else None)


def _enough(what: str, wanted: int | Decimal, left: int | Decimal | None) -> None:
    if left is not None and wanted > left:
        raise refusal("budget_short", f"{what}: {wanted} asked for, {max(left, 0)} left")


def _json(value: Any) -> str:
    return rfc8785.dumps(value).decode()

"""Questions of AuthZEN about a call of a task: from its words to the task and the call, and a look that decides nothing.

Rules: the same thing said twice must be said alike; a doubt is a mistake of the asker or an unknown action, never a guess. A
search looks at what a decision would look at, and neither records a decision nor uses anything up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.errors import Mistake
from remit.logic.arguments import make_call
from remit.logic.authorize import authorize, strictest_autonomy
from remit.model.catalog import Kind
from remit.model.decision import Allow, Code, Deny
from remit.model.task_type import Autonomy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remit.logic.policy import Policies
    from remit.model.access import Entity
    from remit.model.call import Call
    from remit.model.catalog import PinnedTool, ToolFacts
    from remit.model.facts import Facts
    from remit.model.task import Task

Json = dict[str, Any]
TASK_BOUND = frozenset(kind.value for kind in Kind)
METHODS = {Kind.TOOL: "tools/call", Kind.RESOURCE: "resources/read", Kind.PROMPT: "prompts/get"}
_ACTIONS = {
    Kind.TOOL: frozenset({"tools/call", "call", "execute", "invoke"}),
    Kind.RESOURCE: frozenset({"resources/read", "read"}),
    Kind.PROMPT: frozenset({"prompts/get", "get"}),
}
_ARGUMENTS_WANTING = frozenset(
    {
        Code.ARGUMENTS_INVALID,
        Code.ARGUMENTS_OUTSIDE_GRANT,
        Code.AMOUNT_UNCLEAR,
        Code.ORIGIN_UNKNOWN,
        Code.ORIGIN_NOT_ADMITTED,
        Code.POLICY_ERROR,
    }
)


def named_task(context: Json) -> str:
    """The task a question names: ``task`` (an id, or an object with one) or ``mission.id``; "" where none. Raises Mistake."""
    names = set()
    for place in ("task", "mission"):
        value = context.get(place)
        value = value.get("id") if isinstance(value, dict) else value
        if value is not None:
            if not isinstance(value, str):
                raise Mistake(f"context.{place} must be an id, or an object with one", code="body")
            names.add(value)
    if len(names) > 1:
        raise Mistake("context.task and context.mission name different tasks", code="body")
    return names.pop() if names else ""


def named_agent(context: Json) -> str:
    """The agent that a question about a person names: ``agent`` (COAZ) or ``actor.client_id`` (mission); "" where none."""
    agent, actor = context.get("agent"), context.get("actor")
    found = agent.get("id") if isinstance(agent, dict) else agent
    if found is None and isinstance(actor, dict):
        found = actor.get("client_id")
    return found if isinstance(found, str) else ""


def is_call(kind: Kind, action: str) -> bool:
    """Whether the action is what this kind of thing is for."""
    return action in _ACTIONS[kind]


def named_call(resource: Entity, action_properties: Json, context: Json) -> Call:
    """The call a question speaks of. A name without a server is nobody's. Raises Mistake."""
    kind = Kind(resource.type)
    server = resource.properties.get("server", "")
    if not isinstance(server, str):
        raise Mistake("resource.properties.server must be a string", code="body")
    name = resource.id
    if not server and "/" in name:
        server, _, name = name.partition("/")
    arguments = named_arguments(resource, action_properties, context)
    if kind is Kind.RESOURCE:  # as the gateway words these calls: an approval of one is an approval of the other
        arguments = {"uri": name}
    elif kind is Kind.PROMPT:
        arguments = {"name": name, "arguments": arguments or {}}
    call = make_call(kind, server, name, arguments or {})
    sent = context.get("parameter_digest")
    if sent is not None and sent != call.digest:
        raise Mistake("context.parameter_digest is not the digest of the arguments", code="body")
    return call


def named_arguments(resource: Entity, action_properties: Json, context: Json) -> Json | None:
    """The arguments of the call: ``action.properties.arguments``, ``resource.properties.arguments`` or ``context.parameters``."""
    said = [
        place[key]
        for place, key in ((action_properties, "arguments"), (resource.properties, "arguments"), (context, "parameters"))
        if key in place
    ]
    if not all(isinstance(arguments, dict) for arguments in said):
        raise Mistake("the arguments of a call must be an object", code="body")
    if any(arguments != said[0] for arguments in said):
        raise Mistake("the arguments are given twice and differ", code="body")
    return said[0] if said else None


def granted(task: Task, kind: Kind, pinned: Mapping[str, PinnedTool]) -> Iterator[str]:
    """Ids of what the grant names, each once; of a resource or a prompt only what it names whole."""
    seen: set[str] = set()
    for grant in task.grants:
        if grant.kind is not kind:
            continue
        if kind is Kind.TOOL:
            names = [tool.id for tool in pinned.values() if grant.names(kind, tool.server, tool.name)]
        else:
            names = [] if grant.name.endswith("*") else [grant.id]
        for name in names:
            if name not in seen:
                seen.add(name)
                yield name


def could_call(facts: Facts, policies: Policies, *, arguments_known: bool) -> bool:
    """Whether the call would be allowed now. Without arguments: whether nothing but them could still refuse it."""
    decision = authorize(facts, policies)
    if isinstance(decision, Allow) or arguments_known or facts.tool is None:
        return isinstance(decision, Allow)
    if not isinstance(decision, Deny) or not {reason.code for reason in decision.reasons} <= _ARGUMENTS_WANTING:
        return False
    call = facts.call
    lines = [index for index, grant in enumerate(facts.task.grants) if grant.names(call.kind, call.server, call.name)]
    return any(_policy_may_permit(facts, facts.tool, policies, strictest_autonomy(facts, facts.tool, line)) for line in lines)


def _policy_may_permit(facts: Facts, tool: ToolFacts, policies: Policies, autonomy: Autonomy) -> bool:
    """An error means that a policy looks at arguments, which are not there."""
    if autonomy is Autonomy.ASKED:
        return False
    answer = policies.evaluate(facts, tool, f"task-type:{facts.task.type}" if autonomy is Autonomy.PREAPPROVED else None)
    return answer.permitted or bool(answer.error)

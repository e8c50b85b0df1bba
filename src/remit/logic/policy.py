"""The organisation's policy: Cedar policies, parsed once, sliced by action, resource and agent, evaluated strictly.

Rules
* A set is checked whole before it is used: bounds, syntax, unique ids, types against the generated schema. All or nothing.
* Any error while a policy is evaluated denies. Cedar skips a policy that errors; a forbid would then be lost.
* A slice holds exactly the policies whose scope can match the call, so a decision costs the same however many there are.
* A slice is shown of the context only what one of its policies reads (``logic/policy_context.py``).
* Evaluation is a pure function of a slice and a context, so its answers are remembered by the whole context.
* Left out: grants and budgets (``logic/grants.py``), what to do with the answer (``logic/authorize.py``).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cedarpy
import msgspec

from remit.errors import Broken, Mistake, Place
from remit.logic.arguments import digest_bytes, digest_json
from remit.logic.cedar_schema import ENTITY_TYPES, action_id, cedar_schema
from remit.logic.cedar_text import Statement, statements
from remit.logic.policy_context import Shown, context_of, reads
from remit.model.catalog import Effect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from remit.model.catalog import PinnedTool, ToolFacts
    from remit.model.facts import Facts

Json = dict[str, Any]
_SLICES_MAX = 4_096
_ANSWERS_MAX = 1_024  # remembered for each slice
_REMEMBERED_BYTES_MAX = 4_096  # of a context; larger ones are evaluated each time


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policies say. ``policies``: ids of those that determined it. ``error``: why it cannot count ("" : it can)."""

    permitted: bool
    policies: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, ready to be put into slices: its JSON form, the scope's constraints, and what of the context it reads."""

    id: str
    place: Place
    body: Json
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Slice:
    request: Json  # principal, action and resource
    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    entities: cedarpy.Entities
    shown: Shown
    answers: OrderedDict[bytes, Answer]


class Policies:
    """An active policy set. Immutable but for its memory of slices, which changes no answer."""

    def __init__(self, files: Mapping[str, str], tools: Iterable[tuple[ToolFacts, PinnedTool]]) -> None:
        """Check and index. ``files``: name → Cedar text. Raises Mistake with file and line."""
        known = tuple(tools)
        self._full = cedar_schema(known)
        self._schema = cedarpy.Schema.from_json_str(json.dumps(self._full))
        self._by_action: dict[str, list[Policy]] = {}
        self._slices: OrderedDict[tuple[str, ...], _Slice] = OrderedDict()
        self.digest = digest_json(dict(sorted(files.items())))
        self.schema_digest = digest_bytes(json.dumps(self._full, sort_keys=True).encode())
        self.ids: tuple[str, ...] = ()
        self._parts: tuple[Policy, ...] = ()
        self._load(files)

    @property
    def schema_json(self) -> str:
        """The generated schema in Cedar's JSON form."""
        return json.dumps(self._full, indent=2, sort_keys=True)

    def evaluate(self, facts: Facts, tool: ToolFacts, approved_by: str | None, *, preauthorized_seconds: int = 0) -> Answer:
        """Evaluate the slice for this call. ``approved_by``: ``None`` without an approval. ``preauthorized_seconds``: asked about its
        class, for so long (0: about this call). Never raises for bad facts.
        """
        request_slice = self._slice(facts, tool)
        try:
            context = context_of(facts, tool, approved_by, request_slice.shown)
            if preauthorized_seconds and "preauthorized" in request_slice.shown.read:
                context["preauthorized"] = {"seconds": preauthorized_seconds}
        except ValueError as error:
            return Answer(permitted=False, policies=(), error=f"an argument cannot be shown to the policies: {error}")
        key = msgspec.json.encode(context)
        answer = request_slice.answers.get(key)
        if answer is None:
            answer = _evaluated(request_slice, key.decode())
            if len(key) <= _REMEMBERED_BYTES_MAX:
                request_slice.answers[key] = answer
                if len(request_slice.answers) > _ANSWERS_MAX:
                    request_slice.answers.popitem(last=False)
        return answer

    @property
    def parts(self) -> tuple[Policy, ...]:
        """Each policy once, in the order of files and lines."""
        return self._parts

    def looks_at_arguments(self, facts: Facts, tool: ToolFacts) -> bool:
        """Whether a policy that can match this call looks at its arguments, or at where they come from."""
        return self._slice(facts, tool).shown.arguments

    def of_action(self, action: str) -> tuple[cedarpy.PolicySet, cedarpy.Schema]:
        """All policies that can match an action, and the schema that shows all: for questions that are rare."""
        static = {policy.id: policy.body for name in ("", action) for policy in self._by_action.get(name, ())}
        text = json.dumps({"staticPolicies": static, "templates": {}, "templateLinks": []})
        return cedarpy.PolicySet.from_json_str(text), self._schema

    def without(self, policy: str) -> Policies:
        """The same set but for one policy."""
        fewer = copy(self)
        fewer._by_action = {action: [other for other in others if other.id != policy] for action, others in self._by_action.items()}
        fewer._slices = OrderedDict()
        fewer._parts = tuple(part for part in self._parts if part.id != policy)
        fewer.ids = tuple(part.id for part in fewer._parts)
        return fewer

    def _load(self, files: Mapping[str, str]) -> None:
        places: dict[str, Policy] = {}
        for file in sorted(files):
            found = statements(file, files[file])
            for statement in found:
                policy = _parse(statement)
                if policy.id in places:
                    raise Mistake(
                        f"the id {policy.id!r} is taken by {places[policy.id].place}",
                        code="policy_id",
                        hint="give each policy an @id of its own",
                        place=statement.place,
                    )
                places[policy.id] = policy
                for action in _actions(policy.body["action"]):
                    self._by_action.setdefault(action, []).append(policy)
            self._validate(found)
        self.ids, self._parts = tuple(places), tuple(places.values())

    def _validate(self, found: Sequence[Statement]) -> None:
        """A file is checked at once; where it does not fit, one statement after the other, to say which one."""
        if self._misfits("\n".join(statement.text for statement in found)) is None:
            return
        for statement in found:
            misfits = self._misfits(statement.text)
            if misfits is not None:
                raise Mistake(
                    f"the policy does not fit the schema: {misfits[:600]}",
                    code="policy_schema",
                    hint="`remit policy check --schema` prints what policies may name; guard what is optional with `has`",
                    place=statement.place,
                )
        raise Broken("a policy file is refused whole, but none of its policies")

    def _misfits(self, text: str) -> str | None:
        checked = cedarpy.validate_policies(text, self._schema)
        return None if checked.validation_passed else "; ".join(error.error for error in checked.errors)

    def _slice(self, facts: Facts, tool: ToolFacts) -> _Slice:
        call = facts.call
        action = action_id(call.kind, call.server, call.name)
        key = (call.kind, action, call.id, facts.agent.text, tool.effect, tool.data_class, tool.trust, tool.sends)
        found = self._slices.get(key)
        if found is None:
            found = self._cut(facts, tool, action)
            self._slices[key] = found
            if len(self._slices) > _SLICES_MAX:
                self._slices.popitem(last=False)
        return found

    def _cut(self, facts: Facts, tool: ToolFacts, action: str) -> _Slice:
        call = facts.call
        candidates = [
            policy
            for name in ("", action, tool.effect.value)
            for policy in self._by_action.get(name, ())
            if _resource_matches(policy.body["resource"], tool) and _principal_matches(policy.body["principal"], facts)
        ]
        static = {policy.id: policy.body for policy in candidates}
        text = json.dumps({"staticPolicies": static, "templates": {}, "templateLinks": []})
        read = frozenset[str]().union(*(policy.reads for policy in candidates))
        schema = cedarpy.Schema.from_json_str(json.dumps(self._narrowed(action, read)))
        entities = cedarpy.Entities.from_json_str(json.dumps(_entities(facts, tool)), schema)
        return _Slice(
            request={
                "principal": {"type": "Agent", "id": facts.agent.text},
                "action": {"type": "Action", "id": action},
                "resource": {"type": ENTITY_TYPES[call.kind], "id": call.id},
            },
            policies=cedarpy.PolicySet.from_json_str(text),
            schema=schema,
            entities=entities,
            shown=Shown(self._full[""]["actions"].get(action), read),
            answers=OrderedDict(),
        )

    def _narrowed(self, action: str, read: frozenset[str]) -> Json:
        """The schema of one action, of its context what is read: what nobody reads is not shown, and cannot fail."""
        full = self._full[""]
        actions: Json = {effect.value: {} for effect in Effect}
        if action in full["actions"]:
            own = deepcopy(full["actions"][action])
            attributes = own["appliesTo"]["context"]["attributes"]
            own["appliesTo"]["context"]["attributes"] = {name: kind for name, kind in attributes.items() if name in read}
            actions[action] = own
        return {"": {**full, "actions": actions}}


def _evaluated(request_slice: _Slice, context: str) -> Answer:
    """Ask Cedar. An error of any policy is no answer. ``context``: as JSON."""
    result = cedarpy.is_authorized(
        {**request_slice.request, "context": context},
        request_slice.policies,
        request_slice.entities,
        request_slice.schema,
    )
    diagnostics, decision = result.diagnostics, result.decision
    reasons = tuple(sorted(diagnostics.reasons))
    if diagnostics.errors or decision is cedarpy.Decision.NoDecision:
        return Answer(permitted=False, policies=reasons, error="; ".join(diagnostics.errors)[:300] or "no decision")
    return Answer(permitted=decision is cedarpy.Decision.Allow, policies=reasons)


def static_values(candidates: list[Policy]) -> list[Policy]:
    """The candidates once each (a policy may name an action and its group)."""
    return list({policy.id: policy for policy in candidates}.values())


def _parse(statement: Statement) -> Policy:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except (ValueError, RecursionError) as error:
        raise Mistake(f"not a Cedar policy: {error}", code="policy_syntax", place=statement.place) from None
    if parsed["templates"] or len(parsed["staticPolicies"]) != 1:
        raise Mistake("templates (?principal, ?resource) are not linked here", code="policy_template", place=statement.place)
    (body,) = parsed["staticPolicies"].values()
    name = body.get("annotations", {}).get("id") or f"{statement.file}#{statement.number}"
    return Policy(name, statement.place, body, reads(body["conditions"]))


def _actions(constraint: Json) -> tuple[str, ...]:
    """Action ids that the scope names; "" stands for all."""
    if constraint["op"] == "All":
        return ("",)
    entities = constraint.get("entities") or [constraint["entity"]]
    return tuple(dict.fromkeys(entity["id"] for entity in entities))


def _resource_matches(constraint: Json, tool: ToolFacts) -> bool:
    me, server = (ENTITY_TYPES[tool.kind], tool.id), ("Server", tool.server)
    if constraint["op"] == "All":
        return True
    if constraint["op"] == "is":
        inside = constraint.get("in")
        return constraint["entity_type"] == me[0] and (inside is None or _uid(inside["entity"]) in (me, server))
    if constraint["op"] == "==":
        return _uid(constraint["entity"]) == me
    return _uid(constraint["entity"]) in (me, server)


def _principal_matches(constraint: Json, facts: Facts) -> bool:
    me = ("Agent", facts.agent.text)
    if constraint["op"] in {"==", "in"}:
        return _uid(constraint["entity"]) == me
    if constraint["op"] == "is":
        inside = constraint.get("in")
        return constraint["entity_type"] == "Agent" and (inside is None or _uid(inside["entity"]) == me)
    return True


def _uid(entity: Json) -> tuple[str, str]:
    return entity["type"], entity["id"]


def _entities(facts: Facts, tool: ToolFacts) -> list[Json]:
    server = {"type": "Server", "id": tool.server}
    attributes = {
        "effect": tool.effect.value,
        "data_class": facts.classes.name(facts.classes.rank(tool.data_class)),
        "trust": tool.trust.value,
        "sends": tool.sends.value,
        "name": tool.name,
    }
    return [
        {"uid": server, "attrs": {}, "parents": []},
        {"uid": {"type": "Agent", "id": facts.agent.text}, "attrs": {"trust_domain": facts.agent.trust_domain}, "parents": []},
        {"uid": {"type": ENTITY_TYPES[tool.kind], "id": tool.id}, "attrs": attributes, "parents": [server]},
    ]

"""An application's own resources: Cedar policies and known entities for questions that have no task.

Rules
* Default deny; an error of any policy that speaks of the action denies. An action that is not declared is unknown.
* The properties of a question are laid over what is known of the entity: the enforcement point is trusted with them, and may
  know more than the entities file. What Cedar cannot carry is left out where no policy names it, and denies where one does.
* In Cedar an entity's type is AuthZEN's, with ``_`` for what no Cedar name holds. The context is ``action`` (its properties),
  ``request`` (the question's context) and ``now``, our clock.
* A property named ``__…`` inside another would be an instruction to the engine, so it is unusable.
* Left out: entities as values of properties, groups of actions, links of templates.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import cedarpy

from remit.errors import Mistake, Place
from remit.logic.cedar_schema import cedar_value
from remit.logic.cedar_text import NESTING_MAX, Statement, statements
from remit.model.access import ApplicationFiles, Entity, Question, Verdict
from remit.model.decision import Code, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

Json = dict[str, Any]
Key = tuple[str, str]
_RESERVED = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1
_DECIMAL = {"type": "Extension", "name": "decimal"}
_CARRIED_DEPTH_MAX = 32


class Application:
    """One application, checked, ready to answer. Immutable."""

    def __init__(self, files: ApplicationFiles) -> None:
        """Check and index. Raises Mistake with file and line."""
        self.name, self.digest, self.explain = files.name, files.digest, files.explain
        self.subjects, self.resources, self.actions = files.subjects, files.resources, files.actions
        self._file = f"access/{files.name}"
        self._types = self._cedar_types(files)
        self._known = self._index(files.entities)
        self._named: set[str] = set()
        self._ids: dict[str, frozenset[str]] = {}
        self._policies = self._load(files)

    def answers(self, subject_type: str, resource_type: str) -> bool:
        """Whether questions of these types are this application's."""
        return subject_type in self.subjects and resource_type in self.resources

    def ids(self, action: str) -> frozenset[str]:
        """Policies that speak of an action."""
        return self._ids.get(action, frozenset())

    def knows(self, entity: Entity) -> bool:
        """Whether the entities file has it."""
        return entity.key in self._known

    def known(self, kind: str, properties: Json) -> tuple[Entity, ...]:
        """Known entities of a type, in the file's order; ``properties`` that are given must be theirs."""
        wanted = properties.items()
        return tuple(
            Entity(type=kind, id=entity.id)
            for entity in self._known.values()
            if entity.type == kind and all(name in entity.properties and entity.properties[name] == value for name, value in wanted)
        )

    def evaluate(self, question: Question, now: datetime) -> Verdict:
        """Allow or deny, with reasons. Never raises for a bad question."""
        policies = self._policies.get(question.action)
        if policies is None:
            return _no(Code.ACTION_UNKNOWN, f"nobody has declared the action {question.action[:80]!r} of {self.name}")
        try:
            entities = self._entities(question.subject, question.resource)
            context = {
                "action": self._carried(question.action_properties),
                "request": self._carried(question.context),
                "now": {"__extn": {"fn": "datetime", "arg": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"}},
            }
        except ValueError as error:
            return _no(Code.PROPERTY_UNUSABLE, f"a property cannot be shown to the policies: {error}")
        request = {
            "principal": self._uid(question.subject.key),
            "action": {"type": "Action", "id": question.action},
            "resource": self._uid(question.resource.key),
            "context": context,
        }
        return _verdict(cedarpy.is_authorized(request, policies, entities))

    def _entities(self, subject: Entity, resource: Entity) -> list[Json]:
        sent = {subject.key: subject.properties}
        if resource.key in sent:
            both = sent[resource.key]
            if any(name in both and both[name] != value for name, value in resource.properties.items()):
                raise ValueError("the subject is the resource, and is described in two ways")
            sent[resource.key] = {**both, **resource.properties}
        else:
            sent[resource.key] = resource.properties
        found: dict[Key, Json] = {}
        for key in (*sent, *(ancestor for one in sent for ancestor in self._ancestors(one))):
            if key not in found:
                known = self._known.get(key)
                stored, within = (known.properties, known.within) if known else ({}, ())
                attributes = self._carried({**stored, **sent.get(key, {})})
                found[key] = {"uid": self._uid(key), "attrs": attributes, "parents": [self._uid(parent) for parent in within]}
        return list(found.values())

    def _ancestors(self, key: Key) -> Iterator[Key]:
        """Groups that it is in, and theirs. That there are no rings was checked."""
        known = self._known.get(key)
        for parent in known.within if known else ():
            yield parent
            yield from self._ancestors(parent)

    def _carried(self, properties: Json) -> Json:
        carried: Json = {}
        for name, value in properties.items():
            if value is None:
                continue
            try:
                carried[name] = _cedar(value, _CARRIED_DEPTH_MAX)
            except ValueError as error:
                if name in self._named:
                    raise ValueError(f"{name[:80]}: {error}") from None
        return carried

    def _uid(self, key: Key) -> Json:
        kind, name = key
        return {"type": self._types.get(kind) or _cedar_type(kind), "id": name}

    def _cedar_types(self, files: ApplicationFiles) -> dict[str, str]:
        kinds = dict.fromkeys((*files.subjects, *files.resources))
        for entity in files.entities:
            kinds |= dict.fromkeys((entity.type, *(kind for kind, _ in entity.within)))
        types = {kind: _cedar_type(kind) for kind in kinds}
        for kind, name in types.items():
            twin = next((other for other in types if other != kind and types[other] == name), None)
            if name in _RESERVED or name == "Action" or twin:
                what = f"the types {kind!r} and {twin!r} are both {name} in Cedar" if twin else f"{kind!r} cannot be a type in Cedar"
                raise self._mistake(what, "name it otherwise")
        return types

    def _index(self, entities: tuple[Entity, ...]) -> dict[Key, Entity]:
        known: dict[Key, Entity] = {}
        for entity in entities:
            if entity.key in known:
                raise self._mistake(f"{entity.type} {entity.id!r} stands twice", "one entry an entity", "entities.json")
            known[entity.key] = entity
        try:
            for entity in entities:
                for value in entity.properties.values():
                    _cedar(value, _CARRIED_DEPTH_MAX)
            listed = [{"uid": self._uid(one.key), "attrs": {}, "parents": [self._uid(up) for up in one.within]} for one in entities]
            cedarpy.Entities.from_json_str(json.dumps(listed))  # finds rings
        except ValueError as error:
            raise self._mistake(f"not entities that policies can look at: {str(error)[:300]}", "", "entities.json") from None
        return known

    def _load(self, files: ApplicationFiles) -> dict[str, cedarpy.PolicySet]:
        """The policies of each action, as handles."""
        by_action: dict[str, Json] = {action: {} for action in files.actions}
        places: dict[str, Place] = {}
        schema = self._schema(files.schema)
        for file in sorted(files.policies):
            for statement in statements(file, files.policies[file]):
                name, body = _parsed(statement, schema)
                if name in places:
                    hint = "give each policy an @id of its own"
                    raise Mistake(f"the id {name!r} is taken by {places[name]}", code="policy_id", hint=hint, place=statement.place)
                places[name] = statement.place
                self._named |= set(_texts(body["conditions"]))
                for action in _actions(body["action"]) or files.actions:
                    if action not in by_action:
                        hint = f"actions of remit.toml has: {', '.join(files.actions)}"
                        raise Mistake(f"there is no action {action!r}", code="policy_schema", hint=hint, place=statement.place)
                    by_action[action][name] = body
        if not places:
            raise self._mistake("an application without a policy permits nothing", f"write {self._file}/main.cedar")
        self._ids = {action: frozenset(set_) for action, set_ in by_action.items()}
        empty: Json = {"templates": {}, "templateLinks": []}
        return {
            action: cedarpy.PolicySet.from_json_str(json.dumps({"staticPolicies": set_, **empty})) for action, set_ in by_action.items()
        }

    def _schema(self, text: str) -> cedarpy.Schema | None:
        depth = deepest = 0
        for character in text:
            depth += (character in "([{<") - (character in ")]}>")
            deepest = max(deepest, depth)
        if deepest > NESTING_MAX:  # the engine's parser would die of it, with the process
            raise self._mistake(f"brackets nested deeper than {NESTING_MAX}", "", "schema.cedarschema")
        try:
            return cedarpy.Schema.from_str(text) if text else None
        except ValueError as error:
            raise self._mistake(f"not a Cedar schema: {str(error)[:300]}", "", "schema.cedarschema") from None

    def _mistake(self, what: str, hint: str, file: str = "") -> Mistake:
        return Mistake(what, code="configuration", hint=hint, place=Place(file=f"{self._file}/{file}" if file else self._file))


def _verdict(result: cedarpy.AuthzResult) -> Verdict:
    """Cedar skips a policy that errors; we do not."""
    diagnostics = result.diagnostics
    policies = tuple(sorted(diagnostics.reasons))
    if diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
        return _no(Code.POLICY_ERROR, "a policy could not be evaluated, so the answer is no", policies)
    if result.decision is cedarpy.Decision.Allow:
        return Verdict(allowed=True, reasons=(Reason(Code.PERMITTED, "policy permits it"),), policies=policies)
    if policies:
        return _no(Code.POLICY_FORBIDS, f"policy forbids it ({', '.join(policies)})", policies)
    return _no(Code.NO_POLICY_PERMITS, "no policy of the organisation permits it")


def _no(code: Code, text: str, policies: tuple[str, ...] = ()) -> Verdict:
    return Verdict(allowed=False, reasons=(Reason(code, text),), policies=policies)


def _cedar(value: object, depth: int) -> object:
    """A JSON value as Cedar takes it. Raises ValueError where it cannot be carried."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, float) and value.is_integer():  # 5.0 and 5 are one number (RFC 8785)
        value = int(value)
    if isinstance(value, int):
        if not _LONG_MIN <= value <= _LONG_MAX:
            raise ValueError("a number beyond 64 bits")
        return value
    if isinstance(value, float):
        return cedar_value(value, _DECIMAL)
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, list):
        return [_cedar(member, depth - 1) for member in value]
    if isinstance(value, dict):
        if any(name.startswith("__") for name in value):
            raise ValueError("a name that begins with __")
        return {name: _cedar(member, depth - 1) for name, member in value.items() if member is not None}
    raise ValueError("null in a list")


def _cedar_type(kind: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", kind)
    return f"_{name}" if name[:1].isdigit() else name


def _parsed(statement: Statement, schema: cedarpy.Schema | None) -> tuple[str, Json]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except (ValueError, RecursionError) as error:
        raise Mistake(f"not a Cedar policy: {error}", code="policy_syntax", place=statement.place) from None
    if parsed["templates"] or len(parsed["staticPolicies"]) != 1:
        raise Mistake("templates (?principal, ?resource) are not linked here", code="policy_template", place=statement.place)
    if schema is not None:
        checked = cedarpy.validate_policies(statement.text, schema)
        if not checked.validation_passed:
            misfits = "; ".join(error.error for error in checked.errors)[:600]
            raise Mistake(f"the policy does not fit the schema: {misfits}", code="policy_schema", place=statement.place)
    (body,) = parsed["staticPolicies"].values()
    return body.get("annotations", {}).get("id") or f"{statement.file}#{statement.number}", body


def _actions(constraint: Json) -> tuple[str, ...]:
    """Actions that the scope names; none: all of them."""
    if constraint["op"] == "All":
        return ()
    entities = constraint.get("entities", []) if "entities" in constraint else [constraint["entity"]]
    return tuple(dict.fromkeys(entity["id"] for entity in entities))


def _texts(conditions: object) -> Iterator[str]:
    """Every text of a policy's conditions that may name an attribute; operators do not. Iterative: a chain of terms nests deep."""
    waiting = [conditions]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            waiting += [value for key, value in node.items() if key not in {"kind", "Var"}]
            waiting += list(node.get("Record", ()))
        elif isinstance(node, list):
            waiting += node

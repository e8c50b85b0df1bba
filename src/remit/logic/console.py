"""Who may do what in the console: roles from what was proved of a person, and Cedar's answer for each page and button. Pure.

Model: ``principal is Person in Role``, ``action`` of ``model/console.py``, ``resource is Task`` (attributes ``type``, ``agent``,
``on_behalf_of``) for what concerns one task, else ``Console::"remit"``. A person has ``name`` and ``via`` (``link``, ``oidc``).

Rules: empty means nobody. An error of any policy denies: Cedar would skip it. A set is checked whole, against the schema, before it is
used. Left out: what an approver may answer (``logic/consent.py``), which the answer itself is asked again.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import cedarpy

from remit.errors import Mistake
from remit.logic.cedar_text import statements
from remit.model.console import Action, Role, Via

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.logic.cedar_text import Statement
    from remit.model.console import ConsoleRules, Visitor
    from remit.model.task import Task

Json = dict[str, Any]
CLAIM = "="  # in a role's list: what the provider says of a person, not their name
_LOCAL = "local:"
DEFAULT_POLICY = """\
@id("console-look")
permit (principal is Person, action == Action::"look", resource) when {
  principal in Role::"viewer" || principal in Role::"approver" || principal in Role::"operator" || principal in Role::"auditor"
};
@id("console-answer")
permit (principal in Role::"approver", action == Action::"answer", resource);
@id("console-operate")
permit (principal in Role::"operator", action in [Action::"suspend", Action::"resume", Action::"revoke"], resource);
@id("console-audit")
permit (principal in Role::"auditor", action == Action::"audit", resource);
@id("console-rehearse")
permit (principal in Role::"operator", action == Action::"rehearse", resource);
@id("console-rehearse-auditor")
permit (principal in Role::"auditor", action == Action::"rehearse", resource);
"""
_TEXT: Json = {"type": "String"}
_SCHEMA: Json = {
    "": {
        "commonTypes": {},
        "entityTypes": {
            "Role": {},
            "Person": {"memberOfTypes": ["Role"], "shape": {"type": "Record", "attributes": {"name": _TEXT, "via": _TEXT}}},
            "Console": {},
            "Task": {"shape": {"type": "Record", "attributes": {"type": _TEXT, "agent": _TEXT, "on_behalf_of": _TEXT}}},
        },
        "actions": {
            action.value: {
                "appliesTo": {
                    "principalTypes": ["Person"],
                    "resourceTypes": ["Console", "Task"],
                    "context": {"type": "Record", "attributes": {}},
                }
            }
            for action in Action
        },
    }
}


def roles_of(visitor: Visitor, rules: ConsoleRules) -> frozenset[Role]:
    """The roles that the configuration gives a person.

    A provider's word never makes a ``local:`` name, and a name never makes a claim.
    """
    return frozenset(role for role, entries in rules.roles.items() if any(_fits(visitor, entry) for entry in entries))


def claims_of_interest(rules: ConsoleRules) -> frozenset[str]:
    """Names of the claims that roles speak of."""
    return frozenset(entry.partition(CLAIM)[0] for entries in rules.roles.values() for entry in entries if CLAIM in entry)


def held(claims: Mapping[str, Any], names: frozenset[str]) -> frozenset[str]:
    """What a provider says of a person, as ``CLAIM=VALUE``: texts, and lists of texts."""
    found = set()
    for name in names:
        value = claims.get(name)
        values = value if isinstance(value, list) else [value]
        found |= {f"{name}{CLAIM}{one}" for one in values if isinstance(one, str)}
    return frozenset(found)


class ConsolePolicy:
    """A checked set of the console's policies. Immutable."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """``files``: Cedar texts by name; none: the default. Raises Mistake with file and line."""
        self._schema = cedarpy.Schema.from_json_str(json.dumps(_SCHEMA))
        parsed: dict[str, Json] = {}
        for file, text in sorted((files or {"default.cedar": DEFAULT_POLICY}).items()):
            for statement in statements(file, text):
                name, body = _checked(statement, self._schema)
                if name in parsed:
                    raise Mistake(f"the id {name!r} is taken", code="policy_id", hint="an @id of its own for each", place=statement.place)
                parsed[name] = body
        text = json.dumps({"staticPolicies": parsed, "templates": {}, "templateLinks": []})
        self._policies = cedarpy.PolicySet.from_json_str(text)

    def permits(self, visitor: Visitor, roles: frozenset[Role], action: Action, task: Task | None = None) -> bool:
        """Whether a person may do that, to a task or to the console. In doubt: no."""
        resource = {"type": "Task", "id": task.id} if task else {"type": "Console", "id": "remit"}
        person = {"type": "Person", "id": visitor.name}
        known: list[Json] = [{"uid": {"type": "Role", "id": role.value}, "attrs": {}, "parents": []} for role in Role]
        known.append(
            {
                "uid": person,
                "attrs": {"name": visitor.name, "via": visitor.via.value},
                "parents": [{"type": "Role", "id": role.value} for role in sorted(roles)],
            }
        )
        shown = {"type": task.type, "agent": task.agent.text, "on_behalf_of": task.on_behalf_of} if task else {}
        known.append({"uid": resource, "attrs": shown, "parents": []})
        request = {"principal": person, "action": {"type": "Action", "id": action.value}, "resource": resource, "context": {}}
        entities = cedarpy.Entities.from_json_str(json.dumps(known), self._schema)
        answer = cedarpy.is_authorized(request, self._policies, entities, self._schema)
        return answer.decision is cedarpy.Decision.Allow and not answer.diagnostics.errors


def _fits(visitor: Visitor, entry: str) -> bool:
    if CLAIM in entry:
        return visitor.via is Via.OIDC and entry in visitor.holds
    if visitor.name.startswith(_LOCAL) is not (visitor.via is Via.LINK):
        return False
    if visitor.via is Via.LINK and not entry.startswith(_LOCAL):
        return False
    return fnmatchcase(visitor.name, entry)


def _checked(statement: Statement, schema: cedarpy.Schema) -> tuple[str, Json]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except (ValueError, RecursionError) as error:
        raise Mistake(f"not a Cedar policy: {str(error)[:300]}", code="policy_syntax", place=statement.place) from None
    if parsed["templates"] or len(parsed["staticPolicies"]) != 1:
        raise Mistake("templates (?principal, ?resource) are not linked here", code="policy_template", place=statement.place)
    checked = cedarpy.validate_policies(statement.text, schema)
    if not checked.validation_passed:
        misfits = "; ".join(error.error for error in checked.errors)[:600]
        hint = "principal is Person in Role; actions: " + ", ".join(Action) + "; resource is Task or Console"
        raise Mistake(f"the policy does not fit the console: {misfits}", code="policy_schema", hint=hint, place=statement.place)
    (body,) = parsed["staticPolicies"].values()
    return str(body.get("annotations", {}).get("id") or f"{statement.file}#{statement.number}"), body

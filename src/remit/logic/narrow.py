"""What an agent gets to see: the tools of its grant, with their schemas narrowed, and nothing else.

Rules: the model sees its own limits and does not have to run into them. A list is shown from what the server declares
now; a tool whose declaration is not the pinned one is left out, and so are a title and an output schema that nobody accepted. Narrowing is
for showing: deciding is ``grants.py``'s.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_json
from remit.logic.grants import required_by
from remit.model.catalog import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remit.model.catalog import PinnedTool
    from remit.model.grant import Grant
    from remit.model.task import Task

Json = dict[str, Any]
_DECLARED = ("name", "description", "inputSchema", "annotations")
SHOWN = ("title", "outputSchema")  # texts of a tool of which its digest does not tell


def tool_digest(tool: Json) -> str:
    """Digest of what a server declares of a tool: name, description, input schema, annotations. Raises Mistake."""
    return digest_json({key: tool[key] for key in _DECLARED if tool.get(key)})


def narrowed_tools(
    task: Task, server: str, listed: Iterable[Json], above: tuple[Task, ...] = (), pinned: Mapping[str, PinnedTool] | None = None
) -> list[Json]:
    """The listed tools that this task may call, each with its input schema narrowed to the grant, and to those of the tasks above.

    ``pinned``: tools as they were accepted, by ``server/name``.
    """
    shown = []
    for tool in listed:
        name = tool.get("name")
        if not isinstance(name, str):
            continue
        lines = [grant for grant in task.grants if grant.uses != 0 and grant.names(Kind.TOOL, server, name)]
        if lines and task.tools.get(f"{server}/{name}") == tool_digest(tool):
            schema = narrowed_schema(tool.get("inputSchema") or {}, lines)
            for ancestor in above:
                lines = [ancestor.grants[of] for of in sorted({line.of for line in lines}) if 0 <= of < len(ancestor.grants)]
                schema = narrowed_schema(schema, lines)
            accepted = pinned.get(f"{server}/{name}") if pinned else None
            foreign = {member for member in SHOWN if member in tool and (accepted is None or accepted.shown.get(member) != tool[member])}
            shown.append({**{member: tool[member] for member in tool if member not in foreign}, "inputSchema": schema})
    return shown


def narrowed_schema(schema: Json, lines: list[Grant]) -> Json:
    """A tool's schema as one line of the grant narrows it; several lines become alternatives."""
    texts = [line.arguments for line in lines]
    if not all(texts):
        return schema  # one line allows whatever the tool takes
    narrowings = [_told(json.loads(text)) for text in texts]
    if len(narrowings) == 1:
        return _merged(schema, narrowings[0])
    alternatives = [{**narrowing, "required": required_by(narrowing)} for narrowing in narrowings]
    return {**schema, "anyOf": alternatives} if "anyOf" not in schema else {"type": "object", "allOf": [schema, {"anyOf": alternatives}]}


def visible(task: Task, kind: Kind, server: str, name: str) -> bool:
    """Whether a resource (by URI) or a prompt (by name) is in the task's grant."""
    return any(grant.uses != 0 and grant.names(kind, server, name) for grant in task.grants)


def visible_template(task: Task, server: str, template: str) -> bool:
    """Whether some URI of a resource template could be in the task's grant: their fixed beginnings agree."""
    fixed = template.partition("{")[0]
    for grant in task.grants:
        if grant.kind is Kind.RESOURCE and grant.server == server:
            granted = grant.name.removesuffix("*")
            if fixed.startswith(granted) or granted.startswith(fixed):
                return True
    return False


def _told(narrowing: Any) -> Any:
    """A narrowing schema in words that every client knows: where a value must come from is said in its description."""
    if isinstance(narrowing, list):
        return [_told(member) for member in narrowing]
    if not isinstance(narrowing, dict):
        return narrowing
    told = {word: _told(member) for word, member in narrowing.items() if word != "origin" or not isinstance(member, list)}
    if len(told) != len(narrowing):
        told["description"] = f"{told.get('description', '')} Must come from: {', '.join(narrowing['origin'])}.".strip()
    return told


def _merged(schema: Json, narrowing: Json) -> Json:
    properties = dict(schema.get("properties", {}))
    for key, narrower in narrowing.get("properties", {}).items():
        own = properties.get(key)
        if not isinstance(own, dict) or not isinstance(narrower, dict):
            properties[key] = narrower
        elif any(word in own and own[word] != narrower[word] for word in narrower):
            properties[key] = {"allOf": [own, narrower]}
        else:
            properties[key] = {**own, **narrower}
    merged = {**schema, "properties": properties}
    merged["required"] = sorted({*schema.get("required", []), *required_by(narrowing)})
    rest = {word: narrowing[word] for word in narrowing if word not in {"properties", "required", "type"}}
    return {**merged, "allOf": [*merged.get("allOf", []), rest]} if rest else merged

"""What policies are shown of a call: the context of the request, as far as one of the policies asked reads it. Pure.

Rules: what no policy reads is not there, so it cannot fail, costs nothing, and the answer is remembered for all that differ in
nothing else. A policy that uses the context in any other way than to name an attribute of it reads all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.logic.cedar_schema import cedar_value
from remit.logic.manifest import drift_words
from remit.logic.tracing import by_argument, is_known, names_of
from remit.model.origin import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.model.catalog import ToolFacts
    from remit.model.facts import Facts
    from remit.model.labels import DataClasses
    from remit.model.origin import Traced
    from remit.model.task import Task

Json = dict[str, Any]
EVERYTHING = frozenset(
    {
        "task",
        "labels",
        "data_class",
        "untrusted",
        "sink",
        "signals",
        "drift",
        "now",
        "approval",
        "arguments",
        "origins",
        "selectors",
        "references",
        "preauthorized",
    }
)
_ORIGINS = frozenset({"origins", "selectors", "references"})
_CONTEXT: Json = {"Var": "context"}
_NOBODY: Json = {"known": False, "trusted": False, "sources": [UNKNOWN]}  # who says no one, or null, leaves it to the server


class Shown:
    """What one slice of policies is shown."""

    __slots__ = ("_argument_type", "_declared", "arguments", "read")

    def __init__(self, action: Json | None, read: frozenset[str]) -> None:
        """``action``: of the schema; ``None`` where it has none. ``read``: attributes of the context."""
        attributes = action["appliesTo"]["context"]["attributes"] if action else {}
        self.read = read
        self._argument_type: Json | None = attributes.get("arguments")
        self._declared = frozenset(attributes["origins"]["attributes"] if action else ())
        self.arguments = not read.isdisjoint({*_ORIGINS, "arguments"})  # whether anything of it depends on the arguments


def reads(conditions: Any) -> frozenset[str]:
    """The attributes of the context that conditions (Cedar's JSON form) name."""
    found: set[str] = set()
    waiting = [conditions]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if part.get("Var") == "context":
                return EVERYTHING
            for word, inner in part.items():
                if word in {".", "has"} and isinstance(inner, dict) and inner.get("left") == _CONTEXT:
                    found.add(inner["attr"])
                else:
                    waiting.append(inner)
    return frozenset(found)


def context_of(facts: Facts, tool: ToolFacts, approved_by: str | None, shown: Shown) -> Json:
    """The context of a request. ``approved_by``: ``None`` without an approval. Raises ValueError for what Cedar cannot carry."""
    task, classes, read = facts.task, facts.classes, shown.read
    context: Json = {}
    if "task" in read:
        context["task"] = _task(task)
    if "labels" in read:
        context["labels"] = list(classes.names[: task.labels.rank + 1])
    if "data_class" in read:
        context["data_class"] = classes.name(task.labels.rank)
    if "untrusted" in read:
        context["untrusted"] = task.labels.untrusted
    if "sink" in read:
        context["sink"] = tool.sends.value
    if "signals" in read:
        context["signals"] = [signal.value for signal in facts.signals]
    if "drift" in read:
        context["drift"] = drift_words(task)
    if "now" in read:
        context["now"] = facts.now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{facts.now.microsecond // 1000:03d}Z"
    if approved_by is not None and "approval" in read:
        context["approval"] = {"by": approved_by}
    if shown.arguments:
        _show_arguments(context, facts, tool, shown)
    return context


def task_shown(task: Task, classes: DataClasses) -> Json:
    """What a context says of a task, whatever is asked."""
    return {
        "task": _task(task),
        "labels": list(classes.names[: task.labels.rank + 1]),
        "data_class": classes.name(task.labels.rank),
        "untrusted": task.labels.untrusted,
        "drift": drift_words(task),
    }


def _task(task: Task) -> Json:
    """``chain``: the agents that delegated; ``depth``: how many did."""
    return {"id": task.id, "type": task.type, "on_behalf_of": task.on_behalf_of, "depth": len(task.chain), "chain": list(task.chain)}


def _show_arguments(context: Json, facts: Facts, tool: ToolFacts, shown: Shown) -> None:
    read = shown.read
    if "arguments" in read and shown._argument_type is not None:
        context["arguments"] = cedar_value(facts.call.arguments, shown._argument_type)
    if "origins" in read:
        traced = by_argument(facts.origins)
        named_here = [name for name in facts.call.arguments if name in shown._declared]
        spoken = [name for name in named_here if name in traced or not _as_left_out(facts, name)]
        context["origins"] = {name: origin_shown(traced[name]) if name in traced else _NOBODY for name in spoken}
    named = tool.selectors
    if "selectors" in read:
        selectors = [leaf for leaf in facts.origins if named is None or leaf.argument in named]
        context["selectors"] = origin_shown(selectors) if selectors or named == () else _NOBODY
    if "references" in read:
        context["references"] = origin_shown([leaf for leaf in facts.references if named is not None and leaf.argument not in named])


def _as_left_out(facts: Facts, name: str) -> bool:
    """Whether an argument is what its tool takes where it is left out: the default that it declares for an optional one."""
    schema = facts.pinned.input_schema if facts.pinned is not None else {}
    properties = schema.get("properties")
    declared = properties.get(name) if isinstance(properties, dict) else None
    if not isinstance(declared, dict) or "default" not in declared or name in (schema.get("required") or ()):
        return False
    value = facts.call.arguments[name]
    return type(value) is type(declared["default"]) and bool(value == declared["default"])


def origin_shown(leaves: Sequence[Traced]) -> Json:
    """Where some leaves come from; of no leaf at all nothing can be unknown."""
    return {"known": is_known(leaves), "trusted": all(leaf.trusted for leaf in leaves), "sources": names_of(leaves)}

"""One decision: flat in the number of policies, and near the bare Cedar call on the same slice. No I/O."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import cedarpy

from bench.common import median_us, row
from remit.logic.arguments import make_call
from remit.logic.authorize import authorize
from remit.logic.cedar_schema import action_id
from remit.logic.policy import Policies
from remit.logic.rulebook import Catalog, CatalogEntry, ServerFacts
from remit.model.budget import Budget
from remit.model.catalog import Effect, Kind, PinnedTool, Sends, Trust
from remit.model.decision import Allow
from remit.model.facts import Facts
from remit.model.grant import Grant
from remit.model.identity import SpiffeId
from remit.model.labels import DataClasses
from remit.model.task import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

_NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
_AGENT = SpiffeId.parse("spiffe://bench.test/agent/a")
_TIMES = 3_000
_ROUNDS = 5
_READ = ("arguments", "untrusted", "data_class")  # by the policies below, of a context without an approval
_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "amount": {"type": "integer"}}, "required": ["text"]}
_TOOLS = tuple(PinnedTool(server="s", name=f"t{n}", digest=f"sha-256:{n}", input_schema=_SCHEMA) for n in range(100))
_CATALOG = Catalog(
    servers={
        "s": ServerFacts(
            defaults=CatalogEntry(effect=Effect.WRITE, data_class="internal", trust=Trust.TRUSTED, sends=Sends.INTERNAL),
        )
    }
)


async def main() -> None:
    """Print the ratios."""
    print("one decision (p50, alternating rounds)")
    few, many = _policies(20), _policies(10_000)
    deciding: dict[str, Callable[[], object]] = {
        "20": _decide(few, fresh=True),
        "10,000": _decide(many, fresh=True),
        "again": _decide(many, fresh=False),
        "bare": _bare(many),
    }
    taken: dict[str, list[float]] = {name: [] for name in deciding}
    for _ in range(_ROUNDS):
        for name, decide in deciding.items():
            taken[name].append(median_us(decide, _TIMES))
    found = {name: sorted(values)[_ROUNDS // 2] for name, values in taken.items()}
    row("authorize, 20 policies, arguments never seen before", f"{found['20']:.0f} µs")
    row("authorize, 10,000 policies, arguments never seen before", f"{found['10,000']:.0f} µs")
    row("10,000 / 20", f"{found['10,000'] / found['20']:.2f} ×", "≤ 1.30 ×")
    row("bare cedarpy call on the same slice", f"{found['bare']:.0f} µs")
    row("authorize / bare cedarpy", f"{found['10,000'] / found['bare']:.2f} ×", "≤ 2.00 ×")
    row("authorize where Cedar was asked the same before", f"{found['again']:.1f} µs")


def _policies(count: int) -> Policies:
    """Each tool and agent has policies of its own; five of them speak of the one that is asked about."""
    about = [
        '@id("p") permit (principal, action == Action::"s/t0", resource) when { context.arguments.text != "no" };',
        '@id("q") forbid (principal, action == Action::"s/t0", resource) when { context.untrusted };',
        '@id("r") forbid (principal, action in Action::"write", resource) when { context.data_class == "restricted" };',
        '@id("s") permit (principal, action, resource in Server::"s") when { context has approval };',
        '@id("t") forbid (principal, action in Action::"irreversible", resource);',
    ]
    others = [
        f'@id("x{n}") permit (principal == Agent::"spiffe://bench.test/agent/b{n}", action == Action::"s/t{1 + n % 99}", resource);'
        for n in range(count - len(about))
    ]
    known = []
    for tool in _TOOLS:
        facts = _CATALOG.facts(Kind.TOOL, tool.server, tool.name, tool)
        assert facts is not None
        known.append((facts, tool))
    begin = time.perf_counter()
    policies = Policies({"bench.cedar": "\n".join(about + others)}, known)
    row(f"loading and validating {count:,} policies", f"{time.perf_counter() - begin:.1f} s")
    return policies


def _facts(number: int) -> Facts:
    task = Task(
        id="task_1", type="bench", agent=_AGENT, on_behalf_of="bench", objective="", inputs={},
        grants=(Grant(kind=Kind.TOOL, server="s", name="t0", arguments='{"properties":{"text":{"maxLength":40}}}', uses=None),),
        tools={tool.id: tool.digest for tool in _TOOLS}, ceiling="restricted", budget=Budget(calls=10), opened_at=_NOW,
        deadline=_NOW + timedelta(minutes=5), state=TaskState.ACTIVE, uses=(0,),
    )  # fmt: skip
    return Facts(
        now=_NOW,
        agent=_AGENT,
        task=task,
        call=make_call(Kind.TOOL, "s", "t0", {"text": f"number {number}"}),
        tool=_CATALOG.facts(Kind.TOOL, "s", "t0", _TOOLS[0]),
        pinned=_TOOLS[0],
        classes=DataClasses(),
    )


def _decide(policies: Policies, *, fresh: bool) -> Callable[[], object]:
    """``fresh``: arguments that Cedar has not been asked about (a cycle longer than what a slice remembers)."""
    asked = itertools.cycle([_facts(number) for number in range(2_000 if fresh else 1)])

    def decide() -> object:
        decision = authorize(next(asked), policies)
        assert isinstance(decision, Allow), decision
        return decision

    return decide


def _bare(policies: Policies, *, narrowed: bool = False) -> Callable[[], object]:
    """The same requests in the same order, with the whole context, given to cedarpy with handles on the same slice and a schema that has
    no origins, selectors, drift and chain (no policy here reads them). ``narrowed``: with what these policies read of the context only, as
    remit does it.
    """
    facts = _facts(0)
    assert facts.tool is not None
    handles = policies._slice(facts, facts.tool)  # the anchor needs the very same slice
    schema, requests = handles.schema, [_request(number) for number in range(2_000)]
    if narrowed:
        requests = [{**request, "context": {name: request["context"][name] for name in _READ}} for request in requests]
    else:
        schema = cedarpy.Schema.from_json_str(json.dumps(_without_origins(json.loads(policies.schema_json))))
    asked = itertools.cycle(requests)
    result = cedarpy.is_authorized(next(asked), handles.policies, handles.entities, schema)
    assert result.allowed, json.dumps(str(result.diagnostics))
    return lambda: cedarpy.is_authorized(next(asked), handles.policies, handles.entities, schema)


def _without_origins(schema: dict[str, Any]) -> dict[str, Any]:
    for action in schema[""]["actions"].values():
        attributes = action.get("appliesTo", {}).get("context", {}).get("attributes", {})
        for name in ("origins", "selectors", "references", "drift"):
            attributes.pop(name, None)
        for name in ("depth", "chain"):
            attributes.get("task", {}).get("attributes", {}).pop(name, None)
    return schema


def _request(number: int) -> dict[str, Any]:
    return {
        "principal": {"type": "Agent", "id": _AGENT.text},
        "action": {"type": "Action", "id": action_id(Kind.TOOL, "s", "t0")},
        "resource": {"type": "Tool", "id": "s/t0"},
        "context": {
            "task": {"id": "task_1", "type": "bench", "on_behalf_of": "bench"},
            "labels": ["public"],
            "data_class": "public",
            "untrusted": False,
            "sink": "internal",
            "signals": [],
            "now": "1970-01-01T00:00:00.000Z",
            "arguments": {"text": f"number {number}"},
        },
    }

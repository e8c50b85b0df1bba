"""A whole decision in process, as a door takes it: the token was seen before, the task's facts are gathered (arguments and what leads
somewhere in them traced through what the task has read, the catalog, budgets, labels, who could be asked), and it is decided.

Against the bare Cedar call on the same slice, and against itself with more results seen and more task types. No I/O but the token's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from bench.common import median_us, row
from bench.decide import _CATALOG, _TOOLS, _bare, _facts, _policies
from remit.drivers.signing import TokenSigner
from remit.logic.authorize import authorize
from remit.logic.labelling import ResultRules
from remit.logic.rulebook import Rulebook
from remit.model.budget import Budget, SumBudget
from remit.model.decision import Allow
from remit.model.identity import Bearer
from remit.model.labels import DataClasses
from remit.model.record import GrantLine, TaskOpened
from remit.model.task import TaskState, amended
from remit.services.behaviour import Behaviour
from remit.services.mediation import Mediation
from remit.services.sightings import Laundered, Seen, Sightings
from remit.services.standing import Standing
from remit.services.tasks import Tasks
from remit.services.tokens import Tokens
from remit.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from remit.logic.policy import Policies
    from remit.model.facts import Facts
    from remit.model.task import Task

_TIMES, _ROUNDS = 2_000, 5
_VALUES = 5  # of each result
_TYPES_FEW, _TYPES_MANY = 10, 10_000
_BUDGET = Budget(
    calls=10,
    rate_calls=100,
    rate_seconds=60,
    bytes_read=10**9,
    sums=(SumBudget(name="m", tool="s/t0", argument="/amount", maximum=Decimal(10**9)),),
)


async def main() -> None:
    """Print the ratios."""
    print("one decision with its whole context (p50, alternating rounds)")
    policies = _policies(10_000)
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        check = await _token(Path(folder))
        few, many = _seen(1), _seen(10_000)
        deciding: dict[str, Callable[[], object]] = {
            "1": _decide(policies, check, [_task(0)], few),
            "10,000": _decide(policies, check, [_task(0)], many),
            "bare": _bare(policies),
            "narrow": _bare(policies, narrowed=True),
        }
        found = _medians(deciding)
        row("token, facts, origins (1 result seen), budgets, labels, Cedar", f"{found['1']:.0f} µs")
        row(f"the same, 10,000 results seen ({len(many):,} values)", f"{found['10,000']:.0f} µs")
        row("10,000 results / 1 result", f"{found['10,000'] / found['1']:.2f} ×", "≤ 1.30 ×")
        row("bare cedarpy call on the same slice", f"{found['bare']:.0f} µs")
        row("whole decision / bare cedarpy", f"{found['10,000'] / found['bare']:.2f} ×", "≤ 2.00 ×")
        row("whole decision / cedarpy with no more of the context than these policies read", f"{found['10,000'] / found['narrow']:.2f} ×")
        _types(policies, check)
    _learning()


def _types(policies: Policies, check: Callable[[], object]) -> None:
    """One task of each type, calls in turn, each type with a grant of its own."""
    deciding = {}
    for count in (_TYPES_FEW, _TYPES_MANY):
        decide = _decide(policies, check, [_task(number) for number in range(count)], _seen(1))
        for _ in range(count):  # each has called before
            decide()
        deciding[str(count)] = decide
    found = _medians(deciding)
    row(f"in turn for one task of each of {_TYPES_FEW} task types", f"{found[str(_TYPES_FEW)]:.0f} µs")
    row(f"in turn for one task of each of {_TYPES_MANY:,} task types", f"{found[str(_TYPES_MANY)]:.0f} µs")
    row("10,000 task types / 10", f"{found[str(_TYPES_MANY)] / found[str(_TYPES_FEW)]:.2f} ×", "≤ 1.30 ×")


def _medians(deciding: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in deciding}
    for _ in range(_ROUNDS):
        for name, decide in deciding.items():
            taken[name].append(median_us(decide, _TIMES))
    return {name: sorted(values)[_ROUNDS // 2] for name, values in taken.items()}


async def _token(folder: Path) -> Callable[[], object]:
    """A check of a token that was seen before, driven without a loop: it waits for nothing."""
    store = SqliteStore(folder / "remit.db", lambda size, root: f"{size} {root.hex()}")
    facts = _facts(0)
    tasks = Tasks(store, lambda: facts.now, lambda prefix: f"{prefix}_1", 10, Standing(store, lambda: facts.now))
    opened = TaskOpened(
        type="bench",
        agent=facts.agent.text,
        on_behalf_of="bench",
        opened_by="bench",
        objective="",
        inputs={},
        grants=[GrantLine(kind="tool", server="s", name="t0")],
        tools={},
        ceiling="restricted",
        budget_calls=10,
        deadline=facts.task.deadline,
    )
    task = await tasks.open(opened)
    await tasks.move(task.id, TaskState.ACTIVE, by="bench")
    signer = TokenSigner(generate_private_key(SECP256R1()))
    tokens = Tokens(
        tasks, signer, lambda: facts.now, lambda prefix: f"{prefix}_1", issuer="http://b", token_ttl=facts.task.deadline - facts.now
    )
    token, _ = await tokens.issue(task.id, "bench")
    await tokens.bearer(token)
    await store.close()

    def check() -> object:
        coroutine = tokens.bearer(token)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("the token was not in memory")

    return check


def _seen(results: int) -> Seen:
    """What a task has seen: about 100 bytes a result, 1 MB in 10,000 of them."""
    sightings, facts = _sightings(), _facts(0)
    seen = Seen(facts.task, b"k" * 32)
    for number in range(1, results + 1):
        result: dict[str, Any] = {f"f{n}": f"value-{number}-{n} of a result" for n in range(_VALUES)}
        learnt = _read(sightings, seen, facts, result)
        seen.learn(number, learnt)
    return seen


def _sightings() -> Sightings:
    return Sightings(None, b"k" * 32, values_max=200_000, values_in_memory_max=10**9, tasks_max=10**5)  # type: ignore[arg-type]  # nothing is read


def _read(sightings: Sightings, seen: Seen, facts: Facts, result: Any) -> bytes:
    assert facts.tool is not None
    parsed = sightings.parse(result, facts.tool, ResultRules(), DataClasses())
    return sightings.learnt(seen, parsed, Laundered(), facts.tool.id, "d").data


def _task(number: int) -> Task:
    """A task of a type of its own, whose grant is no other's."""
    task = _facts(0).task
    narrowed = json.dumps({"properties": {"text": {"maxLength": 40 + number}}})
    return amended(task, id=f"task_{number}", type=f"bench-{number}", budget=_BUDGET, grants=(replace(task.grants[0], arguments=narrowed),))


def _decide(policies: Policies, check: Callable[[], object], tasks: Iterable[Task], seen: Seen) -> Callable[[], object]:
    """Arguments that Cedar was not asked about, in turn for each task; all have seen the same."""
    sightings, given = _sightings(), tuple(tasks)
    for task in given:
        sightings._keep(task.id, seen)  # as if each had read it
    rulebook = Rulebook(policies=policies, catalog=_CATALOG, pinned={tool.id: tool for tool in _TOOLS}, classes=DataClasses())
    nothing: Any = None  # is neither read nor written to look
    made = [_facts(number) for number in range(2_000)]

    def clock() -> datetime:
        return made[0].now

    mediation = Mediation(
        Tasks(nothing, clock, lambda prefix: prefix, 10, Standing(nothing, clock)),
        sightings,
        Behaviour(nothing),
        lambda: rulebook,
        lambda prefix: prefix,
        approval_ttl=timedelta(minutes=5),
        approvals_max=100,
        records_max=10**6,
    )
    asked, turn = itertools.cycle([facts.call for facts in made]), itertools.cycle(given)
    agent, now = made[0].agent, made[0].now

    def decide() -> object:
        check()
        task = next(turn)
        facts, policies = _done(mediation.look(Bearer(agent=agent, task=task.id, proof="task-token"), next(asked), task, now))
        decision = authorize(facts, policies)
        assert isinstance(decision, Allow), decision
        return decision

    return decide


def _done(coroutine: Coroutine[Any, Any, tuple[Facts, Policies]]) -> tuple[Facts, Policies]:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        found: tuple[Facts, Policies] = done.value
        return found
    raise AssertionError("something had to be read")


def _learning() -> None:
    """What a megabyte of results costs to take in."""
    facts, sightings = _facts(0), _sightings()
    text = "Invoice 4711 of user_12, bob@corp.example, see https://corp.example/a/b and /srv/data/x.txt for 1,234.50 EUR.\n" * 2_000
    begin = time.perf_counter()
    _read(sightings, Seen(facts.task, b"k" * 32), facts, {"content": [{"type": "text", "text": text}]})
    taken = time.perf_counter() - begin
    row(f"tracing {len(text) / 1e6:.1f} MB of text of one result", f"{taken * 1e3 / (len(text) / 1e6):.0f} ms/MB")


if __name__ == "__main__":
    asyncio.run(main())

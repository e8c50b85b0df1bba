"""A whole decision in process: the token was seen before, arguments are traced through what the task has read, budgets, labels, Cedar.

Against the bare Cedar call on the same slice, and against itself with more results seen and more task types. No I/O but the token's.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from bench.common import median_us, row
from bench.decide import _bare, _facts, _policies
from remit.drivers.signing import TokenSigner
from remit.logic.authorize import authorize
from remit.logic.labelling import ResultRules
from remit.logic.tracing import trace
from remit.model.budget import Budget, SumBudget
from remit.model.decision import Allow
from remit.model.labels import DataClasses
from remit.model.record import GrantLine, TaskOpened
from remit.model.task import TaskState
from remit.services.sightings import Laundered, Seen, Sightings
from remit.services.standing import Standing
from remit.services.tasks import Tasks
from remit.services.tokens import Tokens
from remit.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.logic.policy import Policies
    from remit.model.facts import Facts

_TIMES, _ROUNDS = 2_000, 5
_VALUES = 5  # of each result


async def main() -> None:
    """Print the ratios."""
    print("one decision with its whole context (p50, alternating rounds)")
    policies = _policies(10_000)
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        check = await _token(Path(folder))
        few, many = _seen(1), _seen(10_000)
        deciding: dict[str, Callable[[], object]] = {
            "1": _decide(policies, few, check),
            "10,000": _decide(policies, many, check),
            "bare": _bare(policies),
        }
        taken: dict[str, list[float]] = {name: [] for name in deciding}
        for _ in range(_ROUNDS):
            for name, decide in deciding.items():
                taken[name].append(median_us(decide, _TIMES))
    found = {name: sorted(values)[_ROUNDS // 2] for name, values in taken.items()}
    row("token, origins (1 result seen), budgets, labels, Cedar", f"{found['1']:.0f} µs")
    row(f"the same, 10,000 results seen ({len(many):,} values)", f"{found['10,000']:.0f} µs")
    row("10,000 results / 1 result", f"{found['10,000'] / found['1']:.2f} ×", "≤ 1.30 ×")
    row("bare cedarpy call on the same slice", f"{found['bare']:.0f} µs")
    row("whole decision / bare cedarpy", f"{found['10,000'] / found['bare']:.2f} ×", "≤ 2.00 ×")
    _learning()


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
    return Sightings(None, b"k" * 32, values_max=200_000, values_in_memory_max=10**7, tasks_max=10)  # type: ignore[arg-type]  # nothing is read


def _read(sightings: Sightings, seen: Seen, facts: Facts, result: Any) -> bytes:
    assert facts.tool is not None
    parsed = sightings.parse(result, facts.tool, ResultRules(), DataClasses())
    return sightings.learnt(seen, parsed, Laundered(), facts.tool.id, "d").data


def _decide(policies: Policies, seen: Seen, check: Callable[[], object]) -> Callable[[], object]:
    """Arguments that Cedar was not asked about, one of them seen in a result."""
    budget = Budget(
        calls=10,
        rate_calls=100,
        rate_seconds=60,
        bytes_read=10**9,
        sums=(SumBudget(name="m", tool="s/t0", argument="/amount", maximum=Decimal(10**9)),),
    )
    made = [_facts(number) for number in range(2_000)]
    asked = itertools.cycle([replace(facts, task=replace(facts.task, budget=budget)) for facts in made])

    def decide() -> object:
        check()
        facts = next(asked)
        assert facts.pinned is not None
        origins = trace(facts.call.arguments, facts.pinned.input_schema, seen)
        decision = authorize(replace(facts, origins=origins), policies)
        assert isinstance(decision, Allow), decision
        return decision

    return decide


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

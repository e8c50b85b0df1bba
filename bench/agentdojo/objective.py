"""``python -m bench.agentdojo.objective``: how many calls are far from their objective, honest and hostile, by the small model.

The objective is the user's prompt; hostile are the calls of every injection of the suite, for every task. Printed as the table of
docs/configuration.md. Only the prompts' distance to tools is measured: no call is made.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from bench.agentdojo.suites import Suite
from remit.drivers.sentence_model import SentenceModel, find_model
from remit.logic.objective import OBJECTIVE_CHARACTERS_MAX, signals_of_distance, spoken
from remit.model.call import Call
from remit.model.catalog import Kind, PinnedTool

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAIRS = (("banking", "slack"), ("workspace", "travel"))
_SIMILAR_FROM = (0.05, 0.10, 0.20)
_WAIT_SECONDS = 60.0


def calls(suite: Suite) -> Iterator[tuple[str, str, bool]]:
    """Prompt and tool of every call, and whether it is hostile."""
    first = suite.environment(next(iter(suite.users)), {})
    hostile = [step.tool for attacker in suite.attackers for step in suite.hostile(attacker, first)]
    for user in suite.users:
        for step in suite.honest(user, suite.environment(user, {})):
            yield suite.prompt(user), step.tool, False
        for tool in hostile:
            yield suite.prompt(user), tool, True


async def main() -> int:
    """Print the table."""
    model = SentenceModel(find_model("package"))
    known: dict[str, tuple[float, ...]] = {}

    async def vector(text: str) -> tuple[float, ...]:
        if text not in known:
            known[text] = await model.vector(text, _WAIT_SECONDS)
        return known[text]

    for names in _PAIRS:
        found: list[tuple[tuple[float, ...], tuple[float, ...], bool]] = []
        for suite in map(Suite, names):
            told = {tool.name: _words(suite.name, tool.name, tool.description) for tool in suite.tools}
            for prompt, tool, bad in calls(suite):
                found.append((await vector(prompt[:OBJECTIVE_CHARACTERS_MAX]), await vector(told[tool]), bad))
        for similar in _SIMILAR_FROM:
            far = {bad: [bool(signals_of_distance(one, other, similar)) for one, other, of in found if of is bad] for bad in (False, True)}
            shares = ", ".join(f"{word} {sum(far[bad])}/{len(far[bad])}" for word, bad in (("honest", False), ("hostile", True)))
            print(f"{' + '.join(names)}, similar from {similar:.2f}, far: {shares}")
    return 0


def _words(server: str, name: str, description: str) -> str:
    pinned = PinnedTool(server=server, name=name, digest="", input_schema={}, description=description)
    return spoken(Call(kind=Kind.TOOL, server=server, name=name, arguments={}, digest=""), pinned)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

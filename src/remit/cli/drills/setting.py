"""Sets a stage up for drills, and clears it away: the node, its socket, the echoes that stand in for servers, and what is played on.

Left out: what can be done on a stage (``stage.py``).
"""

from __future__ import annotations

import contextlib
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from remit.application import application
from remit.cli.drills.stage import WAIT_SECONDS, Stage, StageClock, Subject, declared, write_tools
from remit.cli.server import serving
from remit.drivers.base import StdioServer
from remit.errors import NotFound, RemitError
from remit.logic.made_up import fits, made_up
from remit.node import load_rules, open_node
from remit.services.reading import near

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from remit.settings import Configuration

_STAND_IN = Path(__file__).with_name("stand_in.py")
_LINES_MAX = 10_000
_SUBJECTS_MAX = 100  # task types of one run


@contextlib.asynccontextmanager
async def set_stage(folder: Path, scratch: Path, inputs: Mapping[str, str] | None = None, only: Sequence[str] = ()) -> AsyncIterator[Stage]:
    """A stage for a folder. ``inputs``: values for inputs of that name, in place of made-up ones. ``only``: task types (none: all).

    Raises Mistake, NotFound (a task type), Outage.
    """
    real, rulebook = load_rules(folder)
    for kind in only:
        if kind not in real.task_types:
            raise NotFound(f"there is no task type {kind[:80]!r}", hint=near(kind, real.task_types))
    for server in real.servers:
        write_tools(scratch, server, declared(tool for tool in rulebook.pinned.values() if tool.server == server))
    clock = StageClock()
    stand_ins = {server: _stand_in(scratch, server) for server in real.servers}
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(folder, deciding=True, scratch=scratch, stand_ins=stand_ins, clock=clock))
        port = await stack.enter_async_context(serving(application(node), "127.0.0.1", 0))
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        client = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        stage = Stage(node, client, f"http://127.0.0.1:{port}", clock, scratch, real, rulebook)
        stage.subjects = await _subjects(stage, sorted(only or real.task_types), inputs or {})
        stack.enter_context(_listening(stage.logged))
        yield stage
        for task in stage.opened:
            await node.end_task(task)


async def _subjects(stage: Stage, kinds: Sequence[str], inputs: Mapping[str, str]) -> tuple[Subject, ...]:
    """What is played on: each opens, or says why it does not."""
    found = []
    for kind in kinds[:_SUBJECTS_MAX]:
        subject = subject_of(stage.real, kind, inputs)
        try:
            if not subject.why:
                await stage.end(await stage.open(subject))
        except RemitError as error:
            subject = replace(subject, why=f"it does not open: {error.message}")
        found.append(subject)
    more = len(kinds) - len(found)
    why = f"{more} more task types are left out: --task NAME" if more else "there is no task type: tasks/*.toml"
    return (*found, Subject(kind="", agent="", inputs={}, why=why)) if more or not found else tuple(found)


def subject_of(configuration: Configuration, kind: str, inputs: Mapping[str, str]) -> Subject:
    """A task type with somebody to work on it, and inputs."""
    agent = next((agent.name for agent in configuration.agents.values() if kind in agent.tasks), "")
    values: dict[str, Any] = {}
    wrong = "" if agent else f"no agent may be given {kind}"
    for one in configuration.task_types[kind].inputs:
        given = inputs.get(one.name)
        made = one.default if one.default is not None else made_up(one.schema)
        values[one.name] = made if given is None else _typed(given, one.schema["type"])
        if not wrong and not fits(one.schema, values[one.name]):
            wrong = f"nothing made up fits its input {one.name}; give one with -i {one.name}=…"
    return Subject(kind=kind, agent=agent, inputs=values, why=wrong)


def _typed(text: str, kind: str) -> object:
    """An input that was given as text; what does not fit is found by its schema."""
    if kind == "integer":
        return int(text) if text.removeprefix("-").isdecimal() else text
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


def _stand_in(scratch: Path, server: str) -> StdioServer:
    command = (sys.executable, str(_STAND_IN), str(scratch / f"{server}.tools"), str(scratch / f"{server}.heard"))
    return StdioServer(name=server, command=command)


@contextlib.contextmanager
def _listening(lines: list[str]) -> Iterator[None]:
    """Keep what is logged meanwhile, by remit and by everything it uses."""
    handler, root, remit = _Keeping(lines), logging.getLogger(), logging.getLogger("remit")
    levels = root.level, remit.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    remit.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        remit.setLevel(levels[1])


class _Keeping(logging.Handler):
    """Keeps the lines, bounded."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if len(self._lines) < _LINES_MAX:
            self._lines.append(self.format(record))

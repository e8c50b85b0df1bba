"""An MCP server as a process of ours: one for a task, JSON-RPC lines over its pipes, gone with the task.

Rules: the process leads a session of its own, gets only the environment it was given, and dies with us. What it writes
to stderr is kept short for the operator and never reaches the agent. A line that is no JSON is passed over, a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from remit.drivers.conversation import Exchanges, is_response, read_message
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.base import Message, StdioServer, UpstreamLimits

_SPAWN = str(Path(__file__).with_name("spawn.py"))
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_STDERR_LINES = 40
_STDERR_LINE_BYTES = 4_096


class StdioUpstream:
    """See ``drivers/base.py`` for the duties. ``era`` and ``opening`` are set by ``upstreams.open_upstream``."""

    def __init__(self, server: StdioServer, limits: UpstreamLimits, unsolicited: Callable[[Message], Awaitable[None]]) -> None:
        """``unsolicited`` takes what the server sends while no exchange is under way."""
        self.server, self._limits, self._unsolicited = server, limits, unsolicited
        self.era, self.protocol_version = "legacy", ""
        self.opening: Message = {}
        self.stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._exchanges = Exchanges(server.name, limits)
        self._process: asyncio.subprocess.Process | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()
        self._gone: Outage | None = None

    async def start(self) -> None:
        """Start the process. Raises Outage."""
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                _SPAWN,
                str(os.getpid()),
                *self.server.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**environment, **self.server.environment},
                cwd=self.server.folder,
                start_new_session=True,
                limit=self._limits.message_bytes_max,
            )
        except OSError as error:
            raise Outage(f"{self.server.name} cannot be started: {error.strerror}", code="upstream_gone") from None
        self._pumps = [asyncio.create_task(self._pump_messages()), asyncio.create_task(self._pump_stderr())]

    async def exchange(self, message: Message, sink: Callable[[Message], Awaitable[None]]) -> Message:
        """See Upstream."""
        if self._gone is not None:
            raise self._gone
        number, exchange, numbered = self._exchanges.begin(message, sink)
        try:
            await self.send(numbered)
            async with asyncio.timeout(self._limits.exchange_seconds):
                answer = await exchange.answer
        except TimeoutError:
            await self._cancel(number)
            raise Outage(f"{self.server.name} did not answer in time", code="upstream_timeout") from None
        except asyncio.CancelledError:
            await self._cancel(number)
            raise
        finally:
            self._exchanges.finish(number)
        return {**answer, "id": message.get("id")}

    async def send(self, message: Message) -> None:
        """See Upstream."""
        pipe = self._process.stdin if self._process else None
        if pipe is None or self._gone is not None:
            raise self._gone or Outage(f"{self.server.name} is not running", code="upstream_gone")
        try:
            async with self._writing, asyncio.timeout(self._limits.exchange_seconds):
                pipe.write(msgspec.json.encode(message) + b"\n")
                await pipe.drain()
        except (OSError, TimeoutError):
            raise Outage(f"{self.server.name} takes no more messages", code="upstream_gone") from None

    async def close(self) -> None:
        """See Upstream: stdin ends, then SIGTERM, then SIGKILL, each for the whole group."""
        process = self._process
        if process is None:
            return
        self._fail(Outage(f"{self.server.name} was stopped", code="upstream_gone"))
        if process.stdin is not None:
            process.stdin.close()
        for step in (None, signal.SIGTERM, signal.SIGKILL):
            if step is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, step)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._limits.close_seconds / 3)
                break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what the server itself started and left behind
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pump_messages(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        rubbish = 0
        try:
            while line := await self._process.stdout.readline():
                try:
                    await self._route(read_message(line, self._limits))
                except Mistake:
                    rubbish += 1
                    if rubbish > self._limits.rubbish_lines_max:
                        raise Outage(f"{self.server.name} speaks no JSON-RPC", code="upstream_rubbish") from None
            self._fail(Outage(f"{self.server.name} ended", code="upstream_gone"))
        except Outage as error:
            self._fail(error)
        except ValueError:  # a line over the limit
            self._fail(Outage(f"{self.server.name} sent a message that is too large", code="upstream_rubbish"))
        finally:
            if self._process.returncode is None and self._gone is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGTERM)

    async def _route(self, message: dict[str, Any]) -> None:
        if is_response(message):
            self._exchanges.answered(message)
        elif message.get("method") == "ping" and "id" in message:
            await self.send({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        elif (exchange := self._exchanges.of(message)) is not None:
            await self._exchanges.deliver(exchange, message)
        else:
            await self._unsolicited(message)

    async def _pump_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(_STDERR_LINE_BYTES):
            self.stderr.extend(piece.decode("utf-8", "replace").splitlines())

    async def _cancel(self, number: int) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        with contextlib.suppress(Outage):
            await asyncio.shield(self.send(note))

    def _fail(self, error: Outage) -> None:
        if self._gone is None:
            self._gone = error
        self._exchanges.fail_all(error)

"""An MCP server as a process of ours: one for a task, JSON-RPC lines over its pipes, gone with the task.

Rules: the process leads a session of its own, gets only the environment it was given, and dies with us. What it writes
to stderr is kept short and goes to the operator's log when it fails, never to the agent. A line that is no JSON is passed
over, a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from remit.drivers.conversation import Exchanges, MalformedMessageError, is_response, read_message
from remit.drivers.patience import within
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.base import Message, StdioServer, UpstreamLimits

_SPAWN = str(Path(__file__).with_name("spawn.py"))
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_STDERR_LINES, _STDERR_LINE_CHARACTERS = 20, 300
_STDERR_READ_BYTES = 4_096
_LAST_WORDS_SECONDS = 0.5  # for what a process that has ended still has in its pipe
_SECRET_CHARACTERS_MIN = 6  # a shorter value of the environment is no secret, and may stand in any word
_LOG = logging.getLogger("remit")


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
        self._reported = False

    @property
    def ended(self) -> bool:
        """Whether no call can be made any more."""
        return self._gone is not None

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._exchanges)

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
            self._drop_files()
            raise Outage(f"{self.server.name} cannot be started: {error.strerror}", code="upstream_gone") from None
        self._pumps = [asyncio.create_task(self._pump_messages()), asyncio.create_task(self._pump_stderr())]

    async def exchange(self, message: Message, sink: Callable[[Message], Awaitable[None]]) -> Message:
        """See Upstream."""
        if self._gone is not None:
            raise self._gone
        number, exchange, numbered = self._exchanges.begin(message, sink)
        try:
            await self.send(numbered)
            with within(self._limits.exchange_seconds):
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
            raise Outage(self._gone.message if self._gone else f"{self.server.name} is not running", code="upstream_gone", unsent=True)
        try:
            async with asyncio.timeout(self._limits.exchange_seconds), self._writing:
                pipe.write(msgspec.json.encode(message) + b"\n")
                await pipe.drain()
        except OSError:  # a timeout is one as well
            self._signal(signal.SIGTERM)
            raise self._fail(Outage(f"{self.server.name} takes no more messages", code="upstream_gone")) from None

    async def close(self) -> None:
        """See Upstream: stdin ends, then SIGTERM, then SIGKILL, each for the whole group."""
        self._drop_files()
        process = self._process
        if process is None:
            return
        self._reported = self._reported or self._gone is None  # it is stopped because it is no longer needed
        self._fail(Outage(f"{self.server.name} was stopped", code="upstream_gone"))
        if process.stdin is not None:
            process.stdin.close()
        for step in (None, signal.SIGTERM, signal.SIGKILL):
            if step is not None:
                self._signal(step)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._limits.close_seconds / 3)
                break
        self._signal(signal.SIGKILL)  # what the server itself started and left behind
        await self._report()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        # a pipe that was no longer read, because too much came, would never see its end: asyncio has no public way to close it
        getattr(process, "_transport").close()  # noqa: B009

    def _drop_files(self) -> None:
        for path in self.server.files:
            with contextlib.suppress(OSError):
                os.unlink(path)

    async def _pump_messages(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        rubbish = 0
        try:
            while line := await self._process.stdout.readline():
                try:
                    message = read_message(line, self._limits)
                except Mistake as mistake:
                    if isinstance(mistake, MalformedMessageError):
                        self._exchanges.malformed(mistake.found)
                    rubbish += 1
                    if rubbish > self._limits.rubbish_lines_max:
                        raise Outage(f"{self.server.name} speaks no JSON-RPC", code="upstream_rubbish") from None
                else:
                    await self._route(message)
            self._fail(Outage(f"{self.server.name} ended", code="upstream_gone"))
        except Outage as error:
            self._fail(error)
        except ValueError:  # a line over the limit
            self._fail(Outage(f"{self.server.name} sent a message that is too large", code="upstream_rubbish"))
        self._signal(signal.SIGTERM)
        await self._report()

    async def _route(self, message: dict[str, Any]) -> None:
        if is_response(message):
            self._exchanges.answered(message)
        elif message.get("method") == "ping" and "id" in message:
            await self.send({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        elif (exchange := self._exchanges.of(message)) is not None:
            try:
                await self._exchanges.deliver(exchange, message)
            except Outage:
                raise
            except Exception as error:  # of the one who listens: it ends that one's call, not the conversation
                exchange.fail(error)
        else:
            self._exchanges.unasked()
            try:
                await self._unsolicited(message)
            except Outage:
                raise
            except Exception as error:
                _LOG.error("what %s said by itself was lost to a fault of remit", self.server.name, exc_info=error)

    async def _pump_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(_STDERR_READ_BYTES):
            self.stderr.extend(line[:_STDERR_LINE_CHARACTERS] for line in piece.decode("utf-8", "replace").splitlines())

    async def _report(self) -> None:
        """Tell the operator, once, why a process failed and what it said last."""
        if self._process is None or self._gone is None:
            return
        if not self._reported:
            await asyncio.wait(self._pumps[1:], timeout=_LAST_WORDS_SECONDS)
        reported, self._reported = self._reported, True
        if reported:
            return
        values = (*self.server.environment.values(), *self.server.secrets)
        secrets = sorted((value for value in values if len(value) >= _SECRET_CHARACTERS_MIN), key=len, reverse=True)
        words = "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in self.stderr)
        for secret in secrets:
            words = words.replace(secret, "***")
        _LOG.warning("%s; exit status %s; on stderr it said last:\n%s", self._gone.message, self._process.returncode, words or "nothing")

    def _signal(self, number: int) -> None:
        """To the process and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _cancel(self, number: int) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        with contextlib.suppress(Outage, TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.send(note)), self._limits.close_seconds)

    def _fail(self, error: Outage) -> Outage:
        """End every exchange; the first reason stands."""
        if self._gone is None:
            self._gone = error
        self._exchanges.fail_all(self._gone)
        return self._gone

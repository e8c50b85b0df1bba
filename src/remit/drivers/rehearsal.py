"""Runs remit's own ``policy`` commands in a process of their own, for who rehearses policies in a browser: the server decides on meanwhile.

Rules: one at a time; time and what is answered are bounded, and what runs too long is killed with all it started. A candidate is written
into a folder that only we read and that is gone afterwards. What comes back is what the command says with ``--json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS_MAX = 120.0
_ANSWER_BYTES_MAX = 4_194_304
_ANSWERED = frozenset({0, 1, 2})
Json = dict[str, Any]


class Rehearsals:
    """Of one working folder."""

    def __init__(self, folder: Path, seconds_max: float = _SECONDS_MAX) -> None:
        self._folder, self._seconds_max = folder, seconds_max
        self._busy = asyncio.Lock()

    async def check(self) -> Json:
        """``remit policy check``. Raises Mistake (what is wrong with the folder), Outage, Broken."""
        return await self._run("check")

    async def test(self) -> Json:
        """``remit policy test``. Raises as ``check``."""
        return await self._run("test")

    async def replay(self, candidate: str, since: str) -> Json:
        """``remit policy replay`` of a candidate's text, from a day on (ISO 8601). Raises as ``check``."""
        with tempfile.TemporaryDirectory(prefix="remit-candidate-") as place:
            (Path(place) / "candidate.cedar").write_text(candidate, encoding="utf-8")
            return await self._run("replay", "--candidate", place, "--since", since)

    async def _run(self, *words: str) -> Json:
        if self._busy.locked():
            raise Outage("another rehearsal is under way", code="busy", hint="try again when it is done")
        async with self._busy:
            answer = await self._answer([sys.executable, "-P", "-m", "remit.cli.main", "policy", *words, "-C", str(self._folder), "--json"])
        error = answer.get("error")
        if isinstance(error, dict):
            raise Mistake(str(error.get("message", "")), code=str(error.get("code", "rehearsal")), hint=str(error.get("hint", "")))
        return answer

    async def _answer(self, command: Sequence[str]) -> Json:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=pipe, stderr=nothing, start_new_session=True)
        assert process.stdout is not None, "it was asked for"
        try:
            async with asyncio.timeout(self._seconds_max):
                told = b""
                while len(told) <= _ANSWER_BYTES_MAX and (piece := await process.stdout.read(65_536)):
                    told += piece
                code = await process.wait() if len(told) <= _ANSWER_BYTES_MAX else -1
        except TimeoutError:
            hint = "choose a shorter time, or use `remit policy replay`"
            raise Outage(f"it took longer than {self._seconds_max:.0f} seconds", code="rehearsal_time", hint=hint) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        try:
            answer = json.loads(told)
        except ValueError:
            raise Broken(f"the rehearsal answered nothing that can be read (exit code {code})") from None
        if code not in _ANSWERED or not isinstance(answer, dict):
            raise Broken(f"the rehearsal ended with {code}")
        return answer

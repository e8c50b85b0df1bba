"""The targets' own secrets, by which remit manages them: from the environment, from a file, or sealed in the store. Never printed.

Rules
* A file is read anew whenever it is needed, so that its rotation is taken up; a sealed one is replaced under a record of the ledger,
  in the same transaction, and opens for its target only.
* A sealed one that remit itself is replacing has a *next* one beside it, sealed before the target is told (``secret_rotation.py``). While
  there is one, the target is asked which of the two holds: a crash between any two steps loses neither.
* A rotation that was begun goes on with the same next secret, whoever takes it up, and none begins while an earlier one may still be
  under way somewhere (``_WINDOW_SECONDS``): so a slow process never sets a secret that is forgotten already.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from remit.errors import Conflict, Mistake, Outage
from remit.logic.records import encode
from remit.model.lease_record import TargetSecretSet
from remit.model.record import Record
from remit.store.database import Append, Given, MarkRow, StaleTask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.drivers.sealing import Sealer
    from remit.drivers.targets.base import TargetSettings
    from remit.store.database import Row, Store

_SECRET_BYTES_MAX = 65_536
_NEW_BYTES = 32
_MICROSECONDS = 1_000_000
_WINDOW_SECONDS = 60


class TargetSecrets:
    """Secrets of one installation's targets."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        clock: Callable[[], datetime],
        accepts: Callable[[TargetSettings, str], Awaitable[bool]] | None = None,
    ) -> None:
        """``accepts``: whether a target takes a secret now. Raises Outage. ``None``: nothing is ever rotated here."""
        self._store, self._sealer, self._clock, self._accepts = store, sealer, clock, accepts

    async def secret(self, target: TargetSettings) -> str:
        """The secret as it is now. Raises Outage where there is none (``target_secret``)."""
        if target.secret:
            return target.secret
        if target.secret_file:
            return _read(Path(target.secret_file), target.name)
        kept = await self._store.mark(_name(target.name))
        if kept is None:
            hint = f'`remit target set-secret {target.name}`, or secret = "${{NAME}}" or secret_file in [targets.{target.name}]'
            raise Outage(f"target {target.name} has no secret", code="target_secret", hint=hint, unsent=True)
        waiting = await self._store.mark(_next(target.name))
        if waiting is not None and waiting.text and self._accepts is not None:
            secret = self._opened(waiting)
            if await self._accepts(target, secret):
                with contextlib.suppress(Conflict):  # somebody else is at it
                    await self.promote(target.name, "remit")
                return secret
        return self._opened(kept)

    async def replace(self, target: str, secret: str, by: str) -> None:
        """Seal a new secret; the old one is forgotten. Raises Mistake, Conflict (it is being rotated), Outage."""
        if not secret or len(secret.encode()) > _SECRET_BYTES_MAX:
            raise Mistake(f"a secret has 1 to {_SECRET_BYTES_MAX:,} bytes", code="target_secret")
        waiting = await self._store.mark(_next(target))
        if waiting is not None and waiting.text and not self._past(waiting):
            raise _busy(target)
        rows = [await self._row(_name(target), secret)]
        if waiting is not None and waiting.text:
            rows.append(await self._row(_next(target), ""))
        await self._write(TargetSecretSet(target=target, by=by), rows, waiting)

    async def begin(self, target: str, by: str) -> str:
        """The secret that a target gets next, durable: of a rotation that was begun already, or a new one.

        Raises Conflict (one may still be under way elsewhere), Outage.
        """
        waiting = await self._store.mark(_next(target))
        if waiting is not None and waiting.text:
            return self._opened(waiting)
        if waiting is not None and not self._past(waiting):
            raise _busy(target)
        secret = token_urlsafe(_NEW_BYTES)
        await self._write(TargetSecretSet(target=target, by=by, rotation="begun"), [await self._row(_next(target), secret)], waiting)
        return secret

    async def rotating(self, target: str) -> bool:
        """Whether a rotation was begun and is not done. Raises Outage."""
        waiting = await self._store.mark(_next(target))
        return waiting is not None and bool(waiting.text)

    async def promote(self, target: str, by: str) -> None:
        """The target has taken its next secret: it is the secret now. Done already is a success. Raises Conflict, Outage."""
        waiting = await self._store.mark(_next(target))
        if waiting is None or not waiting.text:
            return
        rows = [await self._row(_name(target), self._opened(waiting)), await self._row(_next(target), "")]
        try:
            await self._write(TargetSecretSet(target=target, by=by, rotation="done"), rows, waiting)
        except Conflict:
            now = await self._store.mark(_next(target))
            if now is not None and now.text:
                raise

    async def _write(self, body: TargetSecretSet, rows: list[MarkRow], seen: MarkRow | None) -> None:
        """Record and rows, if nobody has begun or ended a rotation since ``seen``."""
        given = Given(name=_next(body.target), number=seen.number if seen else 0)
        entries: tuple[Row, ...] = tuple(rows)
        try:
            await self._store.append(Append(body=encode(Record(at=self._clock(), body=body)), rows=entries, given=(given,)))
        except StaleTask:
            raise _busy(body.target) from None

    async def _row(self, name: str, secret: str) -> MarkRow:
        before = await self._store.mark(name)
        number = max(int(self._clock().timestamp() * _MICROSECONDS), before.number + 1 if before else 0)  # whatever the clock does
        return MarkRow(name=name, number=number, text=self._sealer.seal(secret.encode(), name) if secret else "")

    def _opened(self, row: MarkRow) -> str:
        return self._sealer.open(row.text, row.name).decode()

    def _past(self, row: MarkRow) -> bool:
        """Whether nobody can still be at what this row is of."""
        return self._clock().timestamp() * _MICROSECONDS - row.number > _WINDOW_SECONDS * _MICROSECONDS


def _name(target: str) -> str:
    return f"secret of target {target}"


def _next(target: str) -> str:
    return f"next secret of target {target}"


def _busy(target: str) -> Conflict:
    hint = f"try again in {_WINDOW_SECONDS} seconds"
    return Conflict(f"the secret of target {target} is being rotated, or was a moment ago", code="target_secret", hint=hint)


def _read(path: Path, target: str) -> str:
    """One line of a file that only its owner can read. Raises Outage."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or stat.S_IMODE(state.st_mode) & 0o077:
                raise Outage(f"the secret file of target {target} is open to others", code="target_secret", hint="chmod 600", unsent=True)
            return file.read(_SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise Outage(f"the secret file of target {target} cannot be read", code="target_secret", unsent=True) from None

"""The targets' own secrets, by which remit manages them: from the environment, from a file, or sealed in the store. Never printed.

Rules: a file is read anew whenever it is needed, so that its rotation is taken up; a sealed one is replaced under a record of the
ledger, in the same transaction, and opens for its target only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage
from remit.logic.records import encode
from remit.model.record import Record, TargetSecretSet
from remit.store.database import Append, MarkRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.sealing import Sealer
    from remit.drivers.targets.base import TargetSettings
    from remit.store.database import Store

_SECRET_BYTES_MAX = 65_536
_MICROSECONDS = 1_000_000


class TargetSecrets:
    """Secrets of one installation's targets."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], datetime]) -> None:
        self._store, self._sealer, self._clock = store, sealer, clock

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
        return self._sealer.open(kept.text, _name(target.name)).decode()

    async def replace(self, target: str, secret: str, by: str) -> None:
        """Seal a new secret; the old one is forgotten. Raises Mistake, Outage."""
        if not secret or len(secret.encode()) > _SECRET_BYTES_MAX:
            raise Mistake(f"a secret has 1 to {_SECRET_BYTES_MAX:,} bytes", code="target_secret")
        now = self._clock()
        before = await self._store.mark(_name(target))
        number = max(int(now.timestamp() * _MICROSECONDS), before.number + 1 if before else 0)  # whatever the clock does
        row = MarkRow(name=_name(target), number=number, text=self._sealer.seal(secret.encode(), _name(target)))
        await self._store.append(Append(body=encode(Record(at=now, body=TargetSecretSet(target=target, by=by))), rows=(row,)))


def _name(target: str) -> str:
    return f"secret of target {target}"


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

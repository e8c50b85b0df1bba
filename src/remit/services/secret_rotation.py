"""Replaces the secret by which remit manages a target with one that nobody else knows.

    next secret made → *recorded, sealed beside the old* → set on the target → logged in with → *recorded, the old forgotten*

Rules
* Before the target is told, the next secret is durable; before the old one is forgotten, the target has taken the next. Whatever dies
  in between, both are there, and whoever needs the target next asks it which one holds (``target_secrets.py``).
* Taking it up again goes on with the same secret: to set it twice is harmless.
* It is never printed, and never in an error, the ledger or a log.

Left out: secrets that come from the environment or a file: they are somebody else's to rotate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remit.drivers.targets.base import MARK_PREFIX, SetsOwnSecret
from remit.errors import Mistake, NotFound, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.drivers.targets.base import TargetKind, TargetSettings
    from remit.services.target_secrets import TargetSecrets

_STEP_SECONDS = 15.0  # of each of two or three: together below the window in which no other rotation begins


class SecretRotation:
    """Rotations of one installation's targets."""

    def __init__(
        self, configured: Callable[[], Mapping[str, TargetSettings]], kinds: Mapping[str, TargetKind], secrets: TargetSecrets
    ) -> None:
        self._configured, self._kinds, self._secrets = configured, kinds, secrets

    async def rotate(self, name: str, by: str) -> None:
        """Give target ``name`` a new secret, or end a rotation that was interrupted.

        Raises NotFound, Mistake (its secret is not sealed here; its kind cannot), Conflict (one is under way), Outage.
        """
        settings = self._configured().get(name)
        if settings is None:
            raise NotFound(f"there is no target {name[:80]!r}", hint=f"configured: {', '.join(sorted(self._configured())) or 'none'}")
        if settings.secret or settings.secret_file:
            hint = f"take secret and secret_file out of remit.toml, then: remit target set-secret {name}"
            raise Mistake(f"the secret of {name} comes from elsewhere, and is rotated there", code="target_secret", hint=hint)
        interrupted = await self._secrets.rotating(name)
        current = await self._secrets.secret(settings)  # if the target has taken the next one already, that is settled by this
        if interrupted and not await self._secrets.rotating(name):
            return
        target = self._kinds[settings.kind].open(settings, _always(current))
        try:
            if not isinstance(target, SetsOwnSecret):
                hint = f"change it on the target, then: remit target set-secret {name}"
                raise Mistake(f"a target of kind {settings.kind} does not let remit change its own secret", code="target_secret", hint=hint)
            secret = await self._secrets.begin(name, by)
            async with asyncio.timeout(_STEP_SECONDS):
                await target.set_own_secret(secret)
        except TimeoutError:
            raise Outage(f"target {name} did not answer in time", code="target_unavailable", hint=_AGAIN.format(name)) from None
        finally:
            await target.close()
        if not await accepts(self._kinds, settings, secret):
            raise Outage(f"target {name} does not take its new secret", code="target_secret", hint=_AGAIN.format(name))
        await self._secrets.promote(name, by)


_AGAIN = "both secrets are kept; remit target rotate {} goes on with it"


async def accepts(kinds: Mapping[str, TargetKind], settings: TargetSettings, secret: str) -> bool:
    """Whether a target takes a secret now; also False where it does not answer: then nothing is known, and nothing forgotten."""
    target = kinds[settings.kind].open(settings, _always(secret))
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            await target.list_ours(MARK_PREFIX)
    except (Outage, Mistake, TimeoutError):
        return False
    finally:
        await target.close()
    return True


def _always(secret: str) -> Callable[[], Awaitable[str]]:
    async def given() -> str:
        return secret

    return given

"""A secret that nobody can mint: the last resort, for systems that know one key for all. It is injected, never shown, and it stands.

Rules: the secret is the target's own (environment, file, or sealed in the store), the same for every task, and it is given out as it is. A
lease of it is taken from its task like any other, so no server of the task is given it any more; but the secret opens its system until a
person replaces it there. So it is flagged: in the ledger, in ``remit lease list``, in the receipt, by ``remit doctor``. Left out: all that
only the system itself could do (expiry, scope, cutting sessions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.errors import Mistake, RemitError
from remit.logic.tripwire import SECRET_BYTES_MIN, searchable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from typing import Any

    from remit.drivers.targets.base import Scope, TargetSettings


class StaticTarget:
    """See ``drivers/targets/base.py`` for the duties; those that need the target's help are not kept, and it is said so."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._user, self._secret = str(settings.values["user"]), secret

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target. Nothing is made."""
        del mark, scope, expires_at
        secret = await self._secret()
        if not searchable(secret):
            text = f"the secret has fewer than {SECRET_BYTES_MIN} bytes, so that it could not be told from chance in a text"
            raise Mistake(text, code="target_secret")
        return Minted(parts={"user": self._user, "password": secret}, secret=frozenset({"password"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Nothing of the lease is left, for there was nothing but the secret itself, which stands."""
        del mark
        return minted is not None

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        del prefix
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            secret = await self._secret()
        except RemitError as error:
            return (Finding(good=False, text=f"{error.message}: {error.hint}" if error.hint else error.message),)
        if not searchable(secret):
            return (Finding(good=False, text=f"its secret has fewer than {SECRET_BYTES_MIN} bytes: replace it by a longer one"),)
        text = "a standing secret, the same for every task: no end of a task makes it go. Replace it at its system when one may have leaked"
        return (Finding(good=True, text=text),)

    async def close(self) -> None:
        """See Target."""


def _check_settings(values: Mapping[str, Any]) -> None:
    del values


def _check_scope(scope: Scope) -> None:
    if scope:
        raise Mistake("a static secret has no scope: it does whatever its system lets it do", code="scope", hint="leave scope out")


STATIC = TargetKind(
    name="static",
    settings={"user": Setting(kind=str, default="")},
    blank={"user": "", "password": ""},
    check_settings=_check_settings,
    check_scope=_check_scope,
    open=StaticTarget,
    stands=True,
)

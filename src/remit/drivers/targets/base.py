"""What a target must do: the small protocol behind every lease. Each driver passes ``tests/contract/target_contract.py``.

A credential is made under a *mark*: ``remit_``, five letters of this installation, then those of the lease, 31 in all (a-z, 2-7).
The target carries it, as the account's name or in whatever it can list, so that what is ours is found without our memory.

Duties of every implementation
* Mint: all or nothing as far as the target can; the credential does what the scope says and no more, and the target ends it by
  itself at ``expires_at`` or soon after (some cannot: ``TargetKind.ends_by_itself``). Within ``MINT_SECONDS`` it is there or never
  will be. A mark is minted once.
* Revoke: when it returns, no login, no live session and nothing owned by the mark is left. Idempotent: a mark that never was, or is
  gone, is a success; so are several at once. No login first, then the sessions, then the rest: who reconnects meanwhile stays out.
  It needs no memory but the mark; ``minted`` is given where it is known, for targets that want the credential itself (``by_mark``):
  there a mint that nobody waits for any more goes on, and is remembered until its mark is revoked.
* Failure: ``Outage`` where the target is away, slow or full (all its leases wait a while), ``Mistake`` where it refuses this one.
  Nothing else is taken from a driver's error than its class and its code: the target's own words may hold secrets.
* Bounds: every wait ends. At most ``connections`` are open at a time. Cancelling leaves no connection behind.
* Secrets: never in an error, a log, a ``repr``; where the target takes a digest of a password, it is given no password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime, timedelta

MINT_SECONDS = 20.0
REVOKE_SECONDS = 30.0
MARK_PREFIX = "remit_"

Scope = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A credential, in the parts that its kind names (``TargetKind.blank``): what servers are given. ``secret``: which of them are.

    ``lease``: whose it is, where that is known; no driver's affair.
    """

    parts: Mapping[str, str] = field(repr=False)
    secret: frozenset[str] = frozenset()
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found. ``good`` or not, in words. ``mend``: the statement or setting that mends it, alone, so that it can be run.

    ``known``: whether the target could be asked at all; what is not known is not good either.
    """

    good: bool
    text: str
    mend: str = ""
    known: bool = True


class Target(Protocol):
    """One target, as it is configured."""

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """Make a credential. Raises Mistake (nothing was made), Outage (``unsent``: nothing was made; else who knows)."""

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """Make sure that nothing of it is left; whether there was anything. Raises Outage, Mistake."""

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Marks on the target that begin so, whatever their state; none where it keeps no list. Asked at the start and every ten minutes,
        also then: it is a moment to look after what is kept there. Raises Outage.
        """

    async def check(self) -> tuple[Finding, ...]:
        """Whether it is reachable and remit may do here what it must, for ``remit doctor``. Changes nothing, never raises."""

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


@runtime_checkable
class TellsWhatItMayGive(Protocol):
    """A target that can be asked, without anything being made, whether remit may hand on what a scope names. Part of those that can."""

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """What of this scope remit may not hand on there: which right, on what, and how to mend it. None where it may all.

        What a task's inputs fill is left out: lists may be empty, keys may be missing. Changes nothing. Raises Mistake, Outage.
        """


@runtime_checkable
class SetsOwnSecret(Protocol):
    """A target on which remit can replace its own secret. Part of those that can; the others are rotated by hand."""

    async def set_own_secret(self, secret: str) -> None:
        """Make ``secret`` that of the account remit works as. To set the same again is a success; connections that are open may stay.

        Durable on the target when it returns. Raises Mistake (nothing changed), Outage (who knows).
        """


@runtime_checkable
class ForgetsInCrashes(Protocol):
    """A target whose newest credentials may be lost when it crashes: it says so before its disk has them. They open nothing then."""

    async def interrupted(self) -> bool:
        """Whether, since this was asked last, it may have crashed. Asks it nothing. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key of ``[targets.NAME]``. ``default`` ``None``: it must be given. ``most``: of a number."""

    kind: type[str | int | bool]
    default: str | int | bool | None = None
    most: int = 65_535
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """``[targets.NAME]`` of ``remit.toml``, without its secret. ``secret_file``: where that lies; "" : the environment, or sealed.

    ``rotate_after``: a credential in use that is older is replaced.
    """

    name: str
    kind: str
    values: Mapping[str, Any]
    secret: str = field(default="", repr=False)
    secret_file: str = ""
    connections: int = 4
    rotate_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """A kind of target. ``blank``: the parts of a credential, each as something that opens nothing, to start a server without a task.

    ``check_settings``, ``check_scope``: raise Mistake, without a place. ``open`` takes what gives the target's own secret, asked anew
    for every connection, so that a new one is taken up at once. ``ends_by_itself``: whether the target keeps to ``expires_at`` without
    remit; where it cannot, reports say so. ``lists``: whether it can say what it gave out; where it cannot, ``list_ours`` is empty,
    nothing is compared, and ``revoke`` of a mark that never was is true. ``stands``: what is
    leased is no credential of the task's own but a secret that outlives it. ``by_mark``: whether the mark is enough to revoke; else the
    credential itself is needed, and one that was lost goes at its own end only. ``late_seconds``: how long after ``expires_at`` that
    is at most, where a credential's life cannot be as short as its lease's. ``divisible``: lists of a scope of which fewer entries
    are less, whatever else it says: a task gets those that its grant needs.
    """

    name: str
    settings: Mapping[str, Setting]
    blank: Mapping[str, str]
    check_settings: Callable[[Mapping[str, Any]], None]
    check_scope: Callable[[Scope], None]
    open: Callable[[TargetSettings, Callable[[], Awaitable[str]]], Target]
    ends_by_itself: bool = True
    lists: bool = True
    stands: bool = False
    by_mark: bool = True
    late_seconds: int = 0
    divisible: frozenset[str] = frozenset()

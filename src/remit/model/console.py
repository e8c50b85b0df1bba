"""Who looks at remit in a browser, what they may do there, and what the ledger holds of it.

Rules: a role is held because the configuration gives it to what was proved of a person, never because anybody says so. What a role may
do is Cedar's to say (``logic/console.py``). Left out: sessions (``services/console_sessions.py``), pages (``doors/console``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(StrEnum):
    """The roles of the console: who looks, who answers questions, who stops tasks, who goes through the ledger."""

    VIEWER = "viewer"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Action(StrEnum):
    """What a page or a button of the console does. Policies of the console name these."""

    LOOK = "look"
    ANSWER = "answer"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    AUDIT = "audit"
    REHEARSE = "rehearse"


class Via(StrEnum):
    """How a person proved who they are: by a link of this machine's command line, or at the provider of ``[sign_in]``."""

    LINK = "link"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A person, proved. ``name``: ``local:ACCOUNT``, or the provider's claim. ``holds``: ``CLAIM=VALUE``, those that roles speak of."""

    name: str
    via: Via
    holds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRules:
    """``[console]``. ``roles``: to each role patterns of names, or ``CLAIM=VALUE``. ``idle``, ``lasts``: a session's life.

    ``policies``: Cedar texts by file name, ``console/*.cedar``; none: what ``logic/console.py`` says by default.
    """

    roles: Mapping[Role, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(Role, ("local:*",)))
    idle: timedelta = timedelta(minutes=30)
    lasts: timedelta = timedelta(hours=12)
    policies: Mapping[str, str] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether somebody has a role who does not come by a link of this machine."""
        return any(not entry.startswith("local:") for entries in self.roles.values() for entry in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSignedIn:
    """A session of the console begins. ``session``: digest of its id, cut short: it opens nothing."""

    person: str
    via: str
    session: str
    roles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSignedOut:
    """Sessions of a person end before their time. ``session``: which one ("" : all of them)."""

    person: str
    by: str
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRefused:
    """A sign-in that did not hold. ``via``: what was tried; ``skipped``: refusals before it that were too many to be recorded."""

    why: str
    via: str
    code: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyAdded:
    """A person's authenticator is known from here on. ``passkey``: digest of its credential id. ``session``: in which one."""

    person: str
    passkey: str
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRemoved:
    """It answers nothing any more."""

    person: str
    passkey: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A registered authenticator (WebAuthn Level 3 §4, public key credential). ``id``, ``public_key``: as it gave them, no secrets."""

    id: bytes
    public_key: bytes
    added_at: datetime
    label: str = ""

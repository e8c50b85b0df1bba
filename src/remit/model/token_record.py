"""What the ledger holds of tokens and of the keys that sign them (``model/record.py`` has the rules)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct


class TokenIssued(Struct, frozen=True, kw_only=True):
    """A token exchange. ``subject_proof``: how the agent proved itself; ``jti`` identifies the token, it is no secret.

    ``audience``: where it opens, where that is less than the whole gateway. ``bound``: what its holder must prove (thumbprints).
    ``exchange``: the OAuth grant type it was given by. ``status_number``: its place in the status lists (-1: in none).
    """

    agent: str
    use: str
    jti: str
    expires_at: datetime
    subject_proof: str
    audience: str = ""
    bound: str = ""
    exchange: str = ""
    status_number: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """A proof that did not hold, or an exchange that was refused. ``claimed``: what it claimed to be, unverified and cut short.

    ``exchange``: the OAuth grant type that was tried, cut short; ``code``: what was answered. ``skipped``: refusals before it that were
    too many to be recorded.
    """

    why: str
    claimed: str = ""
    exchange: str = ""
    code: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked:
    """One token of a task opens nothing any more; the task lives on (RFC 7009)."""

    jti: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRotated:
    """Another key signs tokens from here on; keys by their thumbprints (RFC 7638). ``compromised``: the old one verifies nothing more."""

    retired: str
    current: str
    by: str
    compromised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityMade:
    """A signing certificate of the trust domain: published from now on, gone at ``ends_at``. ``fingerprint``: its SHA-256, hexadecimal."""

    number: int
    fingerprint: str
    begins_at: datetime
    ends_at: datetime

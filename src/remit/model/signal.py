"""Nouns of Shared Signals: who tells us what, what it concerns, what follows, and whom we tell (OpenID SSF 1.0, CAEP 1.0, RISC).

Rules: a signal only ever takes back. What it concerns is a conjunction of clauses; an empty one concerns nothing. Its records of the
ledger stand here too, under the rules of ``model/record.py``. Left out: how a signal is read (``logic/signals.py``,
``logic/subjects.py``) and told (``logic/telling.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED, VERIFICATION = f"{CAEP}session-revoked", f"{SSF}verification"
ACCOUNT_DISABLED, ACCOUNT_ENABLED = f"{RISC}account-disabled", f"{RISC}account-enabled"
LIFECYCLE = "https://schemas.karlmcguinness.com/secevent/mission/lifecycle-change"  # Mission signals draft §4, a private namespace
PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


class Consequence(StrEnum):
    """What follows from a signal for the tasks that it concerns."""

    RECORD = "record"
    SUSPEND = "suspend"
    REVOKE = "revoke"


class Concerns(StrEnum):
    """Kinds of what a signal may concern here."""

    PERSON = "person"
    AGENT = "agent"
    TASK = "task"
    TOKEN = "token"  # noqa: S105 - a word, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSet:
    """A security event token whose signature held (RFC 8417), one event: ``event`` is its type, ``claims`` what it says."""

    jti: str
    issued_at: int
    event: str
    claims: Mapping[str, Any]
    subject: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """Any of these: persons (as ``logic/subjects.same_person`` writes them), SPIFFE IDs of agents, ids of tasks, ids of our tokens."""

    persons: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether nothing is meant."""
        return not (self.persons or self.agents or self.tasks or self.tokens)


Concern = tuple[Clause, ...]  # all of them must hold for a task; none: nothing that we know is concerned


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitterRule:
    """One configured transmitter: whom we believe what.

    ``keys``: a fixed JWK set; ``None``: from ``jwks_uri``, or ("") from the issuer's metadata. ``push_secret_digest``: SHA-256, b"" : it
    may not push. ``poll``: its poll endpoint ("" : none). ``events``: what follows, by event type, where not the default.
    ``persons``: forms in which a person is named (``{email}``, ``{iss}``, ``{sub}``, ``{id}``, ``{uri}``, ``{account}``,
    ``{phone_number}``). ``private``: addresses of private networks may be asked.
    """

    name: str
    issuer: str
    audience: str
    keys: Mapping[str, Any] | None = None
    jwks_uri: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    push_secret_digest: bytes = field(default=b"", repr=False)
    poll: str = ""
    poll_secret: str = field(default="", repr=False)
    poll_every: timedelta = timedelta(seconds=10)
    events: Mapping[str, Consequence] = field(default_factory=dict)
    concerns: frozenset[Concerns] = frozenset(Concerns)
    persons: tuple[str, ...] = ("{email}", "{sub}", "{id}", "{uri}", "{account}", "{phone_number}")
    age_max: timedelta = timedelta(days=7)
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverRule:
    """One configured receiver: whom we tell, and where. ``push``: addresses that it may choose from; none: it polls.

    ``events``: types it may ask for; none: all. ``persons``: it is told on whose behalf a task ran. ``everything``: streams begin with
    all subjects, else with none. ``transmitter``: who of those that we believe it is as well: what its own signals did is not told it.
    """

    name: str
    secret_digest: bytes = field(repr=False)
    audience: str
    push: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    persons: bool = False
    everything: bool = True
    private: bool = False
    transmitter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRules:
    """What ``[signals]`` says. ``lifecycle``: type of the event that tells every move of a task; "" : it is not told."""

    transmitters: Mapping[str, TransmitterRule] = field(default_factory=dict)
    receivers: Mapping[str, ReceiverRule] = field(default_factory=dict)
    lifecycle: str = LIFECYCLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A receiver's stream. ``method``: how it is delivered. ``authorization``: sealed, the header that its endpoint demands ("" : none).

    ``events``: those it gets. ``listed``: digests of subjects that are exceptions to ``everything``.
    """

    id: str
    receiver: str
    method: str
    endpoint: str = ""
    authorization: str = ""
    requested: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    description: str = ""
    status: str = "enabled"
    reason: str = ""
    everything: bool = True
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event to be told of an entry of the ledger: its type, subject and claims."""

    event: str
    subject: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived:
    """A security event token came in. ``outcome``: ``accepted``, or ``refused`` and ``why``; ``jti_digest``, ``subject_digest``: of what
    it said. ``concerns``: which kinds of things here it is about; ``skipped``: refusals before it that were too many to be recorded.
    """

    signal: str
    transmitter: str
    via: str
    outcome: str
    why: str = ""
    jti_digest: str = ""
    event: str = ""
    subject_format: str = ""
    subject_digest: str = ""
    concerns: list[str] = field(default_factory=list)
    consequence: str = ""
    token_digest: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFollowed:
    """What followed from a signal, all of it in force: tasks moved (the first thousand in ``tasks``), those that were damaged, and how many
    single tokens were taken back.
    """

    signal: str
    revoked: int
    suspended: int
    tasks: list[str] = field(default_factory=list)
    damaged: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChanged:
    """A receiver changed its stream, or asked for a verification. ``change`` identifies it."""

    change: str
    receiver: str
    stream: str
    what: str
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRefused:
    """A receiver did not take one of our tokens and never will. ``code``: what it said, of RFC 8935 §2.4, else ``other``."""

    receiver: str
    stream: str
    jti: str
    code: str

"""What others are told of an entry of the ledger, and as which security event token (SSF 1.0, CAEP 1.0; Mission signals draft §4).

Rules: a token is made from the entry alone, so it is the same at every attempt and on every node, and its id says which entry it tells.
Nothing of a task is told but its id, its agent, how it moved, and (where configured) on whose behalf it ran: no reason that a person wrote,
no objective, no input. Nobody is told what followed from its own signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_json
from remit.model.delegation_record import AgentsRestored, AgentsStopped
from remit.model.record import TaskMoved, TaskOpened
from remit.model.signal import ACCOUNT_DISABLED, ACCOUNT_ENABLED, SESSION_REVOKED, VERIFICATION, Stream, Told
from remit.model.task import TASK_MOVES, TaskState
from remit.model.token_record import TokenRevoked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remit.model.record import Record

Json = dict[str, Any]


def told_events(lifecycle: str) -> tuple[str, ...]:
    """Types of all that can be told. ``lifecycle``: that of a task's moves ("" : they are not told)."""
    return tuple(event for event in (SESSION_REVOKED, ACCOUNT_DISABLED, ACCOUNT_ENABLED, lifecycle) if event)


def its_own(by: str, transmitter: str) -> bool:
    """Whether something was done by a signal of the very party that would be told of it."""
    return bool(transmitter) and by == f"signal:{transmitter}"


def agents_told(record: Record, issuer: str) -> tuple[Told, ...]:
    """The events of agents that were stopped, or may work again (RISC 1.0 §2): one for each."""
    body = record.body
    if not isinstance(body, AgentsStopped | AgentsRestored):
        return ()
    event = ACCOUNT_DISABLED if isinstance(body, AgentsStopped) else ACCOUNT_ENABLED
    return tuple(Told(event=event, subject=_agent(agent, issuer), claims={}) for agent in (body.declared or body.agents) if agent != "*")


def token_told(record: Record, issuer: str) -> tuple[Told, ...]:
    """The event of a token that was revoked while its task lives on. Its subject is the token alone: whoever knows it not does nothing."""
    body = record.body
    if not isinstance(body, TokenRevoked):
        return ()
    subject = {"format": "jwt_id", "iss": issuer, "jti": body.jti}
    return (Told(event=SESSION_REVOKED, subject=subject, claims={"event_timestamp": int(record.at.timestamp())}),)


def told(record: Record, opened: TaskOpened, prior: str, *, issuer: str, lifecycle: str, persons: bool) -> tuple[Told, ...]:
    """The events of a record of a task that was ``opened`` so, and was in state ``prior`` before it."""
    body = record.body
    if not isinstance(body, TaskMoved) or record.task is None:
        return ()
    state, moment = TaskState(body.to), int(record.at.timestamp())
    subject = _subject(record.task, opened, issuer, persons=persons)
    found = []
    if not TASK_MOVES[state]:
        claims = {
            "event_timestamp": moment,
            "initiating_entity": _initiator(body.by, opened),
            "reason_admin": {"en": f"the task is {state.value}"},
        }
        found.append(Told(event=SESSION_REVOKED, subject=subject, claims=claims))
    if lifecycle:
        moved: Json = {
            "mission": record.task,
            "mission_origin": issuer,
            "prior_state": prior,
            "state": state.value,
            "version": record.seq,
            "committed_at": record.at.isoformat(),
        }
        found.append(Told(event=lifecycle, subject=subject, claims=moved))
    return tuple(found)


def _subject(task: str, opened: TaskOpened, issuer: str, *, persons: bool) -> Json:
    """A task as a complex subject (SSF 1.0 §3): its id, its agent, and on whose behalf it ran."""
    subject: Json = {
        "format": "complex",
        "session": {"format": "opaque", "id": task},
        "application": _agent(opened.agent, issuer),
    }
    if persons and opened.on_behalf_of:
        subject["user"] = {"format": "opaque", "id": opened.on_behalf_of}
    return subject


def _agent(agent: str, issuer: str) -> Json:
    return {"format": "iss_sub", "iss": issuer, "sub": agent}


def verification(stream: str, state: str) -> Told:
    """The event that a receiver asked for, to see that the stream works (SSF 1.0 §8.1.4)."""
    subject = {"format": "opaque", "id": stream}
    return Told(event=VERIFICATION, subject=subject, claims={"state": state} if state else {})


def wanted(event: Told, stream: Stream) -> bool:
    """Whether a stream carries an event: its type was asked for, and its subject is not left out."""
    if event.event == VERIFICATION:
        return True
    if event.event not in stream.events:
        return False
    listed = bool(stream.listed) and any(digest in stream.listed for digest in subject_digests(event.subject))
    return listed != stream.everything


def subject_digests(subject: Mapping[str, Any]) -> tuple[str, ...]:
    """A subject and, of a complex one, each member, as digests."""
    members = [member for name, member in sorted(subject.items()) if name != "format"] if subject.get("format") == "complex" else []
    return tuple(digest_json(one) for one in (dict(subject), *members))


def token_id(stream: str, index: int, part: int) -> str:
    """``jti``: the same whenever the same event is told to the same stream."""
    return f"{stream}.{index}.{part}"


def set_claims(event: Told, record: Record, *, issuer: str, audience: str, jti: str, index: int) -> Json:
    """The claims of the token. ``txn``: the entry of the ledger, the same for all that it caused."""
    return {
        "iss": issuer,
        "jti": jti,
        "iat": int(record.at.timestamp()),
        "aud": audience,
        "txn": f"ledger-{index}",
        "sub_id": dict(event.subject),
        "events": {event.event: dict(event.claims)},
    }


def after_acks(outstanding: Sequence[str], acked: frozenset[str]) -> tuple[int, frozenset[str]]:
    """How many of the outstanding tokens, in order, are done with, and which later ones are acknowledged already."""
    done = 0
    while done < len(outstanding) and outstanding[done] in acked:
        done += 1
    return done, acked & frozenset(outstanding[done:])


def _initiator(by: str, opened: TaskOpened) -> str:
    """CAEP 1.0 §2: admin, user, policy or system."""
    if by == "remit":
        return "system"
    if by.startswith("signal:"):
        return "policy"
    return "user" if by in {opened.agent, opened.on_behalf_of} else "admin"

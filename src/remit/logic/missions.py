"""A task in the words of the drafts for mission-bound authorization (``draft-mcguinness-oauth-mission``). Pure.

Rules: a projection of the task and nothing more: nobody decides by it here. The drafts may change their names, so it is served only
where ``[tokens] mission`` asks for it. Only the state ``active`` permits anything. Left out: intents, approval and the creation of child
missions; our tasks have their own ways. A child names its parent, whose every change holds for it at once (``immediate``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_json
from remit.logic.claims import grant_details
from remit.model.task import TaskState

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.task import Task

Json = dict[str, Any]
STATUS_TYPE = "mission-status-response+jwt"
OPERATIONS = {
    "revoke": TaskState.REVOKED,
    "suspend": TaskState.SUSPENDED,
    "resume": TaskState.ACTIVE,
    "complete": TaskState.COMPLETED,
}


def mission_claim(task: Task, issuer: str, base: str, parent: Task | None = None) -> Json:
    """The ``mission`` claim. ``base``: the gateway's address, which the grant is spoken of at. ``parent``: of a child."""
    claim: Json = {"id": task.id, "origin": issuer, "authority_hash": authority_hash(task, issuer, base)}
    if parent is not None:
        claim["parent"] = {
            "id": parent.id,
            "origin": issuer,
            "authority_hash": authority_hash(parent, issuer, base),
            "delegation_id": task.id,  # a delegation makes one child, and has no other name in the ledger
            "cascade_mode": "immediate",
            "created_at": task.opened_at.isoformat(),
        }
    return claim


def authority_hash(task: Task, issuer: str, base: str) -> str:
    """The commitment to the grant: digest of the canonical ``{"typ", "iss", "value"}``."""
    return digest_json({"typ": "mission-authority-set", "iss": issuer, "value": grant_details(task, base)})


def mission_status(task: Task, issuer: str, base: str, now: datetime, parent: Task | None = None) -> Json:
    """The members ``mission`` and ``authorization_details`` of a status response."""
    state = TaskState.EXPIRED if now >= task.deadline and not task.over else task.state
    mission = {**mission_claim(task, issuer, base, parent), "state": state.value, "mission_expiry": task.deadline.isoformat()}
    return {"mission": mission, "authorization_details": grant_details(task, base)}

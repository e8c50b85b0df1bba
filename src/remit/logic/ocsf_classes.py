"""The class of each kind of record, and what of the record stands where in it (OCSF 1.8.0). A part of ``ocsf.py``, whose rules it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.model.record import Record

FINDING, ACCOUNT, AUTHENTICATION, SESSION, ENTITY, ACCESS, API = 2004, 3001, 3002, 3003, 3004, 3005, 6003
CREATE, READ, UPDATE, DELETE, ENABLE, DISABLE, ACTIVATE, DEACTIVATE, SUSPEND, OTHER = 1, 2, 3, 4, 8, 9, 10, 11, 12, 99
CONTROL = "security_control"
_NAMED = {CREATE: "Create", READ: "Read", UPDATE: "Update", DELETE: "Delete"} | {
    ENABLE: "Enable",
    DISABLE: "Disable",
    ACTIVATE: "Activate",
    DEACTIVATE: "Deactivate",
    SUSPEND: "Suspend",
}
# action_id, action, disposition_id, disposition
_VERDICTS = {
    "allow": (1, "Allowed", 1, "Allowed"),
    "approved": (1, "Allowed", 8, "Approved"),
    "ask": (3, "Observed", 23, "Challenge"),
    "deny": (2, "Denied", 2, "Blocked"),
    "rejected": (2, "Denied", 25, "Rejected"),
}
_OTHER_VERDICT = (99, "Other", 99, "Other")
_MOVES = {"active": ACTIVATE, "suspended": SUSPEND, "revoked": DISABLE}
_GRANTED = frozenset({"granted", "used"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a record becomes. ``good``: whether it went as it should (``None``: nobody can say). ``members``: of its class."""

    class_uid: int = 0
    activity_id: int = OTHER
    activity_name: str = "Other"
    severity: int = 1
    good: bool | None = True
    profiles: tuple[str, ...] = ()
    members: Mapping[str, Any] = field(default_factory=dict)


def _user(uid: str) -> dict[str, str]:
    return {"uid": uid or "unknown"}


def _actor(record: Record, *, user: str = "", agent: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"app_uid": agent} if agent else {"app_name": "remit"}
    if user:
        made["user"] = _user(user)
    return {**made, **({"session": {"uid": record.task}} if record.task else {})}


def _control(verdict: str) -> dict[str, Any]:
    action_id, action, disposition_id, disposition = _VERDICTS.get(verdict, _OTHER_VERDICT)
    return {"action_id": action_id, "action": action, "disposition_id": disposition_id, "disposition": disposition}


def _policies(names: list[str], digest: str, verdict: str) -> dict[str, Any]:
    """The policies that decided: the first stands for the event, all of them as authorizations."""
    if not names:
        return {}
    each = [{"uid": name, "name": name, "version": digest, "is_applied": True} for name in names[:20]]
    return {"policy": each[0], "authorizations": [{"decision": verdict, "policy": one} for one in each]}


def _api(
    record: Record,
    operation: str,
    request: str,
    *,
    service: str = "remit",
    agent: str = "",
    user: str = "",
    code: int = 200,
    error: str = "",
) -> dict[str, Any]:
    response: dict[str, Any] = {"code": code, **({"error": error} if error else {})}
    api = {"operation": operation, "request": {"uid": request or "none"}, "response": response, "service": {"name": service}}
    source = {"instance_uid": agent or user or "remit"}
    return {"api": api, "actor": _actor(record, user=user, agent=agent), "src_endpoint": source}


def _call_decided(record: Record) -> Shape:
    body: Any = record.body
    verdict = "approved" if body.outcome == "allow" and body.approval else body.outcome
    reads = body.effect == "read"
    word = {"tool": "tools/call", "resource": "resources/read", "prompt": "prompts/get"}.get(body.tool_kind, body.tool_kind)
    error = "" if body.outcome == "allow" else "access_denied" if body.outcome == "deny" else "approval_required"
    codes = [reason.code for reason in body.reasons]
    target = f"{body.server}/{body.name}"
    asked = _api(record, f"{word} {target}", body.decision, service=body.server, agent=body.agent, code=403 if error else 200, error=error)
    resource = {"uid": target, "type": f"mcp_{body.tool_kind}"}
    return Shape(
        class_uid=API,
        activity_id=READ if reads else OTHER,
        activity_name="Read" if reads else "Execute Tool",
        severity=1 if body.outcome == "allow" else 2,
        good=body.outcome == "allow",
        profiles=(CONTROL,),
        members={
            **asked,
            **_control(verdict),
            **_policies(body.policies, body.policy_set, body.outcome),
            "resources": [resource],
            "status_code": body.outcome,
            "status_detail": ", ".join(codes) or body.outcome,
            "is_alert": bool(body.leaked),
        },
    )


def _call_finished(record: Record) -> Shape:
    body: Any = record.body
    good = body.ending == "ok"
    members = _api(record, "call/finished", body.decision, code=200 if good else 500, error="" if good else body.ending)
    return Shape(class_uid=API, activity_name="Tool Result", good=good, members={**members, "status_code": body.ending})


def _access_decided(record: Record) -> Shape:
    body: Any = record.body
    target = f"{body.resource_type}/{body.resource}"
    code, error = (200, "") if body.outcome == "allow" else (403, "access_denied")
    members = _api(
        record, f"{body.action} {target}", body.decision, service=body.application or "remit", user=body.subject, code=code, error=error
    )
    return Shape(
        class_uid=API,
        activity_name="Access Decision",
        severity=1 if body.outcome == "allow" else 2,
        good=body.outcome == "allow",
        profiles=(CONTROL,),
        members={
            **members,
            **_control(body.outcome),
            **_policies(body.policies, body.policy_set, body.outcome),
            "resources": [{"uid": target, "type": body.resource_type or "resource"}],
            "status_code": body.outcome,
        },
    )


def _access_searched(record: Record) -> Shape:
    body: Any = record.body
    members = _api(record, f"search {body.sought}", record.task or "", service=body.application or "remit", user=body.caller)
    return Shape(class_uid=API, activity_id=READ, activity_name="Read", members=members)


def _approval_answered(record: Record) -> Shape:
    body: Any = record.body
    verdict = "approved" if body.state in _GRANTED else "rejected" if body.state == "denied" else "ask"
    members = {**_api(record, "approval/answer", body.approval, user=body.by), **_control(verdict), "status_code": body.state}
    return Shape(class_uid=API, activity_name="Approval", profiles=(CONTROL,), members=members)


def _signal_received(record: Record) -> Shape:
    body: Any = record.body
    good = body.outcome == "accepted"
    members = _api(
        record, "ssf/receive", body.signal, user=body.transmitter, code=202 if good else 400, error="" if good else body.why or "refused"
    )
    return Shape(class_uid=API, activity_id=CREATE, activity_name="Create", severity=1 if good else 2, good=good, members=members)


def _signal_refused(record: Record) -> Shape:
    body: Any = record.body
    members = _api(record, "ssf/push", body.jti, service=body.receiver, code=400, error=body.code)
    return Shape(class_uid=API, activity_id=CREATE, activity_name="Create", severity=2, good=False, members=members)


def _task_opened(record: Record) -> Shape:
    body: Any = record.body
    return Shape(
        class_uid=SESSION,
        activity_id=1,
        activity_name="Assign Privileges",
        members={
            "user": _user(body.agent),
            "privileges": [f"{line.kind} {line.server}/{line.name}" for line in body.grants] or ["none"],
            "actor": _actor(record, user=body.opened_by),
            "session": {"uid": record.task or "", "expiration_time": round(body.deadline.timestamp() * 1_000)},
        },
    )


def _task_delegated(record: Record) -> Shape:
    body: Any = record.body
    members = {"user": _user(body.agent), "privileges": [f"task {body.child}"], "actor": _actor(record, agent=body.by)}
    return Shape(class_uid=SESSION, activity_id=1, activity_name="Assign Privileges", members=members)


def _delegation_refused(record: Record) -> Shape:
    body: Any = record.body
    members = {"user": _user(body.agent), "privileges": ["task"], "actor": _actor(record, user=body.by), "status_code": body.code}
    return Shape(class_uid=SESSION, activity_name="Delegation Refused", severity=2, good=False, members=members)


def _token_issued(record: Record) -> Shape:
    body: Any = record.body
    members = {
        "user": _user(body.agent),
        "service": {"name": body.audience or "remit"},
        "auth_protocol": body.subject_proof,
        "authentication_token": {"uid": body.jti, "expiration_time": round(body.expires_at.timestamp() * 1_000)},
    }
    return Shape(class_uid=AUTHENTICATION, activity_id=3, activity_name="Authentication Ticket", members=members)


def _signed(record: Record, user: str, activity: tuple[int, str], *, good: bool = True, code: str = "", detail: str = "") -> Shape:
    members: dict[str, Any] = {"user": _user(user), "service": {"name": "remit"}}
    if record.task:
        members["session"] = {"uid": record.task}
    members |= {"status_code": code} if code else {}
    members |= {"status_detail": detail} if detail else {}
    return Shape(
        class_uid=AUTHENTICATION, activity_id=activity[0], activity_name=activity[1], severity=1 if good else 2, good=good, members=members
    )


_LOGON, _LOGOFF = (1, "Logon"), (2, "Logoff")


def _entity(record: Record, uid: str, kind: str, activity: int, *, by: str = "", severity: int = 1, detail: str = "") -> Shape:
    members: dict[str, Any] = {"entity": {"uid": uid or "unknown", "type": kind}, "actor": _actor(record, user=by)}
    members |= {"status_detail": detail} if detail else {}
    return Shape(class_uid=ENTITY, activity_id=activity, activity_name=_NAMED[activity], severity=severity, members=members)


def _of_task(record: Record, activity: int, *, by: str = "", severity: int = 1, detail: str = "") -> Shape:
    return _entity(record, record.task or "", "task", activity, by=by, severity=severity, detail=detail)


def _lease(record: Record, uid: str, activity: int, name: str, *, target: str = "", by: str = "") -> Shape:
    members = {"user": _user(uid), "privileges": [target or uid or "lease"], "actor": _actor(record, user=by)}
    return Shape(class_uid=ACCESS, activity_id=activity, activity_name=name, members=members)


def _finding(record: Record, uid: str, title: str, *, activity: int = CREATE, severity: int = 4, types: tuple[str, ...] = ()) -> Shape:
    info = {"uid": uid, "title": title, "types": list(types) or ["remit"]}
    name = "Create" if activity == CREATE else "Close"
    resources = {"resources": [{"uid": record.task, "type": "task"}]} if record.task else {}
    members = {"finding_info": info, "is_alert": activity == CREATE, **resources}
    return Shape(class_uid=FINDING, activity_id=activity, activity_name=name, severity=severity, profiles=(CONTROL,), members=members)


def _drill_ran(record: Record) -> Shape:
    """A drill that does not hold opens a finding, which the next that holds closes."""
    body: Any = record.body
    held = body.outcome == "held"
    title = f"The drill {body.drill} {'held' if held else 'did not hold' if body.not_held else 'was not tried whole'}"
    severity = 1 if held else 4 if body.not_held else 2
    return _finding(record, f"drill/{body.drill}", title, activity=3 if held else CREATE, severity=severity, types=("drill",))


def _account(record: Record, user: str, activity: int, name: str, *, by: str = "") -> Shape:
    members = {"user": _user(user), "actor": _actor(record, user=by)}
    return Shape(class_uid=ACCOUNT, activity_id=activity, activity_name=name, members=members)


def _b(record: Record) -> Any:
    return record.body


BY_KIND: dict[str, Callable[[Record], Shape]] = {
    "task.opened": _task_opened,
    "task.moved": lambda r: _of_task(r, _MOVES.get(_b(r).to, DEACTIVATE), by=_b(r).by, detail=_b(r).reason),
    "task.narrowed": lambda r: _of_task(r, UPDATE, by=_b(r).by, detail=_b(r).reason),
    "task.delegated": _task_delegated,
    "task.returned": lambda r: _entity(r, _b(r).child, "task", DEACTIVATE),
    "delegation.refused": _delegation_refused,
    "agents.stopped": lambda r: _entity(r, ", ".join(_b(r).agents[:20]), "agent", DISABLE, by=_b(r).by, severity=3, detail=_b(r).reason),
    "agents.restored": lambda r: _entity(r, ", ".join(_b(r).agents[:20]), "agent", ENABLE, by=_b(r).by, detail=_b(r).reason),
    "token.issued": _token_issued,
    "token.refused": lambda r: _signed(r, _b(r).claimed, _LOGON, good=False, code=_b(r).code, detail=_b(r).why),
    "token.revoked": lambda r: _signed(r, _b(r).by, _LOGOFF, code="revoked"),
    "keys.rotated": lambda r: _entity(r, _b(r).current, "signing key", UPDATE, by=_b(r).by, severity=4 if _b(r).compromised else 1),
    "call.decided": _call_decided,
    "call.finished": _call_finished,
    "approval.answered": _approval_answered,
    "policy.activated": lambda r: _entity(r, _b(r).policy_set, "policy", ACTIVATE),
    "labels.raised": lambda r: _of_task(r, UPDATE),
    "labels.lowered": lambda r: _of_task(r, UPDATE, by=_b(r).by, severity=2, detail=_b(r).reason),
    "access.decided": _access_decided,
    "access.searched": _access_searched,
    "manifest.changed": lambda r: _finding(
        r, f"{r.task}/manifest", "The agent is no longer what it was when its task began", types=("drift",)
    ),
    "manifest.accepted": lambda r: _finding(
        r, f"{r.task}/manifest", "A person accepted what changed", activity=3, severity=1, types=("drift",)
    ),
    "signal.received": _signal_received,
    "signal.followed": lambda r: _entity(r, _b(r).signal, "signal", UPDATE),
    "signal.stream": lambda r: _entity(r, _b(r).stream, "event stream", UPDATE, by=_b(r).receiver),
    "signal.refused": _signal_refused,
    "lease.intended": lambda r: _lease(r, _b(r).mark, OTHER, "Intended", target=_b(r).target, by=_b(r).by),
    "lease.issued": lambda r: _lease(r, _b(r).lease, 1, "Assign Privileges"),
    "lease.revoking": lambda r: _lease(r, _b(r).lease, OTHER, "Revoking", by=_b(r).by),
    "lease.revoked": lambda r: _lease(r, _b(r).lease, 2, "Revoke Privileges"),
    "lease.stuck": lambda r: _finding(
        r, f"{_b(r).lease}/stuck", "A credential stands although its task is over", types=("stuck credential",)
    ),
    "lease.swept": lambda r: _lease(r, _b(r).mark, 2, "Revoke Privileges", target=_b(r).target),
    "target.secret_set": lambda r: _account(r, _b(r).target, 3, "Password Change", by=_b(r).by),
    "authority.made": lambda r: _entity(r, _b(r).fingerprint, "certificate authority", CREATE),
    "values.forgotten": lambda r: _entity(r, "values of calls", "kept values", DELETE, by=_b(r).by),
    "secret.found": lambda r: _finding(
        r, f"{r.task}/{r.seq}/secret", "A leased secret stood where it must not", types=("leaked credential",)
    ),
    "drill.ran": _drill_ran,
    "person.signed_in": lambda r: _signed(r, _b(r).person, _LOGON, code=_b(r).via),
    "person.signed_out": lambda r: _signed(r, _b(r).person, _LOGOFF),
    "person.refused": lambda r: _signed(r, "", _LOGON, good=False, code=_b(r).code, detail=_b(r).why),
    "passkey.added": lambda r: _account(r, _b(r).person, 10, "MFA Factor Enable", by=_b(r).person),
    "passkey.removed": lambda r: _account(r, _b(r).person, 11, "MFA Factor Disable", by=_b(r).by),
}

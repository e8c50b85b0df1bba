"""Claims of transaction tokens (``draft-ietf-oauth-transaction-tokens``): what a service of our own domain is told of one call. Pure.

Rules: it is context, neither an access token nor authentication; it names the one call that was decided on and lives as long as that
may take. Nothing of the agent's token is in it, and no value of an argument: the digest is the one that was decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from remit.model.call import Call
    from remit.model.task import Task

TRANSACTION_TYPE = "txntoken+jwt"
Claims = dict[str, Any]


def transaction_claims(task: Task, call: Call, decision: str, *, issuer: str, trust_domain: str, now: datetime, ttl: timedelta) -> Claims:
    """``decision``: its id in the ledger, which names the transaction. The subject is the person where one was proved, else the agent."""
    issued = int(now.timestamp())
    return {
        "iss": issuer,
        "aud": trust_domain,
        "iat": issued,
        "exp": issued + max(1, int(ttl.total_seconds())),
        "txn": decision,
        "sub": task.on_behalf_of if task.on_behalf_proof else task.agent.text,
        "scope": f"{call.kind.value}:{call.id}",
        "req_wl": f"spiffe://{trust_domain}/remit/gateway",
        "tctx": {
            "task": task.id,
            "task_type": task.type,
            "agent": task.agent.text,
            "on_behalf_of": task.on_behalf_of,
            "kind": call.kind.value,
            "name": call.id,
            "parameter_digest": call.digest,
        },
    }

"""Who asks the decision API (in AuthZEN: the policy enforcement point), and what it may ask.

Rules: a caller presents a secret of its own, a task token, or a proof that it is a declared agent (a JWT-SVID, an OIDC issuer's token,
or the X.509-SVID of its connection). Who presents nothing is nobody,
unless the configuration lets anyone on loopback ask; who presents something that does not hold is refused also then. Secrets
are compared by digest, all of them, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING

from remit.errors import Unauthenticated
from remit.model.access import AccessRules, Caller, CallerRule
from remit.model.identity import PeerCertificate
from remit.services.bearers import identity_in, is_dpop

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.model.identity import Proof
    from remit.model.token import Presented
    from remit.services.bearers import Bearers
    from remit.services.identities import Identities


class Callers:
    """Tells callers by what they present."""

    def __init__(self, bearers: Bearers, identities: Identities, rules: Callable[[], AccessRules]) -> None:
        """``rules``: as configured now."""
        self._bearers, self._identities, self._rules = bearers, identities, rules

    async def caller(self, credential: Presented, address: str) -> Caller:
        """Who presents a credential ("" : none) or a certificate from an IP address.

        Raises Unauthenticated (always the same words, but for what is wrong with a DPoP proof), Outage.
        """
        rules = self._rules()
        if isinstance(credential, PeerCertificate):
            return await self._agent(credential, rules)
        if not credential:
            if rules.anyone_on_loopback_may_ask and _loopback(address):
                return Caller(name="anyone on loopback", applications=None)
            raise Unauthenticated("who asks must say who it is", hint="Authorization: Bearer <secret, task token or JWT-SVID>")
        rule = None if is_dpop(credential) else _by_secret(rules, credential if isinstance(credential, str) else credential.token)
        if rule is not None:
            return Caller(name=rule.name, applications=rule.applications, tasks=rule.tasks)
        try:
            bearer = await self._bearers.bearer(credential)
            return Caller(name=bearer.agent.text, agent=bearer.agent, task=bearer.task)
        except Unauthenticated:
            if is_dpop(credential):
                raise
            return await self._agent(identity_in(credential), rules)

    async def _agent(self, credential: Proof, rules: AccessRules) -> Caller:
        try:
            name, workload = await self._identities.verify_svid(credential)
        except Unauthenticated:
            raise Unauthenticated("the proof of identity does not hold") from None
        for rule in rules.callers.values():
            if rule.agent == name:
                return Caller(name=rule.name, applications=rule.applications, tasks=rule.tasks, agent=workload.agent)
        return Caller(name=workload.agent.text, agent=workload.agent)


def _by_secret(rules: AccessRules, credential: str) -> CallerRule | None:
    presented = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
    found = None
    for rule in rules.callers.values():
        if hmac.compare_digest(rule.secret_digest, presented):
            found = rule
    return found


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

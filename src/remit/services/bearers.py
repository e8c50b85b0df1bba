"""Whom a task token stands for, at every door that takes one: also a token that is bound to a key or a certificate.

Rules: what the token is bound to must be shown by the same request, and a DPoP proof is used up by it (``possession.py``). What is
presented under the DPoP scheme is a task token or nothing: it proves no workload's identity. Left out: what a token is (``tokens.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Unauthenticated
from remit.model.token import Credential

if TYPE_CHECKING:
    from remit.model.identity import Bearer, Proof
    from remit.model.token import Presented
    from remit.services.possession import Possessions
    from remit.services.tokens import Tokens


class Bearers:
    """Tells bearers by what they present."""

    def __init__(self, tokens: Tokens, possessions: Possessions) -> None:
        self._tokens, self._possessions = tokens, possessions

    async def bearer(self, shown: Presented, server: str = "") -> Bearer:
        """Whom the presented token stands for, at one server of the gateway or ("") for the whole task. Raises Unauthenticated, Outage."""
        if isinstance(shown, str):
            return await self._tokens.bearer(shown, server=server)
        if isinstance(shown, Credential):
            return (await self.with_nonce(shown, server))[0]
        raise Unauthenticated("the token does not open anything here")

    async def with_nonce(self, shown: Credential, server: str) -> tuple[Bearer, str]:
        """The same, and a new DPoP nonce where one is due ("" : none)."""
        held = self._possessions.shown(shown)
        bearer = await self._tokens.bearer(shown.token, server=server, shown=held.possession)
        await self._possessions.spend(held)
        return bearer, self._possessions.nonce() if held.proof is not None and held.proof.stale else ""

    def nonce(self) -> str:
        """A fresh DPoP nonce."""
        return self._possessions.nonce()


def identity_in(shown: Presented) -> Proof:
    """What of it may prove a workload's identity. Raises Unauthenticated where nothing may."""
    if not isinstance(shown, Credential):
        return shown
    if shown.scheme != "bearer":
        raise Unauthenticated("the token does not open anything here")
    return shown.token


def is_dpop(shown: Presented) -> bool:
    """Whether a key was shown with it, so that it is meant as a task token and as nothing else."""
    return isinstance(shown, Credential) and shown.scheme == "dpop"

"""For whom an agent works, proved by that person's ID token of the provider of ``[sign_in]``.

Rules: the token is for remit at the provider, or for a client that is configured (``sign_in.audiences``); it proves one task, once, and
never an agent: who acts proves itself besides. The person is named by the same claim as at the front channel, and is among its people.
Left out: people who sign in here (``services/front_channel.py``), which is where they see what they consent to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.front_channel import person_of
from remit.model.token import Person

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.provider import Provider
    from remit.model.front_channel import SignIn
    from remit.services.replays import Replays


class People:
    """Tells people by their ID tokens."""

    def __init__(self, rule: SignIn, provider: Provider, replays: Replays, clock: Callable[[], datetime]) -> None:
        self._rule, self._provider, self._replays, self._clock = rule, provider, replays, clock

    async def proved(self, token: str) -> Person:
        """Whom an ID token proves; it is used up. Raises Unauthenticated (its sentence is for the ledger), Refusal, Outage."""
        claims, use, until = await self._provider.presented(token, self._clock())
        name = person_of(claims, self._rule)
        await self._replays.take(f"person {use}", until)
        return Person(name=name, proof=f"oidc:{self._rule.issuer}")

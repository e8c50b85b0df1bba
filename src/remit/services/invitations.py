"""Links by which one approver answers one question: sealed, short-lived, and worth nothing without that approver's secret.

Rules: a link names nobody that a reader could see, and is bound to the approver, the question and the digest of its call. Opening
it shows nothing; only the secret of the approver it was made for shows the question, on a page whose form is sealed in turn, so
that no other page can answer in the approver's name. Each person answers once, so a link that was used opens nothing more. After
some wrong secrets it opens nothing either; other ways stay open.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Refusal, Unauthenticated
from remit.logic.approvals import same_name
from remit.model.approval import ApprovalState

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.sealing import Sealer
    from remit.logic.consent import Consent
    from remit.model.approval import Approval
    from remit.model.approver import Approver
    from remit.services.approvals import Approvals, Person, Question

PATH = "/approve/"
_WRONG_MAX = 5  # secrets tried at one link
_COUNTED_MAX = 10_000
_TOKEN_CHARACTERS_MAX = 2_048
_FORM_TTL = timedelta(minutes=10)


class _Sealed(msgspec.Struct, frozen=True):
    """What a link or a form holds. ``until``: seconds since 1970."""

    approver: str
    approval: str
    digest: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A link that still stands: for whom, and to which question."""

    approver: str
    approval: str
    digest: str


class Invitations:
    """Makes and opens links of one trust domain."""

    def __init__(
        self,
        approvals: Approvals,
        sealer: Sealer,
        clock: Callable[[], datetime],
        *,
        base: str,
        consent: Callable[[], Consent],
    ) -> None:
        """``base``: the address under which people reach this node."""
        self._approvals, self._sealer, self._clock, self._base, self._consent = approvals, sealer, clock, base, consent
        self._wrong: OrderedDict[bytes, int] = OrderedDict()

    def link(self, approver: Approver, question: Approval) -> str:
        """An address for one approver and one question."""
        until = min(question.expires_at, self._clock() + self._consent().link_ttl)
        return f"{self._base}{PATH}{self._seal(approver.name, question.id, question.digest, until, 'link')}"

    def opened(self, token: str) -> Invitation:
        """What a link is for. Raises Refusal (link_invalid, link_expired), the same for all that was never a link."""
        return self._open(token, "link")

    async def proved(self, token: str, secret: str) -> tuple[Person, Question, str]:
        """The approver whose link and secret these are, the question, and the sealed form to answer with.

        Raises Refusal (link_*), Unauthenticated (another's secret or none), NotFound, Outage.
        """
        invitation = self.opened(token)
        counted = hashlib.sha256(token.encode()).digest()
        if self._wrong.get(counted, 0) >= _WRONG_MAX:
            raise Refusal("too many wrong secrets were tried at this link", code="link_blocked", hint="ask remit in another way")
        try:
            person = self._approvals.by_secret(secret, "link", name=invitation.approver)
        except Unauthenticated:
            self._wrong[counted] = self._wrong.pop(counted, 0) + 1
            if len(self._wrong) > _COUNTED_MAX:
                self._wrong.popitem(last=False)
            raise Unauthenticated("this is not the secret of the person this link was made for") from None
        question = await self._current(invitation, person)
        until = min(self._clock() + _FORM_TTL, question.approval.expires_at)
        return person, question, self._seal(person.name, invitation.approval, invitation.digest, until, "form")

    async def answered_by(self, form: str) -> tuple[Person, Question]:
        """Who answers by a form that was shown here, and which question. Raises Refusal (link_*), NotFound, Outage."""
        invitation = self._open(form, "form")
        approver = next((one for one in self._consent().approvers if one.name == invitation.approver), None)
        if approver is None:
            raise Refusal("you are no longer an approver", code="not_an_approver")
        person = self._approvals.person(approver, "link")
        return person, await self._current(invitation, person)

    async def _current(self, invitation: Invitation, person: Person) -> Question:
        question = await self._approvals.shown(invitation.approval, person)
        asked = question.approval
        if asked.digest != invitation.digest:
            raise Refusal("the call is not the one this link was made for", code="link_changed", hint="look at the open questions anew")
        if any(same_name(answer.by) == same_name(person.name) for answer in asked.answers):
            raise Refusal("you have answered this question; the link was used", code="link_used")
        if asked.state is not ApprovalState.PENDING:
            raise Refusal(f"this question is closed: it is {asked.state} by {asked.by}", code="link_used")
        if self._clock() >= asked.expires_at or question.task.over:
            raise Refusal("this question has expired", code="link_expired", hint="if the agent asks again, you get a new link")
        return question

    def _seal(self, approver: str, approval: str, digest: str, until: datetime, purpose: str) -> str:
        sealed = _Sealed(approver, approval, digest, int(until.timestamp()))
        return self._sealer.seal(msgspec.json.encode(sealed), f"{purpose} of an invitation")

    def _open(self, token: str, purpose: str) -> Invitation:
        wrong = Refusal("this link does not open anything", code="link_invalid", hint="look whether the whole address was copied")
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise wrong
        try:
            sealed = msgspec.json.decode(self._sealer.open(token, f"{purpose} of an invitation"), type=_Sealed)
        except (Unauthenticated, msgspec.MsgspecError):
            raise wrong from None
        if self._clock().astimezone(UTC).timestamp() >= sealed.until:
            raise Refusal("this link has expired", code="link_expired", hint="`remit approvals`, or GET /v1/approvals, shows what waits")
        return Invitation(approver=sealed.approver, approval=sealed.approval, digest=sealed.digest)

"""Approvers over HTTP: the control API with a secret as Bearer, and the page behind a link. Translates; decides nothing.

Rules: the page needs no script and nothing from elsewhere, is kept by nobody, and shows the question only to the secret of the
approver the link was made for. What it shows was written by strangers: it is escaped, always.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import HTMLResponse, Response

from remit.doors.answers import json_answer
from remit.doors.api.page import notice_page, question_page, secret_page
from remit.doors.bodies import whole_body
from remit.doors.html import headers
from remit.doors.problems import http_status
from remit.errors import Mistake, Refusal, RemitError, Unauthenticated
from remit.logic.approvals import Wish
from remit.logic.arguments import parse_json
from remit.model.approval import ApprovalState
from remit.wire import AnswerQuestion, AnswerView, QuestionsView, QuestionView

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.services.approvals import Approvals, Person, Question
    from remit.services.invitations import Invitations

_BODY_BYTES_MAX = 65_536
_FIELDS_MAX = 8
_SECONDS_MAX = 7 * 24 * 3_600
_PAGE_HEADERS = headers()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproversApi:
    """What approvers do over HTTP."""

    approvals: Approvals
    invitations: Invitations

    async def list(self, request: Request) -> Response:
        """Open questions of whoever asks."""
        questions = await self.approvals.waiting(self._approver(request))
        return _json(QuestionsView(approvals=[_view(question) for question in questions]))

    async def show(self, request: Request) -> Response:
        """One question."""
        return _json(_view(await self.approvals.shown(request.path_params["approval"], self._approver(request))))

    async def answer(self, request: Request) -> Response:
        """Answer one question."""
        person = self._approver(request)
        said = _said(await whole_body(request.receive, _BODY_BYTES_MAX))
        approval = request.path_params["approval"]
        await self.approvals.answer(person, approval, granted=said.answer == "approve", reason=said.reason, wish=_wish(said))
        return _json(_view(await self.approvals.shown(approval, person)))

    async def page(self, request: Request) -> Response:
        """What a link opens: a form that asks for the secret, whoever looks."""
        try:
            self.invitations.opened(request.path_params["token"])
        except RemitError as error:
            return _refused(error)
        return _page(secret_page())

    async def posted(self, request: Request) -> Response:
        """The secret, which shows the question; or the answer, which the form of that page carries."""
        try:
            body = await whole_body(request.receive, _BODY_BYTES_MAX)
            fields = dict(parse_qsl(body.decode("utf-8"), max_num_fields=_FIELDS_MAX, keep_blank_values=True))
        except (UnicodeDecodeError, ValueError):
            return _refused(Mistake("this form cannot be read", code="body"))
        token = request.path_params["token"]
        try:
            if "form" in fields:
                return await self._answered(token, fields)
            person, question, form = await self.invitations.proved(token, fields.get("secret", ""))
        except Unauthenticated as error:
            return _page(secret_page(error.message), 401)
        except RemitError as error:
            return _refused(error)
        return _page(question_page(question, person.name, form))

    async def _answered(self, token: str, fields: dict[str, str]) -> Response:
        self.invitations.opened(token)
        person, question = await self.invitations.answered_by(fields["form"])
        answer = fields.get("answer")
        if answer not in {"approve", "deny"}:
            raise Mistake("neither yes nor no", code="body")
        reason = fields.get("reason", "")
        approval = await self.approvals.answer(person, question.approval.id, granted=answer == "approve", reason=reason)
        if approval.state is ApprovalState.PENDING:
            more = approval.needed - len(approval.answers)
            return _page(notice_page("Your yes is recorded", f"{more} more must agree before the call may be made."))
        done = "Approved" if approval.state is ApprovalState.GRANTED else "Denied"
        what = "The agent may make exactly this call, once." if done == "Approved" else "The agent is told so, with your reason."
        return _page(notice_page(done, what))

    def _approver(self, request: Request) -> Person:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("an approver's secret is needed", hint="Authorization: Bearer <secret>")
        return self.approvals.by_secret(secret.strip(), "http")


def _said(body: bytes) -> AnswerQuestion:
    try:
        return msgspec.convert(parse_json(body), AnswerQuestion)
    except msgspec.ValidationError as error:
        raise Mistake(str(error), code="body") from None


def _wish(said: AnswerQuestion) -> Wish:
    if not 0 <= said.lasts <= _SECONDS_MAX:
        raise Mistake(f"for: {said.lasts} seconds", code="class", hint="whole seconds; 0: as long as the question holds")
    return Wish(calls=said.calls, lasts=timedelta(seconds=said.lasts) if said.lasts else None, free=tuple(said.free))


def _view(question: Question) -> QuestionView:
    approval = question.approval
    answers = [AnswerView(by=one.by, granted=one.granted, at=one.at, reason=one.reason, via=one.via) for one in approval.answers]
    return QuestionView(
        approval=approval.id,
        state=approval.state.value,
        call=approval.call,
        arguments_digest=approval.digest,
        asked_at=question.asked_at,
        expires_at=approval.expires_at,
        needed=approval.needed,
        answers=answers,
        task=question.task.id,
        evidence=question.details.evidence if question.details else None,
    )


def _json(value: object) -> Response:
    return json_answer(value, kept=False)


def _page(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, _PAGE_HEADERS)


def _refused(error: RemitError) -> Response:
    title = "This link opens nothing" if isinstance(error, Refusal) else "That did not work"
    return _page(notice_page(title, error.message, error.hint), http_status(error))

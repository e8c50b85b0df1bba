"""The pages behind a link, as HTML on its own: no script, no picture, nothing from elsewhere. Every text is escaped here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from remit.doors.html import page as _page
from remit.doors.html import row as _row

if TYPE_CHECKING:
    from remit.model.evidence import ArgumentShown, Evidence
    from remit.services.approvals import Question


def secret_page(wrong: str = "") -> str:
    """Asks who is there. It says nothing of the question."""
    told = f'<p class="warn" role="alert">{escape(wrong)}</p>' if wrong else ""
    return _page(
        "An agent asks for an approval",
        f'<p class="soft">The question is shown to the person this link was made for, and to nobody else.</p>{told}'
        '<form method="post"><label for="secret">Your secret as an approver</label>'
        '<input id="secret" name="secret" type="password" autocomplete="current-password" required autofocus>'
        '<button class="go">Show the question</button></form>',
    )


def question_page(question: Question, approver: str, form: str) -> str:
    """The question with all its evidence, and the two answers."""
    approval, details = question.approval, question.details
    said = "".join(
        f"<p>{escape(one.by)} said {'yes' if one.granted else 'no'}{': ' + escape(one.reason) if one.reason else ''}</p>"
        for one in approval.answers
    )
    more = f'<p class="warn">{approval.needed} must agree; {len(approval.answers)} so far.</p>' if approval.needed > 1 else ""
    shown = _evidence(details.evidence) if details else _poor(question)
    return _page(
        f"May an agent make this call, {escape(approver)}?",
        f"{more}{said}{shown}"
        f'<form method="post"><input type="hidden" name="form" value="{escape(form)}">'
        '<label for="reason">Why (it is recorded; when denied the agent reads it)</label>'
        '<input id="reason" name="reason" maxlength="500" autocomplete="off">'
        '<div class="answers"><button class="no" name="answer" value="deny">Deny</button>'  # first: the Enter key presses it
        '<button class="yes" name="answer" value="approve">Approve exactly this call, once</button></div></form>'
        f'<p class="soft">It expires {approval.expires_at:%Y-%m-%d %H:%M:%S} UTC.</p>',
    )


def notice_page(title: str, text: str, hint: str = "") -> str:
    """A few words."""
    return _page(escape(title), f"<p>{escape(text)}</p>" + (f'<p class="soft">{escape(hint)}</p>' if hint else ""))


def _evidence(evidence: Evidence) -> str:
    untrusted = '<span class="warn">, among it what strangers wrote</span>' if evidence.untrusted else ", nothing of strangers"
    asks = ", ".join(map(escape, evidence.policies)) or "no policy that permits it by itself"
    calls = "call" if evidence.earlier == 1 else "calls"
    compared = f" ({evidence.earlier} earlier {calls} of this tool in this task)" if evidence.earlier else ""
    who = (
        f"{escape(evidence.agent)}, in task {escape(evidence.task)} ({escape(evidence.type)}), "
        f"opened by {escape(evidence.opened_by) or 'nobody known'}"
    )
    left = f'<p class="warn">{evidence.left_out} more arguments are not shown.</p>' if evidence.left_out else ""
    gone = "".join(f'<p class="warn">{escape(name)} is not in this call, but was in the one before it.</p>' for name in evidence.gone)
    return (
        f"<h2>The call</h2><dl>{_row('What', f'<code>{escape(evidence.call)}</code>')}"
        f"{_row('What it does', f'{escape(evidence.effect)}; sends {escape(evidence.sends)}; {escape(evidence.tool_class)} data')}"
        f"{_row('For', f'{escape(evidence.on_behalf_of)}: {escape(evidence.objective)}')}</dl>"
        f"<h2>Its arguments{compared}</h2><dl>{''.join(_argument(one) for one in evidence.arguments)}</dl>{left}{gone}"
        f"<h2>The task</h2><dl>{_row('It has read', f'{escape(evidence.data_class)} data{untrusted}')}"
        f"{_row('Who asks', who)}"
        f"{_row('Asked because of', asks)}{_row('Digest', f'<code>{escape(evidence.digest)}</code>')}</dl>"
    )


def _argument(argument: ArgumentShown) -> str:
    notes = "".join(f'<p class="warn">{escape(note)}</p>' for note in argument.notes)
    origins = "".join(f'<p class="soft">{escape(origin)}</p>' for origin in argument.origins)
    before = (
        f'<p class="{"warn" if argument.before.startswith("new") else "soft"}">{escape(argument.before)}</p>' if argument.before else ""
    )
    return _row(escape(argument.name), f"<code>{escape(argument.value)}</code>{notes}{origins}{before}")


def _poor(question: Question) -> str:
    approval = question.approval
    return (
        f"<dl>{_row('What', f'<code>{escape(approval.call)}</code>')}{_row('Digest', f'<code>{escape(approval.digest)}</code>')}</dl>"
        '<p class="warn">The values of its arguments are no longer kept. If you do not know them, deny.</p>'
    )

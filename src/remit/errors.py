"""Every exception of remit, in one tree.

    RemitError
    ├── Refusal        the answer is no: give up            (a denial, an unknown agent, a dead token)
    │   ├── Unauthenticated   the proof of identity does not hold
    │   ├── NotFound          there is no such task, approval, agent
    │   └── Denied            a call was decided against; for code that has to be stopped, where no value is looked at
    │       └── NeedsApproval     denied now; the same call passes once a person has approved it
    ├── Mistake        the caller's input is wrong: fix it  (a broken file, a malformed message)
    │   └── Conflict          somebody else was first, or the state does not admit it
    ├── Outage         something we need is away: try again (a store, an upstream, too much load)
    └── Broken         remit itself is wrong: call us       (an invariant that does not hold)

Rules: each error has a stable ``code`` that programs may match, a sentence for people, and where it can be said a
``hint`` that tells how to mend it. No error carries a secret. HTTP, OAuth and JSON-RPC forms are made in
``doors/problems.py`` and nowhere else (those of plain HTTP stand in ``wire.py``, for both ends). A decision (allow, ask, deny)
is a value; ``Denied`` carries one out of a guarded function.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a mistake stands: a file, a line counted from 1 (0: unknown), a dotted key ("" : the whole file)."""

    file: str
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        key = f": {self.key}" if self.key else ""
        return f"{self.file}{line}{key}"


@dataclass(frozen=True, slots=True)
class Because:
    """One reason of a decision: its stable code (``docs/reasons.md``), a sentence, and where it bites ("" : the whole call)."""

    code: str
    text: str = ""
    where: str = ""


class RemitError(Exception):
    """The root. ``code`` is stable; ``hint`` says how to mend it ("" where nothing helps)."""

    default_code = "error"

    def __init__(self, message: str, *, code: str = "", hint: str = "", place: Place | None = None) -> None:
        """Keep the sentence, its stable code, the hint and the place."""
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        hint = f"\n  → {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"


class Refusal(RemitError):
    """The answer is no, and asking again the same way will not change it."""

    default_code = "refused"


class Unauthenticated(Refusal):
    """The proof of identity does not hold. The message outside never says why; the ledger does."""

    default_code = "unauthenticated"


class NotFound(Refusal):
    """There is nothing of that name that the caller may see."""

    default_code = "not_found"


class Denied(Refusal):
    """A call was denied. The message is for the model: why, and what it may do instead. Nothing was done.

    ``decision`` is its id in the ledger; ``approval`` the question's ("" : nobody is asked).
    """

    default_code = "denied"

    def __init__(
        self,
        message: str,
        *,
        decision: str = "",
        reasons: tuple[Because, ...] = (),
        policies: tuple[str, ...] = (),
        approval: str = "",
        approval_expires_at: datetime | None = None,
    ) -> None:
        """As every error, and what was decided."""
        super().__init__(message)
        self.decision, self.reasons, self.policies = decision, reasons, policies
        self.approval, self.approval_expires_at = approval, approval_expires_at


class NeedsApproval(Denied):
    """Denied now; exactly the same call passes, once, after ``approval`` was granted."""

    default_code = "needs_approval"


class Mistake(RemitError):
    """The input is wrong; the caller can fix it."""

    default_code = "invalid"


class Conflict(Mistake):
    """The state of the thing does not admit this, or somebody else was first."""

    default_code = "conflict"


class Outage(RemitError):
    """Something that is needed is away or too busy; trying again later may work. For a call it is a denial.

    ``unsent``: provably nothing of the request has reached whoever it was for.
    """

    default_code = "unavailable"

    def __init__(self, message: str, *, code: str = "", hint: str = "", retry_after_seconds: int = 1, unsent: bool = False) -> None:
        """As every error, and how long to wait before trying again."""
        super().__init__(message, code=code, hint=hint)
        self.unsent = unsent
        self.retry_after_seconds = retry_after_seconds


class Broken(RemitError):
    """An invariant of remit does not hold. Never softened into an answer."""

    default_code = "broken"

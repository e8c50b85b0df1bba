"""``@remit.guard``: a function that runs only when the current task may call it, and whose result is seen only when it was observed.

    @remit.guard("bank/send_money")
    def send_money(recipient: str, amount: int) -> str: ...

Rules: decided, then run with what was decided on, then observed, then released. However the function ends, that is told. There is no
switch that turns it off: without a task, with remit away, in doubt, it does not run.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from remit.errors import RemitError
from remit.sdk.declaration import DECLARES, Bound, json_result
from remit.sdk.session import Acting, current
from remit.wire import AuthorizeCall, DecisionView, Json

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
_OK, _TOOL_ERROR, _FAILED, _CANCELLED = "ok", "tool_error", "failed", "cancelled"


def guard(
    tool: str, *, on_refusal: Callable[[RemitError], Any] | None = None, result: Callable[[Any], Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Guard a function, ``def`` or ``async def``, as ``server/name``. Raises Mistake, as it decorates, for what cannot be a tool.

    A refused call raises ``Denied``, ``NeedsApproval`` or another error of remit, and the function has not run; or it returns
    ``on_refusal(error)``. ``result`` makes JSON of what the function returns, to be observed; what is returned stays as it is.
    Where the result cannot be observed an error is raised and it is withheld, although the function has run.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        guarded = _Guarded(tool, function, on_refusal, result)
        run: Callable[..., Any] = guarded.reaching if inspect.iscoroutinefunction(function) else guarded.waiting
        setattr(run, DECLARES, guarded.bound.declaration.exported)
        return cast("Callable[P, R]", run)

    return decorate


class _Guarded:
    """Two thin shells, one that awaits and one that waits, about the same steps."""

    def __init__(
        self,
        tool: str,
        function: Callable[..., Any],
        on_refusal: Callable[[RemitError], Any] | None,
        result: Callable[[Any], Any] | None,
    ) -> None:
        self.bound = Bound(tool, function)
        self._on_refusal, self._result = on_refusal, result

        @functools.wraps(function)
        async def reaching(*args: Any, **kwargs: Any) -> Any:
            try:
                acting, wanted = self._wanted(args, kwargs)
                decision = await acting.portal.reach(_allowed(acting, wanted))
            except RemitError as refusal:
                answer = self._refused(refusal)
                return await answer if inspect.isawaitable(answer) else answer
            try:
                value = await self.bound.call(args, wanted.arguments)
            except BaseException as error:
                await asyncio.shield(asyncio.ensure_future(acting.portal.reach(_told_failed(acting, decision, error))))
                raise
            seen, fault = self._seen(value)
            await asyncio.shield(asyncio.ensure_future(acting.portal.reach(acting.session.tell(decision.id, seen, _OK))))
            if fault is not None:
                raise fault
            return value

        @functools.wraps(function)
        def waiting(*args: Any, **kwargs: Any) -> Any:
            try:
                acting, wanted = self._wanted(args, kwargs)
                decision = acting.portal.wait(_allowed(acting, wanted))
            except RemitError as refusal:
                return self._refused(refusal)
            try:
                value = self.bound.call(args, wanted.arguments)
            except BaseException as error:
                acting.portal.wait(_told_failed(acting, decision, error))
                raise
            seen, fault = self._seen(value)
            acting.portal.wait(acting.session.tell(decision.id, seen, _OK))
            if fault is not None:
                raise fault
            return value

        self.reaching, self.waiting = reaching, waiting

    def _wanted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Acting, AuthorizeCall]:
        declared = self.bound.declaration
        acting = current()
        arguments: Json = self.bound.arguments(args, kwargs)
        return acting, AuthorizeCall(tool=declared.tool, arguments=arguments, tool_digest=declared.digest)

    def _refused(self, refusal: RemitError) -> Any:
        if self._on_refusal is None:
            raise refusal
        return self._on_refusal(refusal)

    def _seen(self, value: Any) -> tuple[Any, Exception | None]:
        """What is observed of a result; where nothing can be, why: the end of the call is told, and the result withheld."""
        try:
            return json_result(value if self._result is None else self._result(value)), None
        except Exception as error:
            if inspect.iscoroutine(value):
                value.close()  # of a plain function: it was never run
            return None, error


async def _allowed(acting: Acting, wanted: AuthorizeCall) -> DecisionView:
    decision = await acting.session.decide(wanted)
    if not decision.allowed:
        raise decision.refusal()
    return decision


async def _told_failed(acting: Acting, decision: DecisionView, error: BaseException) -> None:
    """Never hides how the function ended: what cannot be told stays open, and counts as undetermined at the task's end."""
    if isinstance(error, asyncio.CancelledError):
        ending = _CANCELLED
    else:
        ending = _TOOL_ERROR if isinstance(error, Exception) and not isinstance(error, RemitError) else _FAILED
    try:
        await acting.session.tell(decision.id, None, ending)
    except RemitError:
        return

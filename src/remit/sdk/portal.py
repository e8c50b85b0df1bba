"""A thread with an event loop of its own, where everything of one open remit runs, and two ways to wait for it.

Rules: callers never run in it, so that asynchronous code, plain code and plain code called from asynchronous code can all wait
without a deadlock. It ends with the block that opened it; after a fork it is gone, and says so instead of waiting forever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import uvloop

from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")
R = TypeVar("R")


class Portal(Generic[T]):
    """Holds one thing open (``open`` enters it, ``close`` leaves it) and runs coroutines beside it."""

    def __init__(self, hold: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._hold = hold
        self._held: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def begin(self) -> concurrent.futures.Future[T]:
        """Start the thread; the future is done once the thing is open, or has failed to open."""
        if self._thread is not None:
            raise Mistake("this was opened before", code="opened", hint="one block for each remit.open or remit.connect")
        self._thread = threading.Thread(target=self._run, name="remit", daemon=True)
        self._thread.start()
        return self._held

    def end(self) -> None:
        """Leave what is held and wait for the thread. Raises what leaving it raised. Idempotent."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        if self._loop is not None and self._leave is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def submit(self, work: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Run a coroutine in the thread. Raises Outage where it has ended, Mistake where it was never begun."""
        if self._thread is None or self._loop is None or not self._thread.is_alive() or self._leave is None or self._leave.is_set():
            work.close()
            if self._thread is None:
                raise Mistake("remit is not open", code="not_open", hint="async with remit.open(…) as r, or with …")
            raise _closed()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def reach(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait as asynchronous code does; to be cancelled cancels the work."""
        future = self.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _closed() from None

    def wait(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait as plain code does. Raises Mistake in the thread itself, which would wait for itself."""
        if self._thread is threading.current_thread():
            work.close()
            raise Mistake("remit cannot be asked from inside of remit", code="portal")
        future = self.submit(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:  # an interrupt while we waited: the work is not left running
            future.cancel()
            raise

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._stay())
            except BaseException as error:
                if self._held.done():
                    self._fault = error
                else:
                    self._held.set_exception(error)

    async def _stay(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        async with self._hold() as held:
            self._held.set_result(held)
            await self._leave.wait()


def _closed() -> Outage:
    return Outage("remit was closed, or this process was forked from the one that opened it", code="closed")

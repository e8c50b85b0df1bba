"""A shared time limit ends what waits, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from remit.drivers.patience import within

pytestmark = pytest.mark.anyio


async def test_a_block_that_takes_too_long_is_ended():
    with pytest.raises(TimeoutError), within(0.05):
        await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing of it is left over


async def test_the_inner_limit_is_not_the_outer_one():
    with within(30):
        with pytest.raises(TimeoutError), within(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)


async def test_a_block_in_time_is_left_alone():
    with within(0.3):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)


async def test_a_cancellation_from_elsewhere_stays_one():
    async def wait() -> None:
        with within(0.2):
            await asyncio.sleep(30)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_many_limits_at_once_end_in_their_own_time():
    async def wait(seconds: float) -> str:
        try:
            with within(seconds):
                await asyncio.sleep(1.2)
        except TimeoutError:
            return "ended"
        return "done"

    assert await asyncio.gather(wait(0.01), wait(30), wait(0.3)) == ["ended", "done", "ended"]

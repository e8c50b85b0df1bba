"""Answers to a server's questions: only to what is known to have been asked, once, and on the word of calls that may be given more."""

from __future__ import annotations

import asyncio

from remit.doors.gateway.beside import Beside


def question(number: int, method: str = "elicitation/create") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {"message": "which?"}}


def test_of_more_questions_than_are_remembered_the_oldest_gets_no_answer():
    asyncio.run(_asked_too_often())


async def _asked_too_often() -> None:
    spoken = 0

    async def speak() -> None:
        nonlocal spoken
        spoken += 1

    async def still() -> bool:
        return True

    beside = Beside(None)
    with beside.call(speak, still):
        for number in range(1_001):
            assert await beside.heard(question(number)) == question(number)
    assert spoken == 1_001
    assert not await beside.may_answer(0)
    assert await beside.may_answer(1)
    assert not await beside.may_answer(1), "an answer goes out once"
    assert not await beside.may_answer("never asked")


def test_outside_of_calls_only_the_roots_are_asked_for():
    asyncio.run(_outside())


async def _outside() -> None:
    unread = True

    async def still() -> bool:
        return unread

    beside = Beside(None, still)
    assert await beside.heard(question(1)) is None
    assert not await beside.may_answer(1)
    assert await beside.heard(question(2, "roots/list")) == {"jsonrpc": "2.0", "id": 2, "method": "roots/list"}
    assert await beside.may_answer(2)
    await beside.heard(question(3, "roots/list"))
    unread = False
    assert not await beside.may_answer(3), "the task has read something"

"""One table, answered by every way into remit: embedded, connected, guarded functions, ASGI, dependencies, HTTP, the MCP gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.model.call_record import CallDecided
from tests.e2e.gateway import http_server
from tests.e2e.python_door import FORMS, TABLE, place, prepare, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("door")
    with http_server("bank.py") as bank:
        write_folder(made, bank)
        yield made


@pytest.mark.parametrize("name", FORMS)
def test_every_form_answers_as_the_table_says(folder, name):
    async def run() -> None:
        form = FORMS[name]
        async with place(folder) as where:
            for row in TABLE:
                task, token = await where.opened()
                await prepare(where, row, task, token, form)
                outcome, codes = await form(where, token, row.tool, row.arguments)
                decided = (await where.records(task, CallDecided))[-1]
                assert (decided.outcome, tuple(reason.code for reason in decided.reasons)) == (row.outcome, row.codes), row.story
                assert outcome == row.outcome, row.story
                assert codes == row.codes or (outcome == "allow" and codes == ()), row.story
                allowed = [body for body in await where.records(task, CallDecided) if body.outcome == "allow"]
                ended = await where.until_ended(task, len(allowed))
                assert {body.decision for body in ended} == {body.decision for body in allowed}, row.story

    asyncio.run(run())

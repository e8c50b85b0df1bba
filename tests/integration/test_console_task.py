"""The page of a task: what it tells, who may stop the task, and what strangers wrote in it."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from html import unescape

import pytest

from remit.logic.records import decode
from remit.model.console import Role
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoking, LeaseStuck
from remit.model.record import Body, TaskMoved
from remit.model.task import TaskState
from tests.console_node import HOSTILE, TASK, ConsoleNode, console_node

pytestmark = pytest.mark.anyio
PAGE_BYTES_MAX = 200_000


async def moves(here: ConsoleNode, task: str) -> list[TaskMoved]:
    bodies = [decode(entry.body).body for entry in await here.node.store.task_entries(task)]
    return [body for body in bodies if isinstance(body, TaskMoved)]


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_a_task_from_opening_to_receipt(tmp_path):
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in(), await here.open("4711")
        await here.call(task, "mail/read_inbox", {"text": "pay bob"}, folder="in")
        await here.call(task, "bank/send_money", recipient="eve", amount=900)
        await here.call(task, "bank/close_account", account="x")
        await here.asked(task)
        status, html = await browser.get(f"/console/tasks/{task.id}")
        text = plain(html)
        assert status == 200
        for said in (
            "Pay the bill 4711",
            "alice@corp.example",
            "mail/read_inbox",
            "confidential strangers' text from here on",
            "arguments outside grant at /amount : they break the narrowing schema of the grant",
            "not granted: the task was not given the tool",
            "needs approval",
            "/folder was seen nowhere in this task",
            "tool bank/send_money; amount: maximum 500; 3 of 3 uses left",
            "1 of 20 calls",
            "a static role : 5 tools, 3 cannot be undone, 4 send out of the house",
            "A call waits for a person.",
        ):
            assert said in text, (said, text)
        assert "Receipt" not in text
        await here.node.tasks.end(task.id, TaskState.COMPLETED, by="clerk", reason="done")
        text = plain((await browser.get(f"/console/tasks/{task.id}"))[1])
        assert "Receipt Ended completed: done" in text
        assert "1 allowed, 1 asked, 2 denied" in text
        assert "remit.local/ledger" in text
        assert "Revoke" not in text
        published = await here.node.store.checkpoints(0, 10)
        assert published == (), "a page that is looked at publishes nothing"


async def test_an_operator_suspends_resumes_and_revokes_and_it_is_recorded_who(tmp_path):
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in("local:olga"), await here.open()
        page, token = f"/console/tasks/{task.id}", await browser.token()
        assert (await browser.post(f"{page}/suspend", token))[0] == 400, "a reason is asked for"
        assert (await browser.post(f"{page}/suspend", token, reason="  "))[0] == 400
        assert (await browser.post(f"{page}/suspend", token, reason="it looks wrong"))[0] == 303
        refused = await here.call(task, "bank/balance")
        assert not hasattr(refused, "tool"), "no call from then on"
        html = (await browser.get(page))[1]
        assert "Resume" in html
        assert "it looks wrong" in html
        assert (await browser.post(f"{page}/resume", token, reason="it was right"))[0] == 303
        assert hasattr(await here.call(task, "bank/balance"), "tool")
        assert (await browser.post(f"{page}/revoke", token, reason="x" * 5_000))[0] == 303
        assert (await browser.post(f"{page}/resume", token, reason="again"))[0] == 409
        assert (await browser.post(f"{page}/suspend", token, reason="again"))[0] == 409
        told = [(one.to, one.by, one.reason[:20]) for one in (await moves(here, task.id))[1:]]
        assert told == [
            ("suspended", "local:olga", "it looks wrong"),
            ("active", "local:olga", "it was right"),
            ("revoked", "local:olga", "x" * 20),
        ]
        assert len((await moves(here, task.id))[-1].reason) == 500
        ended = await here.open()
        await here.node.tasks.end(ended.id, TaskState.COMPLETED, by="clerk")
        assert (await browser.post(f"/console/tasks/{ended.id}/revoke", token, reason="late"))[0] == 409


async def test_who_may_only_look_sees_no_buttons_and_unknown_tasks_are_none(tmp_path):
    roles = '[console.roles]\nviewer = ["local:vera"]\noperator = ["local:olga"]\n'
    policy = 'permit (principal, action == Action::"look", resource);\n'
    policy += (
        'permit (principal in Role::"operator", action == Action::"suspend", resource is Task) when { resource.type == "pay-bill" };\n'
    )
    async with console_node(tmp_path, roles, types={"console/own.cedar": policy}) as here:
        vera, olga, task = await here.signed_in("local:vera", Role.VIEWER), await here.signed_in("local:olga"), await here.open()
        page = f"/console/tasks/{task.id}"
        seen = [(await browser.get(page))[1] for browser in (vera, olga)]
        assert [(">Suspend<" in html, ">Revoke<" in html) for html in seen] == [(False, False), (True, False)]
        assert (await olga.post(f"{page}/revoke", await olga.token(), reason="x"))[0] == 403
        for unknown in ("task_" + "0" * 30, "x", "..%2f..", "%00", "a" * 5_000, "task_1'--"):
            status, html = await vera.get(f"/console/tasks/{unknown}")
            assert status in {400, 404}, unknown
            assert "Traceback" not in html


async def test_what_strangers_wrote_is_text_and_no_page_grows_beyond_its_size(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        task = await here.open(HOSTILE + '"' * 3_900)
        quotes = {f"{number}{'<' * 190}": '"' * 2_000 for number in range(20)}
        await here.call(task, "mail/read_inbox", {"a": "<" * 100_000, "b": HOSTILE}, folder=HOSTILE)
        for _ in range(60):
            await here.call(task, "bank/send_money", recipient=HOSTILE, amount=1, **quotes)
        await here.node.tasks.move(task.id, TaskState.SUSPENDED, by=HOSTILE, reason=HOSTILE * 9)
        approval = await asyncio.wait_for(asked_by(here), 30)
        pages = ["/", f"/console/tasks/{task.id}", f"/console/tasks/{task.id}?from=0", "/console/approvals", approval]
        for page in pages:
            status, html = await browser.get(page)
            assert status == 200, (page, html[:300])
            assert len(html.encode()) <= PAGE_BYTES_MAX, (page, len(html))
            for wrong in ("<script>alert", "<b>bold", "\u202e", "\u202c", "\u200b", "\x1b"):
                assert wrong not in html, (page, wrong)
        assert "\\u{202e}" in (await browser.get(pages[1]))[1]
        assert "all of it (" in (await browser.get(f"/console/tasks/{(await here.open('w' * 4_000)).id}"))[1]


async def test_letters_of_several_bytes_make_no_page_larger(tmp_path):
    """The limit is one of bytes: an emoji has four."""
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in(), await here.open("\U0001f600" * 4_000)
        for number in range(50):
            to = TaskState.ACTIVE if number % 2 else TaskState.SUSPENDED
            await here.node.tasks.move(task.id, to, by="\U0001f600" * 600, reason="\U0001f600" * 500)
        status, html = await browser.get(f"/console/tasks/{task.id}")
        assert (status, html.count("\U0001f600") > 1_000) == (200, True)
        assert len(html.encode()) <= PAGE_BYTES_MAX


async def test_credentials_count_down_with_the_stuck_ones_in_front(tmp_path):
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in(), await here.open()
        soon = here.node.clock() + timedelta(minutes=5)

        async def record(body: Body) -> None:
            await here.node.tasks.change(task.id, lambda _task, _now: (body, None))

        for number in (1, 2):
            lease = f"lease_{number}"
            await record(LeaseIntended(lease=lease, name="db", target=f"orders{number}", mark=f"remit-{number}", expires_at=soon))
            await record(LeaseIssued(lease=lease))
        await record(LeaseRevoking(lease="lease_2", by="local:olga"))
        await record(LeaseStuck(lease="lease_2", code="outage"))
        text = plain((await browser.get("/"))[1])
        assert text.index("1 credential should be gone") < text.index("Waits for a person")
        assert re.search(r"stuck orders2 for .* still on its target issued orders1 for .* (4:5\d|5:00) ", text), text
        text = plain((await browser.get(f"/console/tasks/{task.id}"))[1])
        assert "credential lease_2 is stuck: still on its target" in text
        assert text.count("orders2") >= 2
        assert text.count("its terms are not known") == 2


async def test_a_credential_tells_what_it_may_do_and_which_parts_that_came_from(tmp_path, monkeypatch):
    """Words of an input stand as words."""
    monkeypatch.setenv("ORDERS_ROOT", "never-used-here")
    more = '[targets.orders]\nkind = "postgresql"\nurl = "postgresql://remit@127.0.0.1:1/orders"\nsecret = "${ORDERS_ROOT}"\n'
    parts = "".join(
        f'[[lease.part]]\ntools = ["{tool}"]\nscope.tables = [{{ schema = "public", table = "{table}", allow = ["select"] }}]\n'
        for tool, table in (("bank/balance", "of {bill}"), ("bank/send_money", "salaries"))
    )
    types = {"tasks/pay-bill.toml": TASK + '[[lease]]\ntarget = "orders"\n' + parts}
    async with console_node(tmp_path, more, types=types) as here:
        browser, task = await here.signed_in(), await here.open("<b>4711</b>")
        soon = here.node.clock() + timedelta(minutes=5)
        intended = LeaseIntended(lease="lease_1", name="orders", target="orders", mark="remit_1", expires_at=soon, parts=[0])
        await here.node.tasks.change(task.id, lambda _task, _now: (intended, None))
        html = (await browser.get(f"/console/tasks/{task.id}"))[1]
        assert "<b>4711" not in html
        credentials = unescape(html[html.index('id="task-leases"') : html.index('id="static"')])
        assert "tables: schema public, table of <b>4711</b>: select · part 1 of 2 (for bank/balance)" in credentials
        assert "salaries" not in credentials


async def asked_by(here: ConsoleNode) -> str:
    """The page of a question full of hostile texts."""
    task = await here.open(HOSTILE)
    await here.call(task, "mail/read_inbox", {HOSTILE: HOSTILE, "c": "<" * 9_000})
    approval = await here.asked(task, recipient=HOSTILE + "\x1b[2J" + '"' * 50_000, note="<" * 1_000_000)
    return f"/console/tasks/{task.id}/approvals/{approval}"


async def test_a_long_story_comes_in_parts(tmp_path):
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in(), await here.open()
        for _ in range(130):
            await here.call(task, "bank/close_account", account="x")
        page = f"/console/tasks/{task.id}"
        last = (await browser.get(page))[1]
        assert "132 steps" in last
        assert 'start="83"' in last
        assert "?from=32" in last
        first = (await browser.get(f"{page}?from=0"))[1]
        assert 'start="1"' in first
        assert "?from=50" in first
        assert "Earlier steps" not in first
        for strange in ("-1", "99999999", "x", "9" * 40):
            assert (await browser.get(f"{page}?from={strange}"))[0] == 200

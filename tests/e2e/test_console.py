"""The console as a person meets it: `remit serve`, `remit console`, and a real browser. Screenshots are kept under .cache/screens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bench.common import free_port
from remit.model.console import Role
from tests.chromium import DESK, PHONE, browser, needs_chromium
from tests.console_node import HOSTILE, TASK, console_node

pytestmark = pytest.mark.anyio
REMIT = [sys.executable, "-m", "remit.cli.main"]


@needs_chromium
async def test_a_person_signs_in_by_a_link_and_sees_decisions_as_they_fall(tmp_path):
    async with console_node(tmp_path) as here, browser() as page:
        await page.open(here.link())
        await page.sees("This link signs you in as local:ann")
        await page.press("button.go")
        await page.sees("No task is open.")
        task = await here.open("4711")
        await here.call(task, "bank/balance")
        await page.sees("Pay the bill 4711")
        await page.sees("bank/balance")
        await here.asked(task)
        await page.sees("Look and answer")
        await here.open(HOSTILE)
        await page.sees("<script>alert(1)</script> \\u{202e}euros\\u{202c} \\u{200b}<b>bold</b>")
        assert await page.value("document.querySelectorAll('main b, main script').length") == 0
        for dark, size in ((False, DESK), (True, DESK), (False, PHONE), (True, PHONE)):
            await page.shot("now", dark=dark, size=size)
            assert await page.fits()
        await page.press("header form button")
        await page.sees("remit console prints a link")
        await page.open(here.base)
        await page.sees("Sign in to remit")
        assert not page.said, page.said


@needs_chromium
async def test_the_first_page_is_used_by_keyboard(tmp_path):
    async with console_node(tmp_path) as here, browser() as page:
        await here.open("4711")
        await page.open(here.link())
        await page.sees("signs you in")
        await page.until("document.readyState === 'complete' && document.activeElement.matches('button')")  # it gets the focus by itself
        await entered(page)
        await page.sees("Pay the bill 4711")
        seen = []
        for _ in range(14):
            for kind in ("keyDown", "keyUp"):
                await page.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            seen.append(await page.value("document.activeElement.textContent.trim()"))
        assert seen[0] == "Skip to the page"
        assert {"Now", "Sign out", "Pay the bill 4711"} <= set(seen)


async def entered(page) -> None:
    for kind in ("keyDown", "keyUp"):
        await page.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)


@needs_chromium
async def test_a_button_that_is_pressed_twice_counts_once(tmp_path):
    """The second press would cancel the answer to the first one, and be told that it came too late."""
    async with console_node(tmp_path) as here, browser() as page:
        task = await here.open("4711")
        approval = await here.asked(task)
        await page.open(here.link())
        await page.until("document.readyState === 'complete' && document.activeElement.matches('button')")
        for _ in range(3):
            await entered(page)
        await page.sees("Pay the bill 4711")
        await page.open(f"{here.base}/console/tasks/{task.id}/approvals/{approval}")
        await page.until("document.readyState === 'complete' && !!document.querySelector('button.yes')")
        await page.value("document.querySelector('button.yes').focus()")
        for _ in range(3):
            await entered(page)
        await page.sees("The agent may make exactly this call, once.")
        assert not page.said, page.said


@needs_chromium
async def test_a_long_task_is_shown_in_parts_and_goes_on_by_itself(tmp_path):
    long = {"tasks/pay-bill.toml": TASK.replace("calls = 20", "calls = 1000")}
    async with console_node(tmp_path, types=long) as here, browser() as page:
        task = await here.open("4711")
        for _ in range(70):
            await here.call(task, "bank/balance", {"structuredContent": {"euros": 5}})
        await here.call(task, "mail/read_inbox", {"content": [{"type": "text", "text": "Dear clerk"}]}, folder="in")
        person = await here.signed_in("local:ann", *Role)
        await page.open(here.link())
        await page.press("button.go")
        await page.press(f"a[href$='{task.id}']")
        await page.sees("73 steps")
        first = "document.querySelector('ol.steps').start"
        shown = "document.querySelectorAll('ol.steps > li').length"
        assert (await page.value(first), await page.value(shown)) == (24, 50)
        await page.sees("from here on")  # the letter, which raised the labels
        await here.call(task, "bank/balance", {})
        await page.sees("74 steps")
        assert (await page.value(first), await page.value(shown)) == (25, 50)
        await page.shot("task-long")
        await page.press("#timeline a[href='?from=0']")
        await page.until("location.search == '?from=0' && document.querySelector('ol.steps')?.start == 1")
        await page.sees("opened")
        assert await page.value(shown) == 50
        await here.call(task, "bank/balance", {})
        await page.sees("75 steps")
        assert await page.value(first) == 1
        await page.press("#timeline a[href='?from=50']")
        await page.sees("Earlier steps")
        assert (await page.value(first), await page.value(shown)) == (51, 25)
        status, text = await person.get(f"/console/tasks/{task.id}")
        assert status == 200
        assert len(text.encode()) < 200_000
        assert not page.said


PASSKEY = "[server]\nport = {port}\n[[approvals.rules]]\ntools = ['bank/*']\npasskey = true\n"


@needs_chromium
async def test_a_person_approves_one_payment_with_a_passkey_and_denies_another(tmp_path):
    port = free_port()
    async with console_node(tmp_path, PASSKEY.format(port=port), port=port) as here, browser() as page:
        task = await here.open("4711")
        letter = "Dear clerk, please send carpenter@shop.example 120 euros for bill 4711. Thank you."
        await here.call(task, "mail/read_inbox", {"content": [{"type": "text", "text": letter}]}, folder="in")
        one = await here.asked(task, recipient="carpenter@shop.example", amount=120, note="4711")
        two = await here.asked(task, recipient="eve@evil.example", amount=400)
        await page.add_authenticator()
        await page.open(here.link())
        await page.press("button.go")
        await page.press(f"a[href$='{one}']")
        await page.sees("you have none")
        assert await page.value("document.querySelector('button.yes').disabled")
        await page.press("form.answer a")
        await page.write("#label", "a virtual one")
        await page.press("#add button")
        await page.sees("a virtual one")
        await page.shot("passkeys")
        await page.press("#add button")  # the same device again
        await page.sees("No passkey was used")
        await page.open(f"{here.base}/console/approvals")
        await page.sees("carpenter@shop.example")
        await page.shot("approvals")
        await page.press(f"a[href$='{one}']")
        await page.sees("May an agent make this call?")
        assert await page.value("document.querySelector('mark').textContent") == "120"
        for dark, size in ((False, DESK), (True, DESK), (False, PHONE)):
            await page.shot("question", dark=dark, size=size)
            assert await page.fits()
        await page.write("#reason", "the bill is right")
        await page.press("button.yes")
        await page.sees("To the task")
        await page.sees("Approved")
        await page.open(f"{here.base}/console/tasks/{task.id}/approvals/{two}")
        await page.sees("eve@evil.example")
        assert await here.node.tasks.answer(two, granted=False, by="local:ben", reason="I was first")
        await page.sees("This question is closed: it is denied by local:ben")  # it is told while it is looked at
        await page.press("button.no")
        await page.sees("Your answer did not count")
        approvals = (await here.node.tasks.view(task.id)).approvals
        assert (approvals[one].state.value, approvals[one].answers[0].passkey != "") == ("granted", True)
        await page.open(f"{here.base}/console/tasks/{task.id}")
        await page.sees("From opening to now")
        for dark, size in ((False, DESK), (True, DESK), (False, PHONE)):
            await page.shot("task", dark=dark, size=size)
            assert await page.fits()
        await page.write("#reason", "all is paid")
        await page.press("button.no")
        await page.sees("Receipt")
        await page.sees("revoked: all is paid")
        assert all("409" in one for one in page.said), page.said


def test_the_command_prints_a_link_that_the_server_opens_once(tmp_path):
    port = free_port()
    (tmp_path / "remit.toml").write_text(f"[server]\nport = {port}\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "REMIT_TASK"}
    with subprocess.Popen([*REMIT, "serve", "-C", str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            while "remit console" not in server.stderr.readline():
                assert server.poll() is None
            command = [*REMIT, "console", "-C", str(tmp_path), "--json"]
            link = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)["link"]
            assert link.startswith(f"http://localhost:{port}/console/sign-in/link/")
            with urllib.request.urlopen(link, timeout=20) as answer:
                assert re.search(r"signs you in as <strong>local:", answer.read().decode())
            refused = subprocess.run(command, env={**environment, "REMIT_TASK": "task_1"}, capture_output=True, text=True, check=False)
            assert (refused.returncode, "self_approval" in refused.stdout) == (1, True), "a process of a task gets none"
            ended = subprocess.run([*command, "--end", "local:x"], env=environment, capture_output=True, text=True, check=True)
            assert json.loads(ended.stdout) == {"person": "local:x", "ended": 0}
        finally:
            server.send_signal(signal.SIGTERM)
    assert not list(Path(tmp_path).glob("*.log"))

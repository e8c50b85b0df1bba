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
from tests.chromium import PHONE, browser, needs_chromium
from tests.console_node import HOSTILE, console_node

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
        for dark, size in ((False, (1200, 900)), (True, (1200, 900)), (False, PHONE), (True, PHONE)):
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
        for kind in ("keyDown", "char", "keyUp"):  # the button has the focus
            await page.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
        await page.sees("Pay the bill 4711")
        seen = []
        for _ in range(8):
            for kind in ("keyDown", "keyUp"):
                await page.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            seen.append(await page.value("document.activeElement.textContent.trim()"))
        assert seen[0] == "Skip to the page"
        assert {"Now", "Sign out", "Pay the bill 4711"} <= set(seen)


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

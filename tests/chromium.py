"""A real browser for tests: Debian's Chromium, headless, driven over the DevTools protocol. Skips plainly where there is none.

Its profile is new each time and thrown away. Nothing of it asks anybody but the pages that a test opens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or ""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here (Debian's package chromium)")
SHOTS = Path(__file__).resolve().parents[1] / ".cache" / "screens"
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root, which CI is
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PHONE, DESK = (390, 844), (1200, 900)


@dataclass
class Page:
    """One page of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    target: str
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    said: list[str] = field(default_factory=list)
    authenticator: str = ""

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(30):
            while True:
                told = json.loads((await self.socket.receive()).data)
                if told.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                    self.said.append(json.dumps(told["params"])[:500])
                if told.get("id") == number:
                    assert "error" not in told, told
                    return told["result"]

    async def value(self, script: str) -> Any:
        """What a script comes to, awaited; scripts of tests are not bound by the page's policy."""
        told = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str, seconds: float = 30) -> Any:
        """Wait until a script's value is true; it may fail while a page changes."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(AssertionError):
                    if value := await self.value(script):
                        return value
                await asyncio.sleep(0.05)

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href !== 'about:blank' && {json.dumps(url)} && true")

    async def add_authenticator(self) -> None:
        """A virtual authenticator that verifies its person (WebAuthn §11)."""
        await self.ask("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
        }
        told = await self.ask("WebAuthn.addVirtualAuthenticator", options={**options, "automaticPresenceSimulation": True})
        self.authenticator = told["authenticatorId"]

    async def press(self, selector: str) -> None:
        """Press what a person would press; a new page may follow."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.value(f"void setTimeout(() => document.querySelector({json.dumps(selector)}).click(), 0)")

    async def write(self, selector: str, text: str) -> None:
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.ask("Input.insertText", text=text)

    async def sees(self, text: str, seconds: float = 30) -> None:
        await self.until(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    async def text(self) -> str:
        return str(await self.value("document.body.innerText"))

    async def shot(self, name: str, *, dark: bool = False, size: tuple[int, int] = DESK, whole: bool = True) -> Path:
        """A screenshot, kept under .cache/screens."""
        scheme = "dark" if dark else "light"
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        width, height = size
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        if whole:
            height = min(int(await self.value("Math.ceil(document.documentElement.scrollHeight)")), 4_000)
            await self.ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=max(height, size[1]), deviceScaleFactor=1, mobile=width < 500
            )
        told = await self.ask("Page.captureScreenshot", format="png")
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}-{'phone' if width < 500 else 'desk'}-{scheme}.png"
        path.write_bytes(base64.b64decode(told["data"]))
        return path

    async def fits(self) -> bool:
        """Whether nothing stands out beyond the width of the screen."""
        return bool(await self.value("document.documentElement.scrollWidth <= window.innerWidth"))


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A browser with one page."""
    with tempfile.TemporaryDirectory(prefix="remit-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
            start_new_session=True,  # its helpers end with it
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    found = next(one for one in await answer.json() if one["type"] == "page")
                async with session.ws_connect(found["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket=socket, target=found["id"])
                    for domain in ("Page", "Runtime", "Log"):
                        await page.ask(f"{domain}.enable")
                    yield page
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(file.read_text(encoding="ascii").splitlines()[0])
            assert process.poll() is None, "Chromium ended"
            await asyncio.sleep(0.05)

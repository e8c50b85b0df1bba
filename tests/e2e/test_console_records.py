"""The console's pages that look back, in a real browser: the ledger checked by the browser itself, exposure, agents, policy."""

from __future__ import annotations

import json

import pytest

from remit.drivers.rehearsal import Rehearsals
from remit.errors import Mistake, Outage
from remit.model.task import TaskState
from remit.node import load_rules
from tests.chromium import PHONE, browser, needs_chromium
from tests.console_node import HOSTILE, POLICY, console_node

pytestmark = pytest.mark.anyio
SCENARIO = """
[[scenario]]
name = "a payment waits for a person"
task = "pay-bill"
inputs = { bill = "1" }
[scenario.call]
tool = "bank/send_money"
arguments = { recipient = "bob", amount = 5 }
expect = "ask"
"""
LOOKS = ((False, (1200, 900)), (True, (1200, 900)), (False, PHONE), (True, PHONE))


async def worked(here, tasks=3):
    """Some tasks at work: calls allowed, asked and denied; one runs still, with a hostile name."""
    for number in range(tasks):
        task = await here.open(f"471{number}")
        await here.call(task, "bank/balance")
        await here.call(task, "mail/read_inbox", {"text": "pay mallory"}, folder="in")
        await here.asked(task)
        await here.call(task, "bank/send_money", recipient="bob", amount=5_000)
        await here.node.tasks.end(task.id, TaskState.COMPLETED, by="local:ann")
    return await here.open(HOSTILE)


async def entered(page, here):
    await page.open(here.link())
    await page.sees("signs you in")
    await page.press("button.go")
    await page.sees("Running tasks")


async def shots(page, name):
    for dark, size in LOOKS:
        await page.shot(name, dark=dark, size=size)
        assert await page.fits(), (name, size)


@needs_chromium
async def test_the_browser_itself_checks_the_ledger(tmp_path):
    async with console_node(tmp_path) as here, browser() as page:
        await worked(here)
        await entered(page, here)
        await page.open(f"{here.base}/console/ledger")
        await page.press("#check-all")
        await page.until("document.querySelectorAll('.proof.good').length === document.querySelectorAll('[data-check]').length")
        assert "by the key that the server shows" in await page.text()
        await page.open(f"{here.base}/console/ledger/7")
        await page.press("button.check")
        await page.sees("In the log, as it was signed")
        await page.sees("hashes lead from it to the signed root")
        await shots(page, "entry")
        await page.open(f"{here.base}/console/ledger?kind=call.decided&tool=bank%2Fbalance")
        await page.sees("call.decided")
        assert await page.value("document.querySelectorAll('.entries li').length") == 3
        await page.press("#check-all")
        await page.until("document.querySelectorAll('.proof.good').length === 3")
        await shots(page, "ledger")
        assert not page.said, page.said


@needs_chromium
async def test_the_browser_finds_what_does_not_fit(tmp_path):
    """Another key, an entry whose bytes were changed on the way, a proof of another entry, a browser without Ed25519."""
    async with console_node(tmp_path) as here, browser() as page:
        await worked(here)
        await entered(page, here)

        async def verdict(*, key="", before=""):
            await page.open(f"{here.base}/console/ledger/5")
            await page.until("!!document.querySelector('button.check:not([hidden])')")
            if key:
                await page.value(f"document.getElementById('vkey').value = {json.dumps(key)}")
            if before:
                await page.value(before)
            await page.press("button.check")
            await page.until("document.querySelector('.proof') && !/^(checking…)?$/.test(document.querySelector('.proof').textContent)")
            return await page.value("document.querySelector('.proof').textContent")

        def served(change):
            """What a server would answer that has something to hide."""
            return (
                "void (() => { const real = window.fetch; window.fetch = async (url, more) => { const answer = await real(url, more);"
                f" if (!answer.ok) return answer; let data = new Uint8Array(await answer.arrayBuffer()); {change}"
                " return new Response(data); }; })()"
            )

        own = str(here.node.ledger.verifier)
        other = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
        assert "by the key that the server shows" in await verdict()
        assert "NOT what was signed" in (told := await verdict(key=other))
        assert "the key did not sign this head" in told
        assert "the key is damaged" in await verdict(key=own[:-3] + "AAA")
        assert "the key is none" in await verdict(key="x")
        changed = served("if (url.endsWith('/bytes')) data[data.length - 3] ^= 1;")
        assert "the entry does not lead to the signed root" in await verdict(before=changed)
        resigned = served(
            "if (url.endsWith('/proof')) data = new TextEncoder().encode(new TextDecoder().decode(data).replace(/\\n\\n([^\\n]+)\\n(\\d+)/,"
            " (all, origin, size) => `\\n\\n${origin}\\n${Number(size) + 1}`));"
        )
        assert "the key did not sign this head" in await verdict(before=resigned)
        renamed = served(
            "if (url.endsWith('/proof')) data = new TextEncoder().encode(new TextDecoder().decode(data).replace('index 5', 'index 6'));"
        )
        assert "the proof is not of this entry" in await verdict(before=renamed)
        without = "void (() => { crypto.subtle.importKey = async () => { throw new DOMException('no', 'NotSupportedError'); }; })()"
        told = await verdict(before=without)
        assert "the signature was not checked" in told
        assert "In the log, as it was signed" not in told


@needs_chromium
async def test_exposure_and_agents_are_pictures_with_words(tmp_path):
    async with console_node(tmp_path) as here, browser() as page:
        await worked(here)
        await entered(page, here)
        await page.open(f"{here.base}/console/exposure?days=1")
        await page.sees("Privileges: tools that were granted")
        labels = await page.value("[...document.querySelectorAll('main svg[role=img]')].map((one) => one.getAttribute('aria-label'))")
        assert labels
        assert all(labels)
        assert any("bank/send_money of clerk" in label for label in labels)
        assert await page.value("document.querySelectorAll('svg path[d]').length") >= 3
        await shots(page, "exposure")
        await page.open(f"{here.base}/console/agents")
        await page.sees("pay-bill × 4")
        await shots(page, "agents")
        await page.open(f"{here.base}/console/agents/clerk")
        await page.sees("Granted and never used")
        await shots(page, "agent")
        assert not page.said, page.said


@needs_chromium
async def test_a_candidate_is_rehearsed(tmp_path):
    candidate = POLICY.replace("permit (principal, action == Action", "forbid (principal, action == Action")
    async with console_node(tmp_path, types={"policies/main.test.toml": SCENARIO}) as here, browser() as page:
        await worked(here)
        await entered(page, here)
        await page.open(f"{here.base}/console/policy")
        await page.press("form[action$=check] button")
        await page.sees("Checked: 2 policies")
        await page.press("form[action$=test] button")
        await page.sees("1 of 1 scenarios hold")
        await page.write("#candidate", candidate)
        await page.press("form[action$=replay] button")
        await page.sees("ask → deny", 60)
        await page.sees("people-approve-payments")
        await shots(page, "policy")
        await page.value("document.getElementById('candidate').value = ''")
        await page.write("#candidate", "permit (nonsense")
        await page.press("form[action$=replay] button")
        await page.sees("cannot be told: the candidate does not fit", 60)
        assert not page.said, page.said


async def test_pages_stay_small_and_hostile_texts_are_text(tmp_path):
    async with console_node(tmp_path) as here:
        await worked(here, tasks=1)
        visitor = await here.signed_in("local:ann")
        (tmp_path / "policies" / "main.cedar").write_text(
            "".join(f'@id("p{n}") {POLICY.strip().splitlines()[0][22:]}\n' for n in range(3_000))
        )
        assert await here.node.rules.reload(lambda: load_rules(tmp_path))
        for path in ("ledger", "ledger?task=" + "x" * 5_000, "exposure?days=90", "agents", "agents/clerk", "policy", "ledger/3"):
            status, text = await visitor.get(f"/console/{path}")
            assert status == 200, (path, text[:300])
            assert len(text.encode()) < 200_000, path
            assert "<script>alert" not in text
            assert "\u202e" not in text
        wrong = (
            "ledger?kind=x",
            "ledger?since=x",
            "ledger?before=-1",
            "ledger/99999999999999999999",
            "ledger/x",
            "ledger/1/x",
            "exposure?days=2",
        )
        for path in (*wrong, "agents/nobody", "agents/%3Cscript%3E"):
            status, text = await visitor.get(f"/console/{path}")
            assert status in {400, 404}, (path, status)
            assert "<script>" not in text
        token = await visitor.token()
        for fields in ({}, {"candidate": " ", "days": "7"}, {"candidate": "x" * 20_001, "days": "7"}, {"candidate": "x", "days": "8"}):
            assert (await visitor.post("/console/policy/replay", token, **fields))[0] == 400


async def test_an_export_of_the_console_verifies(tmp_path):
    import io

    from remit.logic.audit import Verified
    from remit.services.verifying import verify_file

    async with console_node(tmp_path) as here:
        await worked(here, tasks=1)
        visitor = await here.signed_in("local:ann")
        status, text = await visitor.get("/console/ledger/export")
        assert status == 200
        assert isinstance(verify_file(io.BytesIO(text.encode()), here.node.ledger.verifier), Verified)


async def test_a_rehearsal_is_bounded_and_one_at_a_time(tmp_path):
    import asyncio

    async with console_node(tmp_path):
        slow = Rehearsals(tmp_path, seconds_max=0.05)
        with pytest.raises(Outage, match="took longer"):
            await slow.check()
        first = asyncio.create_task(Rehearsals.check(rehearsals := Rehearsals(tmp_path)))
        await asyncio.sleep(0)
        with pytest.raises(Outage, match="under way"):
            await rehearsals.check()
        assert (await first)["policies"] == ["reads-are-fine", "people-approve-payments"]
        (tmp_path / "policies" / "main.cedar").write_text("permit (")
        with pytest.raises(Mistake):
            await rehearsals.check()

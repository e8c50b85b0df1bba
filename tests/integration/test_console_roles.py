"""Every route of the console × every role. A route that is not in the table fails the test until it is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from remit.model.console import Role, Via
from remit.node_console import console_frame, console_pages, open_routes
from tests.console_node import Browser, console_node

pytestmark = pytest.mark.anyio
VIEWER, APPROVER, OPERATOR, AUDITOR = Role
EVERYBODY = set(Role)
PAGES: dict[tuple[str, str], set[Role]] = {
    ("GET", "/"): EVERYBODY,
    ("GET", "/console/live"): EVERYBODY,
    ("GET", "/console/tasks/{task}"): EVERYBODY,
    ("POST", "/console/tasks/{task}/suspend"): {OPERATOR},
    ("POST", "/console/tasks/{task}/resume"): {OPERATOR},
    ("POST", "/console/tasks/{task}/revoke"): {OPERATOR},
    ("GET", "/console/approvals"): {APPROVER},
    ("GET", "/console/tasks/{task}/approvals/{approval}"): {APPROVER},
    ("POST", "/console/tasks/{task}/approvals/{approval}"): {APPROVER},
    ("GET", "/console/passkeys"): {APPROVER},
    ("POST", "/console/passkeys"): {APPROVER},
    ("POST", "/console/passkeys/{passkey}/remove"): {APPROVER},
    ("GET", "/console/agents"): EVERYBODY,
    ("GET", "/console/agents/{agent}"): EVERYBODY,
    ("GET", "/console/exposure"): EVERYBODY,
    ("GET", "/console/ledger"): {AUDITOR},
    ("GET", "/console/ledger/export"): {AUDITOR},
    ("GET", "/console/ledger/{index}"): {AUDITOR},
    ("GET", "/console/ledger/{index}/bytes"): {AUDITOR},
    ("GET", "/console/ledger/{index}/proof"): {AUDITOR},
    ("GET", "/console/policy"): {OPERATOR, AUDITOR},
    ("POST", "/console/policy/check"): {OPERATOR, AUDITOR},
    ("POST", "/console/policy/test"): {OPERATOR, AUDITOR},
    ("POST", "/console/policy/replay"): {OPERATOR, AUDITOR},
}
OPEN = {
    ("GET", "/console/sign-in"),
    ("GET", "/console/sign-in/link/{token}"),
    ("POST", "/console/sign-in/link/{token}"),
    ("POST", "/console/sign-in/provider"),
    ("GET", "/console/sign-in/return"),
    ("POST", "/console/sign-out"),
    ("GET", "/console/static/{name}"),
}
ROLES = """
[console.roles]
viewer = ["local:viewer"]
approver = ["local:approver"]
operator = ["local:operator"]
auditor = ["local:auditor"]
"""
DONE = {200, 303}
MISSED = {400, 403, 404, 409}  # reached, and found wanting: the forms here are empty, and prove nothing


def listed(routes: Any) -> set[tuple[str, str]]:
    return {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}


async def test_every_route_is_listed(tmp_path):
    async with console_node(tmp_path, ROLES) as here:
        frame = console_frame(here.node)
        pages = console_pages(here.node, frame)
        assert {(page.method, page.path) for page in pages} == set(PAGES)
        assert listed(open_routes(here.node, frame)) == OPEN


async def test_every_route_for_every_role(tmp_path):
    async with console_node(tmp_path, ROLES) as here:
        asks = [await here.open(str(number)) for number in range(len(EVERYBODY) + 1)]
        places = [{"task": task.id, "approval": await here.asked(task)} for task in asks]
        people: list[tuple[Role | None, Browser]] = [(role, await here.signed_in(f"local:{role}", role)) for role in sorted(EVERYBODY)]
        people.append((None, await here.signed_in("local:nobody")))
        for number, (role, browser) in enumerate(people):
            for (method, path), roles in PAGES.items():
                where = re.sub(r"\{(\w+)\}", lambda found, number=number: places[number].get(found[1], "x"), path)
                status, told = await (browser.get(where) if method == "GET" else browser.post(where, browser.csrf))
                refused = status == 403 and "you may not do this here" in told
                assert refused is (role not in roles), (method, path, role, status, told[:300])
                assert status in DONE | MISSED, (method, path, role, status, told[:300])
                assert "Traceback" not in told


async def test_without_a_session_nothing_is_shown_or_done(tmp_path):
    async with console_node(tmp_path, ROLES) as here:
        task = await here.open()
        places = {"task": task.id, "approval": await here.asked(task), "passkey": "x"}
        signed_in = await here.signed_in("local:operator", OPERATOR)
        token = await signed_in.token()
        someone, stolen = here.browser(), here.browser("0123456789abcdef." + "x" * 43)
        for method, path in PAGES:
            where = re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], "x"), path)
            for browser in (someone, stolen):
                status, told = await (browser.get(where) if method == "GET" else browser.post(where, token))
                assert status == (303 if method == "GET" else 401), (method, path)
                assert "4711" not in told
        assert (await here.node.tasks.view(task.id)).state.value == "active"


async def test_a_person_of_the_provider_has_the_roles_of_the_provider_s_names_only(tmp_path):
    async with console_node(tmp_path, ROLES) as here:
        browser = await here.signed_in("local:operator", OPERATOR, via=Via.OIDC)
        assert (await browser.get("/"))[0] == 403


async def test_a_role_that_is_taken_away_is_gone_with_the_next_request(tmp_path):
    async with console_node(tmp_path, ROLES) as here:
        browser = await here.signed_in("local:viewer", VIEWER)
        assert (await browser.get("/"))[0] == 200
        (tmp_path / "remit.toml").write_text((tmp_path / "remit.toml").read_text().replace("local:viewer", "local:other"))
        from remit.node import load_rules

        assert await here.node.rules.reload(lambda: load_rules(tmp_path))
        assert (await browser.get("/"))[0] == 403

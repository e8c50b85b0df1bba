"""The contract of targets on Kubernetes as far as it can be had here (``tests/servers/kubernetes.py`` says what that does not prove)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.kubernetes import KUBERNETES, KubernetesTarget
from remit.errors import Mistake, Outage
from tests.certificates import Authority
from tests.contract.target_contract import PREFIX, Lacking, TargetContract, mark, refused, soon
from tests.servers.kubernetes import NAMESPACE, KubernetesServer, kubernetes_server, wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio
RULE = {"resource": "configmaps", "names": ["orders"], "allow": ["get", "update"]}
SCOPE = {"rules": [RULE]}
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


class Refused(Exception):
    """The API says no."""


@dataclass
class Logged:
    """Who has a token; each request is one of its own."""

    url: str
    token: str

    async def status(self, method: str, path: str, body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession() as client, client.request(method, self.url + path, headers=headers, json=body) as answer:
            return answer.status

    async def alive(self) -> bool:
        return await self.status("GET", f"{MAPS}/orders") == 200

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class KubernetesCase:
    server: KubernetesServer
    target: KubernetesTarget
    kind = KUBERNETES
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        session = Logged(self.server.url, minted.parts["token"])
        if not await session.alive():
            raise Refused
        return session

    async def beyond(self, session: Logged) -> None:
        for method, path in (
            ("GET", f"{MAPS}/salaries"),
            ("GET", MAPS),
            ("DELETE", f"{MAPS}/orders"),
            ("POST", MAPS),
            ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/orders"),
            ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"),
        ):
            assert await session.status(method, path, {"metadata": {"name": "mine"}}) == 403
        assert await session.status("GET", "/api/v1/namespaces/kube-system/secrets") == 404
        raise Refused

    async def leave_things(self, session: Logged) -> None:
        """What it wrote stays, and is no access."""
        await session.status("PUT", f"{MAPS}/orders", {"metadata": {"name": "orders"}})

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"rules": []},
            {"rules": "configmaps"},
            {"rules": [RULE] * 21},
            {"rules": [RULE], "more": 1},
            {"rules": [7]},
            *({"rules": [{**RULE, **change}]} for change in CHANGES),
            {"rules": [RULE, {"resource": "pods", "allow": ["get"]}]},  # which remit's account does not hold
        ]

    def standing(self) -> set[str]:
        return {name.replace("-", "_") for name in self.server.names()}

    def secrets_told(self, minted: Minted) -> list[str]:
        return [text for text in self.server.heard if minted.parts["token"] in text]

    async def lacking(self) -> Lacking:
        self.server.held.discard(("", "configmaps", "update"))

        async def run(rule: str) -> None:
            self.server.held |= wanted(json.loads(rule))

        return Lacking(target=opened(self.server), says=("update", "configmaps", "orders", NAMESPACE), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()

    def later(self, seconds: float) -> None:
        self.server.ahead += seconds


CHANGES: tuple[dict[str, Any], ...] = (
    *({"resource": word} for word in ("*", "", "configmaps/*", "Pods", "serviceaccounts", "serviceaccounts/token", 7, "a/b/c")),
    *({"group": word} for word in ("*", "rbac.authorization.k8s.io", "authentication.k8s.io", "certificates.k8s.io", "Apps", 7)),
    *({"allow": words} for words in ([], ["*"], ["impersonate"], ["escalate"], ["bind"], ["deletecollection"], "get", [7], ["create"])),
    *({"names": names} for names in ([], "orders", ["*"], [""], ["a b"], ["../x"], ["A"], [7], ["x"] * 51)),
    {"resource": "secrets", "allow": ["update"]},
    {"more": 1},
)


@pytest.fixture(scope="module")
def server() -> Iterator[KubernetesServer]:
    with kubernetes_server() as running:
        yield running


def opened(server: KubernetesServer, secret: str = "", **more: Any) -> KubernetesTarget:
    async def given() -> str:
        return secret or server.secret

    values = {"url": server.url, "namespace": NAMESPACE, "audience": "", "ca_file": ""} | more
    return KubernetesTarget(TargetSettings(name="cluster", kind="kubernetes", values=values), given)


@pytest.fixture
async def case(server: KubernetesServer) -> AsyncIterator[KubernetesCase]:
    server.forget()
    made = KubernetesCase(server, opened(server))
    yield made
    await made.target.close()


class TestKubernetes(TargetContract):
    """The contract."""


@pytest.mark.parametrize("step", ["POST serviceaccounts", "POST roles", "POST rolebindings", "POST serviceaccounts/token"])
async def test_what_is_refused_in_the_middle_leaves_nothing(case, step):
    case.server.fails_at = step
    with pytest.raises(Mistake):
        await case.target.mint(mark(50), SCOPE, soon())
    assert case.standing() == set()


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_an_outage_in_the_middle_says_that_something_may_stand(case, step):
    """``unsent`` would have the lease settled at once."""
    asked, ask = [], case.target._http.ask

    async def away(method: str, *arguments: Any) -> Any:
        asked.append(method)
        if len(asked) > step:
            raise Outage("target cluster cannot be reached", code="target_unavailable", unsent=True)
        return await ask(method, *arguments)

    case.target._http.ask = away
    with pytest.raises(Outage) as caught:
        await case.target.mint(mark(51), SCOPE, soon())
    assert not caught.value.unsent
    assert case.standing() == {mark(51)}
    case.target._http.ask = ask
    assert await case.target.list_ours(PREFIX) == {mark(51)}
    assert await case.target.revoke(mark(51)) is True
    assert case.standing() == set()


async def test_what_hangs_on_an_account_goes_with_it(case):
    """Should somebody else delete the account, or remit be dead."""
    minted = await case.target.mint(mark(52), SCOPE, soon())
    del case.server.heard[:]
    assert (
        await Logged(case.server.url, case.server.secret).status("DELETE", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{named(52)}")
        == 200
    )
    assert case.standing() == set()
    assert await refused(case, minted)
    assert await case.target.revoke(mark(52), minted) is False


def named(number: int) -> str:
    return mark(number).replace("_", "-")


@pytest.mark.parametrize("left", ["serviceaccounts", "roles", "rolebindings"])
async def test_whatever_is_left_of_one_is_found_and_removed(case, left):
    await case.target.mint(mark(53), SCOPE, soon())
    for kind in {"serviceaccounts", "roles", "rolebindings"} - {left}:
        del case.server.objects[kind, named(53)]
    assert await case.target.list_ours(PREFIX) == {mark(53)}
    assert await case.target.revoke(mark(53)) is True
    assert case.standing() == set()


async def test_a_long_list_comes_in_pages(case):
    case.server.page = 3
    marks = {mark(number) for number in range(60, 70)}
    for one in marks:
        await case.target.mint(one, SCOPE, soon())
    assert await case.target.list_ours(PREFIX) == marks
    case.server.page = 0  # the same page again and again
    with pytest.raises(Outage):
        await case.target.list_ours(PREFIX)


async def test_others_with_our_prefix_are_not_ours_without_the_label(case):
    await Logged(case.server.url, case.server.secret).status(
        "POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": named(54), "labels": {"team": "a"}}}
    )
    assert await case.target.list_ours(PREFIX) == frozenset()


async def test_a_token_that_lives_longer_than_asked_for_is_given_back(case):
    case.server.extends = True
    with pytest.raises(Mistake) as caught:
        await case.target.mint(mark(55), SCOPE, soon())
    assert "longer" in caught.value.message
    assert case.standing() == set()


@pytest.mark.parametrize(("seconds", "asked"), [(-5, 600), (300, 600), (1_800, 1_801), (3_606.5, 3_606)])
async def test_the_life_that_is_asked_for(case, seconds, asked):
    """The API server makes a year of 3607 seconds."""
    await case.target.mint(mark(56), SCOPE, soon(seconds))
    (request,) = [json.loads(text.rpartition("\n")[2]) for text in case.server.heard if "TokenRequest" in text]
    assert request["spec"]["expirationSeconds"] in {asked, asked - 1}
    assert request["spec"]["audiences"] == []


async def test_an_audience_is_asked_for(case):
    target = opened(case.server, audience="vault")
    await target.mint(mark(57), SCOPE, soon())
    (request,) = [json.loads(text.rpartition("\n")[2]) for text in case.server.heard if "TokenRequest" in text]
    assert request["spec"]["audiences"] == ["vault"]
    await target.close()


async def test_a_kubeconfig_is_all_that_a_client_needs(case, tmp_path: Path):
    authority = Authority().certificate.public_bytes(Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(authority)
    target = opened(case.server, ca_file=str(tmp_path / "ca.pem"))
    minted = await target.mint(mark(58), SCOPE, soon())
    told = json.loads(minted.parts["kubeconfig"])
    assert base64.b64decode(told["clusters"][0]["cluster"]["certificate-authority-data"]) == authority
    assert told["users"][0]["user"]["token"] == minted.parts["token"]
    assert told["contexts"][0]["context"]["namespace"] == NAMESPACE
    assert "kubeconfig" in minted.secret
    await target.close()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_while_it_cannot_a_lease_waits(case, status):
    minted = await case.target.mint(mark(59), SCOPE, soon())
    case.server.broken = status
    for attempt in (case.target.revoke(mark(59), minted), case.target.mint(mark(70), SCOPE, soon()), case.target.list_ours(PREFIX)):
        with pytest.raises(Outage) as caught:
            await attempt
        assert caught.value.code == "target_unavailable"
    case.server.broken = 0
    assert await case.target.revoke(mark(59), minted) is True


async def test_a_wrong_root_secret_is_an_outage_that_says_so(server):
    wrong = opened(server, "nobody")
    with pytest.raises(Outage) as caught:
        await wrong.mint(mark(71), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert [finding.good for finding in await wrong.check()] == [False]
    await wrong.close()


@pytest.mark.parametrize("lacks", ["create serviceaccounts", "list roles", "delete rolebindings"])
async def test_the_check_names_what_remit_may_not_do(case, lacks):
    case.server.lacks = lacks
    (finding,) = await case.target.check()
    assert not finding.good
    assert lacks in finding.text


def test_a_scope_may_be_made_of_inputs():
    """Before a task is opened its inputs stand for ``x``."""
    KUBERNETES.check_scope({"rules": [{"group": "apps", "resource": "deployments", "names": ["x"], "allow": ["get", "patch"]}]})
    KUBERNETES.check_scope(
        {"rules": [{"resource": "pods/log", "allow": ["get"]}, {"resource": "secrets", "names": ["x"], "allow": ["get"]}]}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": ""},
        {"namespace": "Agents"},
        {"namespace": "a/../b"},
        {"audience": "a\n"},
        {"url": "http://kubernetes.internal"},
        {"url": "https://u:p@kubernetes.internal"},
        {"url": "https://h:bad"},
        {"url": ""},
        {"ca_file": "ca.pem"},
        {"ca_file": "/nonexistent/ca.pem"},
    ],
)
def test_settings_that_will_not_do(change):
    good = {"url": "https://kubernetes.internal:6443", "namespace": NAMESPACE, "audience": "", "ca_file": ""}
    KUBERNETES.check_settings(good)
    with pytest.raises(Mistake):
        KUBERNETES.check_settings(good | change)

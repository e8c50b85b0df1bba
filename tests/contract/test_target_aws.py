"""The contract of targets on AWS as far as it can be had here (``tests/servers/aws.py`` says what that does not prove)."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from remit.drivers.targets.aws import AWS, AwsTarget
from remit.drivers.targets.base import Minted, TargetSettings
from remit.errors import Mistake, Outage
from remit.model.lease import LeaseState
from remit.model.task import TaskState
from tests.contract.target_contract import Lacking, TargetContract, mark, refused, soon
from tests.integration.test_lease_faults import working
from tests.servers.aws import ACCOUNT, ROLE, AwsServer, aws_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
NOTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:GetObject","Resource":"arn:aws:s3:::none/*"}]}'
SCOPE = {"buckets": [{"bucket": "reports", "prefix": "acme/", "allow": ["read", "list"]}]}


@dataclass
class Logged:
    s3: Any

    async def alive(self) -> bool:
        try:
            await asyncio.to_thread(self.s3.get_object, Bucket="reports", Key="acme/1")
        except (ClientError, BotoCoreError):
            return False
        return True

    async def close(self) -> None:
        self.s3.close()

    def code(self, verb: str, **words: Any) -> str:
        with pytest.raises(ClientError) as caught:
            getattr(self.s3, verb)(**words)
        return str(caught.value.response["Error"]["Code"])


@dataclass
class AwsCase:
    server: AwsServer
    target: AwsTarget
    kind = AWS
    scope = SCOPE

    def session(self, minted: Minted) -> Logged:
        parts = minted.parts
        words = (parts["access_key_id"] or "ASIANOBODY", parts["secret_access_key"] or "nothing", parts["session_token"] or "nothing")
        return Logged(self.server.client("s3", *words))

    async def login(self, minted: Minted) -> Logged:
        session = self.session(minted)
        await asyncio.to_thread(session.s3.get_object, Bucket="reports", Key="acme/1")
        return session

    async def beyond(self, session: Logged) -> None:
        def tried() -> None:
            assert session.code("get_object", Bucket="reports", Key="globex/1") == "AccessDenied"
            assert session.code("delete_object", Bucket="reports", Key="acme/1") == "AccessDenied"
            assert session.code("list_objects_v2", Bucket="reports") == "AccessDenied"
            assert session.code("list_objects_v2", Bucket="reports", Prefix="globex/") == "AccessDenied"
            session.s3.list_objects_v2(Bucket="reports", Prefix="acme/")
            session.s3.put_object(Bucket="reports", Key="acme/1", Body=b"mine")

        await asyncio.to_thread(tried)

    async def leave_things(self, session: Logged) -> None:
        """A session owns nothing in AWS; a signed address is what its holder can keep, and it is a use of the credential."""

    def bad_scopes(self) -> list[Any]:
        bucket = SCOPE["buckets"][0]
        action = {"allow": ["dynamodb:GetItem"], "resources": ["arn:aws:dynamodb:us-east-1:123456789012:table/orders"]}
        return [
            {},
            {"everything": True},
            {"buckets": "reports"},
            *({"buckets": [{**bucket, "prefix": prefix}]} for prefix in ("", "*", "acme/*", "acm?/", "${aws:username}/", "a\n", 7)),
            *({"buckets": [{**bucket, "bucket": name}]} for name in ("*", "re*", "Reports", "reports/x", "", 7)),
            *({"buckets": [{**bucket, "allow": allow}]} for allow in ([], ["s3:*"], "read", [7])),
            {"buckets": [{"bucket": "reports", "key": "acme/1", "allow": ["list"]}]},
            {"buckets": [{**bucket, "key": "acme/1"}]},
            *({"actions": [{**action, "allow": [word]}]} for word in ("dynamodb:*", "*", "iam:CreateUser", "sts:AssumeRole", "GetItem", 7)),
            *({"actions": [{**action, "resources": [one]}]} for one in ("*", "arn:aws:s3:::*", "table/orders", "arn:aws:s3:::${x}", 7)),
            {"actions": [{**action, "resources": []}]},
            {"buckets": [{**bucket, "prefix": f"{number}/" + "x" * 400} for number in range(9)]},
        ]

    def standing(self) -> set[str]:
        """STS keeps no list: whoever of those that it gave out would still get what the scope of these tests names."""
        named = self.server.sessions().items()
        return {name for name, session in named if self.server.may(session, "s3:GetObject", "arn:aws:s3:::reports/acme/1")}

    def secrets_told(self, minted: Minted) -> list[str]:
        return [line for line in self.server.heard if minted.parts["secret_access_key"] in line]

    async def lacking(self) -> Lacking:
        statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": "*"}]
        self.server.role_may(statements)

        async def run(statement: str) -> None:
            statements.append(json.loads(statement))
            self.server.role_may(statements)

        return Lacking(target=opened(self.server), says=("role agents", "s3:", "arn:aws:s3:::reports"), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def account() -> Iterator[AwsServer]:
    with aws_server() as running:
        yield running


@pytest.fixture
def server(account: AwsServer) -> AwsServer:
    account.forget()
    return account


def opened(server: AwsServer, secret: str = "", **more: Any) -> AwsTarget:
    async def root() -> str:
        return secret or f"{server.key}:{server.secret}"

    values = {"role": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "region": "us-east-1", "session_seconds": 3_600, "endpoint": server.url}
    return AwsTarget(TargetSettings(name="cloud", kind="aws", values=values | more), root)


@pytest.fixture
async def case(server: AwsServer) -> AsyncIterator[AwsCase]:
    made = AwsCase(server, opened(server))
    yield made
    await made.target.close()


class TestAws(TargetContract):
    """The contract."""


async def test_what_a_role_may_do_is_not_guessed_where_iam_does_not_say(case):
    case.server.simulates = False
    (finding,) = await case.target.may_give(SCOPE)
    assert (finding.good, finding.known) == (False, False)
    assert json.loads(finding.mend)["Statement"][0]["Action"] == "iam:SimulatePrincipalPolicy"


async def test_one_revoked_session_takes_nothing_from_the_others(case):
    one, other = await case.target.mint(mark(50), SCOPE, soon()), await case.target.mint(mark(51), SCOPE, soon())
    await case.target.revoke(mark(50), one)
    assert await refused(case, one)
    assert not await refused(case, other)
    assert len(case.server.denials()) == 1


async def test_a_session_that_comes_after_its_revocation_is_denied_too(case):
    """A mint that was given up may still arrive: the denial is of the name, not of what is there."""
    await case.target.revoke(mark(52))
    assert await refused(case, await case.target.mint(mark(52), SCOPE, soon()))


async def test_a_denial_goes_when_the_longest_session_is_over_and_no_other_policy_does(case):
    iam, now = case.server.client("iam"), int(time.time())
    past, future, not_ours = f"{mark(53)}_{now - 10}", f"{mark(54)}_{now + 1_000}", "remit_of-somebody_1"
    for name in (past, future, not_ours):
        iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=NOTHING)
    await case.target.revoke(mark(55))
    names = set(case.server.denials())
    assert {future, not_ours} <= names
    assert past not in names
    (denial,) = names - {future, not_ours}
    document = iam.get_role_policy(RoleName=ROLE, PolicyName=denial)["PolicyDocument"]
    (statement,) = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    assert statement["Condition"]["StringLike"] == {"aws:userid": f"*:{mark(55)}"}
    assert int(denial.rpartition("_")[2]) >= now + 3_600, "it outlives every session that can have been made"


async def test_sixty_denials_fit_on_a_role_and_one_too_many_is_an_outage_that_passes(case):
    await asyncio.gather(*(case.target.revoke(mark(number)) for number in range(100, 160)))
    assert len(case.server.denials()) == 60
    assert any("about sixty fit" in finding.text for finding in await case.target.check() if not finding.good)
    minted = await case.target.mint(mark(200), SCOPE, soon())
    with pytest.raises(Outage) as caught:
        for number in range(160, 200):
            await case.target.revoke(mark(number))
    assert "room" in caught.value.message
    with pytest.raises(Outage):
        await case.target.revoke(mark(200), minted)
    case.server.client("iam").delete_role_policy(RoleName=ROLE, PolicyName=case.server.denials()[0])
    assert await case.target.revoke(mark(200), minted) is True
    assert await refused(case, minted)


async def test_a_key_is_one_object_whatever_it_looks_like(case):
    scope = {"buckets": [{"bucket": "reports", "key": "acme/1", "allow": ["read", "write", "delete"]}]}
    session = case.session(await case.target.mint(mark(56), scope, soon()))

    def tried() -> None:
        session.s3.put_object(Bucket="reports", Key="acme/1", Body=b"new")
        assert session.code("get_object", Bucket="reports", Key="acme/12") == "AccessDenied"
        assert session.code("put_object", Bucket="reports", Key="acme/2", Body=b"") == "AccessDenied"
        assert session.code("list_objects_v2", Bucket="reports", Prefix="acme/") == "AccessDenied"

    await asyncio.to_thread(tried)


async def test_a_deadline_beyond_the_longest_session_is_refused(case):
    with pytest.raises(Mistake):
        await case.target.mint(mark(57), SCOPE, soon(3_700))
    assert case.server.sessions() == {}


@pytest.mark.parametrize("secret", ["AKIANOBODY:nothing", "{key}:wrong"])
async def test_a_wrong_root_secret_is_an_outage_that_says_so(server, secret):
    wrong = opened(server, secret.replace("{key}", server.key))
    with pytest.raises(Outage) as caught:
        await wrong.mint(mark(58), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert [finding.good for finding in await wrong.check()] == [False]
    await wrong.close()


async def test_a_root_secret_that_is_no_access_key_is_a_mistake_without_it(server):
    wrong = opened(server, "just-one-word")
    with pytest.raises(Mistake) as caught:
        await wrong.mint(mark(59), SCOPE, soon())
    assert "just-one-word" not in str(caught.value)
    await wrong.close()


async def test_only_what_is_configured_is_asked(server, monkeypatch):
    """Neither an address nor a credential comes from the environment of remit's own process."""
    for name, value in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "AKIAOTHER"),
        ("AWS_SECRET_ACCESS_KEY", "other"),
        ("AWS_SESSION_TOKEN", "other"),
    ):
        monkeypatch.setenv(name, value)
    target = opened(server)
    assert (await target.mint(mark(60), SCOPE, soon())).parts["session_token"]
    assert "AKIAOTHER" not in "".join(server.heard)
    await target.close()


def test_a_scope_may_be_made_of_inputs():
    """Before a task is opened its inputs stand for ``x``."""
    AWS.check_scope({"buckets": [{"bucket": "x", "prefix": "x/", "allow": ["read"]}, {"bucket": "x", "key": "x", "allow": ["write"]}]})
    AWS.check_scope({"actions": [{"allow": ["dynamodb:GetItem"], "resources": ["arn:aws:dynamodb:eu-west-1:123456789012:table/x"]}]})
    with pytest.raises(Mistake):
        AWS.check_scope({"actions": [{"allow": ["x"], "resources": ["arn:aws:sqs:eu-west-1:123456789012:x"]}]})


@pytest.mark.parametrize(
    "change",
    [
        {"role": "agents"},
        {"role": "arn:aws:iam::123456789012:user/agents"},
        {"region": "http://evil"},
        {"region": ""},
        {"endpoint": "http://db.internal"},
        {"endpoint": "https://u:p@h"},
        {"endpoint": "ftp://h"},
        {"endpoint": "https://h:bad"},
    ],
)
def test_settings_that_will_not_do(change):
    good = {"role": "arn:aws:iam::123456789012:role/a/agents", "region": "eu-central-1", "endpoint": "https://sts.internal"}
    AWS.check_settings(good)
    with pytest.raises(Mistake):
        AWS.check_settings(good | change)


def test_without_the_library_the_configuration_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Mistake) as caught:
        AWS.check_settings({"role": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "region": "us-east-1", "endpoint": ""})
    assert "remit[aws]" in caught.value.hint


def test_the_kinds_of_targets_are_there_without_the_library():
    """It is an extra: nothing of it is imported before a target of this kind is used."""
    program = "import sys, remit.drivers.targets.kinds; sys.exit('botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_what_it_does_not_list_is_not_taken_for_gone(server, tmp_path):
    """The comparison of targets and leases leaves such a lease alone; the end of its task revokes it."""
    values = {"role": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "region": "us-east-1", "session_seconds": 3_600, "endpoint": server.url}
    settings = TargetSettings(name="cloud", kind="aws", values=values, secret=f"{server.key}:{server.secret}")
    async with working(tmp_path, settings) as node:
        task = await node.open("cloud", scope=json.dumps(SCOPE))
        await node.parts.leases.have(task.id, "cloud")
        assert await node.parts.reconciliation.target("cloud") == 0
        (lease,) = (await node.tasks.view(task.id)).leases.values()
        assert lease.state == LeaseState.ISSUED
        assert server.denials() == []
        await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.end_task(task.id)
        (lease,) = (await node.tasks.view(task.id)).leases.values()
        assert lease.state == LeaseState.REVOKED
        (denial,) = server.denials()
        assert denial.startswith(node.parts.targets.mark(lease.id))

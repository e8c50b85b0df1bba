"""The contract of targets on a real NATS, and what is NATS's own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats.errors
import nkeys
import pytest
from nats.aio.client import Client

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.nats import NATS, NatsTarget, _with_denials
from remit.drivers.targets.nats_tokens import find_secrets, is_public, read_seed, read_token
from remit.errors import Mistake, Outage
from tests.certificates import Authority
from tests.contract.target_contract import Lacking, TargetContract, mark, refused, soon
from tests.servers.nats import NatsServer, key, nats_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

pytestmark = pytest.mark.anyio
SCOPE = {
    "publish": [{"subject": ["orders", "acme", "new"]}, {"prefix": ["log", "acme"]}],
    "subscribe": [{"prefix": ["news", "acme"]}, {"subject": ["orders", "acme", "new"]}],
}


@dataclass
class Logged:
    client: Client
    denied: list[str]

    async def alive(self) -> bool:
        try:
            await self.client.publish("orders.acme.new", b"one")
            await self.client.flush(2)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        await self.client.close()

    async def may(self, verb: str, subject: str) -> bool:
        """Whether the server lets it: it says so in a message of its own."""
        self.denied.clear()
        if verb == "publish":
            await self.client.publish(subject, b"x")
        else:
            await self.client.subscribe(subject)
        for _ in range(10):  # it may come after the answer to a ping
            await self.client.flush(2)
            if any(f'"{subject.lower()}"' in text for text in self.denied):
                return False
            await asyncio.sleep(0.01)
        return True


async def holder(parts: Any) -> Logged:
    """Logged in with the creds file, as any client would be, by the reference implementation of its keys."""
    denied: list[str] = []

    async def heard(error: Exception) -> None:
        denied.append(str(error))

    with tempfile.NamedTemporaryFile("w", suffix=".creds") as file:
        file.write(parts["creds"])
        file.flush()
        words: dict[str, Any] = {"user_credentials": file.name} if parts["creds"] else {}
        words |= {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0, "connect_timeout": 3}
        client = Client()
        try:
            await client.connect(parts["url"], error_cb=heard, inbox_prefix=parts["inbox_prefix"], **words)
            await client.flush(2)  # a server that refuses says so first
        except BaseException:
            await client.close()
            raise
    return Logged(client, denied)


@dataclass
class NatsCase:
    server: NatsServer
    target: NatsTarget
    given: dict[str, Minted] = field(default_factory=dict)
    kind = NATS
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        return await holder(minted.parts)

    async def beyond(self, session: Logged) -> None:
        for verb, subject in BEYOND:
            assert not await session.may(verb, subject), (verb, subject)
        raise PermissionError

    async def leave_things(self, session: Logged) -> None:
        """A user owns nothing in NATS; a subscription is what a session has."""
        await session.client.subscribe("news.acme.>")

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"publish": []},
            {"publish": "orders"},
            {"everything": [{"subject": ["a"]}]},
            *({"publish": [entry]} for entry in ({"subject": "orders.new"}, {"subject": []}, {"subject": ["a"], "prefix": ["b"]}, {})),
            *({"publish": [{kind: ["orders", token]}]} for kind in ("subject", "prefix") for token in BAD_TOKENS),
            *({"subscribe": [{"subject": tokens}]} for tokens in (["$SYS", "x"], ["_INBOX", "x"], ["_INBOX_other", "x"], ["x" * 256])),
            {"subscribe": [{"subject": ["a"] * 17}]},
            {"subscribe": [{"subject": ["a"]}] * 101},
        ]

    def standing(self) -> set[str]:
        """NATS keeps no list: whoever of those that the tests were given gets in."""

        async def still(minted: Minted) -> bool:
            try:
                await (await holder(minted.parts)).close()
            except Exception:
                return False
            return True

        async def all_of() -> set[str]:
            names = list(self.given)
            found = await asyncio.gather(*(still(self.given[name]) for name in names))
            return {name for name, stands in zip(names, found, strict=True) if stands}

        answer: list[set[str]] = []
        thread = threading.Thread(target=lambda: answer.append(asyncio.run(all_of())))
        thread.start()
        thread.join()
        return answer[0]

    def secrets_told(self, minted: Minted) -> list[str]:
        return [line for line in self.server.log.splitlines() if minted.parts["seed"] in line]

    async def lacking(self) -> Lacking:
        """An account's key that the account does not know; what mends it hands remit another."""
        stranger, secret = key("A").seed, [self.server.secret.replace(find_secrets(self.server.secret)[0]["A"].seed, "")]
        secret[0] += "\n" + stranger + "\n"

        async def given() -> str:
            return secret[0]

        async def run(statement: str) -> None:
            assert statement == "nsc edit account --sk generate, and nsc push"
            secret[0] = self.server.secret

        values = {"url": self.server.url, "account": self.server.account, "operator": self.server.operator_token, "ca_file": ""}
        target = NatsTarget(TargetSettings(name="bus", kind="nats", values=values), given)
        return Lacking(target=target, says=("no signing key", self.server.account), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()


BAD_TOKENS = ("", "*", ">", "a.b", "a b", "a\n", "a\r\nPUB x 1", "\0", "acme.>", ".", 7, None, ["x"])
BEYOND = (
    ("publish", "orders.globex.new"),
    ("publish", "orders.acme.new.more"),
    ("publish", "orders.acme"),
    ("publish", "log.acme"),
    ("publish", "log.globex.x"),
    ("publish", "news.acme.x"),
    ("publish", "$JS.API.STREAM.LIST"),
    ("publish", "$SYS.REQ.SERVER.PING"),
    ("publish", "_INBOX.other.x"),
    ("subscribe", ">"),
    ("subscribe", "news.>"),
    ("subscribe", "news.*.x"),
    ("subscribe", "orders.*.new"),
    ("subscribe", "_INBOX.>"),
    ("subscribe", "$SYS.>"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with nats_server() as running:
        yield running


class Remembering(NatsTarget):
    """Tells the case what it gave out, as the server cannot."""

    given: dict[str, Minted]

    async def mint(self, mark: str, scope: Any, expires_at: datetime) -> Minted:
        minted = await super().mint(mark, scope, expires_at)
        self.given[mark] = minted
        return minted


def opened(server: NatsServer, secret: str = "", **more: Any) -> Remembering:
    async def root() -> str:
        return secret or server.secret

    values = {"url": server.url, "account": server.account, "operator": server.operator_token, "ca_file": "", **more}
    target = Remembering(TargetSettings(name="bus", kind="nats", values=values), root)
    target.given = {}
    return target


@pytest.fixture
async def case(server: NatsServer) -> AsyncIterator[NatsCase]:
    await server.renew()  # marks are used again by the tests, and a revocation of one is for good
    target = opened(server)
    yield NatsCase(server, target, target.given)
    await target.close()


class TestNats(TargetContract):
    """The contract."""


async def test_who_may_only_listen_may_publish_nothing_and_the_other_way_round(case):
    """To NATS a list without an entry allows everything."""
    for number, word, other in ((50, "subscribe", "publish"), (51, "publish", "subscribe")):
        minted = await case.target.mint(mark(number), {word: [{"subject": ["news", "acme"]}]}, soon())
        session = await holder(minted.parts)
        assert await session.may(word, "news.acme")
        for subject in ("news.acme", "news.globex", "_INBOX.x", "$JS.API.INFO"):
            assert not await session.may(other, subject)
        await session.close()


async def test_a_question_is_answered_in_an_inbox_of_the_lease_s_own(case):
    asking = await holder((await case.target.mint(mark(52), {"publish": [{"subject": ["ask"]}]}, soon())).parts)
    prefix = ["_INBOX", mark(52)]
    with pytest.raises(Mistake):
        await case.target.mint(mark(53), {"publish": [{"prefix": prefix}], "subscribe": [{"subject": ["ask"]}]}, soon())
    spying = await holder((await case.target.mint(mark(54), {"subscribe": [{"subject": ["ask"]}]}, soon())).parts)
    assert not await spying.may("subscribe", f"_INBOX.{mark(52)}.>")
    heard = await spying.client.subscribe("ask")

    async def ask() -> None:
        while True:
            try:
                await asking.client.request("ask", b"?", timeout=1)
            except nats.errors.NoRespondersError:  # this client's ping may overtake its subscription, so that a flush says nothing of it
                await asyncio.sleep(0.01)

    question = asyncio.create_task(ask())
    assert (await heard.next_msg(60)).reply.startswith(f"_INBOX.{mark(52)}.")
    with pytest.raises(nats.errors.TimeoutError):
        await question
    for session in (asking, spying):
        await session.close()


async def test_an_open_session_ends_with_the_token_without_remit(case):
    session = await holder((await case.target.mint(mark(55), SCOPE, soon(2))).parts)
    assert await session.alive()
    for _ in range(100):
        if not await session.alive():
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("the session lives on")
    await session.close()


async def test_nodes_that_revoke_at_once_lose_none_of_each_other(case, server):
    """NATS has no compare and swap: each writes the account's whole token."""
    nodes = [case.target, opened(server), opened(server)]
    minted = [await case.target.mint(mark(number), SCOPE, soon()) for number in range(60, 90)]
    await asyncio.gather(*(nodes[number % 3].revoke(mark(60 + number), one) for number, one in enumerate(minted)))
    assert case.standing() == set()
    assert len(server.claims()["nats"]["revocations"]) == 30
    for node in nodes[1:]:
        await node.close()


async def test_what_the_account_says_otherwise_is_kept(case, server):
    """Signing keys, imports, somebody's own revocations and tags: we write back all that we read."""
    stranger = key("U").public
    await server.renew(server.account_token(revocations={stranger: 7}, tags=["theirs"], description="a shop"))
    before = server.claims()["nats"]
    await case.target.revoke(mark(56))
    after = server.claims()["nats"]
    assert after["revocations"].pop(stranger) == 7
    assert "theirs" in after["tags"]
    assert {**after, "revocations": 0, "tags": 0} == {**before, "revocations": 0, "tags": 0}


async def test_only_what_the_operator_said_is_signed_again(case, server):
    """Whoever can answer in the operator's place, or write the server's folder, gets no signature for it."""
    server.stop()
    server.keep(server.account_token(key("O"), default_permissions={"pub": {"allow": [">"]}}))
    server.start()
    try:
        with pytest.raises(Mistake, match="not this operator's"):
            await case.target.revoke(mark(57))
        with pytest.raises(Mistake):
            await case.target.mint(mark(57), SCOPE, soon())
        assert [finding.good for finding in await case.target.check()] == [False]
    finally:
        server.stop()
        server.keep(server.account_token())
        server.start()


def test_denials_go_when_their_time_is_over_and_nobody_else_s_with_them():
    old, live, new, theirs = (key("U").public for _ in range(4))
    tags = [f"remit_{old.lower()}", "other", f"remit_{live.lower()}"]
    claims = {"sub": "A", "iat": 1, "nats": {"revocations": {old: 99, live: 101, theirs: 5}, "tags": tags, "limits": {"subs": -1}}}
    made = _with_denials(claims, {new: 200}, 100)
    assert made["nats"]["revocations"] == {live: 101, theirs: 5, new: 200}
    assert made["nats"]["tags"] == ["other", f"remit_{live.lower()}", f"remit_{new.lower()}"]
    assert claims["nats"]["revocations"][old] == 99
    again = _with_denials(made, {new: 300, old: 300}, 150)
    assert again["nats"]["revocations"] == {theirs: 5, new: 300, old: 300}
    assert sorted(again["nats"]["tags"]) == sorted(["other", f"remit_{new.lower()}", f"remit_{old.lower()}"])


async def test_a_late_mint_of_a_revoked_mark_opens_nothing(case):
    """A mint that was under way while its mark was revoked."""
    await case.target.revoke(mark(58))
    assert await refused(case, await case.target.mint(mark(58), SCOPE, soon()))


async def test_a_replaced_signing_key_loses_no_lease(case, server):
    """The holder's key came from the old one; the credential itself is at hand."""
    minted = await case.target.mint(mark(59), SCOPE, soon())
    fresh = key("A")
    await server.renew(server.account_token(signing_keys=[server.signing.public, fresh.public]))
    rotated = opened(server, server.secret.replace(server.signing.seed, fresh.seed))
    await rotated.revoke(mark(59), minted)
    assert await refused(case, minted)


async def test_a_secret_that_will_not_do_says_so(case, server):
    for secret in (
        "nonsense",
        server.signing.seed,
        server.secret.replace(server.signing.seed, ""),
        server.secret[:-3],
        server.secret * 2,
    ):
        target = opened(server, secret)
        with pytest.raises(Mistake):
            await target.mint(mark(90), SCOPE, soon())
        assert [finding.good for finding in await target.check()] == [False]
    unknown = opened(server, server.secret.replace(server.signing.seed, key("A").seed))
    with pytest.raises(Mistake, match="signing key"):
        await unknown.mint(mark(90), SCOPE, soon())
    stranger = opened(server, server.secret.replace(server.operator_signing.seed, key("O").seed))
    with pytest.raises(Mistake, match="another operator"):  # the server would keep what it signs, and heed it no more
        await stranger.revoke(mark(90))
    user = next(seed for seed in server.secret.split() if seed.startswith("SU"))
    shut_out = opened(server, server.secret.replace(user, key("U").seed))
    with pytest.raises(Outage) as caught:
        await shut_out.mint(mark(90), SCOPE, soon())
    assert (caught.value.code, caught.value.unsent) == ("target_refused", True)
    with pytest.raises(Mistake, match="at most"):
        await case.target.mint(mark(90), SCOPE, soon(90_000))


async def test_a_server_that_does_not_prove_itself_is_told_nothing(tmp_path: Path, server):
    authority, other = Authority(), Authority()
    certificate, secret = authority.svid(hosts=("127.0.0.1",)).write(tmp_path, "server")
    for name, one in (("ca", authority), ("stranger", other)):
        (tmp_path / name).write_text(ssl.DER_cert_to_PEM_cert(one.der))
    with nats_server(f'tls {{ cert_file: "{certificate}", key_file: "{secret}" }}', tls=True) as secured:
        known = opened(secured, ca_file=str(tmp_path / "ca"))
        minted = await known.mint(mark(91), SCOPE, soon())
        assert minted.parts["url"].startswith("tls://")
        assert await known.revoke(mark(91), minted) is True
        for ca_file in (str(tmp_path / "stranger"), ""):
            with pytest.raises(Outage, match="does not prove itself") as caught:
                await opened(secured, ca_file=ca_file).mint(mark(91), SCOPE, soon())
            assert caught.value.unsent
    plain = opened(server, url=server.url.replace("nats:", "tls:"))
    with pytest.raises(Outage):
        await plain.list_ours("remit_")


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 400\r\n\r\n", b"INFO {}", b"INFO nonsense\r\n", b'INFO {"nonce":7}\r\n', b"INFO {}\r\n-ERR 'x'\r\n"]
    + [b"INFO {}\r\nPONG\r\nMSG _INBOX.x 1 " + size + b"\r\n" for size in (b"-5", b"99999999999", b"x", b"")]
    + [b"INFO " + b"x" * 2_000_000, b"INFO {}\r\nPONG\r\n" + b"MSG a 1 1\r\nx\r\n" * 1_000],
    ids=range(12),
)
async def test_a_server_that_speaks_nonsense_is_an_outage(server, said):
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(said)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        target = opened(server, url=f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        with pytest.raises(Outage):
            await target.list_ours("remit_")


def test_keys_and_tokens_are_those_of_the_reference():
    for kind, prefix in (("O", nkeys.PREFIX_BYTE_OPERATOR), ("A", nkeys.PREFIX_BYTE_ACCOUNT), ("U", nkeys.PREFIX_BYTE_USER)):
        seed = nkeys.encode_seed(os.urandom(32), prefix)
        theirs, ours = nkeys.from_seed(bytearray(seed)), read_seed(seed.decode())
        assert (ours.kind, ours.public, ours.seed) == (kind, theirs.public_key.decode(), seed.decode())
        assert is_public(ours.public, kind)
        assert not any(is_public(ours.public, other) for other in "OAU" if other != kind)
        assert ours.seed not in f"{ours}{ours!r}"
        token = ours.signed({"sub": "x", "nats": {}})
        head, claims, signature = token.split(".")
        assert theirs.verify(f"{head}.{claims}".encode(), base64.urlsafe_b64decode(signature + "==")) is True
        assert read_token(token)["iss"] == ours.public
        for changed in (f"{head}.{claims[:-2]}AA.{signature}", f"{head}.{claims}.{signature[:-4]}AAAA", f"{head}.{claims}", "", "a.b.c"):
            with pytest.raises(ValueError):
                read_token(changed)
        for wrong in (ours.public, seed.decode()[:-1], seed.decode()[:-1] + "A" * 2, "", "S" * 58):
            with pytest.raises(ValueError):
                read_seed(wrong)


@pytest.mark.parametrize(
    "values",
    [
        {"url": "nonsense"},
        {"url": "http://h:4222"},
        {"url": "nats://user@h"},
        {"url": "nats://h:bad"},
        {"url": "nats://h/x"},
        {"account": "A" * 55 + "B"},
        {"account": ""},
        {"operator": "nobody"},
        {"operator": key("O").signed({"sub": key("O").public, "nats": {}})},
        {"operator": key("A").signed({"sub": "x", "nats": {}})},
        {"ca_file": "relative.pem"},
    ],
)
def test_settings_that_will_not_do(values):
    operator = key("O")
    told = operator.signed({"sub": operator.public, "nats": {"type": "operator"}})
    good = {"url": "tls://nats.internal:4222", "account": key("A").public, "operator": told, "ca_file": ""}
    NATS.check_settings(good)
    with pytest.raises(Mistake):
        NATS.check_settings(good | values)

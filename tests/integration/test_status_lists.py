"""Token status lists (draft-ietf-oauth-status-list) over a real socket, read as a verifier does that knows our keys and nothing else."""

from __future__ import annotations

import asyncio
import base64
import zlib
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from remit.logic.status_list import Status, packed
from remit.model.task import TaskState
from remit.services.status_lists import StatusNumbers
from tests.integration.token_service import Service, token_service

ON = "[tokens]\nstatus_list = true\n"


def test_the_vectors_of_the_draft():
    one = (1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1)
    assert packed(dict(enumerate(one)), 16, 1) == "eNrbuRgAAhcBXQ"
    two = (1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3)
    assert packed(dict(enumerate(two)), 12, 2) == "eNo76fITAAPfAgc"


async def checked(service: Service, token: str, kind: str) -> dict[str, Any]:
    async with service.http.get(f"{service.url}/oauth/jwks") as answer:
        keys = KeySet.import_key_set(await answer.json())
    decoded = jwt.decode(token, keys, algorithms=["ES256"])
    assert decoded.header["typ"] == kind
    return dict(decoded.claims)


async def worth(service: Service, token: str) -> Status:
    """As a verifier finds it (draft §8.3)."""
    claim = (await checked(service, token, "at+jwt"))["status"]["status_list"]
    async with service.http.get(claim["uri"], headers={"Accept": "application/statuslist+jwt"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/statuslist+jwt")
        told = await checked(service, await answer.text(), "statuslist+jwt")
    assert (told["sub"], told["iss"]) == (claim["uri"], service.url)
    assert told["exp"] > told["iat"]
    bits, lst = told["status_list"]["bits"], told["status_list"]["lst"]
    data = zlib.decompress(base64.urlsafe_b64decode(lst + "=" * (-len(lst) % 4)))
    return Status(data[claim["idx"] * bits // 8] >> (claim["idx"] * bits % 8) & (2**bits - 1))


async def becomes(service: Service, token: str, status: Status) -> None:
    """A list is made anew every few seconds."""
    async with asyncio.timeout(60):
        while await worth(service, token) is not status:
            await asyncio.sleep(0.2)


def test_a_verifier_that_works_offline_learns_of_every_end(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path, ON) as service:
            node = service.running.node
            given = [await service.given() for _ in range(4)]
            revoked, ended, suspended, alive = [one["access_token"] for one in given]
            tasks = [one["authorization_details"][0]["task"] for one in given]
            assert await worth(service, alive) is Status.VALID
            numbers = [one.status_number for one in await service.records("TokenIssued")]
            assert len(set(numbers)) == len(numbers)
            known, _ = await node.tokens.look(revoked)
            await node.tokens.revoke(known, "somebody")
            await node.tasks.end(tasks[1], TaskState.REVOKED, by="alice")
            await node.tasks.move(tasks[2], TaskState.SUSPENDED, by="alice")
            await becomes(service, suspended, Status.SUSPENDED)
            assert [await worth(service, one) for one in (revoked, ended, alive)] == [Status.INVALID, Status.INVALID, Status.VALID]
            await node.tasks.standing.stop([(await node.tasks.view(tasks[3])).agent.text], by="alice")
            await becomes(service, alive, Status.INVALID)
            async with service.http.get(f"{service.url}/oauth/status/77") as answer:
                assert answer.status == 404

    asyncio.run(run())


def test_numbers_are_of_one_token_each_on_all_nodes_and_after_restarts(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path, ON) as service:
            store, made = service.running.node.store, iter(range(1_000))

            async def node() -> list[int]:
                numbers = StatusNumbers(store, lambda kind: f"{kind}_{next(made)}")
                return [await numbers.take() for _ in range(300)]

            found = [number for numbers in await asyncio.gather(*(node() for _ in range(4))) for number in numbers]
            found += await node()
            assert len(set(found)) == 1_500

    asyncio.run(run())


def test_without_the_setting_there_is_no_claim_and_no_list(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            assert "status" not in await checked(service, (await service.given())["access_token"], "at+jwt")
            async with service.http.get(f"{service.url}/oauth/status/0") as answer:
                assert answer.status == 404

    asyncio.run(run())

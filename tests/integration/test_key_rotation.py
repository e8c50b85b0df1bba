"""Another key signs: what was signed before holds until it ends, what a stolen key signed does not hold a moment longer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remit.drivers.key_ring import KeyRing
from remit.drivers.signing import TokenSigner
from remit.errors import Unauthenticated
from remit.logic.claims import LEEWAY, LIFETIME_MAX
from remit.services.rotation import Rotation
from tests.integration.token_service import token_service
from tests.support import NOW, World


def ids(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


def test_the_next_key_is_published_before_it_signs_and_the_last_one_while_its_tokens_live(tmp_path):
    ring = KeyRing(tmp_path)
    first, second = ids(ring)
    token = ring.sign({"x": 1}, "at+jwt")
    ring.rotate(NOW)
    assert ring.key_id == second
    assert ids(ring)[0] == second
    assert first in ids(ring)
    assert len(ids(ring)) == 3
    assert ring.open(token)[1] == {"x": 1}
    assert ring.open(ring.sign({"y": 2}, "at+jwt"))[1] == {"y": 2}
    end = NOW + LIFETIME_MAX + LEEWAY * 2
    assert (ring.sweep(end - timedelta(seconds=1)), ring.sweep(end)) == (0, 1)
    assert first not in ids(ring)
    with pytest.raises(Unauthenticated):
        ring.open(token)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_stolen_key_is_worth_nothing_at_once(tmp_path):
    ring = KeyRing(tmp_path)
    stolen = TokenSigner(ring._key.raw_value)
    ring.rotate(NOW)
    token = ring.sign({}, "at+jwt")
    ring.rotate(NOW + timedelta(seconds=5), compromised=True)
    for one in (token, stolen.sign({}, "at+jwt")):
        with pytest.raises(Unauthenticated):
            ring.open(one)
    assert len(ids(ring)) == 2


def test_another_process_takes_it_up_and_knows_the_next_key_before_it_looks(tmp_path):
    one, other = KeyRing(tmp_path), KeyRing(tmp_path)
    one.rotate(NOW)
    token = one.sign({"x": 1}, "at+jwt")
    assert other.open(token)[1] == {"x": 1}
    assert (other.refresh(), other.refresh()) == (True, False)
    assert (other.key_id, ids(other)) == (one.key_id, ids(one))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "", "x" * 10_000])
def test_a_key_id_leads_to_no_other_key(tmp_path, kid):
    ring, stranger = KeyRing(tmp_path), KeyRing(tmp_path / "other")
    stranger.key_id = kid
    with pytest.raises(Unauthenticated):
        ring.open(stranger.sign({}, "at+jwt"))


def test_a_key_that_is_too_old_is_replaced_and_the_ledger_says_so_first(tmp_path):
    async def run() -> None:
        world = World(tmp_path / "remit.db")
        ring = KeyRing(tmp_path / "keys")
        first, second = ids(ring)
        rotation = Rotation(ring, world.store, world.clock, lambda: None, age_max=timedelta(days=30))
        world.clock.now = NOW + timedelta(days=365 * 20)  # files are dated by the machine's clock
        assert await rotation.look()
        assert ring.key_id == second
        assert not await rotation.look()
        record = (await world.store.entries(0, 10))[-1].body
        assert f'"current":"{second}"'.encode() in record
        assert f'"retired":"{first}"'.encode() in record
        await world.close()

    asyncio.run(run())


def test_tokens_hold_through_a_rotation_of_a_running_node(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            token = (await service.given())["access_token"]
            await service.running.node.token_parts.rotation.rotate("alice")
            assert await service.opens(token)
            assert await service.opens((await service.given())["access_token"])
            await service.running.node.token_parts.rotation.rotate("alice", compromised=True)
            assert not await service.opens(token)
            assert await service.opens((await service.given())["access_token"])
            assert [one.by for one in await service.records("KeysRotated")] == ["alice", "alice"]

    asyncio.run(run())


def test_what_strangers_send_is_not_remembered(tmp_path):
    ring = KeyRing(tmp_path)
    for number in range(300):
        with pytest.raises(Unauthenticated):
            ring.verified(f"{'x' * 1_000}{number}.e30.AAAA")
    assert not ring._by_header
    assert ring.verified(ring.sign({"a": 1}, "JWT"))[1] == {"a": 1}
    assert len(ring._by_header) == 1

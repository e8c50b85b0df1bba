"""What every target driver must do (``drivers/targets/base.py``), tried on the real system.

A driver's test file makes a class of ``TargetContract`` with a fixture ``case``. The credential is always used as its holder would:
logged in with, worked with, refused with. Nothing is asked of the driver that can be asked of the target itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from remit.drivers.targets.base import Minted, TellsWhatItMayGive
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.targets.base import Scope, Target, TargetKind

PREFIX = "remit_abcde"
TRIES = 8


def mark(number: int) -> str:
    """A mark of the full length."""
    return PREFIX + f"{number:020}".translate(str.maketrans("0123456789", "abcdefghij"))


class Session(Protocol):
    """A live session with a credential."""

    async def alive(self) -> bool:
        """Whether it can still do what the scope allows."""

    async def close(self) -> None:
        """Let go."""


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """A target opened as an account that may do all but hand on what the case's scope names. ``says``: words that a finding must have, the
    right and on what. ``run``: does as the finding's ``mend`` says, on the target itself.
    """

    target: Target
    says: tuple[str, ...]
    run: Callable[[str], Awaitable[None]]


class Case(Protocol):
    """One target as the tests see it."""

    kind: TargetKind
    target: Target
    scope: Scope

    async def login(self, minted: Minted) -> Session:
        """Log in and do what the scope allows. Raises where that is refused."""

    async def beyond(self, session: Session) -> None:
        """Do what the scope does not allow. Raises where that is refused, as it must be."""

    async def leave_things(self, session: Session) -> None:
        """Make what outlives a session, as far as the target lets anybody (objects of its own)."""

    def bad_scopes(self) -> list[Scope]:
        """Scopes that mean nothing here."""

    def standing(self) -> set[str]:
        """Marks that the target has, by its own catalog; where it keeps none, those that it would still let work."""

    def secrets_told(self, minted: Minted) -> list[str]:
        """Texts of the target's own logs in which the credential stands in clear."""

    def down(self) -> None:
        """Stop the target."""

    def up(self) -> None:
        """Start it again."""

    async def lacking(self) -> Lacking:
        """Asked of targets that can say what they may give (``TellsWhatItMayGive``)."""

    def later(self, seconds: float) -> None:
        """Put its clock on. Asked of targets whose kind has ``late_seconds``."""


def soon(seconds: float = 300) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def refused(case: Case, minted: Minted) -> bool:
    try:
        session = await case.login(minted)
    except Exception:
        return True
    await session.close()
    return False


class TargetContract:
    """The contract. ``case`` is a fixture of the driver's test file."""

    pytestmark = pytest.mark.anyio

    async def test_a_credential_works_within_its_scope_only_and_is_gone_afterwards(self, case: Case):
        minted = await case.target.mint(mark(1), case.scope, soon())
        assert case.standing() == {mark(1)}
        assert set(minted.parts) == set(case.kind.blank)
        assert minted.secret, "the tripwire looks for nothing"
        assert minted.secret <= set(minted.parts)
        session = await case.login(minted)
        assert await session.alive()
        with pytest.raises(Exception):
            await case.beyond(session)
        assert await case.target.revoke(mark(1), minted) is True
        assert not await session.alive()
        assert await refused(case, minted)
        assert case.standing() == set()
        await session.close()

    async def test_each_credential_has_a_secret_of_its_own_that_is_told_nobody(self, case: Case):
        one, other = await case.target.mint(mark(2), case.scope, soon()), await case.target.mint(mark(3), case.scope, soon())
        for text in (repr(one), str(one)):
            assert not any(len(part) > 12 and part in text for part in one.parts.values())
        assert one.parts != other.parts
        assert case.secrets_told(one) == []
        for number in (2, 3):
            await case.target.revoke(mark(number))

    async def test_the_target_ends_it_by_itself(self, case: Case):
        if not case.kind.ends_by_itself:
            pytest.skip(f"{case.kind.name} has nothing that ends a user by itself: its driver and every report say so")
        minted = await case.target.mint(mark(4), case.scope, soon(-5))
        if case.kind.late_seconds:
            assert not await refused(case, minted), "it ends in time: late_seconds may go"
            case.later(case.kind.late_seconds)
        assert await refused(case, minted)
        await case.target.revoke(mark(4))
        assert case.standing() == set()

    async def test_revoking_again_or_what_never_was_is_a_success(self, case: Case):
        assert await case.target.revoke(mark(43)) is not case.kind.lists, "what keeps no list cannot tell"
        minted = await case.target.mint(mark(5), case.scope, soon())
        assert await case.target.revoke(mark(5), minted) is True
        assert await case.target.revoke(mark(5), minted) is False

    async def test_several_revoke_one_at_once(self, case: Case):
        minted = await case.target.mint(mark(6), case.scope, soon())
        await asyncio.gather(*(case.target.revoke(mark(6), minted) for _ in range(TRIES)))
        assert case.standing() == set()
        assert await refused(case, minted)

    async def test_many_are_made_and_revoked_at_once(self, case: Case):
        marks = [mark(number) for number in range(10, 10 + 3 * TRIES)]
        minted = await asyncio.gather(*(case.target.mint(one, case.scope, soon()) for one in marks))
        assert case.standing() == set(marks)
        assert await case.target.list_ours(PREFIX) == (set(marks) if case.kind.lists else set())
        assert await case.target.list_ours("remit_zzzzz") == set()
        await asyncio.gather(*(case.target.revoke(one, credential) for one, credential in zip(marks, minted, strict=True)))
        assert case.standing() == set()
        assert await case.target.list_ours(PREFIX) == set()

    async def test_who_keeps_reconnecting_stays_out(self, case: Case):
        minted = await case.target.mint(mark(7), case.scope, soon())
        stop = asyncio.Event()
        open_ones: list[Session] = []

        async def reconnect() -> None:
            while not stop.is_set():
                try:
                    open_ones.append(await case.login(minted))
                except Exception:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.001)

        stubborn = [asyncio.create_task(reconnect()) for _ in range(3)]
        while len(open_ones) < 3:
            await asyncio.sleep(0.01)
        await case.target.revoke(mark(7), minted)
        stop.set()
        await asyncio.gather(*stubborn)
        assert [await session.alive() for session in open_ones] == [False] * len(open_ones)
        assert case.standing() == set()
        for session in open_ones:
            await session.close()

    async def test_what_its_holder_left_behind_does_not_keep_it(self, case: Case):
        minted = await case.target.mint(mark(8), case.scope, soon())
        session = await case.login(minted)
        await case.leave_things(session)
        await case.target.revoke(mark(8), minted)
        assert case.standing() == set()
        await session.close()

    @pytest.mark.parametrize("moment", [0, 2, 4, 7])
    async def test_given_up_at_any_moment_it_is_revoked_by_its_mark(self, case: Case, moment: int):
        """Whoever mints or revokes is gone in the middle, as after a crash: the mark alone is enough to settle it."""
        minting = asyncio.create_task(case.target.mint(mark(9), case.scope, soon()))
        await asyncio.sleep(moment * 0.001)
        minting.cancel()
        (ended,) = await asyncio.gather(minting, return_exceptions=True)
        had = ended if isinstance(ended, Minted) and not case.kind.by_mark else None  # it was quicker: somebody has it, and shows it
        await asyncio.sleep(0.2)  # what the target had begun, it may end; the driver promises no later than MINT_SECONDS
        revoking = asyncio.create_task(case.target.revoke(mark(9), had))
        await asyncio.sleep(moment * 0.001)
        revoking.cancel()
        await asyncio.gather(revoking, return_exceptions=True)
        await asyncio.sleep(0.2)
        await case.target.revoke(mark(9), had)
        assert case.standing() == set()

    async def test_while_it_is_away_there_is_an_outage_and_then_it_goes_on(self, case: Case):
        minted = await case.target.mint(mark(40), case.scope, soon())
        case.down()
        try:
            for attempt in (
                case.target.revoke(mark(40), minted),
                case.target.mint(mark(41), case.scope, soon()),
                case.target.list_ours(PREFIX),
            ):
                with pytest.raises(Outage) as caught:
                    await attempt
                assert not any(len(part) > 12 and part in f"{caught.value!r}{caught.value}" for part in minted.parts.values())
            assert [finding.good for finding in await case.target.check()] == [False]
        finally:
            case.up()
        assert await case.target.revoke(mark(40), minted) is True
        assert case.standing() == set()

    async def test_what_cannot_be_given_is_refused_and_nothing_is_made(self, case: Case):
        for scope in case.bad_scopes():
            with pytest.raises(Mistake):
                await case.target.mint(mark(42), scope, soon())
        assert case.standing() == set()

    async def test_a_healthy_target_checks_well(self, case: Case):
        findings = await case.target.check()
        assert findings
        assert [finding.text for finding in findings if not finding.good] == []

    async def test_an_account_that_lacks_a_right_is_told_which_on_what_and_what_mends_it(self, case: Case):
        if not isinstance(case.target, TellsWhatItMayGive):
            pytest.skip("it cannot be asked, and doctor says so")
        assert await case.target.may_give(case.scope) == ()
        assert case.standing() == set()
        lacking = await case.lacking()
        assert isinstance(lacking.target, TellsWhatItMayGive)
        for _ in range(5):  # one right may hide behind another
            findings = await lacking.target.may_give(case.scope)
            if not findings:
                break
            for finding in findings:
                assert not finding.good
                assert finding.known
                assert [word for word in lacking.says if word not in finding.text] == []
                await lacking.run(finding.mend)
        assert findings == ()
        assert case.standing() == set(), "asking made something"
        minted = await lacking.target.mint(mark(43), case.scope, soon())
        session = await case.login(minted)
        await session.close()
        await lacking.target.revoke(mark(43), minted)
        await lacking.target.close()

    async def test_what_may_be_given_is_asked_of_a_part_of_a_scope_too(self, case: Case):
        """Doctor leaves out what only a task will name."""
        if not isinstance(case.target, TellsWhatItMayGive):
            pytest.skip("it cannot be asked, and doctor says so")
        assert await case.target.may_give({}) == ()
        assert await case.target.may_give({key: [] for key in case.kind.divisible}) == ()
        case.down()
        try:
            with pytest.raises(Outage):
                await case.target.may_give(case.scope)
        finally:
            case.up()

    async def test_a_mark_has_the_promised_form(self, case: Case):
        assert {len(mark(number)) for number in range(100)} == {31}
        assert set("".join(mark(number) for number in range(100))) <= set("abcdefghijklmnopqrstuvwxyz234567_")

    async def test_its_blank_opens_nothing(self, case: Case):
        assert await refused(case, Minted(parts=dict(case.kind.blank)))

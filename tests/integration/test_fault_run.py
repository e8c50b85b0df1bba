"""The fault run of leases in small: each kind of trouble on a real PostgreSQL, and nothing is left. ``make faults`` is the full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import scenarios
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
SMALL = (
    (scenarios.kills, 12),
    (scenarios.down, 3),
    (scenarios.slow, 4),
    (scenarios.cut, 24),
    (scenarios.read_only, 3),
    (scenarios.no_connections, 3),
    (scenarios.restored, 2),
    (scenarios.store_locked, 4),
    (scenarios.store_full, 10),
    (scenarios.clock_steps, 16),
    (scenarios.owners, 2),
    (scenarios.reconnecting, 2),
    (scenarios.two_nodes, 5),
    (scenarios.below, 40),
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.mark.parametrize(("scenario", "size"), SMALL, ids=lambda value: getattr(value, "__name__", ""))
async def test_nothing_is_left(server, tmp_path, scenario, size):
    line = await scenario(server, tmp_path, size)
    print(line)
    assert line.stood > 0, "something was there to be left"
    assert line.left == 0

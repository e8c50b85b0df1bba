"""``python -m bench [PART …]``: all parts, or those named: the modules beside this one."""

from __future__ import annotations

import sys

import uvloop

from bench import context, decide, exchange, identity, kill, latency, lease_restart, leases, ledger, replay, throughput, volume

_PARTS = (decide, context, exchange, identity, latency, throughput, volume, leases, lease_restart, kill, ledger, replay)
PARTS = {part.__name__.removeprefix("bench."): part.main for part in _PARTS}


async def _run(names: list[str]) -> None:
    for name in names:
        await PARTS[name]()


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(PARTS)}")
    uvloop.run(_run(wanted))

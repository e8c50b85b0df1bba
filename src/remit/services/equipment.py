"""Puts leased credentials into the environment of a task's own server process, or into the headers sent to a server, where the agent
never looks.

``"{lease:NAME.PART}"`` in ``[servers.X.env]`` becomes that part of the credential; ``"{lease-file:NAME.PART}"`` the path of a file
that holds it, readable only by our account, gone with the process. In ``[servers.X.headers]`` the first form works as well. Rules: a
server gets what it names and nothing else; where there is no task (``remit pin``, ``remit doctor``) it gets parts that open nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from remit.drivers.base import HttpServer, StdioServer
from remit.drivers.spans import SPANS_OFF
from remit.errors import Refusal
from remit.logic.telemetry import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.drivers.spans import Spans
    from remit.model.egress import Egress
    from remit.services.leases import Leases

LEASED = re.compile(r"\{(lease|lease-file):([a-z0-9][a-z0-9_-]{0,63})\.([a-z_]{1,32})\}")


class Equipment:
    """Equips servers with leases."""

    def __init__(self, leases: Leases, spans: Spans = SPANS_OFF) -> None:
        self._leases, self._spans = leases, spans

    async def equipped(self, task: str, server: StdioServer | HttpServer) -> StdioServer | HttpServer:
        """The server as it is to be started for a task. Raises as ``Leases.have``."""
        names = sorted({name for name, _ in leases_of(server)})
        if not names:
            return server
        with self._spans.span(LEASE, {"remit.lease.names": names}):
            minted = {name: await self._leases.have(task, name) for name in names}
        parts = {name: one.parts for name, one in minted.items()}
        held = frozenset(one.lease for one in minted.values())
        if not isinstance(server, StdioServer):
            headers = {key: LEASED.sub(lambda found: parts[found[2]][found[3]], value) for key, value in server.headers.items()}
            if any(sign in value for value in headers.values() for sign in "\0\r\n"):
                raise Refusal(f"a credential of {server.name} fits into no header", code="lease_header", hint="a part without line ends")
            return replace(server, headers=headers, held=held)
        secrets = tuple(sorted({one.parts[part] for one in minted.values() for part in one.secret}))
        files: list[str] = []
        try:
            environment = {key: _filled(value, parts, files) for key, value in server.environment.items()}
        except BaseException:
            for path in files:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise
        return replace(server, environment=environment, leases=tuple(names), secrets=secrets, held=held, files=tuple(files))

    async def of_egress(self, task: str, egress: Egress) -> HttpServer:
        """An API's headers as they are sent for a task. Raises as ``Leases.have``."""
        equipped = await self.equipped(task, http_server(egress))
        assert isinstance(equipped, HttpServer)
        return equipped


def http_server(egress: Egress) -> HttpServer:
    """An egress as what is equipped: its headers may name leases like those of a server."""
    return HttpServer(name=egress.name, url=egress.url, headers=dict(egress.headers))


def leases_of(server: object) -> list[tuple[str, str]]:
    """Names and parts of the leases that a server's environment or headers ask for."""
    if isinstance(server, StdioServer):
        values = server.environment.values()
    elif isinstance(server, HttpServer):
        values = server.headers.values()
    else:
        return []
    return [(name, part) for value in values for _, name, part in LEASED.findall(value)]


def unequipped(server: StdioServer | HttpServer, blank: Callable[[str], Mapping[str, str]]) -> StdioServer | HttpServer:
    """The server as it is started without a task. ``blank``: parts that open nothing, by the name of a lease."""

    def emptied(values: Mapping[str, str]) -> dict[str, str]:
        return {
            key: LEASED.sub(lambda found: os.devnull if found[1] == "lease-file" else blank(found[2]).get(found[3], ""), value)
            for key, value in values.items()
        }

    if isinstance(server, StdioServer):
        return replace(server, environment=emptied(server.environment))
    return replace(server, headers=emptied(server.headers))


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

"""``tools.lock.json``: the tools of each server as a person accepted them. Kept in git, reviewed like code.

Rules: a server is pinned when it is first seen, and from then on only by ``remit pin``. A tool that changes its description
or schema is not the tool that was accepted (tool poisoning, rug pull) and cannot be called until it is pinned again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Place
from remit.logic.arguments import parse_json
from remit.logic.narrow import SHOWN, tool_digest
from remit.model.catalog import PinnedTool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LOCK_FILE = "tools.lock.json"
_VERSION = 1
_BYTES_MAX = 16_777_216


@dataclass(frozen=True, slots=True, kw_only=True)
class PinChange:
    """What a server lists otherwise than it was pinned, by tool name."""

    server: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether everything is as it was."""
        return not (self.added or self.removed or self.changed)


class Pins:
    """The pinned tools of a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises Mistake for a file that is none."""
        self._path = folder / LOCK_FILE
        self._servers: dict[str, dict[str, PinnedTool]] = self._load()

    @property
    def servers(self) -> frozenset[str]:
        """Servers that have been pinned."""
        return frozenset(self._servers)

    def tools(self) -> dict[str, PinnedTool]:
        """All pinned tools by ``server/name``."""
        return {tool.id: tool for tools in self._servers.values() for tool in tools.values()}

    def compare(self, server: str, listed: Iterable[dict[str, Any]]) -> PinChange:
        """What would change if the server were pinned as it is now."""
        now, before = pinned_tools(server, listed), self._servers.get(server, {})
        both = now.keys() & before.keys()
        return PinChange(
            server=server,
            added=tuple(sorted(now.keys() - before.keys())),
            removed=tuple(sorted(before.keys() - now.keys())),
            changed=tuple(
                sorted(name for name in both if (now[name].digest, now[name].shown) != (before[name].digest, before[name].shown))
            ),
        )

    def pin(self, server: str, listed: Iterable[dict[str, Any]]) -> None:
        """Accept a server's tools as they are now, and write the file."""
        self._servers[server] = pinned_tools(server, listed)
        self._save()

    def _load(self) -> dict[str, dict[str, PinnedTool]]:
        if not self._path.exists():
            return {}
        try:
            data = parse_json(self._path.read_bytes(), bytes_max=_BYTES_MAX, depth_max=128)
            if data["version"] != _VERSION:
                raise ValueError(f"version {data['version']}")
            return {server: pinned_tools(server, tools) for server, tools in data["servers"].items()}
        except (Mistake, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Mistake(
                f"not a list of pinned tools: {error}",
                code="pins",
                hint="restore it from git, or delete it and run `remit pin`",
                place=Place(file=LOCK_FILE),
            ) from None

    def _save(self) -> None:
        servers = {server: [_declared(tool) for _, tool in sorted(tools.items())] for server, tools in sorted(self._servers.items())}
        text = json.dumps({"version": _VERSION, "servers": servers}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        fresh = self._path.with_name(f".{LOCK_FILE}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self._path)


def pinned_tools(server: str, listed: Iterable[dict[str, Any]]) -> dict[str, PinnedTool]:
    """Tools by name. Raises Mistake for one that has no name or no schema."""
    found: dict[str, PinnedTool] = {}
    for tool in listed:
        name, schema = tool.get("name"), tool.get("inputSchema") or {}
        if not isinstance(name, str) or not name or not isinstance(schema, dict):
            raise Mistake(f"server {server} lists a tool without a name or a schema", code="pins")
        annotations = tool.get("annotations")
        found[name] = PinnedTool(
            server=server,
            name=name,
            digest=tool_digest(tool),
            input_schema=schema,
            description=str(tool.get("description") or ""),
            annotations=annotations if isinstance(annotations, dict) else {},
            shown={member: tool[member] for member in SHOWN if tool.get(member)},
        )
    return found


def _declared(tool: PinnedTool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name, "inputSchema": tool.input_schema}
    if tool.description:
        declared["description"] = tool.description
    if tool.annotations:
        declared["annotations"] = tool.annotations
    return {**declared, **tool.shown}

"""Finds and reads files in which clients, frameworks and people keep standing access. Reads only; every bound is a number.

Rules: of links only those are followed that were named, or stand where a client keeps its settings. A file is opened once, without
waiting (a pipe would), and only a regular one is read. What is not read is told, with why. Left out: what files hold
(``logic/client_settings.py``).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from remit.model.scanning import Unread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_BYTES_MAX, FILES_MAX, ENTRIES_MAX, DEPTH_MAX, UNREAD_MAX = 8_388_608, 10_000, 500_000, 16, 1_000
_NAMES = frozenset(
    {
        *(
            ".mcp.json",
            "mcp.json",
            "mcp_config.json",
            "mcp-config.json",
            "mcp_settings.json",
            "cline_mcp_settings.json",
            "managed-mcp.json",
        ),
        *("claude_desktop_config.json", ".claude.json", "managed-settings.json", "opencode.json", "opencode.jsonc", "langgraph.json"),
        *("OAI_CONFIG_LIST", "OAI_CONFIG_LIST.json", "mcp_agent.config.yaml", "mcp_agent.secrets.yaml", "fastagent.config.yaml"),
        *("fastagent.secrets.yaml", ".aider.conf.yml", "litellm_config.yaml", ".envrc", ".npmrc", ".pypirc"),
    }
)
_IN_FOLDER = {
    "settings.json": frozenset({".claude", ".gemini", ".qwen", ".vscode", "User", "zed", ".zed"}),
    "settings.local.json": frozenset({".claude"}),
    ".credentials.json": frozenset({".claude"}),
    "config.toml": frozenset({".codex"}),
    "auth.json": frozenset({".codex", "opencode"}),
    "config.yaml": frozenset({".continue", "goose"}),
    "config.json": frozenset({".continue", "User"}),
    "secrets.toml": frozenset({".streamlit"}),
}
_ENVIRONMENT = re.compile(r"\.env(?:\..{1,64})?|.{1,64}\.env")
_SKIPPED = frozenset(
    {".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", "site-packages", ".tox", ".mypy_cache", ".cache"}
)
# Where clients keep their settings below a home folder: Linux, macOS, Windows (docs/scan.md names who).
_KNOWN = (
    *(".claude.json", ".claude/settings.json", ".claude/settings.local.json", ".claude/.credentials.json", ".mcp.json"),
    *(
        ".cursor/mcp.json",
        ".codeium/windsurf/mcp_config.json",
        ".codeium/mcp_config.json",
        ".gemini/settings.json",
        ".gemini/config/mcp_config.json",
        ".qwen/settings.json",
    ),
    *(".codex/config.toml", ".codex/auth.json", ".aws/amazonq/mcp.json", ".copilot/mcp-config.json", ".lmstudio/mcp.json"),
    *(".kiro/settings/mcp.json", ".junie/mcp/mcp.json", ".continue/config.yaml", ".continue/config.json", ".aider.conf.yml", ".env"),
    *(".roo/mcp.json", ".config/opencode/opencode.json", ".local/share/opencode/auth.json", ".config/zed/settings.json"),
    *(".config/goose/config.yaml",),
)
_APPLICATIONS = (".config", "Library/Application Support", "AppData/Roaming")
_OF_APPLICATION = (
    *("Claude/claude_desktop_config.json", "Zed/settings.json"),
    *(
        f"{editor}/User/{name}"
        for editor in ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
        for name in (
            *("settings.json", "mcp.json", "globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            "globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
        )
    ),
)
_SYSTEM = (
    *("/etc/claude-code/managed-settings.json", "/etc/claude-code/managed-mcp.json"),
    *("/Library/Application Support/ClaudeCode/managed-settings.json", "/Library/Application Support/ClaudeCode/managed-mcp.json"),
    *("C:/Program Files/ClaudeCode/managed-settings.json", "C:/Program Files/ClaudeCode/managed-mcp.json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file that was read. ``changed_at``: its modification time."""

    path: Path
    changed_at: datetime
    text: str = field(repr=False)


class StandingFiles:
    """One look through folders and files. ``unread`` fills as ``texts`` is gone through."""

    def __init__(self) -> None:
        self.unread: list[Unread] = []
        self.read = 0
        self._seen: set[tuple[int, int]] = set()
        self._entries = 0

    def known(self, home: Path, environment: Mapping[str, str]) -> list[Path]:
        """The places where clients keep their settings; most are not there."""
        folders = [home / one for one in _APPLICATIONS]
        folders += [Path(environment[name]) for name in ("XDG_CONFIG_HOME", "APPDATA") if environment.get(name)]
        places = [*(home / one for one in _KNOWN), *(folder / one for folder in folders for one in _OF_APPLICATION)]
        return [*places, *(Path(one) for one in _SYSTEM)]

    def texts(self, paths: list[Path], *, known: list[Path]) -> Iterator[Text]:
        """Texts of what was named (folders are gone through, a named link is followed), then of known places that are there."""
        for path in paths:
            try:
                kind = path.stat().st_mode
            except (OSError, ValueError) as error:
                self._miss(path, _why(error))
                continue
            if stat.S_ISDIR(kind):
                for one in self._walk(str(path)):
                    yield from self._read(one)
            else:
                yield from self._read(Path(os.path.realpath(path)), path)
        for place in known:
            if os.path.lexists(place):
                yield from self._read(Path(os.path.realpath(place)), place)  # its client follows a link, too

    def _walk(self, folder: str) -> Iterator[Path]:
        waiting = [(folder, 0)]
        while waiting:
            here, depth = waiting.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            except OSError as error:
                self._miss(Path(here), _why(error))
                continue
            below = []
            for entry in entries:
                self._entries += 1
                if self._entries > ENTRIES_MAX:
                    self._miss(Path(here), f"more than {ENTRIES_MAX:,} files and folders: the rest was not looked at")
                    return
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _SKIPPED:
                        below.append((entry.path, depth + 1))
                elif is_candidate(entry.name, os.path.basename(here)):
                    yield Path(entry.path)
            if below and depth >= DEPTH_MAX:
                self._miss(Path(here), f"folders below are deeper than {DEPTH_MAX}")
            elif below:
                waiting += reversed(below)

    def _read(self, path: Path, known_as: Path | None = None) -> Iterator[Text]:
        if self.read >= FILES_MAX:
            self._miss(path, f"more than {FILES_MAX:,} files: the rest was not read")
            return
        try:
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
            )
        except (OSError, ValueError) as error:
            self._miss(path, "a link, which is not followed: name its file" if os.path.islink(path) else _why(error))
            return
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                self._miss(path, "not a regular file")
                return
            if (state.st_dev, state.st_ino) in self._seen:
                return
            self._seen.add((state.st_dev, state.st_ino))
            try:
                data = file.read(FILE_BYTES_MAX + 1)
            except OSError as error:
                self._miss(path, _why(error))
                return
        if len(data) > FILE_BYTES_MAX:
            self._miss(path, f"larger than {FILE_BYTES_MAX:,} bytes")
            return
        self.read += 1
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        yield Text(
            path=known_as or path, changed_at=datetime.fromtimestamp(state.st_mtime, UTC), text=data.decode(encoding, errors="replace")
        )

    def _miss(self, path: Path, why: str) -> None:
        if len(self.unread) < UNREAD_MAX:
            self.unread.append(Unread(file=str(path), why=why))


def is_candidate(name: str, folder: str) -> bool:
    """Whether a file of that name, in a folder of that name, is looked into."""
    return name in _NAMES or folder in _IN_FOLDER.get(name, ()) or _ENVIRONMENT.fullmatch(name) is not None


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "not a path"

"""Where ``remit run`` takes a manifest from: a table of ``remit.toml``, a file of its own, options; and the digests of what they name.

Rules: a file that is named and cannot be read is a mistake at start; while the agent runs it is a part that is gone. Files are
looked at again when their time, size or place on the disk changes. Paths are relative to the file that names them.
Left out: what a change does (``logic/manifest.py``).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from remit.errors import Mistake, Place
from remit.logic.arguments import digest_bytes, digest_json, parse_json
from remit.logic.manifest import check_parts
from remit.logic.narrow import tool_digest
from remit.model.manifest import SINGLE, Follows, ManifestSource, PartKind
from remit.services.reading import Mistakes, Reader, near, parsed, read_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
_FILE_BYTES_MAX = 1_073_741_824  # of a file whose digest is taken; it is read in pieces
_TOOLS_BYTES_MAX = 16_777_216
_PIECE = 1_048_576
_LOOK_SECONDS = 0.25
_KINDS = frozenset(kind.value for kind in PartKind)


def read_source(table: Reader) -> ManifestSource:
    """``[agents.NAME.manifest]``, or a whole ``manifest.toml``."""
    sources, ids = {}, {}
    inner = table.table("data_sources")
    for name in inner.data:
        if isinstance(inner.data[name], dict):
            entry = inner.table(name)
            ids[name] = entry.value("id", str, "")
            if not ids[name]:
                entry.wrong("a data source is a file, or has an id", f'{name} = "data/{name}.csv", or {name} = {{ id = "…" }}')
            entry.done()
        else:
            sources[name] = inner.value(name, str, "")
    source = ManifestSource(
        model=table.value("model", str, ""),
        system_prompt=table.value("system_prompt", str, ""),
        tools=table.value("tools", str, ""),
        data_sources=sources,
        data_source_ids=ids,
        files={path: path for path in table.texts("files")},
        command=table.value("command", bool, default=True),
        required=read_required(table),
    )
    table.done()
    return source


def read_required(table: Reader) -> tuple[str, ...]:
    """``required``: parts without which no task begins."""
    required = table.texts("required")
    for part in required:
        kind, slash, name = part.partition("/")
        if kind not in _KINDS or (slash and (kind in SINGLE or not name)):
            table.wrong(f"required names {part[:80]!r}", near(kind, _KINDS), "required")
    return required


def read_drift(table: Reader) -> dict[str, str]:
    """``[drift]`` of a task type: what follows a change, by kind of part."""
    found = {}
    for kind in PartKind:
        chosen = table.choice(kind.value, Follows)
        if chosen is not None:
            found[kind.value] = chosen.value
    table.done()
    return found


def read_source_file(path: Path) -> tuple[ManifestSource, Path]:
    """A ``manifest.toml``, and the folder its paths start from. Raises Mistakes."""
    found: list[Mistake] = []
    source = read_source(Reader(parsed(path.name, read_text(path, path.name)), found))
    if found:
        raise Mistakes(found)
    return source, path.resolve().parent


def placed(source: ManifestSource, folder: Path) -> ManifestSource:
    """The same with whole paths."""

    def at(path: str) -> str:
        return str((folder / path).resolve()) if path else ""

    return replace(
        source,
        system_prompt=at(source.system_prompt),
        tools=at(source.tools),
        data_sources={name: at(path) for name, path in source.data_sources.items()},
        files={name: at(path) for name, path in source.files.items()},
    )


def joined(first: ManifestSource, second: ManifestSource) -> ManifestSource:
    """Two sources as one; where both state something, the second speaks."""
    return ManifestSource(
        model=second.model or first.model,
        system_prompt=second.system_prompt or first.system_prompt,
        tools=second.tools or first.tools,
        data_sources={**first.data_sources, **second.data_sources},
        data_source_ids={**first.data_source_ids, **second.data_source_ids},
        files={**first.files, **second.files},
        command=first.command and second.command,
        required=tuple(dict.fromkeys((*first.required, *second.required))),
    )


@dataclass(slots=True)
class ManifestFiles:
    """The manifest of a process that is about to run, from files with whole paths, and those files while it runs."""

    source: ManifestSource
    command: Sequence[str]
    _stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _parts: dict[str, str] = field(default_factory=dict)

    def parts(self) -> dict[str, str]:
        """The parts as they are now. Raises Mistake where a file cannot be read."""
        self._stamps = {path: _stamp(path) for path in self._paths()}  # first: what changes while it is read is read again
        self._parts = check_parts(self._taken(gone=False))
        return dict(self._parts)

    def look(self) -> dict[str, str]:
        """The parts that are otherwise than they were at the last look; a file that cannot be read is gone ("")."""
        stamps = {path: _stamp(path) for path in self._paths()}
        if stamps == self._stamps:
            return {}
        now = self._taken(gone=True)
        told = {part: now.get(part, "") for part in {*now, *self._parts} if now.get(part, "") != self._parts.get(part, "")}
        self._stamps, self._parts = stamps, now
        return told

    async def watch(self, tell: Callable[[dict[str, str]], Awaitable[object]]) -> None:
        """Look again and again until cancelled. A report that fails is told again with the next look."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            before = dict(self._stamps), dict(self._parts)
            told = await asyncio.to_thread(self.look)
            if told:
                try:
                    await tell(told)
                except BaseException:
                    self._stamps, self._parts = before
                    raise

    def _paths(self) -> tuple[str, ...]:
        source = self.source
        named = (source.system_prompt, source.tools, *source.data_sources.values(), *source.files.values(), self._executable())
        return tuple(dict.fromkeys(path for path in named if path))

    def _executable(self) -> str:
        return shutil.which(self.command[0]) or "" if self.source.command and self.command else ""

    def _taken(self, *, gone: bool) -> dict[str, str]:
        source = self.source
        files = {PartKind.SYSTEM_PROMPT.value: source.system_prompt} if source.system_prompt else {}
        files |= {f"{PartKind.DATA_SOURCES}/{name}": path for name, path in source.data_sources.items()}
        files |= {f"{PartKind.FILES}/{name}": path for name, path in source.files.items()}
        found = {PartKind.MODEL.value: digest_bytes(source.model.encode())} if source.model else {}
        found |= {f"{PartKind.DATA_SOURCES}/{name}": digest_bytes(text.encode()) for name, text in source.data_source_ids.items()}
        for part, path in files.items():
            if digest := _or_gone(path, _file_digest, gone=gone):
                found[part] = digest
        if source.tools:
            found |= _or_gone(source.tools, _tools, gone=gone) or {}
        if executable := self._executable():  # one that is not there cannot be started either
            digest = _or_gone(executable, _file_digest, gone=gone) or ""
            found[PartKind.COMMAND.value] = digest_json({"executable": digest, "arguments": list(self.command[1:])})
        return found


def _or_gone(path: str, take: Callable[[str], T], *, gone: bool) -> T | None:
    try:
        return take(path)
    except (OSError, Mistake) as error:
        if gone:
            return None
        what = error.message if isinstance(error, Mistake) else str(error.strerror)
        raise Mistake(what, code="manifest", hint="the manifest names it; see what stands there", place=Place(file=path)) from None


def _file_digest(path: str) -> str:
    """SHA-256 of a regular file. Raises OSError, Mistake."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Mistake("not a file", code="manifest")
        digest, size = hashlib.sha256(), 0
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > _FILE_BYTES_MAX:
                raise Mistake(f"larger than {_FILE_BYTES_MAX:,} bytes", code="manifest")
            digest.update(piece)
    return "sha-256:" + urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def _tools(path: str) -> dict[str, str]:
    """A JSON list of tools (name, description, inputSchema), a part each."""
    with Path(path).open("rb") as file:
        listed = parse_json(file.read(_TOOLS_BYTES_MAX + 1), bytes_max=_TOOLS_BYTES_MAX)
    if not isinstance(listed, list) or not all(isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in listed):
        raise Mistake("not a list of tools, each with a name", code="manifest")
    return {f"{PartKind.TOOLS}/{tool['name']}": tool_digest(tool) for tool in listed}


def _stamp(path: str) -> tuple[int, ...]:
    try:
        state = Path(path).stat()
    except OSError:
        return ()
    return state.st_mtime_ns, state.st_size, state.st_ino, state.st_ctime_ns

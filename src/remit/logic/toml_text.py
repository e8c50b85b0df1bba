"""TOML with places: which line a key stands on, so that a mistake can be shown where it is. Pure."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from remit.errors import Mistake, Place

_HEADER = re.compile(r"^\s*\[(\[?)\s*(.+?)\s*\]?\]\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_AT = re.compile(r"\(at line (\d+)(?:, column \d+)?\)")
Path = tuple[str | int, ...]


class TomlText:
    """A parsed file that knows where its keys stand."""

    def __init__(self, file: str, text: str) -> None:
        """Raises Mistake with the line of a syntax error."""
        self.file = file
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _AT.search(str(error))
            line = int(found.group(1)) if found else len(text.splitlines())
            raise Mistake(f"not TOML: {_AT.sub('', str(error)).strip()}", code="toml", place=Place(file=file, line=line)) from None
        self._lines = _lines(text)

    def place(self, *path: str | int) -> Place:
        """The place of a key, or of the nearest one above it."""
        key = ".".join(str(part) if isinstance(part, int) or _BARE.fullmatch(part) else f'"{part}"' for part in path)
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return Place(file=self.file, line=self._lines[path[:length]], key=key)
        return Place(file=self.file, key=key)


def _lines(text: str) -> dict[Path, int]:
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header and "=" not in line.split("]")[0]:
            table = _parts(header.group(2))
            if header.group(1):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            _note(found, table, number)
            continue
        key = _KEY.match(line)
        if key:
            _note(found, (*table, *_parts(key.group(1))), number)
    return found


def _note(found: dict[Path, int], path: Path, number: int) -> None:
    for length in range(1, len(path) + 1):
        found.setdefault(path[:length], number)


def _parts(dotted: str) -> Path:
    try:
        data: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return (dotted,)
    parts: list[str | int] = []
    while isinstance(data, dict):
        (key, data), *_ = data.items()
        parts.append(key)
    return tuple(parts)

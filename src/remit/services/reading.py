"""Reads the files of a working folder: bounded, as text, and TOML key by key, so that what nobody asked for is noticed.

Rules: a mistake carries file, line, key and what is allowed, and reading goes on, so that all of them are told at once. What is
there and cannot be read is a mistake, never left out. Left out: what keys mean (``services/configuration.py``).
"""

from __future__ import annotations

import os
import re
import stat
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from remit.errors import Mistake, Place
from remit.logic.toml_text import TomlText

if TYPE_CHECKING:
    from collections.abc import Collection
    from enum import StrEnum
    from pathlib import Path

T = TypeVar("T")
FILE = "remit.toml"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")  # of servers, task types
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?\Z", re.ASCII)
_FILE_BYTES_MAX = 1_048_576


class Mistakes(Mistake):
    """All that is wrong with a configuration, a line each."""

    default_code = "configuration"

    def __init__(self, found: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in found))
        self.found = tuple(found)


class Reader:
    """A TOML table that is read key by key; what nobody read is a mistake. Wrong values are noted and read as defaults."""

    def __init__(self, toml: TomlText, found: list[Mistake], path: tuple[str | int, ...] = (), data: dict[str, Any] | None = None) -> None:
        self.toml, self.found, self.path = toml, found, path
        self.data = toml.data if data is None else data
        self.read: set[str] = set()

    def wrong(self, what: str, hint: str, *keys: str | int) -> None:
        """Note a mistake at a key of this table."""
        self.found.append(Mistake(what, code="configuration", hint=hint, place=self.toml.place(*self.path, *keys)))

    def done(self, *also: str) -> None:
        """Note every key that nobody read."""
        known = {*self.read, *also}
        for key in self.data:
            if key not in known:
                self.wrong(f"{key!r} is not known here", near(key, known), key)

    def value(self, key: str, kind: type[T], default: T) -> T:
        """One value of a kind, or the default."""
        self.read.add(key)
        value = self.data.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(f"{key} must be {_KINDS.get(kind, kind.__name__)}", "", key)
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of strings."""
        values = self.value(key, list, list(default))
        if not all(isinstance(value, str) for value in values):
            self.wrong(f"{key} must be a list of strings", "", key)
            return default
        return tuple(values)

    def choice(self, key: str, kind: type[StrEnum]) -> Any:
        """One of a closed set of words; ``None`` where nothing is stated."""
        text = self.value(key, str, "")
        if not isinstance(self.data.get(key), str):
            return None
        try:
            return kind(text)
        except ValueError:
            self.wrong(f"{key} = {text[:80]!r}", near(text, [member.value for member in kind]), key)
            return None

    def number(self, key: str, default: int, most: int) -> int:
        """A whole number from 1."""
        value = self.value(key, int, default)
        if not 1 <= value <= most:
            self.wrong(f"{key} must be a whole number from 1 to {most:,}", "", key)
            return default
        return value

    def duration(self, key: str, default: timedelta, most: timedelta) -> timedelta:
        """A time like ``1h30m``, above nothing."""
        text = self.value(key, str, "")
        if not isinstance(self.data.get(key), str):
            return default
        found = _DURATION.match(text)
        hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if not timedelta(0) < span <= most:
            self.wrong(f"{key} = {text[:80]!r} is no duration up to {most}", 'write "15m", "1h30m" or "45s"', key)
            return default
        return span

    def table(self, key: str) -> Reader:
        """A table below this one; empty where there is none."""
        self.read.add(key)
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            self.wrong(f"{key} must be a table", f"[{'.'.join(map(str, (*self.path, key)))}]", key)
            value = {}
        return Reader(self.toml, self.found, (*self.path, key), value)

    def each(self, key: str) -> list[Reader]:
        """The tables of a list of tables (``[[key]]``)."""
        self.read.add(key)
        found = []
        values = self.data.get(key, [])
        for number, value in enumerate(values if isinstance(values, list) else [values]):
            if isinstance(value, dict) and isinstance(values, list):
                found.append(Reader(self.toml, self.found, (*self.path, key, number), value))
            else:
                self.wrong(f"{key} must be a list of tables", f"[[{'.'.join(map(str, (*self.path, key)))}]]", key)
        return found

    def tables(self, key: str) -> list[tuple[str, Reader]]:
        """The tables of a table, by name."""
        parent = self.table(key)
        return [(name, parent.table(name)) for name in parent.data]


_KINDS: dict[type, str] = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def read_text(path: Path, name: str) -> str:
    """A file as text; ``name`` is what a mistake calls it. Raises Mistake."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait
            raise Mistake("not a file", code="configuration", hint="a file, or a link to one, stands here", place=Place(file=name))
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        hint = "`remit init` writes one" if name == FILE else "a link that leads nowhere?"
        where = str(path) if name == FILE else name
        raise Mistake("there is no such file", code="configuration", hint=hint, place=Place(file=where)) from None
    except OSError as error:
        raise Mistake(f"cannot be read: {error.strerror}", code="configuration", place=Place(file=name)) from None
    if len(data) > _FILE_BYTES_MAX:
        raise Mistake(f"larger than {_FILE_BYTES_MAX:,} bytes", code="configuration", place=Place(file=name))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Mistake("not UTF-8", code="configuration", place=Place(file=name, line=line)) from None


def read_texts(folder: Path, kind: str, ending: str, found: list[Mistake]) -> dict[str, str | None]:
    """All files of a kind. What is there and cannot be read is a mistake, never left out: it may be what forbids."""
    texts: dict[str, str | None] = {}
    try:
        names = sorted(entry for entry in os.listdir(folder / kind) if entry.endswith(ending) and not entry.startswith("."))
    except FileNotFoundError:
        return {}
    except OSError as error:
        found.append(Mistake(f"cannot be read: {error.strerror}", code="configuration", place=Place(file=kind)))
        return {}
    for name in (f"{kind}/{entry}" for entry in names):
        texts[name] = None
        try:
            texts[name] = read_text(folder / name, name)
        except Mistake as mistake:
            found.append(mistake)
    return texts


def parsed(name: str, text: str) -> TomlText:
    """TOML with places. Raises Mistake."""
    try:
        return TomlText(name, text)
    except RecursionError:
        raise Mistake("nested too deep", code="toml", place=Place(file=name)) from None


def fill(table: Reader, text: str, key: str) -> str:
    """A text with ``${NAME}`` taken from the environment; a name that is not there is a mistake."""
    for variable in VARIABLE.findall(text):
        if variable not in os.environ:
            table.wrong(f"the environment has no {variable}", f"export {variable}=… before starting remit", key)
    return VARIABLE.sub(lambda found: os.environ.get(found.group(1), ""), text)


def near(word: str, known: Collection[str]) -> str:
    """What is allowed, the likely one first."""
    close = get_close_matches(word, [str(name) for name in known], n=1)
    allowed = ", ".join(sorted(map(str, known))) or "nothing"
    return f"did you mean {close[0]!r}? allowed: {allowed}" if close else f"allowed: {allowed}"

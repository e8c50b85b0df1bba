"""Reads what MCP clients and agent frameworks keep: JSON with or without comments, TOML, lines of ``NAME=value``; and finds servers in it.

Rules: what is broken is read as lines, so that nothing hides behind a missing bracket; of keys that stand twice both are read. Depth and
the number of texts are bounded. Sources of the shapes are named in docs/scan.md. Left out: what any of it means for security.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from remit.model.scanning import Leaf, ServerEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEPTH_MAX, LEAVES_MAX, SERVERS_MAX = 64, 200_000, 1_000
SERVER_TABLES = ("mcpServers", "servers", "context_servers", "mcp_servers", "mcp")
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)  # each alternative ends: no text is read twice
_TRAILING = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|,(?=\s*[}\]])')
_LINE = re.compile(r"""(?:export\s+|set\s+|-\s+)?["']?([A-Za-z_][A-Za-z0-9_.-]{0,127})["']?\s{0,16}[=:]\s{0,16}(\S.*)\Z""")
_NPM = re.compile(r"//\S{1,512}?:(_[A-Za-z]{1,32})\s{0,16}=\s{0,16}(\S.*)\Z")  # //registry.example/:_authToken=…
_MARKS = ("#", "//", ";", "/*")
_QUOTED = re.compile(r"""(["'])(.*?)\1,?\s*(?:#.*)?\Z""")
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z0-9_.-]*")
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]*):\s{0,16}(.*)", re.DOTALL)
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


class BrokenSettings(ValueError):
    """Neither JSON nor TOML, or nested too deep."""


def parse_settings(text: str, *, toml: bool) -> Any:
    """The value of a file. Raises BrokenSettings."""
    try:
        if toml:
            return tomllib.loads(text)
        plain = _TRAILING.sub(lambda found: found[1] or "", _COMMENT.sub(lambda found: found[1] or " ", text))
        return json.loads(plain, object_pairs_hook=_both)
    except (ValueError, RecursionError) as error:
        raise BrokenSettings(type(error).__name__) from None


def leaves(data: object) -> Iterator[Leaf]:
    """Every text of a value, with what it is called: of a command's arguments, the flag before it."""
    stack: list[tuple[object, str, tuple[str, ...], int]] = [(data, "", (), 0)]
    given = 0
    while stack and given < LEAVES_MAX:
        value, where, names, depth = stack.pop()
        given += 1
        if isinstance(value, str):
            yield Leaf(where=where or "/", names=names, text=value)
        elif isinstance(value, dict) and depth < DEPTH_MAX:
            for key, one in reversed(value.items()):
                name = str(key).partition("\0")[0]
                stack.append((one, f"{where}/{_escaped(name)}", (name, *names[:2]), depth + 1))
        elif isinstance(value, list) and depth < DEPTH_MAX:
            for number, (called, one) in reversed(list(enumerate(_named(value)))):
                stack.append((one, f"{where}/{number}", (called, *names[:2]) if called else names, depth + 1))


def lines(text: str) -> Iterator[Leaf]:
    """``NAME=value``, ``name: value`` and ``"name": "value"`` of a text, line by line; of other lines the whole. What was commented out
    stands there all the same.
    """
    for number, line in enumerate(text.splitlines()[:LEAVES_MAX], 1):
        yield from _line(number, line.strip())


def remarks(text: str, *, toml: bool) -> Iterator[Leaf]:
    """What stands in the comments of a text that is otherwise parsed, line by line."""
    if toml:
        for number, line in enumerate(text.splitlines()[:LEAVES_MAX], 1):
            yield from _line(number, line.strip()) if line.lstrip().startswith("#") else ()
        return
    at, number = 0, 1
    for found in itertools.islice(_COMMENT.finditer(text), LEAVES_MAX):
        if found[1] is None:
            number, at = number + text.count("\n", at, found.start()), found.start()
            for more, line in enumerate(found[0].removesuffix("*/").split("\n")):
                yield from _line(number + more, line.strip().lstrip("* "))


def _line(number: int, line: str) -> Iterator[Leaf]:
    found = _NPM.match(line)
    if found is None:
        line = line.lstrip("#/;* ") if line.startswith(_MARKS) else line
        found = _LINE.match(line)
    if found is not None:
        quoted = _QUOTED.match(found[2])
        yield Leaf(where=f"line {number}", names=(found[1],), text=quoted[2] if quoted else found[2].partition(" #")[0].rstrip(" ,"))
    elif line:
        yield Leaf(where=f"line {number}", names=(), text=line)


def servers(data: object) -> Iterator[ServerEntry]:
    """MCP servers of a client's configuration, wherever clients keep them (a table of servers, in the file, in a project, in ``mcp``)."""
    given = 0
    stack: list[tuple[object, str, int]] = [(data, "", 0)]
    while stack and given < SERVERS_MAX:
        value, where, depth = stack.pop()
        if not isinstance(value, dict) or depth > 4:
            continue
        for key, one in reversed(value.items()):
            name = str(key).partition("\0")[0]
            here = f"{where}/{_escaped(name)}"
            if name in SERVER_TABLES and isinstance(one, dict):
                for called, entry in one.items():
                    if isinstance(entry, dict) and (read := _server(str(called).partition("\0")[0], here, entry)) is not None:
                        given += 1
                        yield read
            stack.append((one, here, depth + 1))


def _server(name: str, table: str, entry: Mapping[str, Any]) -> ServerEntry | None:
    command, args = entry.get("command"), entry.get("args", [])
    if isinstance(command, dict):  # Zed: {"command": {"path", "args", "env"}}
        entry = {**entry, "args": command.get("args", []), "env": command.get("env", {})}
        command, args = command.get("path"), entry["args"]
    if isinstance(command, list) and command:  # opencode: the whole line
        command, args = command[0], command[1:]
    address = next((entry[key] for key in ("url", "serverUrl", "httpUrl", "uri") if isinstance(entry.get(key), str)), "")
    if not isinstance(command, str) and not address:
        return None
    environment: dict[Any, Any] = next((entry[key] for key in ("env", "environment", "envs") if isinstance(entry.get(key), dict)), {})
    headers: dict[Any, Any] = next((entry[key] for key in ("headers", "http_headers") if isinstance(entry.get(key), dict)), {})
    return ServerEntry(
        name=name,
        where=f"{table}/{_escaped(name)}",
        command=command if isinstance(command, str) else "",
        args=tuple(one for one in args if isinstance(one, str)) if isinstance(args, list) else (),
        environment={str(key): one for key, one in environment.items() if isinstance(one, str)},
        url=address,
        headers={str(key): one for key, one in headers.items() if isinstance(one, str)},
        raw=entry,
    )


def arguments(words: list[str] | tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    """Arguments of a command by position, with the name that a flag gives them: ``--token X``, ``--token=X``, ``-e TOKEN=X``, and of a
    header its own: ``--header "Authorization: Bearer X"``.
    """
    flag = ""
    for number, word in enumerate(words):
        assigned = _ASSIGNED.fullmatch(word.lstrip("-")) or (_HEADER.fullmatch(word) if flag in {"header", "headers", "H"} else None)
        if assigned:
            yield number, assigned[1], assigned[2]
        else:
            yield number, flag, word
        flag = word.lstrip("-") if _FLAG.fullmatch(word) else ""


def _named(values: list[Any]) -> list[tuple[str, Any]]:
    if not values or not all(isinstance(one, str) for one in values):
        return [("", one) for one in values]
    return [(name, one) for _, name, one in arguments(values)]


def _both(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that stands twice is kept twice: a client takes one of them, and the file holds both."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        made[key if key not in made else f"{key}\0{len(made)}"] = value
    return made


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")

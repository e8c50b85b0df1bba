"""Names of tools and prompts at the endpoint that has several servers in one: ``server__tool``. Pure.

Rules: a name holds what LLM APIs take, ``[A-Za-z0-9_-]``, at most 64. A plain name is the server's name, two underscores, and the tool's;
it is read back by its first two underscores, so a server whose own name could shift them gets no plain names. What cannot be plain is
cut to what fits, with a digest of both names behind ``--``; no plain name looks so. Such a name is never read back but looked up among
what is known, and where two things bore one name it would open neither. A name depends on nothing but what it names.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME_CHARACTERS_MAX = 64
BETWEEN = "__"
_MARK = "--"
_DIGEST_CHARACTERS = 16
_SERVER_CHARACTERS_MAX = 20  # of a server's name in a name that had to be cut
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_CHARACTERS_MAX}}}\Z")
_CUT = re.compile(rf".*{_MARK}[0-9a-f]{{{_DIGEST_CHARACTERS}}}\Z", re.DOTALL)
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_TOLD_MAX = 24


def joint_name(server: str, name: str) -> str:
    """What a server's tool or prompt is called at the joint endpoint."""
    plain = server + BETWEEN + name
    if _keeps_apart(server) and name and _PLAIN.match(plain) and not _CUT.match(plain):
        return plain
    digest = hashlib.sha256(f"{server}/{name}".encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    head = short_server(server) + BETWEEN
    room = NAME_CHARACTERS_MAX - len(head) - len(_MARK) - _DIGEST_CHARACTERS
    return head + _FOREIGN.sub("_", name)[:room] + _MARK + digest


def plain_parts(joint: str) -> tuple[str, str] | None:
    """Server and name of a plain name; ``None`` for one that is looked up, or that names nothing."""
    server, between, name = joint.partition(BETWEEN)
    return (server, name) if between and joint_name(server, name) == joint else None


def is_cut(joint: str) -> bool:
    """Whether a name has the form of one that had to be cut."""
    return len(joint) <= NAME_CHARACTERS_MAX and _CUT.match(joint) is not None


def short_server(server: str) -> str:
    """How a server is told in the names of its that had to be cut."""
    return re.sub("_{2,}", "_", _FOREIGN.sub("_", server))[:_SERVER_CHARACTERS_MAX].strip("_")


def looked_up(joint: str, known: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The one of what is known that is called so; ``None`` where nothing is, or more than one."""
    found = {(server, name) for server, name in known if joint_name(server, name) == joint}
    return found.pop() if len(found) == 1 else None


def unambiguous(known: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
    """What things are called, without those of which two would be called the same."""
    called: dict[str, set[tuple[str, str]]] = {}
    for one in known:
        called.setdefault(joint_name(*one), set()).add(one)
    return {next(iter(ones)): name for name, ones in called.items() if len(ones) == 1}


def told_names(text: str, known: Iterable[tuple[str, str]]) -> str:
    """How the tools and prompts that a text names as ``server/name`` are called at the joint endpoint ("" : it names none)."""
    found = [(f"{server}/{name}", joint_name(server, name)) for server, name in sorted(set(known)) if f"{server}/{name}" in text]
    words = [f"{own} is called {joint}" for own, joint in found if re.search(rf"(?<![\w./-]){re.escape(own)}(?![\w/-])", text)]
    return f"Here {'; '.join(words[:_TOLD_MAX])}." if words else ""


def _keeps_apart(server: str) -> bool:
    return BETWEEN not in server and not server.endswith("_")

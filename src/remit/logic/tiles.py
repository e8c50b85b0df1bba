"""The ledger's tree cut into tiles (C2SP tlog-tiles): their paths, what each is made of, bundles of entries. Pure.

Rules: a tile holds up to 256 hashes of one level; tile ``number`` of ``level`` begins with node ``number * 256`` of the tree's level
``8 * level``. A path has one form only, so that one tile has one address. What a tile holds never changes: the tree only grows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.logic.merkle import Node

TILE_WIDTH = 256
_TILE_BITS = 8
_LEVEL_MAX = 63
_PATH = re.compile(r"((?:x\d{3}/){0,5}\d{3})(?:\.p/([1-9]\d{0,2}))?\Z", re.ASCII)
_LEVEL = re.compile(r"(0|[1-9]\d?)/", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """``width`` hashes of a level, or (level 0) the entries below them: 256, or fewer at the tree's right edge."""

    level: int
    number: int
    width: int = TILE_WIDTH

    def within(self, size: int) -> bool:
        """Whether a tree of so many entries has all of it."""
        return (self.number * TILE_WIDTH + self.width) << (_TILE_BITS * self.level) <= size

    def nodes(self) -> tuple[Node, ...]:
        """Its hashes, as nodes of the tree."""
        first = self.number * TILE_WIDTH
        return tuple((_TILE_BITS * self.level, first + place) for place in range(self.width))


def parse_tile(path: str) -> Tile:
    """A tile from what follows ``/tile/``: ``L/N`` or ``L/N.p/W``. Raises NotFound."""
    found = _LEVEL.match(path)
    if found is None or int(found[1]) > _LEVEL_MAX:
        raise NotFound("there is no such tile", hint="tile/L/N or tile/L/N.p/W, as C2SP tlog-tiles writes them")
    return _parse(path[found.end() :], int(found[1]))


def parse_bundle(path: str) -> Tile:
    """The entries of a level-0 tile from what follows ``/tile/entries/``. Raises NotFound."""
    return _parse(path, 0)


def bundled(bodies: Iterable[bytes]) -> bytes:
    """An entry bundle: each entry behind its length (uint16, big-endian)."""
    return b"".join(len(body).to_bytes(2, "big") + body for body in bodies)


def _parse(path: str, level: int) -> Tile:
    found = _PATH.match(path)
    groups = found[1].replace("x", "").split("/") if found else []
    width = int(found[2]) if found and found[2] else TILE_WIDTH
    if found is None or (len(groups) > 1 and groups[0] == "000") or (found[2] and width >= TILE_WIDTH):
        raise NotFound("there is no such tile", hint="tile/L/N or tile/L/N.p/W, as C2SP tlog-tiles writes them")
    return Tile(level=level, number=int("".join(groups)), width=width)

"""The ledger's Merkle tree: RFC 6962 hashing, appends, proofs and their verification. Pure.

Rules: ``leaf = H(0x00 || entry)``, ``node = H(0x01 || left || right)``; nothing is padded or doubled. Hashes are 32
bytes, sizes come from signed checkpoints. A node (level, number) covers the leaves ``number * 2^level`` onwards and is
complete with entry ``(number + 1) * 2^level - 1``; that entry's row keeps it (see ``completed``).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from remit.errors import Broken, Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
Node = tuple[int, int]  # level, number
_LEAF, _NODE = hashlib.sha256(b"\0"), hashlib.sha256(b"\1")
_PAIRS = struct.Struct(f"{2 * HASH_BYTES}s").iter_unpack


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 §2.1."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The same of many."""
    begun, hashes = _LEAF.copy, []
    for entry in entries:
        leaf = begun()
        leaf.update(entry)
        hashes.append(leaf.digest())
    return hashes


def completed(frontier: tuple[bytes, ...], size: int, leaf: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Append a leaf to a tree of ``size``: the new frontier, and the hashes that became complete (the leaf first).

    The frontier holds the roots of the complete subtrees, the largest first: one for each bit set in the size.
    """
    roots = list(frontier)
    hashes = [leaf]
    while size & 1:
        hashes.append(node_hash(roots.pop(), hashes[-1]))
        size >>= 1
    return (*roots, hashes[-1]), tuple(hashes)


def extended(frontier: tuple[bytes, ...], size: int, leaves: bytes) -> tuple[bytes, ...]:
    """The frontier of a tree of ``size`` after many leaves: what ``completed`` gives one by one, a whole subtree at a time.

    ``leaves``: their hashes, one behind the other.
    """
    roots, count, begin = list(frontier), len(leaves) // HASH_BYTES, 0
    while begin < count:
        width = 1 << ((count - begin).bit_length() - 1)
        if size:
            width = min(width, size & -size)  # a subtree begins at a multiple of its width
        root = _perfect(leaves[begin * HASH_BYTES : (begin + width) * HASH_BYTES])
        begin += width
        before = size // width
        while before & 1:
            root = node_hash(roots.pop(), root)
            before >>= 1
        roots.append(root)
        size += width
    return tuple(roots)


def _perfect(hashes: bytes) -> bytes:
    """The root of a power of two of hashes."""
    begun = _NODE.copy  # quicker than to begin each hash anew and to put its bytes together
    while len(hashes) > HASH_BYTES:
        level = []
        for (pair,) in _PAIRS(hashes):
            node = begun()
            node.update(pair)
            level.append(node.digest())
        hashes = b"".join(level)
    return hashes


def root_of(frontier: Iterable[bytes]) -> bytes:
    """The tree's root from its frontier."""
    roots = list(frontier)
    if not roots:
        return EMPTY_ROOT
    root = roots.pop()
    while roots:
        root = node_hash(roots.pop(), root)
    return root


def frontier_nodes(size: int) -> tuple[Node, ...]:
    """The complete subtrees of a tree, the largest first."""
    return _cover(0, size)


def kept_at(node: Node) -> tuple[int, int]:
    """Where a node's hash is kept: index of the entry's row, and offset in its ``hashes``."""
    level, number = node
    return ((number + 1) << level) - 1, level * HASH_BYTES


def inclusion_plan(index: int, size: int) -> tuple[tuple[Node, ...], ...]:
    """The siblings from the leaf to the root; each is given by the complete subtrees that it is made of."""
    if not 0 <= index < size:
        raise Mistake(f"entry {index} is not in a tree of {size}", code="ledger_range")
    return _path(index, 0, size)


def consistency_plan(old: int, size: int) -> tuple[tuple[Node, ...], ...]:
    """RFC 6962 §2.1.2, each hash as the complete subtrees that it is made of."""
    if not 0 < old <= size:
        raise Mistake(f"no proof leads from {old} to {size} entries", code="ledger_range")
    return () if old == size else _subproof(old, 0, size, whole=True)


def proof(plan: Iterable[tuple[Node, ...]], nodes: Mapping[Node, bytes]) -> tuple[bytes, ...]:
    """The hashes of a plan from the nodes that were read. Raises Broken where one is missing."""
    try:
        return tuple(root_of(nodes[node] for node in part) for part in plan)
    except KeyError as error:
        raise Broken(f"the ledger misses the hash of subtree {error}") from error


def verify_inclusion(index: int, size: int, leaf: bytes, path: tuple[bytes, ...], root: bytes) -> bool:
    """RFC 9162 §2.1.3.2."""
    if not 0 <= index < size or any(len(part) != HASH_BYTES for part in (leaf, root, *path)):
        return False
    first, second, running = index, size - 1, leaf
    for part in path:
        if second == 0:
            return False
        if first & 1 or first == second:
            running = node_hash(part, running)
            first, second = _strip(first, second)
        else:
            running = node_hash(running, part)
        first >>= 1
        second >>= 1
    return second == 0 and running == root


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, path: tuple[bytes, ...]) -> bool:
    """RFC 9162 §2.1.4.2. A tree of nothing is consistent with nothing that can be proved."""
    if old <= 0 or old > size or any(len(part) != HASH_BYTES for part in (old_root, root, *path)):
        return False
    if old == size:
        return not path and old_root == root
    if not path:
        return False
    parts = (old_root, *path) if old & (old - 1) == 0 else path
    first, second = old - 1, size - 1
    while first & 1:
        first >>= 1
        second >>= 1
    running_old = running = parts[0]
    for part in parts[1:]:
        if second == 0:
            return False
        if first & 1 or first == second:
            running_old, running = node_hash(part, running_old), node_hash(part, running)
            first, second = _strip(first, second)
        else:
            running = node_hash(running, part)
        first >>= 1
        second >>= 1
    return second == 0 and running_old == old_root and running == root


def _strip(first: int, second: int) -> tuple[int, int]:
    """After a step at the right edge, leave the levels that have no sibling."""
    while first and not first & 1:
        first >>= 1
        second >>= 1
    return first, second


def _split(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _path(index: int, start: int, size: int) -> tuple[tuple[Node, ...], ...]:
    if size == 1:
        return ()
    half = _split(size)
    if index < half:
        return (*_path(index, start, half), _cover(start + half, size - half))
    return (*_path(index - half, start + half, size - half), _cover(start, half))


def _subproof(old: int, start: int, size: int, *, whole: bool) -> tuple[tuple[Node, ...], ...]:
    if old == size:
        return () if whole else (_cover(start, size),)
    half = _split(size)
    if old <= half:
        return (*_subproof(old, start, half, whole=whole), _cover(start + half, size - half))
    return (*_subproof(old - half, start + half, size - half, whole=False), _cover(start, half))


def _cover(start: int, size: int) -> tuple[Node, ...]:
    """A range that begins at a multiple of its largest subtree, as complete subtrees, the largest first."""
    nodes = []
    while size:
        level = size.bit_length() - 1
        nodes.append((level, start >> level))
        start += 1 << level
        size -= 1 << level
    return tuple(nodes)

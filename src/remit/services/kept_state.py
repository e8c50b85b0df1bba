"""A text in the store that is replaced, by compare and swap: versions are documents of their own, of which the first text stays.

Rules: whoever writes a version first has it; the other reads again. The latest versions stay a while, so that whoever comes late finds
the version taken; a crash between writing and dropping leaves more of them, and the last counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.store.database import Store

_DIGITS, _PAGE, _STAYING = 16, 100, 8


class KeptState:
    """One text under a key."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._beginning = store, f"{key}/"

    async def read(self) -> tuple[int, str]:
        """Version and text; version 0 and "" where there is none. Raises Outage."""
        while True:
            keys = await self._keys()
            if not keys:
                return 0, ""
            text = await self._store.document(keys[-1])
            if text is not None:  # else it was replaced meanwhile
                return int(keys[-1].removeprefix(self._beginning)), text

    async def write(self, version: int, text: str) -> bool:
        """Write the version that follows ``version``; False where somebody else was first. Raises Outage."""
        key = self._key(version + 1)
        if (await self._keys() or [""])[-1] >= key:
            return False
        await self._store.put_document(key, text)
        if await self._store.document(key) != text:
            return False
        for older in await self._keys():
            if older <= self._key(max(version + 1 - _STAYING, 0)):
                await self._store.drop_document(older)
        return True

    def _key(self, version: int) -> str:
        return f"{self._beginning}{version:0{_DIGITS}d}"

    async def _keys(self) -> list[str]:
        found: list[str] = []
        after = ""
        while page := await self._store.document_keys(self._beginning, after, _PAGE):
            found += page
            after = page[-1]
        return found

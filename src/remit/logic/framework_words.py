"""What an item of a framework is, as data (``logic/frameworks.py`` has the rules)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``controls``: keys of ``logic/report_rules.py``, with spaces between; "" : none. ``cannot``: what remit does not see."""

    id: str
    title: str
    controls: str
    cannot: str
    unverified: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the controls."""
        return tuple(self.controls.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A framework: ``source`` says which text it was taken from."""

    title: str
    source: str
    items: tuple[Item, ...]

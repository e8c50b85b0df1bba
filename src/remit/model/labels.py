"""What an agent has read: data class (confidentiality) and trust (integrity).

Rules: labels form a semilattice; joining only raises. Classes are ordered by the configuration, lowest first.
A class that the order does not know counts as the highest: unknown means no.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_CLASSES = ("public", "internal", "confidential", "restricted")


@dataclass(frozen=True, slots=True)
class Labels:
    """The join of all that a task has seen. ``rank`` indexes the ordered data classes; 0 is the lowest."""

    rank: int = 0
    untrusted: bool = False

    def join(self, other: Labels) -> Labels:
        """The least labels that cover both."""
        return Labels(max(self.rank, other.rank), self.untrusted or other.untrusted)

    def covers(self, other: Labels) -> bool:
        """Whether ``other`` adds nothing to these labels."""
        return self.join(other) == self


@dataclass(frozen=True, slots=True)
class DataClasses:
    """The configured order of data classes, lowest first, at least one, no doubles."""

    names: tuple[str, ...] = DEFAULT_CLASSES

    def rank(self, name: str) -> int:
        """Position of a class; an unknown one counts as the highest."""
        return self.names.index(name) if name in self.names else len(self.names) - 1

    def name(self, rank: int) -> str:
        """The class at a rank; a rank past the end is the highest."""
        return self.names[min(rank, len(self.names) - 1)]

    @property
    def highest(self) -> str:
        """The class that unknown data counts as."""
        return self.names[-1]

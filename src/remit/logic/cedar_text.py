"""Cedar text before the engine sees it: statements with their lines, and bounds that keep the parser alive.

Rules: the engine's parser dies of deep nesting with the whole process, so length and nesting are bounded first.
Policy ids are ours: the ``@id`` annotation where it stands, else ``file#number``.
"""

from __future__ import annotations

from dataclasses import dataclass

from remit.errors import Mistake, Place

TEXT_BYTES_MAX = 8_388_608
NESTING_MAX = 64
TERMS_MAX = 2_000  # operators in one statement: a longer chain parses, then fails at evaluation


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy's text, with the line it begins at (from 1)."""

    text: str
    file: str
    line: int
    number: int

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(file=self.file, line=self.line)


def statements(file: str, text: str) -> tuple[Statement, ...]:
    """Split a file into its policies. Raises Mistake with the line where a bound or a quote is broken."""
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise Mistake(f"policies of more than {TEXT_BYTES_MAX:,} bytes", code="policy_size", place=Place(file=file))
    return _Splitter(file, text).run()


class _Splitter:
    """Walks the text once, knowing only strings, comments, brackets and semicolons."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.line, self.depth, self.terms = 1, 0, 0
        self.begin, self.begin_line = -1, 0
        self.found: list[Statement] = []

    def run(self) -> tuple[Statement, ...]:
        position, end = 0, len(self.text)
        while position < end:
            character = self.text[position]
            if self.text.startswith("//", position):
                newline = self.text.find("\n", position)
                position = end if newline < 0 else newline
                continue
            if character == "\n":
                self.line += 1
            elif not character.isspace():
                if self.begin < 0:
                    self.begin, self.begin_line = position, self.line
                position = self._step(character, position)
            position += 1
        if self.begin >= 0:
            raise self._mistake("a policy does not end with ';'", self.begin_line)
        return tuple(self.found)

    def _step(self, character: str, position: int) -> int:
        if character == '"':
            return self._string_end(position)
        if character in "([{":
            self.depth += 1
            if self.depth > NESTING_MAX:
                raise self._mistake(f"brackets nested deeper than {NESTING_MAX}")
        elif character in ")]}":
            self.depth -= 1
        elif character in "+-*<>=&|!?":
            self._count(1)
        elif character == "i" and self.text.startswith("if", position) and not self.text[position - 1].isalnum():
            self._count(TERMS_MAX // NESTING_MAX)  # an if nests without brackets
        elif character == ";" and self.depth <= 0:
            body = self.text[self.begin : position + 1]
            self.found.append(Statement(body, self.file, self.begin_line, len(self.found) + 1))
            self.begin, self.depth, self.terms = -1, 0, 0
        return position

    def _count(self, terms: int) -> None:
        self.terms += terms
        if self.terms > TERMS_MAX:
            raise self._mistake(f"one policy with more than {TERMS_MAX} operators")

    def _string_end(self, position: int) -> int:
        start = self.line
        position += 1
        while position < len(self.text) and self.text[position] != '"':
            if self.text[position] == "\n":
                self.line += 1
            position += 2 if self.text[position] == "\\" else 1
        if position >= len(self.text):
            raise self._mistake("a string does not end", start)
        return position

    def _mistake(self, what: str, line: int | None = None) -> Mistake:
        return Mistake(what, code="policy_syntax", place=Place(file=self.file, line=line or self.line))

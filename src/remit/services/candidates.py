"""Policies from elsewhere than a working folder: a signed bundle, or any folder with ``*.cedar`` files as a candidate."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from remit.errors import Mistake, Place, Refusal, RemitError
from remit.logic.bundle import BUNDLE_BYTES_MAX, Bundle, open_bundle
from remit.services.reading import Mistakes, read_texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from remit.logic.checkpoint import Verifier


def read_bundle(path: Path, verifiers: Iterable[Verifier]) -> Bundle:
    """The bundle in a file. Raises Mistake, or Refusal where its signature does not hold; both name the file."""
    place = Place(file=str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait
            raise Mistake("not a file", code="bundle", place=place)
        with path.open("rb") as file:
            data = file.read(BUNDLE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Mistake("there is no such file", code="bundle", hint="policies.bundle names it", place=place) from None
    except OSError as error:
        raise Mistake(f"cannot be read: {error.strerror}", code="bundle", place=place) from None
    try:
        return open_bundle(data, verifiers)
    except RemitError as error:
        kind = Refusal if isinstance(error, Refusal) else Mistake
        raise kind(error.message, code=error.code, hint=error.hint, place=place) from None


def read_candidate(path: Path, verifiers: Iterable[Verifier]) -> dict[str, str]:
    """Policies by name: of a folder, of its ``policies/``, or of a bundle. Raises Mistake, Refusal."""
    if path.is_file():
        return read_bundle(path, verifiers).policies
    inner = path.resolve() / "policies"
    where = inner if inner.is_dir() else path.resolve()
    found: list[Mistake] = []
    texts = read_texts(where.parent, where.name, ".cedar", found)
    if found:
        raise Mistakes(found)
    if not texts:
        raise Mistake("no *.cedar file is there", code="candidate", hint="name a folder with policies", place=Place(file=str(path)))
    return {name: text for name, text in texts.items() if text is not None}

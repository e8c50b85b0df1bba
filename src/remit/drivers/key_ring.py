"""Signing keys that are replaced in time: one signs, the next is already published, those before still verify for a while.

Rules: verifiers know a key before it signs anything (RFC 7517 sets are cached). A retired key verifies until the longest token that it
signed has ended, and its file goes then. Files appear whole; of several processes that replace the key at once one does it. A process
takes up what another did when it looks (``refresh``), and needs no restart. A signature that held is remembered, bounded, as long as the
keys stay; whether the claims hold now is asked each time, elsewhere. Left out: the record of it (``services/rotation.py``).

    tokens.key                    signs
    tokens.next.key               published, signs after the next rotation
    tokens.retired-SECONDS.key    verifies for an hour after that moment
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from remit.drivers.key_files import alone
from remit.drivers.keys import token_key
from remit.drivers.signing import TokenSigner
from remit.logic.claims import LEEWAY, LIFETIME_MAX

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from remit.drivers.key_wrapping import FolderKey

_CURRENT, _NEXT, _RETIRED = "tokens.key", "tokens.next.key", "tokens.retired-"
_KEEPS_SECONDS = (LIFETIME_MAX + LEEWAY * 2).total_seconds()
_HEADERS_MAX = 256
_OPENED_MAX = 4_096  # an SVID is shown again and again while it lives
Claims = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """One key of the ring. ``use``: ``signs``, ``next`` or ``retired``; ``since``: the moment it began, in seconds."""

    id: str
    use: str
    since: int


class KeyRing(TokenSigner):
    """A signer whose key is replaced while it is used."""

    def __init__(self, folder: Path, folder_key: FolderKey | None = None) -> None:
        """Read the folder's keys, making those that are missing. ``folder_key``: opens sealed ones. Raises Mistake."""
        self._folder, self._folder_key = folder, folder_key
        self._stamp: tuple[Any, ...] = ()
        self._signers: dict[str, TokenSigner] = {}
        self._by_header: dict[str, TokenSigner] = {}
        self._opened: OrderedDict[bytes, tuple[Claims, Claims]] = OrderedDict()
        self._states: tuple[KeyState, ...] = ()
        super().__init__(self._token_key(folder / _CURRENT))
        self.refresh()

    def refresh(self) -> bool:
        """Take up what has changed in the folder; whether anything has. Raises Mistake."""
        self._token_key(self._folder / _NEXT)  # made where there is none
        stamp = tuple(sorted((path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in self._folder.glob("tokens.*key")))
        if stamp == self._stamp:
            return False
        current, upcoming = TokenSigner(self._token_key(self._folder / _CURRENT)), TokenSigner(self._token_key(self._folder / _NEXT))
        retired = [(moment, TokenSigner(self._token_key(path))) for moment, path in self._retired()]
        states = [
            KeyState(id=current.key_id, use="signs", since=int((self._folder / _CURRENT).stat().st_mtime)),
            KeyState(id=upcoming.key_id, use="next", since=int((self._folder / _NEXT).stat().st_mtime)),
            *(KeyState(id=signer.key_id, use="retired", since=moment) for moment, signer in retired if signer.key_id != current.key_id),
        ]
        super().__init__(self._token_key(self._folder / _CURRENT))
        self._signers = {signer.key_id: signer for signer in (*(old for _, old in retired), upcoming, current)}
        self._by_header, self._states, self._stamp = {}, tuple(states), stamp
        self._opened.clear()
        return True

    def states(self) -> tuple[KeyState, ...]:
        """What each key does now."""
        return self._states

    def rotate(self, now: datetime, *, compromised: bool = False) -> None:
        """The next key signs from now on. ``compromised``: the one before verifies nothing any more, nor do those retired earlier.

        Raises Mistake, OSError.
        """
        with alone(self._folder):
            self._token_key(self._folder / _NEXT)
            if not compromised:
                with contextlib.suppress(FileExistsError):
                    os.link(self._folder / _CURRENT, self._folder / f"{_RETIRED}{int(now.timestamp())}.key")
            os.utime(self._folder / _NEXT, (now.timestamp(), now.timestamp()))
            (self._folder / _NEXT).replace(self._folder / _CURRENT)
            for _, path in self._retired() if compromised else ():
                path.unlink(missing_ok=True)
        self.refresh()

    def sweep(self, now: datetime) -> int:
        """Delete retired keys of which no token can live any more; returns how many. Raises Mistake, OSError."""
        over = [path for moment, path in self._retired() if now.timestamp() >= moment + _KEEPS_SECONDS]
        if over:
            with alone(self._folder):  # nobody is in the middle of wrapping one
                for path in over:
                    path.unlink(missing_ok=True)
            self.refresh()
        return len(over)

    def open(self, token: str) -> tuple[Claims, Claims]:
        """Header and claims of a token that a key of the ring signed. Raises Unauthenticated."""
        known = self.remembered(token)
        if known is None:
            known = self._opened[_digest(token)] = self.verified(token)
            if len(self._opened) > _OPENED_MAX:
                self._opened.popitem(last=False)
        return known

    def remembered(self, token: str) -> tuple[Claims, Claims] | None:
        """Header and claims of a token whose signature held before, under the keys that are there now."""
        return self._opened.get(_digest(token))

    def verified(self, token: str) -> tuple[Claims, Claims]:
        """As ``open``, without remembering. Raises Unauthenticated."""
        head = token[: token.find(".")]  # whatever stands there where there is no dot: refused below
        signer = self._by_header.get(head)
        if signer is None:
            signer = self._signers.get(_key_id(head)) or self._signers[self.key_id]  # without a name, or a wrong one: refused there
        opened = super().verified(token) if signer.key_id == self.key_id else signer.verified(token)
        if head not in self._by_header and len(self._by_header) < _HEADERS_MAX:  # strangers fill nothing
            self._by_header[head] = signer
        return opened

    def jwks(self) -> Claims:
        """Public keys for verifiers of task tokens (RFC 7517): also the one that will sign next."""
        return {"keys": [key for signer in self._ordered() for key in TokenSigner.jwks(signer)["keys"]]}

    def bundle(self, refresh_seconds: int) -> Claims:
        """The trust domain's bundle (SPIFFE Trust Domain and Bundle §4). Its sequence grows with each change of keys."""
        keys = [key for signer in self._ordered() for key in TokenSigner.bundle(signer, refresh_seconds)["keys"]]
        sequence = max(1, *(state.since for state in self._states))
        return {"spiffe_sequence": sequence, "spiffe_refresh_hint": refresh_seconds, "keys": keys}

    def _ordered(self) -> list[TokenSigner]:
        return [self._signers[state.id] for state in self._states]

    def _retired(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._folder.glob(f"{_RETIRED}*.key"):
            moment = path.name.removeprefix(_RETIRED).removesuffix(".key")
            if moment.isdecimal():
                found.append((int(moment), path))
        return sorted(found)

    def _token_key(self, path: Path) -> EllipticCurvePrivateKey:
        return token_key(path, self._folder_key)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _key_id(head: str) -> str:
    """The key that a token's header names, "" where it names none; only to choose a key, which then has to hold."""
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(head[:2_048] + "=" * (-len(head) % 4)), type=dict[str, Any])
    except (msgspec.MsgspecError, binascii.Error, ValueError, UnicodeError, RecursionError):
        return ""
    kid = header.get("kid", "")
    return kid if isinstance(kid, str) else ""

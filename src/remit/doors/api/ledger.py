"""The transparency log over HTTP, as C2SP tlog-tiles lays it out: checkpoint, tiles, entry bundles, proofs. Translates; decides nothing.

Rules: hashes and proofs are for everybody who reaches this server, as the checkpoint is: a hash tells nothing of an entry that one does
not have (every entry that could be guessed holds an unguessable id or a time to the microsecond). Entries name people, tasks and tools, so
that who reads them shows a secret of ``[ledger.readers]``. What a tile holds never changes, so whoever fetched it may keep it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remit.doors.answers import guarded, json_answer
from remit.errors import Mistake, Unauthenticated
from remit.logic.tiles import parse_bundle, parse_tile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from remit.services.ledger import Ledger

_NUMBER = re.compile(r"0|[1-9]\d{0,14}", re.ASCII)
_FOR_EVER = "max-age=31536000, immutable"
_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDoor:
    """``readers``: digests (SHA-256) of the secrets by which entries are read; none: nobody reads them here."""

    ledger: Ledger
    readers: Mapping[str, bytes]

    def routes(self) -> list[Route]:
        """The endpoints."""
        endpoints = {
            "/ledger/checkpoint": self._checkpoint,
            "/ledger/tile/entries/{bundle:path}": self._bundle,
            "/ledger/tile/{tile:path}": self._tile,
            "/ledger/proof": self._proof,
        }
        return [Route(path, guarded(endpoint), methods=["GET"]) for path, endpoint in endpoints.items()]

    async def _checkpoint(self, _request: Request) -> Response:
        return PlainTextResponse(await self.ledger.served(), headers={"cache-control": "public, max-age=1"})

    async def _tile(self, request: Request) -> Response:
        data = await self.ledger.tile(parse_tile(request.path_params["tile"]))
        return Response(data, media_type=_BINARY, headers={"cache-control": f"public, {_FOR_EVER}"})

    async def _bundle(self, request: Request) -> Response:
        self._check_reader(request)
        data = await self.ledger.bundle(parse_bundle(request.path_params["bundle"]))
        return Response(data, media_type=_BINARY, headers={"cache-control": f"private, {_FOR_EVER}", "vary": "authorization"})

    async def _proof(self, request: Request) -> Response:
        """Of an entry (``index``) as a ``.tlog-proof``, or under a size of one's own; or that a size continues an ``old`` one."""
        asked = request.query_params
        if ("index" in asked) == ("old" in asked):
            raise Mistake("say either index or old", code="query", hint="/ledger/proof?index=7, or ?old=5&size=9")
        if "index" in asked and "size" not in asked:
            return PlainTextResponse(await self.ledger.proof_file(_number(request, "index")), headers={"cache-control": "no-store"})
        head, _ = await self.ledger.checkpoint()
        size = _number(request, "size") if "size" in asked else self.ledger.opened(await self.ledger.served()).size
        if size > head.size:
            raise Mistake(f"the log holds {head.size} entries", code="ledger_range")
        kind = "index" if "index" in asked else "old"
        number = _number(request, kind)
        path = await (self.ledger.inclusion(number, size) if kind == "index" else self.ledger.consistency(number, size))
        return json_answer({kind: number, "size": size, "hashes": [base64.b64encode(part).decode() for part in path]})

    def _check_reader(self, request: Request) -> None:
        """Raises Unauthenticated. Every secret is compared, in constant time."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        presented = hashlib.sha256(credential.strip().encode("utf-8", "surrogatepass")).digest()
        known = [hmac.compare_digest(digest, presented) for digest in self.readers.values()]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthenticated("entries are for readers of the ledger", hint="Authorization: Bearer <a secret of [ledger.readers]>")


def _number(request: Request, key: str) -> int:
    text = request.query_params[key]
    if not _NUMBER.fullmatch(text):
        raise Mistake(f"{key} is no number of entries", code="query")
    return int(text)

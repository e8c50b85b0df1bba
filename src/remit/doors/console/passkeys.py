"""The page on which a person adds and removes their passkeys. Translates; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.console.frame import Page
from remit.model.console import Action
from remit.services.passkeys import digest_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.services.passkeys import Passkeys, Site

PASSKEYS = "/console/passkeys"


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeysDoor:
    """``site``: where passkeys are known."""

    passkeys: Passkeys
    site: Site

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path=PASSKEYS, action=Action.ANSWER, show=self._list),
            Page(method="POST", path=PASSKEYS, action=Action.ANSWER, show=self._add),
            Page(method="POST", path=f"{PASSKEYS}/{{passkey}}/remove", action=Action.ANSWER, show=self._remove),
        ]

    async def _list(self, visit: Visit) -> Response:
        site, session = self.site, visit.session
        known = [(digest_of(one.id), one) for one in await self.passkeys.of(session.visitor.name)]
        removing = {digest: await self.passkeys.to_prove(session, site, f"remove {digest}") for digest, _ in known}
        return visit.page(
            "passkeys.html",
            known=known,
            removing=removing,
            register=await self.passkeys.to_register(session, site),
            proof=await self.passkeys.to_add(session, site),
            elsewhere="" if site.is_at(visit.request.headers.get("host", "")) else site.origin,
        )

    async def _add(self, visit: Visit) -> Response:
        said = visit.field
        proof = said("proof_state"), said("proof")
        await self.passkeys.add(visit.session, self.site, said("state"), said("passkey"), said("label"), proof)
        return visit.go(PASSKEYS)

    async def _remove(self, visit: Visit) -> Response:
        digest = visit.request.path_params["passkey"]
        await self.passkeys.remove(visit.session, self.site, digest, visit.field("state"), visit.field("passkey"))
        return visit.go(PASSKEYS)

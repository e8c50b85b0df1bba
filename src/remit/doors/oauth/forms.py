"""What a program sends to the token service: a form in the body, and what it shows to hold. Translates; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.doors.bodies import whole_body
from remit.doors.peer import peer_certificate
from remit.errors import Mistake, Unauthenticated
from remit.logic.token_requests import read_form
from remit.model.token import Credential

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.logic.token_requests import Form

_FORM = "application/x-www-form-urlencoded"


async def posted_form(request: Request, bytes_max: int) -> Form:
    """The parameters of a request. Raises Mistake."""
    body = await whole_body(request.receive, bytes_max)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Mistake(f"the body must be {_FORM}", code="invalid_request")
    if request.url.query:
        raise Mistake("parameters belong into the body", code="invalid_request")  # an address ends up in logs
    return read_form(body)


def credential_of(request: Request, url: str) -> Credential:
    """What a request to our endpoint at ``url`` shows to hold. Raises Unauthenticated."""
    proofs = request.headers.getlist("dpop")
    if len(proofs) > 1:
        raise Unauthenticated("there are several DPoP proofs", code="invalid_dpop_proof")
    return Credential(proof=proofs[0] if proofs else "", method=request.method, url=url, certificate=peer_certificate(request.scope))

"""People's authenticators (W3C Web Authentication Level 3): what a browser is asked for, and whether the answer holds.

Rules: the person is verified by the authenticator (a finger, a PIN), not only present. Attestation is not asked for: which make an
authenticator is proves nothing of whose it is. Counters of signatures are not kept, because passkeys that are synchronised send none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from remit.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

_RESPONSE_CHARACTERS_MAX = 16_384
_ID_BYTES_MAX = 1_023  # WebAuthn §4, credential id
_NAME = "remit"
_WAIT_MS = 120_000


def asked_to_register(site: str, person: str, handle: bytes, challenge: bytes, known: Iterable[bytes]) -> str:
    """What ``navigator.credentials.create`` is given, as JSON. ``site``: the relying party's id, a host name. ``handle``: of the person."""
    options = generate_registration_options(
        rp_id=site,
        rp_name=_NAME,
        user_name=person,
        user_id=handle,
        challenge=challenge,
        timeout=_WAIT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
    )
    return options_to_json(options)


def asked_to_prove(site: str, challenge: bytes, known: Iterable[bytes]) -> str:
    """What ``navigator.credentials.get`` is given, as JSON. ``known``: ids of the person's passkeys."""
    options = generate_authentication_options(
        rp_id=site,
        challenge=challenge,
        timeout=_WAIT_MS,
        allow_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json(options)


def registered(response: str, challenge: bytes, site: str, origin: str) -> tuple[bytes, bytes]:
    """Id and public key of a new passkey (WebAuthn §7.1). Raises Refusal (passkey)."""
    _check_size(response)
    try:
        found = verify_registration_response(
            credential=response,
            expected_challenge=challenge,
            expected_rp_id=site,
            expected_origin=origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _unproved(error) from None
    if not 0 < len(found.credential_id) <= _ID_BYTES_MAX:
        raise _unproved(ValueError("the id is too long"))
    return found.credential_id, found.credential_public_key


def used(response: str) -> bytes:
    """The id of the passkey that an answer claims to be of; nothing is proved by it. Raises Refusal (passkey)."""
    _check_size(response)
    try:
        return base64url_to_bytes(json.loads(response)["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unproved(error) from None


def check_proved(response: str, challenge: bytes, site: str, origin: str, public_key: bytes) -> None:
    """Whether an answer is of this passkey, for this challenge, on our own page, by a verified person (WebAuthn §7.2). Raises Refusal."""
    try:
        verify_authentication_response(
            credential=response,
            expected_challenge=challenge,
            expected_rp_id=site,
            expected_origin=origin,
            credential_public_key=public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _unproved(error) from None


def _check_size(response: str) -> None:
    if not 0 < len(response) <= _RESPONSE_CHARACTERS_MAX:
        raise _unproved(ValueError("no answer of an authenticator"))


def _unproved(error: Exception) -> Refusal:
    why = str(error)[:200] if isinstance(error, WebAuthnException) else "it is not what an authenticator answers"
    return Refusal(f"this does not prove a passkey: {why}", code="passkey", hint="reload the page, and try again")

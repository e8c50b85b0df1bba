"""Authorization requests, clients' documents and people: what must hold before anything of them counts. Pure.

Sources: RFC 6749 §4.1 with RFC 9700 and RFC 7636 (PKCE, S256 only), RFC 8252 §7 (loopback and private-use addresses), RFC 7591
(registration), RFC 9126 (pushed requests), draft-ietf-oauth-client-id-metadata-document, OpenID Connect Core §3.1.3.7.

Rules: an address to be sent to is one of the client's own, letter by letter; only a loopback address may differ in its port. A client
has no secret. A name that a client gives itself is shown as such, never believed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.errors import Mistake, Refusal, Unauthenticated
from remit.logic.token_requests import one, task_wanted
from remit.model.front_channel import Wish
from remit.model.token import TokenRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.logic.token_requests import Form
    from remit.model.front_channel import SignIn

Json = dict[str, Any]
REDIRECTS_MAX = 16
PUSHED = "urn:ietf:params:oauth:request_uri:"  # RFC 9126 §2.2
_URI_CHARACTERS_MAX = 1_024
_STATE_CHARACTERS_MAX = 2_048
_NAME_CHARACTERS_MAX = 100
_PERSON_CHARACTERS_MAX = 254
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")
_PRINTED = re.compile(r"[\x21-\x7e]+\Z")
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+\Z")  # RFC 8252 §7.1: a reversed domain name
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def read_wish(form: Form) -> tuple[Wish, tuple[str, ...]]:
    """What a client asks for, once it is known, and the resources it names. Raises Mistake (RFC 6749 §4.1.2.1 codes)."""
    if one(form, "response_type") != "code":
        raise Mistake("only response_type=code is supported", code="unsupported_response_type")
    if one(form, "code_challenge_method") != "S256" or not _CHALLENGE.match(one(form, "code_challenge")):
        raise Mistake("code_challenge with code_challenge_method=S256 is needed (RFC 7636)", code="invalid_request")
    if one(form, "response_mode") not in {"", "query"}:
        raise Mistake("an answer in the query is what is supported", code="invalid_request")
    check_plain(form)
    key = one(form, "dpop_jkt")
    if key and not _CHALLENGE.match(key):
        raise Mistake("dpop_jkt is the SHA-256 thumbprint of a key (RFC 9449 section 10)", code="invalid_request")
    asked = TokenRequest(grant_type="", scope=one(form, "scope"), authorization_details=one(form, "authorization_details"))
    wanted = task_wanted(asked) if asked.authorization_details or asked.scope.startswith("task:") else None
    if wanted is not None and (wanted.task or wanted.agent or wanted.on_behalf_of):
        raise Mistake("in a browser a new task is asked for, by its type and inputs", code="invalid_authorization_details")
    wish = Wish(
        client=one(form, "client_id"),
        redirect_uri=one(form, "redirect_uri"),
        state=one(form, "state"),
        challenge=one(form, "code_challenge"),
        task_type=wanted.task_type if wanted else "",
        inputs=wanted.inputs if wanted else {},
        key=key,
    )
    return wish, form.get("resource", ())


def check_plain(form: Form) -> None:
    """Whether a request is made of plain parameters. Raises Mistake (OpenID Connect Core §3.1.2.6)."""
    if "request" in form:
        raise Mistake("request objects are not supported: push plain parameters", code="request_not_supported")
    if "request_uri" in form:
        raise Mistake("a request_uri is one that /oauth/par has given", code="request_uri_not_supported")


def check_beside(beside: Form, pushed: Form) -> None:
    """What may stand beside a ``request_uri``: what was pushed, as it was pushed. Raises Mistake.

    RFC 9101 §6.3 has such parameters ignored; one that says something else is somebody's trick or mistake, and refused.
    """
    other = sorted(name for name, values in beside.items() if name != "request_uri" and pushed.get(name) != values)
    if other:
        raise Mistake(f"{other[0][:40]} beside request_uri is not what was pushed", code="invalid_request")


def with_key(form: Form, key: str) -> Form:
    """A pushed request with the key that its DPoP proof shows ("" : there was none). Raises Mistake: it names another (RFC 9449 §10.1)."""
    if key and one(form, "dpop_jkt") not in {"", key}:
        raise Mistake("dpop_jkt names another key than the DPoP proof", code="invalid_request")
    return {**form, "dpop_jkt": (key,)} if key else form


def check_state(state: str) -> None:
    """Raises Mistake."""
    if len(state) > _STATE_CHARACTERS_MAX or not state.isprintable():
        raise Mistake("state is too long, or holds control characters", code="invalid_request")


def redirect_of(asked: str, registered: Iterable[str]) -> str:
    """The address to be sent to: one of these, or the only one where none is asked for. Raises Refusal: there is nowhere to tell it."""
    known = tuple(registered)
    if not asked and len(known) == 1:
        return known[0]
    if any(asked == one or _same_loopback(asked, one) for one in known):
        return asked
    raise Refusal("the address to return to is not one of this client's", code="redirect_uri", hint="redirect_uri, letter by letter")


def check_redirect(uri: object) -> str:
    """An address that a client may register: https, a loopback address, or a scheme of its own. Raises Mistake."""
    allowed = "a redirect_uri is https, http on the loopback, or a private-use scheme like com.example.app"
    wrong = Mistake(allowed, code="invalid_redirect_uri")
    if not isinstance(uri, str) or len(uri) > _URI_CHARACTERS_MAX or not _PRINTED.match(uri):
        raise wrong
    try:
        split = urlsplit(uri)
        host, _ = split.hostname or "", split.port
    except ValueError:
        raise wrong from None
    if split.fragment or "#" in uri or split.username is not None or "\\" in uri:
        raise wrong
    if split.scheme == "https" and host and not host.endswith("."):
        return uri
    if split.scheme == "http" and host in _LOOPBACK:
        return uri
    if _PRIVATE_SCHEME.match(split.scheme) and not split.netloc:
        return uri
    raise wrong


def is_document_address(client_id: str) -> bool:
    """Whether a client id is the address of a client metadata document: https, a path, nothing that could be read in two ways."""
    if not client_id.startswith("https://") or len(client_id) > _URI_CHARACTERS_MAX or not _PRINTED.match(client_id) or "\\" in client_id:
        return False
    try:
        split = urlsplit(client_id)
        host, _ = split.hostname, split.port
    except ValueError:
        return False
    segments = split.path.split("/")
    return (
        bool(host)
        and split.username is None
        and "#" not in client_id
        and len(split.path) > 1
        and not any(segment.lower().replace("%2e", ".") in {".", ".."} for segment in segments)
    )


def read_client(told: object, client_id: str = "") -> tuple[str, tuple[str, ...], bool]:
    """Name and addresses of a client, and whether it only ever pushes its requests, from its document or its registration.

    ``client_id``: what the document must say of itself.

    Raises Mistake (invalid_client_metadata, invalid_redirect_uri: RFC 7591 §3.2.2).
    """
    if not isinstance(told, dict):
        raise _metadata("client metadata is an object")
    if client_id and told.get("client_id") != client_id:
        raise _metadata("the document names another client_id than its own address")
    if any(name in told for name in ("client_secret", "client_secret_expires_at")):
        raise _metadata("a client of people has no secret")
    grants = told.get("grant_types", ["authorization_code"])
    responses = told.get("response_types", ["code"])
    if not isinstance(grants, list) or not isinstance(responses, list):
        raise _metadata("grant_types and response_types are lists")
    if "authorization_code" not in grants or "code" not in responses:
        raise _metadata("grant_types must hold authorization_code, response_types code")
    if client_id and told.get("token_endpoint_auth_method", "none") != "none":
        raise _metadata("token_endpoint_auth_method must be none: a document that anybody reads keeps no secret")
    uris = told.get("redirect_uris")
    if not isinstance(uris, list) or not 0 < len(uris) <= REDIRECTS_MAX:
        raise Mistake(f"redirect_uris is a list of 1 to {REDIRECTS_MAX} addresses", code="invalid_redirect_uri")
    name = told.get("client_name", "")
    if not isinstance(name, str) or len(name) > _NAME_CHARACTERS_MAX or not (name.isprintable() or not name):
        raise _metadata(f"client_name is a text of at most {_NAME_CHARACTERS_MAX} characters")
    must_push = told.get("require_pushed_authorization_requests", False)  # RFC 9126 §6
    if not isinstance(must_push, bool):
        raise _metadata("require_pushed_authorization_requests is true or false")
    return name.strip(), tuple(dict.fromkeys(check_redirect(uri) for uri in uris)), must_push


def verifier_fits(challenge: str, verifier: str) -> bool:
    """RFC 7636 §4.6, S256."""
    if not _VERIFIER.match(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(digest, challenge)


def person_of(claims: Json, rule: SignIn) -> str:
    """Who signed in, as policies know them. Raises Unauthenticated (no such claim), Refusal (not among the people)."""
    name = named_by(claims, rule)
    if not any(fnmatchcase(name, pattern) for pattern in rule.people):
        raise Refusal("you may not open tasks here", code="not_among_people", hint="sign_in.people names who may")
    return name


def named_by(claims: Json, rule: SignIn) -> str:
    """How the provider calls a person. Raises Unauthenticated (no such claim, or an address that it has not verified)."""
    name = claims.get(rule.claim)
    if not isinstance(name, str) or not 0 < len(name) <= _PERSON_CHARACTERS_MAX or not name.isprintable():
        raise Unauthenticated(f"the provider does not tell {rule.claim}")
    if rule.claim == "email" and claims.get("email_verified") is not True:
        raise Unauthenticated("the provider has not verified the address")
    return name


def _same_loopback(asked: str, registered: str) -> bool:
    """RFC 8252 §7.3: the port of a loopback address is the client's to choose when it asks."""
    try:
        one, other = urlsplit(asked), urlsplit(registered)
        own = (one.scheme, one.hostname, one.path, one.query, one.fragment, one.username)
        known = (other.scheme, other.hostname, other.path, other.query, other.fragment, other.username)
        return own == known and one.scheme == "http" and one.hostname in _LOOPBACK and one.port != 0 and check_redirect(asked) == asked
    except (ValueError, Mistake):
        return False


def _metadata(what: str) -> Mistake:
    return Mistake(what, code="invalid_client_metadata")
